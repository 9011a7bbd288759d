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
from cvxnn.architectures import GatedReLU, ReLU, gate_patterns
from cvxnn.landscape._beta_max import BetaMax, beta_max, gated_beta_max, unknown_beta_max
from cvxnn.landscape._gated_points import GatedPoints
from cvxnn.landscape._path_points import PathPoint, ReLUPoints
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import count_patterns, reduce_rank
from cvxnn.problem import Problem, require_no_output_bias, require_one_output
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.solution import Solution, Status

FloatArray = npt.NDArray[np.float64]

__all__ = ["BetaMax", "PathPoint", "RegularizationPath", "beta_max", "regularization_path"]

PathStatus = Literal["complete", "interrupted", "time_limit"]

_BETA_MAX_SHARE = 0.25
"""Share of the time for the bracket of the largest beta; its bounds hold when that runs out."""

_MINIMUM_NORM_PATTERNS = 5000
"""Up to so many patterns, listing all optimal networks at every beta costs little."""


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
    status: PathStatus

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
    penalty never falls as beta falls. Each solve starts from the network before and looks for new neurons first among
    the directions that the solves before it have met, since those of one beta lie near those of the next. Where the
    data have too many patterns for a proof (scope "patterns"), "patterns optimum" therefore rests on these directions
    and one confirming search with random starts, where a single :func:`cvxnn.solve` makes four. A keyboard interrupt
    returns the points so far.

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
    require_one_output(problem, "regularization_path")
    limit = math.inf if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    deadline = time.perf_counter() + limit
    _check_options(architecture, minimum_norm, n_betas, ratio)
    grid = None if betas is None else _given_betas(betas)
    top, points = unknown_beta_max(problem), []
    try:
        if isinstance(architecture, GatedReLU):
            patterns = gate_patterns(problem.X, architecture.gates)
            top = gated_beta_max(problem, patterns)
            make = GatedPoints(problem, architecture, patterns, tol)
        else:
            top = beta_max(problem, time_limit=None if time_limit is None else _BETA_MAX_SHARE * limit)
            list_set = _few_patterns(problem) if minimum_norm is None else minimum_norm
            make = ReLUPoints(problem, top, tol, random_state, list_set=list_set)
        if top.interrupted:
            raise KeyboardInterrupt
        if grid is None:
            grid = _default_betas(top, n_betas, ratio)
        status = _trace(grid, make, deadline, verbose, points)
    except KeyboardInterrupt:
        status = "interrupted"
    return RegularizationPath(tuple(points), top, status)


def _trace(
    grid: FloatArray,
    make: Callable[[float, Sequence[PathPoint], float | None], PathPoint],
    deadline: float,
    verbose: bool | Callable[[PathPoint], None],
    points: list[PathPoint],
) -> PathStatus:
    """Append the points one by one, each made from those before; returns why the path ends."""
    for beta in grid:
        left = deadline - time.perf_counter()
        if left <= 0.0:
            return "time_limit"
        point = make(float(beta), points, left if math.isfinite(left) else None)
        points.append(point)
        _report(point, verbose)
        if point.solution.status is Status.INTERRUPTED:
            return "interrupted"
        if point.solution.status is Status.TIME_LIMIT:
            return "time_limit"
    return "complete"


def _check_options(architecture: object, minimum_norm: bool | None, n_betas: int, ratio: float) -> None:
    gated = isinstance(architecture, GatedReLU)
    if not (gated or architecture is None or isinstance(architecture, ReLU)):
        raise ValueError(f"architecture must be ReLU() or GatedReLU(gates); got {architecture!r}.")
    if gated and minimum_norm:
        raise ValueError("minimum_norm must be False or None for GatedReLU: its optimal sets are not listed.")
    as_count(n_betas, "n_betas")
    if as_number(ratio, "ratio", minimum=0.0, inclusive=False) > 1.0:
        raise ValueError(f"ratio must lie in (0, 1]; got {ratio!r}.")


def _few_patterns(problem: Problem) -> bool:
    used = problem.X[problem.sample_weight > 0]
    rank = reduce_rank(used)[0].shape[1]
    return count_patterns(len(used), rank) <= _MINIMUM_NORM_PATTERNS


def _default_betas(top: BetaMax, n_betas: int, ratio: float) -> FloatArray:
    if top.lower <= 0.0:
        raise ValueError("the zero network is optimal at every beta for these data; give betas to solve all the same.")
    # From the upper bound on: at the first point the zero network is optimal.
    return top.upper * np.geomspace(1.0, ratio, n_betas) if n_betas > 1 else np.array([top.upper])


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
