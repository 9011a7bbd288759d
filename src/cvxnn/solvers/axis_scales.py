r"""Axes and scales in which a search moves: the penalty is on the weights as given, the kinks follow the data.

Where columns have very different sizes, or lie far from zero beside their spread, almost no kink of a random direction
lies among the samples, and a step that moves one kink by a little moves others out of the data. The variables
:math:`q = z / t` undo this, with scales t such that the columns of :math:`X\,\mathrm{diag}(t)` are of like size and
nearly orthogonal; the penalty is then :math:`\beta (\sum_k t_k^2 q_k^2)^{1/2}`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["axis_scales", "kink_axes", "round_axes"]

_EVEN = 9.0
"""Ratio of the geometric mean of the scales to the least up to which they stay as they are: the few short axes of
dependent columns need no help."""

_DEAR = 20.0
"""Largest effect of a unit weight, in units of beta, up to which an axis counts as short."""

_OUTLYING = 100.0
"""Norm of a row, in units of the median, from which on it has no full say about the scales."""

_LEVERAGE, _ROUNDS, _SETTLED = 4.0, 40, 0.5
"""Leverage that a row may have, in units of the mean; most rounds of weights; change that ends them."""

_MOST_ENTRIES, _ROWS_PER_AXIS = 1 << 21, 4
_FLATTEST = 1e-14


def axis_scales(problem: Problem) -> FloatArray:
    r"""Scales ``t (d,)`` of variables ``z / t`` in which steps are easy; ones where the data are even.

    The scale of an axis is :math:`(\|X_k\|^2 + c^2 \beta^2/\|\nu_0\|^2)^{-1/2}`, with the dual vector of the zero
    network: along axes so short that hardly a neuron could pay for its weights, longer steps gain nothing. The
    geometric mean of the scales is 1.

    Examples
    --------
    >>> problem = Problem([[1e4, 1.0], [-1e4, 1.0], [1e4, -1.0]], [1.0, 2.0, 3.0], beta=1e-3)
    >>> axis_scales(problem).round(2)
    array([1.e-02, 1.e+02])
    """
    X = problem.X
    if len(X) == 0 or not np.any(X):
        return np.ones(X.shape[1])
    spread = len(X) * (np.diagonal(_scatter(X)) if _outlying(X) else np.mean(X * X, axis=0))
    scales = _scales(problem, spread)
    return scales if scales.min() * _EVEN < 1.0 else np.ones(len(scales))


def round_axes(problem: Problem) -> tuple[FloatArray | None, FloatArray]:
    r"""Axes ``(d, d)`` and scales ``(d,)`` in which the data are round, for steps that know no curvature yet.

    Where :func:`axis_scales` are ones, the axes are the eigenvectors of :math:`X^\top X`, and their scales those of
    :func:`axis_scales` there; elsewhere those are taken, and the axes (None) as they are.

    Examples
    --------
    >>> problem = Problem([[2.0, 2.0], [1.0, -1.0], [-1.0, 1.0]], [1.0, 2.0, 3.0], beta=1e-3)
    >>> axes, scales = round_axes(problem)
    >>> abs(axes).round(3), scales.round(3)
    (array([[0.707, 0.707],
           [0.707, 0.707]]), array([1.189, 0.841]))
    """
    scales, X = axis_scales(problem), problem.X
    if len(X) == 0 or np.any(scales != 1.0):
        return None, scales
    spread, axes = np.linalg.eigh(X.T @ X)
    return axes, _scales(problem, np.maximum(spread, 0.0))


def _scales(problem: Problem, spread: FloatArray) -> FloatArray:
    """Scales of axes from the squares of their columns, with a geometric mean of one."""
    slope = float(np.linalg.norm(problem.dual_vector(np.zeros(problem.n_samples))))
    least = (_DEAR * problem.beta / slope) ** 2 if slope > 0.0 else 0.0
    scales = 1.0 / np.sqrt(np.maximum(spread + least, np.finfo(float).tiny))
    return scales / np.exp(np.mean(np.log(scales)))


def kink_axes(X: FloatArray) -> FloatArray:
    """Orthonormal columns ``(d, d)`` along which the data without outlying rows vary; the unit vectors where even.

    Parameters
    ----------
    X : ndarray (n, d)
        Data of full column rank.

    Examples
    --------
    >>> kink_axes(np.array([[1.0, 0.0], [0.5, 1.0], [0.0, 1.0]]))
    array([[1., 0.],
           [0., 1.]])
    """
    scatter = _scatter(X)
    spread = np.maximum(np.linalg.eigvalsh(scatter), np.finfo(float).tiny)
    if spread[-1] <= _EVEN**2 * np.exp(np.mean(np.log(spread))):
        return np.eye(X.shape[1])
    return np.linalg.eigh(scatter)[1][:, ::-1]


def _outlying(X: FloatArray) -> bool:
    norms = np.linalg.norm(X, axis=1)
    return bool(norms.max() > _OUTLYING * np.median(norms[norms > 0.0]))


def _scatter(X: FloatArray) -> FloatArray:
    """Mean of ``w_j x_j x_j^T``, with weights that leave no row much more than its share (Huber's M-estimator)."""
    X = X[np.any(X != 0.0, axis=1)]
    n, d = X.shape
    most = max(_ROWS_PER_AXIS * d, _MOST_ENTRIES // d)
    if n > most:
        X = X[np.sort(np.random.default_rng(0).choice(n, most, replace=False))]
    weight = np.ones(len(X))
    scatter = X.T @ X / len(X)
    for _ in range(_ROUNDS if _outlying(X) else 0):
        size = np.sqrt(np.maximum(np.diagonal(scatter), np.finfo(float).tiny))
        values, axes = np.linalg.eigh(scatter / size[:, None] / size)
        leverage = np.sum((X / size @ axes) ** 2 / np.maximum(values, _FLATTEST), axis=1)
        last, weight = weight, np.minimum(1.0, _LEVERAGE * d / np.maximum(leverage, np.finfo(float).tiny))
        if np.all(weight >= _SETTLED * last):
            break
        scatter = (X.T * weight) @ X / len(X)
    return scatter
