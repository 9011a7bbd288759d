"""Exact enumeration of the activation patterns of a data set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array
from cvxnn.patterns import degenerate, general_position
from cvxnn.patterns._bits import all_distinct, first_occurrences
from cvxnn.patterns._evaluation import allocate, evaluate, opposite
from cvxnn.patterns._geometry import Geometry, describe
from cvxnn.patterns.activation import ActivationPatterns
from cvxnn.patterns.counting import count_patterns
from cvxnn.patterns.general_position import DegenerateDataError
from cvxnn.patterns.limits import DEFAULT_MAX_MEMORY, DEFAULT_MAX_PATTERNS, Limits

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]


def enumerate_patterns(
    X: npt.ArrayLike,
    *,
    max_patterns: float | None = DEFAULT_MAX_PATTERNS,
    max_memory: float | None = DEFAULT_MAX_MEMORY,
    time_limit: float | None = None,
) -> ActivationPatterns:
    r"""List all activation patterns :math:`1[X g \ge 0]` of full-dimensional cells, with a gate inside each.

    A cell is the set of gates ``g`` with the same signs ``x_j^T g != 0`` on all samples that are not zero.
    The patterns of these open cells suffice for the convex program: their closed cones cover all gates.  A
    sample that is zero is active in every pattern.  Opposite cells come in pairs: pattern ``P/2 + i`` has
    the gate ``-gates[i]``.

    Data in general position take one small matrix inverse per pair of patterns, and the result is checked to
    be complete: the patterns are verified at their gates, pairwise distinct, and as many as Cover's number,
    which no data exceed.  Other data (repeated or dependent samples, grids) are recognised by this check and
    enumerated by adding one sample at a time.

    Parameters
    ----------
    X : array-like (n, d)
        Data, one sample a row, of any rank.  Scaling rows by positive factors changes nothing.
    max_patterns : int or None, default 2_000_000
        Largest accepted number of patterns; it is compared with Cover's number of the samples that lie on
        different lines, before any work.  None means no limit.
    max_memory : float or None, default 2 GiB
        Largest accepted size in bytes of the result, ``P * (n / 8 + 8 * d)``.
    time_limit : float, optional
        Seconds after which the work stops with an error.

    Returns
    -------
    ActivationPatterns
        Masks and unit gates.  Every gate reproduces its mask exactly.

    Raises
    ------
    PatternLimitError
        A ``ValueError``: the patterns would exceed a limit.
    ValueError
        When ``X`` is not a finite 2-dimensional array with at least one entry, or a limit is not a positive
        number.

    Notes
    -----
    Degeneracy is decided in double precision.  After rows and columns have been scaled, samples within an
    angle of 1e-9 of a common line count as one line, also inside the subspaces that the work descends to;
    cells that are thinner than the rounding error have no reliable gate and are left out.

    References
    ----------
    Pilanci and Ergen (2020), "Neural Networks are Convex Regularizers", Theorem 1.
    Winder (1966), "Partitions of N-space by hyperplanes".

    Examples
    --------
    >>> import numpy as np
    >>> P = enumerate_patterns(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    >>> P
    ActivationPatterns(n_patterns=6, n_samples=3, n_features=2)
    >>> P.contains([True, True, False])
    False
    """
    limits = Limits.start(max_patterns, max_memory, time_limit)
    geometry = describe(as_float_array(X, "X", ndim=2))
    n, d = geometry.rows.shape
    if geometry.rank == 0:
        return ActivationPatterns.from_masks(np.ones((1, n), dtype=np.bool_), np.eye(1, d))
    bound = count_patterns(geometry.lines.shape[0], geometry.rank)
    limits.check_size(bound, n, d)
    try:
        return _enumerate_general(geometry, bound // 2, limits)
    except DegenerateDataError:
        return _enumerate_degenerate(geometry, limits)


def _enumerate_general(geometry: Geometry, half: int, limits: Limits) -> ActivationPatterns:
    packed, gates = allocate(geometry, 2 * half)
    stop = 0
    for block in general_position.half_gates(geometry.lines):
        limits.check_time()
        start, stop = stop, stop + block.shape[0]
        if not evaluate(geometry, block, packed[start:stop], gates[start:stop]).all():
            raise DegenerateDataError("A gate has no reliable sign on some sample.")
    if not all_distinct(packed[:half]):
        raise DegenerateDataError("Two vertices lead to the same cell.")
    return _complete(geometry, packed, gates)


def _enumerate_degenerate(geometry: Geometry, limits: Limits) -> ActivationPatterns:
    found = degenerate.half_gates(geometry.lines, check=limits.check_time)
    half = found.shape[0]
    packed, gates = allocate(geometry, 2 * half)
    reliable = evaluate(geometry, found, packed[:half], gates[:half])
    if not reliable.all() or not all_distinct(packed[:half]):
        kept = np.flatnonzero(reliable)
        kept = kept[first_occurrences(packed[kept])]
        packed, gates = (np.concatenate([array[kept], array[kept]]) for array in (packed, gates))
    return _complete(geometry, packed, gates)


def _complete(geometry: Geometry, packed: ByteArray, gates: FloatArray) -> ActivationPatterns:
    """Fill in the second half with the opposite patterns."""
    half = packed.shape[0] // 2
    packed[half:] = opposite(geometry, packed[:half])
    np.negative(gates[:half], out=gates[half:])
    return ActivationPatterns(packed, gates, geometry.rows.shape[0])
