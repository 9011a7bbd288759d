"""Random activation patterns, for data whose patterns are too many to enumerate."""

from __future__ import annotations

from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array
from cvxnn.patterns._bits import first_occurrences, unpack
from cvxnn.patterns._evaluation import allocate, evaluate, opposite
from cvxnn.patterns._geometry import Geometry, describe
from cvxnn.patterns.activation import ActivationPatterns
from cvxnn.patterns.counting import as_count, count_patterns
from cvxnn.patterns.enumeration import enumerate_patterns
from cvxnn.patterns.limits import DEFAULT_MAX_MEMORY, PatternLimitError

ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]

_FRUITLESS_BATCHES = 10
_FRUITFUL_SHARE = 0.01
_SMALLEST_BATCH = 256
_FEW_SAMPLES = 1000  # they mostly have more cells than are ever listed, whatever the others add
_ENUMERABLE = 200_000  # cells that are listed within a second or so


def sample_patterns(
    X: npt.ArrayLike,
    n_patterns: SupportsIndex,
    *,
    random_state: int | np.random.Generator | None = 0,
    include_complements: bool = False,
) -> ActivationPatterns:
    r"""Draw distinct activation patterns :math:`1[X g \ge 0]` at random Gaussian gates.

    The gates are Gaussian in coordinates in which the normalised samples have the identity as second moment,
    so that neither the units of the features nor the sizes of the samples matter.  Wide cells are found
    first.

    Parameters
    ----------
    X : array-like (n, d)
        Data, one sample a row.
    n_patterns : int
        Number of patterns wanted.
    random_state : int, numpy.random.Generator or None, default 0
        Seed; the same seed gives the same patterns.  None draws a new seed from the system.
    include_complements : bool, default False
        Take with each pattern the one of the opposite gate: the second half of the result holds the
        opposites of the first half (for odd ``n_patterns`` the last one is left out).

    Returns
    -------
    ActivationPatterns
        ``n_patterns`` different patterns with unit gates, in the order of discovery.  There are fewer when
        the data have fewer cells.  After ten batches in a row (of at least 256 gates each) in which less
        than 1 % of the gates were new, the missing patterns are taken from the exact enumeration if Cover's
        number is at most 200,000 (or ``n_patterns``, within 2 GiB); otherwise the patterns found so far are
        returned.

    Raises
    ------
    ValueError
        When ``X`` is not a finite 2-dimensional array with at least one entry, or ``n_patterns`` is not an
        integer >= 1.

    References
    ----------
    Pilanci and Ergen (2020), "Neural Networks are Convex Regularizers".
    Mishkin, Sahiner and Pilanci (2022), "Fast Convex Optimization for Two-Layer ReLU Networks".

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(1).standard_normal((50, 10))
    >>> sample_patterns(X, 500)
    ActivationPatterns(n_patterns=500, n_samples=50, n_features=10)
    """
    data = as_float_array(X, "X", ndim=2, copy=False)
    wanted = as_count(n_patterns, "n_patterns", 1)
    generator = np.random.default_rng(random_state)
    geometry = describe(data)
    n, d = geometry.rows.shape
    if geometry.rank == 0:
        return ActivationPatterns.from_masks(np.ones((1, n), dtype=np.bool_), np.eye(1, d))
    bound = _most_patterns(geometry, max(2 * wanted, _ENUMERABLE))
    base = -(-wanted // 2) if include_complements else wanted
    cells = bound // 2 if include_complements else bound
    packed, gates = allocate(geometry, 0)
    if base < cells:
        packed, gates = _draw(geometry, base, generator, include_complements)
    if packed.shape[0] < base and bound <= max(_ENUMERABLE, wanted):
        packed, gates = _fill_up(data, geometry, packed, gates, generator, include_complements)
    packed, gates = packed[:base], gates[:base]
    if include_complements:
        packed = np.concatenate([packed, opposite(geometry, packed)])[:wanted]
        gates = np.concatenate([gates, -gates])[:wanted]
    return ActivationPatterns(packed, gates, n)


def _most_patterns(geometry: Geometry, enough: int) -> int:
    """Cover's number of the lines, or that of the lines of the first samples where this is above ``enough`` already."""
    few = count_patterns(max(1, len(geometry.lines_among(slice(_FEW_SAMPLES)))), geometry.rank)
    return few if few > enough else count_patterns(len(geometry.lines), geometry.rank)


def _draw(geometry: Geometry, wanted: int, generator: np.random.Generator, pairs: bool) -> tuple[ByteArray, FloatArray]:
    """Draw batches of gates until enough patterns are found or ten batches in a row were fruitless."""
    packed, gates = allocate(geometry, 0)
    fruitless = 0
    while packed.shape[0] < wanted and fruitless < _FRUITLESS_BATCHES:
        missing = wanted - packed.shape[0]
        size = max(missing + missing // 8, _SMALLEST_BATCH)
        new_packed, new_gates = allocate(geometry, size)
        block = generator.standard_normal((size, geometry.rank))
        reliable = evaluate(geometry, block, new_packed, new_gates)
        before = packed.shape[0]
        packed = np.concatenate([packed, new_packed[reliable]])
        gates = np.concatenate([gates, new_gates[reliable]])
        if pairs:
            _turn_positive(geometry, packed, gates)
        kept = first_occurrences(packed)
        packed, gates = packed[kept], gates[kept]
        fruitful = packed.shape[0] - before >= _FRUITFUL_SHARE * size
        fruitless = 0 if fruitful else fruitless + 1
    return packed, gates


def _turn_positive(geometry: Geometry, packed: ByteArray, gates: FloatArray) -> None:
    """Replace patterns by their opposites where the first sample that is not zero is inactive (in place)."""
    first = int(np.argmax(geometry.nonzero))
    negative = ~unpack(packed, geometry.rows.shape[0])[:, first]
    packed[negative] = opposite(geometry, packed[negative])
    gates[negative] *= -1.0


def _fill_up(
    data: FloatArray,
    geometry: Geometry,
    packed: ByteArray,
    gates: FloatArray,
    generator: np.random.Generator,
    pairs: bool,
) -> tuple[ByteArray, FloatArray]:
    """Append all other cells in random order, when the enumeration fits into memory."""
    try:
        every = enumerate_patterns(data, max_patterns=None, max_memory=DEFAULT_MAX_MEMORY)
    except PatternLimitError:
        return packed, gates
    order = generator.permutation(len(every))
    packed = np.concatenate([packed, every.packed[order]])
    gates = np.concatenate([gates, every.gates[order]])
    if pairs:
        _turn_positive(geometry, packed, gates)
    kept = first_occurrences(packed)
    return packed[kept], gates[kept]
