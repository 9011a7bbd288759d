"""Primal-dual interior-point method for the ReLU program on fixed activation patterns."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from cvxnn.problem import Problem
from cvxnn.solvers._cone_interior import cone_hull, interior_points
from cvxnn.solvers._cone_iteration import ConeIteration
from cvxnn.solvers._cone_system import BlockData

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["ConeSolution", "solve_cone_blocks"]

_STALLED = 1e-3
"""Step length that counts as no progress."""

_INSIDE = 1e-12
"""Violation up to which given vectors count as lying in their cones."""


@dataclass(frozen=True)
class ConeSolution:
    """Solution of the ReLU program on fixed patterns, with the dual point that shows how good it is.

    Attributes
    ----------
    vectors : array (K, r)
        Block vectors z, each in its cone.
    fit : array (n,)
        Fitted values ``sum_i s_i D_i X z_i``.
    objective : float
        ``loss(fit) + beta * sum_i ||z_i||``.
    lower_bound : float
        Dual value: no vectors in these cones have a smaller objective, up to rounding.
    dual : array (n,)
        Dual vector nu of the lower bound.
    multipliers : array (K, n)
        Row multipliers rho >= 0 of the lower bound: ``||X^T (s_i D_i nu + (2 D_i - I) rho_i)|| <= beta`` in each block.
    violation : float
        Largest ``-(2 D_i - I)_jj x_j^T z_i / (||x_j|| ||z_i||)``; zero where every vector lies in its cone.
    n_iter : int
        Newton systems factorised.
    converged : bool
        Whether the relative gap reached ``tol``.
    """

    vectors: FloatArray
    fit: FloatArray
    objective: float
    lower_bound: float
    dual: FloatArray
    multipliers: FloatArray
    violation: float
    n_iter: int
    converged: bool

    @property
    def gap(self) -> float:
        """Relative gap ``(objective - lower_bound) / |objective|``, never negative."""
        return _relative_gap(self.objective, self.lower_bound)


def solve_cone_blocks(
    problem: Problem,
    masks: npt.ArrayLike,
    signs: npt.ArrayLike,
    *,
    start: npt.ArrayLike | None = None,
    tol: float = 1e-8,
    max_iter: int = 100,
    time_limit: float | None = None,
) -> ConeSolution:
    r"""Solve the ReLU program on fixed activation patterns by a primal-dual interior-point method.

    .. math:: \min_z\ \ell\Big(\sum_i s_i D_i X z_i\Big) + \beta \sum_i \|z_i\|,
              \qquad (2 D_i - I) X z_i \ge 0

    Mehrotra predictor-corrector steps with Nesterov-Todd scaling of the norms. The Newton matrix is block diagonal plus
    the curvature of the loss; it is reduced to a dense symmetric system of size ``min(K r, n)``. Every iterate lies
    inside the cones. Masks need not be realisable: a cone without interior is treated in its linear hull.

    Parameters
    ----------
    problem : Problem
        Data X ``(n, r)`` of full column rank and order one, targets, loss and ``beta > 0``.
    masks : array-like (K, n) of bool
        Activation patterns D, one a row.
    signs : array-like (K,)
        Sign s of each block, -1 or +1.
    start : array-like (K, r), optional
        Vectors that may lie inside the cones: they save the search for interior points where they do, and the
        objective of the solution is not above theirs where all of them do.
    tol : float, default 1e-8
        Relative duality gap to reach.
    max_iter : int, default 100
        Most Newton systems to factorise.
    time_limit : float, optional
        Seconds after which the best point so far is returned.

    Returns
    -------
    ConeSolution
        Vectors, objective, and the dual point with its lower bound.

    Raises
    ------
    ValueError
        On masks, signs or start of wrong shape, signs other than -1 and +1, ``beta = 0`` or a tol that is not positive.

    References
    ----------
    The program: Pilanci and Ergen (2020), "Neural networks are convex regularizers", Theorem 1. The method: Mehrotra
    (1992); Nesterov and Todd (1997); Andersen, Dahl and Vandenberghe (2003) for norm cones.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn.problem import Problem
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0]], [2.0, 0.0], beta=0.5)
    >>> solution = solve_cone_blocks(problem, [[True, False], [True, True]], [1, 1])
    >>> solution.converged, round(solution.objective, 6)
    (True, 0.875)
    """
    patterns, orientation, hint = _validated(problem, masks, signs, start, tol)
    deadline = np.inf if time_limit is None else time.monotonic() + time_limit
    useful = np.flatnonzero(patterns.any(axis=1))
    data = BlockData(problem.X, patterns[useful], orientation[useful])
    points, solid = interior_points(data, None if hint is None else hint[useful])
    solid |= _flatten(data, points, solid)
    useful, points = useful[solid], points[solid]
    data = data.select(solid)
    vectors = np.zeros((patterns.shape[0], problem.X.shape[1]))
    multipliers = np.zeros(patterns.shape)
    best = _Best(problem, data)
    whole = BlockData(problem.X, patterns, orientation)
    if hint is not None and _violation(whole, hint) <= _INSIDE:
        best.offer(hint[useful])
    n_iter = 0
    if useful.size:
        n_iter = _iterate(best, ConeIteration(problem, data, points), tol, max_iter, deadline)
        vectors[useful] = best.vectors
        multipliers[useful] = best.multipliers / data.norms
    return _finished(problem, whole, vectors, best.dual, multipliers, n_iter, tol)


class _Best:
    """Best primal and best dual point met so far."""

    def __init__(self, problem: Problem, data: BlockData) -> None:
        self.problem = problem
        self.data = data
        count, n = data.masks.shape
        self.vectors = np.zeros((count, problem.X.shape[1]))
        self.objective = problem.loss_value(np.zeros(n))
        self.lower_bound = -np.inf
        self.dual = problem.dual_vector(np.zeros(n))
        self.multipliers = np.zeros((count, n))

    def offer(self, vectors: FloatArray) -> None:
        """Take in vectors that lie in their cones."""
        objective = _objective(self.problem, self.data, vectors)
        if objective <= self.objective:
            self.vectors, self.objective = vectors.copy(), objective

    def update(self, iterate: ConeIteration) -> float:
        """Take in an iterate; returns the relative gap."""
        problem, data = self.problem, self.data
        self.offer(iterate.vectors)
        nu = -iterate.loss.gradient
        forces = data.project(data.fit_adjoint(nu) + data.rows_adjoint(iterate.multipliers))
        scale = _shrink(problem.beta, forces)
        bound = problem.dual_value(scale * nu)
        if bound > self.lower_bound:
            self.dual, self.lower_bound = scale * nu, bound
            self.multipliers = scale * iterate.multipliers
        return _relative_gap(self.objective, self.lower_bound)


def _iterate(best: _Best, iterate: ConeIteration, tol: float, max_iter: int, deadline: float) -> int:
    """Newton steps until the gap is closed, a limit is met or rounding stops progress; returns their number."""
    idle = 0
    for n_iter in range(max_iter):
        gap = best.update(iterate)
        if gap <= tol or time.monotonic() > deadline or idle == 5:
            return n_iter
        try:
            length = iterate.step()
        except np.linalg.LinAlgError:
            # The Newton matrix is no longer positive definite in floating point: what was found is what there is.
            return n_iter
        idle = idle + 1 if length < _STALLED else 0
    best.update(iterate)
    return max_iter


def _flatten(data: BlockData, points: FloatArray, solid: BoolArray) -> BoolArray:
    """Replace cones without interior by their linear hulls; returns which of them are more than the origin."""
    rank = data.X.shape[1]
    kept = np.zeros(solid.size, dtype=bool)
    for k in np.flatnonzero(~solid):
        basis, point, free = cone_hull(data.rows, data.orient[k])
        data.orient[k] *= free
        points[k] = point
        kept[k] = basis.shape[1] > 0
        if 0 < basis.shape[1] < rank:
            data.hulls[int(k)] = basis
    return kept


def _finished(
    problem: Problem,
    data: BlockData,
    vectors: FloatArray,
    nu: FloatArray,
    multipliers: FloatArray,
    n_iter: int,
    tol: float,
) -> ConeSolution:
    """Clean the vectors, complete the multipliers of flat cones, and evaluate both sides from scratch."""
    beta = problem.beta
    vectors = _without_dust(problem, data, vectors)
    norms = np.where(data.nonzero, data.norms, 1.0)
    multipliers = np.where(data.orient != 0, multipliers, 0.0)
    forces = data.fit_adjoint(nu) + data.rows_adjoint(multipliers * norms)
    for k in np.flatnonzero(_sizes(forces) > beta * (1.0 + 1e-6)):
        try:
            extra, _ = nnls((data.orient[k][:, None] * data.rows).T, -forces[k], maxiter=30 * norms.size)
        except RuntimeError:
            # No multipliers found in time: the bound below is scaled down for it and remains valid.
            continue
        multipliers[k] += extra / norms
        forces[k] += data.rows.T @ (data.orient[k] * extra)
    scale = _shrink(beta, forces)
    limit = problem.loss.dual_scale_limit(nu, problem.y, problem.sample_weight)
    if scale >= limit:
        # Keep a few units of rounding away from the border of the domain of the conjugate.
        scale = limit * (1.0 - 1e-15)
    dual = problem.loss.project_dual(scale * nu, problem.y, problem.sample_weight)
    objective = _objective(problem, data, vectors)
    lower = problem.dual_value(dual)
    return ConeSolution(
        vectors=vectors,
        fit=data.fit(vectors),
        objective=objective,
        lower_bound=lower,
        dual=dual,
        multipliers=scale * multipliers,
        violation=_violation(data, vectors),
        n_iter=n_iter,
        converged=_relative_gap(objective, lower) <= tol,
    )


def _without_dust(problem: Problem, data: BlockData, vectors: FloatArray) -> FloatArray:
    """Set the vanishing vectors to zero where that does not raise the objective."""
    sizes = _sizes(vectors)
    lowest = _objective(problem, data, vectors)
    for level in (1e-5, 1e-7, 1e-9):
        tried = np.where((sizes > level * sizes.max(initial=0.0))[:, None], vectors, 0.0)
        if _objective(problem, data, tried) <= lowest:
            return tried
    return vectors


def _objective(problem: Problem, data: BlockData, vectors: FloatArray) -> float:
    return problem.loss_value(data.fit(vectors)) + problem.beta * float(_sizes(vectors).sum())


def _violation(data: BlockData, vectors: FloatArray) -> float:
    """Largest violation of a unit row by a unit vector."""
    sizes = _sizes(vectors)
    slacks = data.slacks(vectors) / np.where(sizes > 0, sizes, 1.0)[:, None]
    return max(0.0, -float(slacks.min(initial=0.0)))


def _sizes(vectors: FloatArray) -> FloatArray:
    return np.linalg.norm(vectors, axis=1)


def _shrink(beta: float, forces: FloatArray) -> float:
    """Factor, at most one, that brings every block norm down to beta."""
    top = float(_sizes(forces).max(initial=0.0))
    return 1.0 if top <= beta else beta / top


def _relative_gap(objective: float, lower_bound: float) -> float:
    return max(objective - lower_bound, 0.0) / max(abs(objective), 1e-300)


def _validated(
    problem: Problem, masks: npt.ArrayLike, signs: npt.ArrayLike, start: npt.ArrayLike | None, tol: float
) -> tuple[BoolArray, FloatArray, FloatArray | None]:
    n, rank = problem.X.shape
    patterns = np.asarray(masks, dtype=bool)
    if patterns.ndim != 2 or patterns.shape[1] != n:
        raise ValueError(f"masks must have shape (K, {n}), one column for each sample; got {patterns.shape}.")
    orientation = np.asarray(signs, dtype=np.float64)
    if orientation.shape != patterns.shape[:1]:
        raise ValueError(f"signs must have shape ({patterns.shape[0]},), one for each mask; got {orientation.shape}.")
    if not np.all(np.abs(orientation) == 1.0):
        raise ValueError("signs must hold only -1 and +1.")
    if not problem.beta > 0:
        raise ValueError(f"the interior-point method needs beta > 0; got {problem.beta:g}.")
    if not tol > 0:
        raise ValueError(f"tol must be positive; got {tol!r}.")
    if start is None:
        return patterns, orientation, None
    hint = np.asarray(start, dtype=np.float64)
    if hint.shape != (patterns.shape[0], rank):
        raise ValueError(f"start must have shape ({patterns.shape[0]}, {rank}); got {hint.shape}.")
    return patterns, orientation, np.where(np.isfinite(hint), hint, 0.0)
