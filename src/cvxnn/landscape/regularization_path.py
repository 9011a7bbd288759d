r"""Optimal networks over a range of weight decays, from the zero network down, each started from the one before."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_float_array, as_number
from cvxnn.architectures import GatedReLU, ReLU
from cvxnn.certificates.certificate import Certificate, relative_gap
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.landscape._beta_max import BetaMax, beta_max
from cvxnn.networks import ReLUNetwork, row_norms
from cvxnn.patterns import ActivationPatterns, count_patterns, reduce_rank
from cvxnn.problem import Problem, require_no_output_bias
from cvxnn.programs.gated import GatedReLUNetwork, solve_gated
from cvxnn.solution import Blocks, History, Solution, Status
from cvxnn.training import blas_threads, solve

FloatArray = npt.NDArray[np.float64]

__all__ = ["BetaMax", "PathPoint", "RegularizationPath", "beta_max", "regularization_path"]

_MINIMUM_NORM_PATTERNS = 5000
"""Up to so many patterns, listing all optimal networks at every beta costs little."""

_SAME = 1e-9
"""Relative excess up to which the minimum-norm member counts as optimal as the solver's."""


@dataclass(frozen=True, eq=False)
class PathPoint:
    """Optimal network at one weight decay.

    Attributes
    ----------
    problem : Problem
        The problem at this ``beta``.
    solution : Solution
        Result of the solver, with the certificate.
    network : ReLUNetwork or GatedReLUNetwork
        The minimum-norm member of the optimal set where ``minimum_norm``, else the network of ``solution``.
    objective : float
        Objective of ``network``.
    minimum_norm : bool
        Whether ``network`` is proved to be, among all optimal networks, the one whose masses have the least Euclidean
        norm. False: the optimal set was not listed, and the solver's member is kept.
    """

    problem: Problem
    solution: Solution
    network: ReLUNetwork | GatedReLUNetwork
    objective: float
    minimum_norm: bool

    @property
    def beta(self) -> float:
        """Weight decay."""
        return self.problem.beta

    @property
    def lower_bound(self) -> float:
        """Proved lower bound within :attr:`scope`."""
        return self.solution.lower_bound

    @property
    def scope(self) -> str:
        """Scope of the bound, "global" or "patterns"."""
        return self.solution.scope

    @property
    def gap(self) -> float:
        """Relative duality gap of :attr:`network`."""
        return relative_gap(self.objective, self.lower_bound)

    @property
    def loss(self) -> float:
        """Summed loss of the network."""
        return self.problem.loss_value(self.network(self.problem.X))

    @property
    def penalty(self) -> float:
        """Weight decay term of the network without beta, the sum of the masses of its neurons."""
        return self.network.penalty()


