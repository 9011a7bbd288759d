"""Numerical rank of a data matrix, and its coordinates in the row space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg

from cvxnn._tall_tables import tall_slabs, triangle
from cvxnn._validation import as_float_array

FloatArray = npt.NDArray[np.float64]

RANK_TOLERANCE = 1e-10
"""Singular values below this fraction of the largest one count as zero, after rows and columns were scaled.

Dependent columns that were computed in double precision leave singular values near 1e-16, while features that
are independent leave more than 1e-8 once their units have been removed by the scaling.
"""


_SCALING_ROUNDS = 20


def equilibrate(X: FloatArray) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Scale rows and columns of ``X`` by powers of two so that units no longer matter.

    The factors bring the logarithms of the large entries close to zero in the weighted least-squares sense
    (Curtis and Reid 1972, "On the automatic scaling of matrices for Gaussian elimination"), which undoes any
    earlier scaling of rows and columns.  Powers of two introduce no rounding: the scaled matrix has exactly
    the patterns and the rank of ``X``.

    Returns
    -------
    scaled : array (n, d)
        Nonzero rows have a largest entry in [1/2, 1).
    exponents : int array (d,)
        ``X`` times ``2.0**exponents`` is ``scaled`` up to factors of the rows; a gate ``g`` of ``scaled`` is
        the gate ``g * 2.0**exponents`` of ``X``.  The largest exponent is zero.
    """
    # Row by row but for the sums over rows, so that a slab needs temporary arrays and the rest one array.
    weights = np.empty_like(X)
    by_row, in_rows = np.empty(len(X)), np.empty(len(X))
    by_column, in_columns, tops = np.zeros(X.shape[1]), np.zeros(X.shape[1]), np.zeros(X.shape[1])
    slabs = tall_slabs(X)
    for rows in slabs:
        np.maximum(tops, np.abs(X[rows]).max(axis=0), out=tops)
    for rows in slabs:
        sizes = np.abs(X[rows])
        nonzero = sizes > 0
        largest = np.minimum(sizes.max(axis=1, keepdims=True), tops)
        # Entries that are tiny both in their row and in their column may be rounding noise in place of a zero.
        weight = np.divide(sizes, largest, where=nonzero, out=np.zeros_like(sizes)) ** 0.25
        weighted = weight * np.log2(sizes, where=nonzero, out=np.zeros_like(sizes))
        weights[rows] = weight
        by_row[rows], in_rows[rows] = weighted.sum(axis=1), weight.sum(axis=1)
        by_column += weighted.sum(axis=0)
        in_columns += weight.sum(axis=0)
    in_rows, in_columns = (np.where(total > 0, total, 1.0) for total in (in_rows, in_columns))
    columns = np.zeros(X.shape[1])
    for _ in range(_SCALING_ROUNDS):
        factors = -(by_row + weights @ columns) / in_rows
        columns = -(by_column + factors @ weights) / in_columns
    exponents = np.rint(columns).astype(np.int32)
    exponents -= exponents.max()
    scaled = weights
    for rows in slabs:
        scaled[rows] = _scale_rows(np.ldexp(_scale_rows(X[rows]), exponents))
    return scaled, exponents


def _scale_rows(X: FloatArray) -> FloatArray:
    return np.ldexp(X, -np.frexp(np.max(np.abs(X), axis=1, keepdims=True))[1])


def reduce_rank(X: npt.ArrayLike, *, rtol: float = RANK_TOLERANCE) -> tuple[FloatArray, FloatArray]:
    r"""Coordinates of the samples in the row space: :math:`X = Z V^T` with :math:`V^T V = I`.

    ``Z`` is :math:`U \Sigma` of a singular value decomposition, so a vector ``z`` (r,) and the
    vector ``V z`` (d,) have the same norm, and ``X (V z) = Z z``.  Optimal first-layer weights lie in the row
    space, so a problem in ``d`` variables can be solved in ``r``.

    Parameters
    ----------
    X : array-like (n, d)
        Data.
    rtol : float, default 1e-10
        Singular values at most ``rtol`` times the largest count as zero.  They are taken after rows and
        columns have been scaled, so that the units of features and the sizes of samples do not decide the
        rank.

    Returns
    -------
    Z : array (n, r)
        Coordinates, with orthogonal columns of decreasing norm.
    V : array (d, r)
        Orthonormal columns.  ``r`` is the numerical rank; it is 0 when ``X`` is zero.

    Raises
    ------
    ValueError
        When ``X`` is not a finite 2-dimensional array with at least one entry.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 1.0, 1.0]])
    >>> Z, V = reduce_rank(X)
    >>> Z.shape, V.shape, bool(np.allclose(Z @ V.T, X))
    ((3, 2), (3, 2), True)
    """
    data = as_float_array(X, "X", ndim=2, copy=False)
    rank = numerical_rank(equilibrate(data)[0], rtol=rtol)
    if rank == 0:
        return np.zeros((data.shape[0], 0)), np.zeros((data.shape[1], 0))
    full = rank == min(data.shape)
    # Samples of very different sizes would drown each other's directions; equal sizes give them equal say.
    directions = _right_singular_vectors(data if full else _scale_rows(data), rank)
    Z = data @ directions
    if full:
        return Z, directions
    rotation = _right_singular_vectors(Z, rank)
    return Z @ rotation, directions @ rotation


def numerical_rank(scaled: FloatArray, *, rtol: float = RANK_TOLERANCE) -> int:
    """Count the singular values above ``rtol`` times the largest; zero for a zero matrix."""
    values = scipy.linalg.svdvals(triangle(scaled))
    return int(np.count_nonzero(values > rtol * values[0])) if values[0] > 0 else 0


def _right_singular_vectors(matrix: FloatArray, rank: int) -> FloatArray:
    return np.ascontiguousarray(np.linalg.svd(triangle(matrix), full_matrices=False)[2][:rank].T)
