r"""All two-layer ReLU networks of minimum norm that interpolate the data: one of them, or a continuum.

.. math:: \min_{W, a}\ \tfrac12(\|W\|_F^2 + \|a\|^2) \quad \text{subject to}\quad (X W^\top)_+ a = y

is the limit of training with vanishing weight decay. It is a convex program over activation patterns; its dual is
:math:`\max_\nu \nu^\top y` subject to :math:`|\nu^\top (Xu)_+| \le 1` on the unit ball.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog, nnls

from cvxnn._validation import as_float_array, as_number
from cvxnn.certificates.certificate import relative_gap
from cvxnn.certificates.cone_bounds import cone_bounds
from cvxnn.landscape._interpolable import InterpolationError, check_interpolable
from cvxnn.landscape._interpolation_dual import dual_value, refined_dual, tight_directions
from cvxnn.landscape._interpolation_program import face_basis, solve_interpolation
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import enumerate_patterns, reduce_rank
from cvxnn.problem import Problem, require_one_output

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["InterpolationError", "Interpolators", "nonunique_interpolators"]

_ALL_CELLS = 60
_BATCH = 40
_VIOLATED = 1e-8
_MASSLESS = 1e-6
_FITS = 1e-9
_ROUNDS = 200
_DROPPING = 8


@dataclass(frozen=True, eq=False)
class Interpolators:
    r"""All minimum-norm interpolating networks, by :func:`nonunique_interpolators`.

    Every one of them is, up to splitting neurons and zero neurons, a network with masses c on :attr:`directions`, where
    c lies in the polytope :math:`\{c \ge 0 : A c = y\}`, ``A`` being :attr:`columns`; and every point of it is one.

    Attributes
    ----------
    X : ndarray (n, d)
    y : ndarray (n,)
    norm : float
        Norm of the network of :attr:`masses`, the sum of the masses.
    lower_bound : float
        Proved lower bound of the norm of every interpolating network, rounding included.
    dual : ndarray (n,)
        Dual vector; divided by the proved bound of its dual norm, it proves ``lower_bound``.
    directions : ndarray (k, d)
        Unit vectors u with :math:`s \nu^\top (Xu)_+ = 1`.
    signs : ndarray (k,)
    columns : ndarray (n, k)
        Contributions :math:`s (Xu)_+` of unit mass.
    masses : ndarray (k,)
        A point in the relative interior of the polytope: positive wherever some interpolator has mass.
    mass_range : ndarray (k, 2)
        Smallest and largest mass of each direction over the polytope.
    dimension : int
        Dimension of the polytope; 0 where there is one interpolator.
    residual : float
        Largest ``|f(x_j) - y_j|`` of the network of :attr:`masses`.
    dual_is_unique : bool or None
        True where the dual vector is determined by the directions in use; None where that is not decided. The set of
        interpolators is complete in either case: its directions are those of any dual optimum.
    """

    X: FloatArray
    y: FloatArray
    norm: float
    lower_bound: float
    dual: FloatArray
    directions: FloatArray
    signs: FloatArray
    columns: FloatArray
    masses: FloatArray
    mass_range: FloatArray
    dimension: int
    residual: float
    dual_is_unique: bool | None

    @property
    def is_unique(self) -> bool:
        """Whether one network is the only one, up to order, splitting and zero neurons."""
        return self.dimension == 0

    @property
    def gap(self) -> float:
        """Relative gap between :attr:`norm` and :attr:`lower_bound`."""
        return relative_gap(self.norm, self.lower_bound)

    def network(self, masses: npt.ArrayLike | None = None) -> ReLUNetwork:
        """Balanced interpolating network with given masses ``(k,)``, by default :attr:`masses`.

        Raises
        ------
        ValueError
            When the masses have a wrong shape, are negative, or do not interpolate.
        """
        c = self.masses if masses is None else np.asarray(masses, dtype=np.float64)
        if c.shape != self.signs.shape or not np.all(np.isfinite(c)):
            raise ValueError(f"masses must be {len(self.signs)} finite numbers, one a direction; got shape {c.shape}.")
        scale = max(float(np.max(np.abs(self.y))), 1e-300)
        if len(c) and float(c.min()) < -_FITS * self.norm:
            raise ValueError(f"masses must not be negative; got a smallest value of {c.min():g}.")
        c = np.maximum(c, 0.0)
        error = float(np.max(np.abs(self.columns @ c - self.y)))
        if error > 1e-7 * scale:
            raise ValueError(f"masses must interpolate y; they miss it by {error:.3g}.")
        return ReLUNetwork.from_vectors(c[:, None] * self.directions, self.signs)

    def __repr__(self) -> str:
        """Key figures on one line."""
        return (
            f"Interpolators(norm={self.norm:.9g}, gap={self.gap:.1e}, directions={len(self.signs)}, "
            f"dimension={self.dimension}, is_unique={self.is_unique})"
        )


def nonunique_interpolators(
    X: npt.ArrayLike, y: npt.ArrayLike, *, max_patterns: int = 20_000, time_limit: float | None = None
) -> Interpolators:
    r"""Find all networks of minimum norm that interpolate the data.

    .. math:: \min_{z}\ \sum_i \|z_i\| \quad \text{subject to}\quad \sum_i s_i D_i X z_i = y,\ (2D_i - I) X z_i \ge 0

    over all activation patterns D and signs s is solved exactly. By complementary slackness with a dual optimum, the
    directions of all solutions are the finitely many u with :math:`s \nu^\top (Xu)_+ = 1`; on these, the solutions are
    a polytope of masses.

    Parameters
    ----------
    X : array-like (n, d)
        Data; a column of ones gives a penalised bias.
    y : array-like (n,)
        Targets.
    max_patterns : int, default 20000
        Most activation patterns to list.
    time_limit : float, optional
        Seconds.

    Returns
    -------
    Interpolators

    Raises
    ------
    InterpolationError
        A ``ValueError``: where no network interpolates, which is told by the samples that are in conflict, or where
        the time ran out.
    PatternLimitError
        A ``ValueError``: where the data have too many activation patterns.
    ValueError
        On bad arrays.

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", section on the minimum-norm problem. That
    minimum-norm interpolators may be a continuum in spite of the regulariser: Kim, Mishkin and Pilanci (2024),
    "Exploring the loss landscape of regularized neural networks via convex duality".

    Examples
    --------
    >>> import numpy as np
    >>> root = np.sqrt(3.0)
    >>> found = nonunique_interpolators([[-root, 1.0], [root, 1.0]], [1.0, 1.0])
    >>> found.is_unique, len(found.signs), round(found.norm, 9), found.gap < 1e-12
    (False, 3, 1.0, True)
    >>> sorted(found.mass_range[:, 1].round(9).tolist())
    [0.5, 0.5, 1.0]
    """
    data, problem = as_float_array(X, "X", ndim=2), Problem(X, y, beta=1.0)
    require_one_output(problem, "nonunique_interpolators")
    targets = problem.y
    limit = as_number(max_patterns, "max_patterns", minimum=1)
    seconds = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0, inclusive=False)
    check_interpolable(data, targets)
    if not np.any(targets):
        return _nothing(data, targets)
    deadline = None if seconds is None else time.perf_counter() + seconds
    Z, basis = reduce_rank(data)
    masks = enumerate_patterns(data, max_patterns=limit, time_limit=seconds).masks
    sigma = float(np.sqrt(np.mean(np.sum(Z * Z, axis=1))))
    tau = float(np.sqrt(np.mean(targets * targets)))
    Z, target = Z / sigma, targets / tau
    both, signs = np.concatenate([masks, masks]), np.repeat([1.0, -1.0], len(masks))
    vectors, owners, dual = _solve(Z, target, both, signs, deadline)
    dual, tau, accuracy = refined_dual(Z, target, both, signs, vectors, signs[owners], dual)
    directions, found_signs = tight_directions(Z, both, signs, dual, accuracy)
    return _assemble(data, targets, directions @ basis.T, found_signs, dual / sigma, tau)


def _nothing(X: FloatArray, y: FloatArray) -> Interpolators:
    """Zero targets: the zero network alone has norm 0."""
    n, d = X.shape
    empty = np.zeros(0)
    none = np.zeros((0, d))
    return Interpolators(
        X, y, 0.0, 0.0, np.zeros(n), none, empty, np.zeros((n, 0)), empty, np.zeros((0, 2)), 0, 0.0, None
    )


def _solve(
    X: FloatArray, y: FloatArray, masks: BoolArray, signs: FloatArray, deadline: float | None
) -> tuple[FloatArray, npt.NDArray[np.intp], FloatArray]:
    """Vectors with their cells, and the dual vector: on a few cells, to which the violated ones are added."""
    rng = np.random.default_rng(0)
    few = len(masks) <= _ALL_CELLS
    active = np.arange(len(masks)) if few else np.sort(rng.choice(len(masks), _BATCH, replace=False))
    price = 100.0
    for round_number in range(_ROUNDS):
        left = None if deadline is None else deadline - time.perf_counter()
        if left is not None and left <= 0.0:
            raise InterpolationError("the time limit ran out before the interpolators of least norm were found.")
        found = solve_interpolation(X, y, masks[active], signs[active], price, time_limit=left)
        if found is None:
            break
        vectors, dual, slack = found
        upper, _ = cone_bounds(X, dual, masks, signs, target=1.0 + _VIOLATED)
        upper[active] = 0.0
        order = np.argsort(-upper, kind="stable")
        new = order[upper[order] > 1.0 + _VIOLATED][: max(_BATCH, len(active) // 2)]
        if new.size:
            sizes = np.linalg.norm(vectors, axis=1)
            # Where the dual vector is not unique, cells that leave may come back in turns: later on, all stay.
            used = (sizes > 1e-10 * sizes.max()) | (round_number >= _DROPPING)
            active = np.concatenate([active[used], new])
        elif slack > _FITS * float(np.sum(np.abs(y))):
            price *= 100.0
            if price > 1e10:
                break
        else:
            sizes = np.linalg.norm(vectors, axis=1)
            kept = sizes > _MASSLESS * sizes.max()
            return vectors[kept], active[kept], dual
    raise InterpolationError(
        "the interpolators of least norm were not found in double precision; X or y is too badly conditioned."
    )


def _assemble(
    X: FloatArray, y: FloatArray, directions: FloatArray, signs: FloatArray, nu: FloatArray, tau: float
) -> Interpolators:
    """Polytope of masses on the directions, its ranges, and the bounds of the norm on the original data."""
    columns = signs * np.maximum(X @ directions.T, 0.0)
    start, _ = nnls(columns, y, maxiter=100 * len(signs) + 100)
    miss = float(np.max(np.abs(columns @ start - y)))
    if miss > 1e-7 * float(np.max(np.abs(y))):
        raise InterpolationError(
            f"the directions of the interpolators were not read off reliably: the best masses miss y by {miss:.3g}."
        )
    ranges, points = _mass_ranges(columns, start)
    masses = np.maximum(np.mean(points, axis=0), 0.0)
    total = float(np.sum(masses))
    spread = points - points[0]
    values = np.linalg.svd(spread, compute_uv=False)
    dimension = int(np.count_nonzero(values > 1e-8 * total * np.sqrt(len(points))))
    return Interpolators(
        X=X,
        y=y,
        norm=total,
        lower_bound=dual_value(nu, y, tau),
        dual=nu,
        directions=directions,
        signs=signs,
        columns=columns,
        masses=masses,
        mass_range=ranges,
        dimension=dimension,
        residual=float(np.max(np.abs(columns @ masses - y))),
        dual_is_unique=_dual_is_unique(X, directions[masses > _MASSLESS * total]),
    )


def _mass_ranges(columns: FloatArray, start: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest mass of each direction, and the points of the polytope where they are met."""
    norms = np.linalg.norm(columns, axis=0)
    _, values, right = np.linalg.svd(columns / norms)
    rank = int(np.count_nonzero(values > 1e-9 * values[0]))
    kernel = right[rank:].T / norms[:, None]
    if kernel.shape[1] == 0:
        return np.column_stack([start, start]), start[None, :]
    kernel = kernel * (float(np.sum(start)) / np.linalg.norm(kernel, axis=0))
    points = [start]
    ranges = np.empty((len(start), 2))
    for i, row in enumerate(kernel):
        for side, sense in enumerate((1.0, -1.0)):
            result: Any = linprog(sense * row, A_ub=-kernel, b_ub=start, bounds=(None, None), method="highs")
            if result.status != 0:
                raise InterpolationError(f"the range of mass {i} was not found: {result.message}")
            point = np.maximum(start + kernel @ result.x, 0.0)
            points.append(point)
            ranges[i, side] = point[i]
    return ranges, np.array(points)


def _dual_is_unique(X: FloatArray, directions: FloatArray) -> bool | None:
    """True where the conditions of the directions in use determine the dual vector."""
    blocks = []
    for u in directions:
        basis, active = face_basis(X, u)
        blocks.append(active[:, None] * (X @ basis))
    used = np.linalg.norm(X, axis=1) > 0
    if not blocks:
        return None
    stacked = np.hstack(blocks)[used]
    values = np.linalg.svd(stacked, compute_uv=False)
    return True if np.count_nonzero(values > 1e-9 * values[0]) == np.count_nonzero(used) else None