@dataclass(frozen=True, eq=False)
class RegularizationPath(Sequence[PathPoint]):
    """Optimal networks by decreasing weight decay; a sequence of :class:`PathPoint`.

    Attributes
    ----------
    points : tuple of PathPoint
    beta_max : BetaMax
    status : {"complete", "interrupted", "time_limit"}
        Why the path ends where it does; the points that it has are valid in any case.
    """

    points: tuple[PathPoint, ...]
    beta_max: BetaMax
    status: Literal["complete", "interrupted", "time_limit"]

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)

    @overload
    def __getitem__(self, index: int) -> PathPoint: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[PathPoint, ...]: ...

    def __getitem__(self, index: Any) -> Any:
        """Return one point, or a tuple of points for a slice."""
        return self.points[index]

    @property
    def betas(self) -> FloatArray:
        """Weight decays, decreasing, ``(k,)``."""
        return np.array([point.beta for point in self.points])

    @property
    def solutions(self) -> tuple[Solution, ...]:
        """Results of the solver."""
        return tuple(point.solution for point in self.points)

    @property
    def networks(self) -> tuple[ReLUNetwork | GatedReLUNetwork, ...]:
        """Networks of the points."""
        return tuple(point.network for point in self.points)

    @property
    def objectives(self) -> FloatArray:
        """Objectives, never rising along the path up to the gaps, ``(k,)``."""
        return np.array([point.objective for point in self.points])

    @property
    def lower_bounds(self) -> FloatArray:
        """Proved lower bounds, each within its scope, ``(k,)``."""
        return np.array([point.lower_bound for point in self.points])

    @property
    def gaps(self) -> FloatArray:
        """Relative duality gaps, ``(k,)``."""
        return np.array([point.gap for point in self.points])

    @property
    def widths(self) -> npt.NDArray[np.int64]:
        """Numbers of neurons, ``(k,)``."""
        return np.array([point.network.width for point in self.points], dtype=np.int64)

    @property
    def penalties(self) -> FloatArray:
        """Weight decay terms without beta, ``(k,)``: non-decreasing for exact optima as beta falls."""
        return np.array([point.penalty for point in self.points])

    @property
    def losses(self) -> FloatArray:
        """Summed losses, ``(k,)``: non-increasing for exact optima as beta falls."""
        return np.array([point.loss for point in self.points])

    @property
    def scopes(self) -> tuple[str, ...]:
        """Scopes of the bounds."""
        return tuple(point.scope for point in self.points)

    @property
    def minimum_norm(self) -> npt.NDArray[np.bool_]:
        """Whether each network is the minimum-norm member of its optimal set, ``(k,)``."""
        return np.array([point.minimum_norm for point in self.points], dtype=np.bool_)

    def __repr__(self) -> str:
        """Range, widths and the largest gap on one line."""
        if not self.points:
            return f"RegularizationPath(points=0, status={self.status!r})"
        return (
            f"RegularizationPath(points={len(self)}, betas={self.betas[0]:.3g}..{self.betas[-1]:.3g}, "
            f"widths={self.widths[0]}..{self.widths[-1]}, largest gap={self.gaps.max():.1e}, status={self.status!r})"
        )


def regularization_path(
    problem: Problem,
    betas: npt.ArrayLike | None = None,
    *,
    architecture: ReLU | GatedReLU | None = None,
    n_betas: int = 20,
    ratio: float = 1e-3,
    tol: float = 1e-6,
    minimum_norm: bool | None = None,
    time_limit: float | None = None,
    random_state: int | None = 0,
    verbose: bool | Callable[[PathPoint], None] = False,
) -> RegularizationPath:
    r"""Solve a problem over a range of weight decays, largest first.

    Parameters
    ----------
    problem : Problem
        Data and loss; its ``beta`` plays no part.
    betas : array-like (k,), optional
        Positive weight decays in any order; equal ones count once. By default ``n_betas`` values in geometric
        progression from :func:`beta_max` down to ``ratio`` times it.
    architecture : ReLU or GatedReLU, optional
        ``ReLU()`` by default.
    n_betas : int, default 20
    ratio : float, default 1e-3
        Smallest default beta relative to the largest one, in (0, 1].
    tol : float, default 1e-6
        Relative duality gap of each solve.
    minimum_norm : bool, optional
        List the optimal set at each beta and take the member whose masses have the least Euclidean norm. By default
        for ReLU networks on data with at most 5000 activation patterns. Where the set cannot be listed the solver's
        member is kept, and the point says so.
    time_limit : float, optional
        Seconds for the whole path; what was finished is returned.
    random_state : int or None, default 0
        Seed of the solver.
    verbose : bool or callable, default False
        True writes a line per point to standard error; a callable receives each finished :class:`PathPoint`.

    Returns
    -------
    RegularizationPath

    Raises
    ------
    ValueError
        On betas that are empty or not positive, options out of range, ``minimum_norm`` with gates, or a problem with an
        output bias.

    Notes
    -----
    The optimal value is a concave, non-decreasing function of beta; the loss of an optimal network never rises and its
    penalty never falls as beta falls. Each solve starts from the network before. A keyboard interrupt returns the
    points so far.

    Examples
    --------
    >>> from cvxnn import Problem
    >>> path = regularization_path(Problem([[1.0]], [2.0]), [0.5, 2.0, 1.0])
    >>> path.betas, path.widths
    (array([2. , 1. , 0.5]), array([0, 1, 1]))
    >>> path.penalties.round(6)
    array([0. , 1. , 1.5])
    """
    require_no_output_bias(problem, "regularization_path")
    limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    start = time.perf_counter()
    gated = isinstance(architecture, GatedReLU)
    if not (gated or architecture is None or isinstance(architecture, ReLU)):
        raise ValueError(f"architecture must be ReLU() or GatedReLU(gates); got {architecture!r}.")
    if gated and minimum_norm:
        raise ValueError("minimum_norm must be False or None for GatedReLU: its optimal sets are not listed.")
    top = beta_max(problem, architecture=architecture, time_limit=limit)
    grid = _default_betas(top, n_betas, ratio) if betas is None else _given_betas(betas)
    if minimum_norm is None:
        minimum_norm = not gated and _few_patterns(problem)
    points: list[PathPoint] = []
    status: Literal["complete", "interrupted", "time_limit"] = "complete"
    try:
        for beta in grid:
            left = None if limit is None else limit - (time.perf_counter() - start)
            if left is not None and left <= 0.0:
                status = "time_limit"
                break
            if isinstance(architecture, GatedReLU):
                point = _gated_point(problem, float(beta), points, architecture, tol, left)
            elif beta >= top.upper:
                point = _zero_point(problem, float(beta), top)
            else:
                point = _solve_point(problem, float(beta), points, tol, left, random_state, list_set=minimum_norm)
            points.append(point)
            _report(point, verbose)
            if point.solution.status in (Status.INTERRUPTED, Status.TIME_LIMIT):
                status = "interrupted" if point.solution.status is Status.INTERRUPTED else "time_limit"
                break
    except KeyboardInterrupt:
        status = "interrupted"
    return RegularizationPath(tuple(points), top, status)


def _at(problem: Problem, beta: float) -> Problem:
    """Return the problem with another weight decay."""
    return Problem(problem.X, problem.y, beta, problem.loss, sample_weight=problem.sample_weight)


def _zero_point(problem: Problem, beta: float, top: BetaMax) -> PathPoint:
    """Point at a beta that is proved to have the zero network as its optimum; nothing is left to solve."""
    here = _at(problem, beta)
    network = ReLUNetwork.zero(problem.n_features)
    objective = network.objective(here)
    nu = here.dual_vector(np.zeros(here.n_samples))
    nu = here.loss.project_dual(nu, here.y, here.sample_weight)
    bound, scale = scaled_dual_bound(here, nu, top.upper)
    certificate = Certificate(
        objective=objective,
        lower_bound=bound,
        scope="global",
        global_lower_bound=bound,
        dual=nu,
        scale=scale,
        dual_norm_bound=top.upper,
        dual_norm_attained=top.lower,
        n_patterns=None,
        method="beta_max",
    )
    patterns = ActivationPatterns.from_gates(here.X, top.direction[None])
    nothing = np.zeros((1, here.n_features))
    history = History(np.ones(1, dtype=np.int64), np.zeros(1), np.array([objective]), np.array([bound]))
    solution = Solution(
        network, certificate, Status.GLOBAL_OPTIMUM, patterns, Blocks(nothing, nothing.copy()), history, 1
    )
    return PathPoint(here, solution, network, objective, True)


def _solve_point(
    problem: Problem,
    beta: float,
    points: list[PathPoint],
    tol: float,
    time_limit: float | None,
    random_state: int | None,
    *,
    list_set: bool,
) -> PathPoint:
    here = _at(problem, beta)
    warm = points[-1].network if points and points[-1].network.width else None
    solution = solve(here, tol=tol, time_limit=time_limit, warm_start=warm, random_state=random_state)
    member = _minimum_norm_member(here, solution) if list_set and solution.scope == "global" else None
    network = solution.network if member is None else member
    return PathPoint(here, solution, network, network.objective(here), member is not None)


def _gated_point(
    problem: Problem,
    beta: float,
    points: list[PathPoint],
    architecture: GatedReLU,
    tol: float,
    time_limit: float | None,
) -> PathPoint:
    here = _at(problem, beta)
    patterns = points[-1].solution.patterns if points else None
    with blas_threads(here, architecture):
        solution = solve_gated(
            here,
            architecture,
            tol=tol,
            time_limit=time_limit,
            warm_start=_extrapolated(points, beta, architecture),
            patterns=patterns,
        )
    network = solution.network
    return PathPoint(here, solution, network, solution.objective, network.width == 0)


def _extrapolated(points: list[PathPoint], beta: float, architecture: GatedReLU) -> GatedReLUNetwork | None:
    """Last network with its masses continued linearly in the logarithm of beta."""
    if not points or points[-1].network.width == 0:
        return None
    u = points[-1].solution.blocks.u
    mass = row_norms(u)
    if len(points) > 1:
        last, before = points[-1], points[-2]
        step = math.log(beta / last.beta) / math.log(last.beta / before.beta)
        change = step * (mass - row_norms(before.solution.blocks.u))
        factor = np.divide(change, mass, out=np.zeros_like(mass), where=mass > 0)
        u = u * np.clip(1.0 + factor, 0.1, 3.0)[:, None]
    return GatedReLUNetwork.from_vectors(architecture.gates, u)


def _minimum_norm_member(problem: Problem, solution: Solution) -> ReLUNetwork | None:
    """Optimal network whose masses have the least Euclidean norm; None where the optimal set is out of reach."""
    from cvxnn.landscape.optimal_set import OptimalSetError, optimal_set

    if solution.network.width == 0 and solution.status.converged:
        return solution.network
    try:
        every = optimal_set(problem)
        network = every.network(every.min_l2())
    except OptimalSetError:
        return None
    return network if network.objective(problem) <= solution.objective * (1.0 + _SAME) else None


def _few_patterns(problem: Problem) -> bool:
    used = problem.X[problem.sample_weight > 0]
    rank = reduce_rank(used)[0].shape[1]
    return count_patterns(len(used), rank) <= _MINIMUM_NORM_PATTERNS


def _default_betas(top: BetaMax, n_betas: int, ratio: float) -> FloatArray:
    as_count(n_betas, "n_betas")
    share = as_number(ratio, "ratio", minimum=0.0, inclusive=False)
    if share > 1.0:
        raise ValueError(f"ratio must lie in (0, 1]; got {ratio!r}.")
    if top.lower <= 0.0:
        raise ValueError("the zero network is optimal at every beta for these data; give betas to solve all the same.")
    # From the upper bound on: at the first point the zero network is optimal.
    return top.upper * np.geomspace(1.0, share, n_betas) if n_betas > 1 else np.array([top.upper])


def _given_betas(betas: npt.ArrayLike) -> FloatArray:
    grid = as_float_array(np.atleast_1d(np.asarray(betas)), "betas", ndim=1)
    if np.any(grid <= 0.0):
        raise ValueError(f"betas must be positive; got a smallest value of {grid.min():g}.")
    return np.unique(grid)[::-1]


def _report(point: PathPoint, verbose: bool | Callable[[PathPoint], None]) -> None:
    if callable(verbose):
        verbose(point)
    elif verbose:
        sys.stderr.write(
            f"beta {point.beta:.6g}  objective {point.objective:.9g}  gap {point.gap:.1e} ({point.scope})  "
            f"width {point.network.width}\n"
        )
