"""A set of activation patterns, stored as packed bits together with a gate for each pattern."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array
from cvxnn.patterns._bits import first_occurrences, members, pack, packed_width, unpack

BoolArray = npt.NDArray[np.bool_]
ByteArray = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class ActivationPatterns:
    r"""Activation patterns :math:`D_i = 1[X g_i \ge 0]` of data, with the gates :math:`g_i` that make them.

    The masks are kept as bits, eight samples a byte, and unpacked when they are asked for.

    Parameters
    ----------
    packed : uint8 array (P, ceil(n / 8))
        Bit ``j % 8`` (least significant first) of byte ``j // 8`` in row ``i`` tells whether sample ``j`` is
        active in pattern ``i``; unused bits of the last byte are zero.
    gates : float array (P, d)
        One gate per pattern, in the units of 1 / feature.
    n_samples : int
        Number of samples ``n``.

    Attributes
    ----------
    masks : bool array (P, n)
        The unpacked patterns, built anew at each access.
    nbytes : int
        Size of the packed masks in bytes.

    Raises
    ------
    ValueError
        When the shapes of ``packed``, ``gates`` and ``n_samples`` do not fit together.

    References
    ----------
    Pilanci and Ergen (2020), "Neural Networks are Convex Regularizers", Theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> P = ActivationPatterns.from_gates(np.array([[1.0, 0.0], [-1.0, 1.0]]), [[1.0, 0.0], [1.0, 2.0]])
    >>> P
    ActivationPatterns(n_patterns=2, n_samples=2, n_features=2)
    >>> P.masks
    array([[ True, False],
           [ True,  True]])
    """

    packed: ByteArray
    gates: FloatArray
    n_samples: int

    def __post_init__(self) -> None:
        """Check that the shapes fit together, and make the arrays read-only."""
        packed, gates, n = self.packed, self.gates, self.n_samples
        if n < 1:
            raise ValueError(f"n_samples must be at least 1; got {n}.")
        if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != packed_width(n):
            raise ValueError(
                f"packed must be a uint8 array of shape (P, {packed_width(n)}) for {n} samples; "
                f"got {packed.dtype} of shape {packed.shape}."
            )
        if gates.ndim != 2 or gates.shape[0] != packed.shape[0]:
            raise ValueError(
                f"gates must have shape (P, d) with one row for each of the {packed.shape[0]} patterns; "
                f"got shape {gates.shape}."
            )
        for name, array in (("packed", packed), ("gates", gates)):
            view = array.view()
            view.setflags(write=False)
            object.__setattr__(self, name, view)

    @classmethod
    def from_masks(cls, masks: npt.ArrayLike, gates: npt.ArrayLike) -> ActivationPatterns:
        """Pack boolean masks (P, n) and attach their gates (P, d); repeated masks are kept.

        Raises
        ------
        ValueError
            When ``masks`` is not a 2-dimensional array of zeros and ones, or ``gates`` does not fit.

        Examples
        --------
        >>> ActivationPatterns.from_masks([[True, False, True]], [[1.0, 2.0]]).nbytes
        1
        """
        bits = np.asarray(masks)
        if bits.ndim != 2:
            raise ValueError(f"masks must be a boolean array of shape (P, n); got shape {bits.shape}.")
        if bits.dtype != np.bool_:
            if bits.dtype.kind not in "iuf" or not np.isin(bits, (0, 1)).all():
                raise ValueError("masks must hold booleans (or zeros and ones); other values were found.")
            bits = bits.astype(np.bool_)
        vectors = np.array(gates, dtype=np.float64)
        return cls(pack(bits), vectors, bits.shape[1])

    @classmethod
    def from_gates(cls, X: npt.ArrayLike, gates: npt.ArrayLike) -> ActivationPatterns:
        """Patterns ``1[X g >= 0]`` of data (n, d) at gates (P, d), in their order; repeated masks are kept.

        Raises
        ------
        ValueError
            When ``X`` or ``gates`` is not a finite 2-dimensional array, or their numbers of columns differ.

        Examples
        --------
        >>> ActivationPatterns.from_gates([[1.0], [-2.0]], [[3.0]]).masks
        array([[ True, False]])
        """
        data = as_float_array(X, "X", ndim=2)
        vectors = as_float_array(gates, "gates", ndim=2)
        if data.shape[1] != vectors.shape[1]:
            raise ValueError(
                f"gates must have as many columns as X has features ({data.shape[1]}); got {vectors.shape[1]}."
            )
        return cls(pack(vectors @ data.T >= 0), vectors, data.shape[0])

    def __len__(self) -> int:
        """Return the number of patterns P."""
        return self.packed.shape[0]

    def __repr__(self) -> str:
        """Return the three sizes on one line."""
        return (
            f"ActivationPatterns(n_patterns={len(self)}, n_samples={self.n_samples}, n_features={self.gates.shape[1]})"
        )

    @property
    def masks(self) -> BoolArray:
        """Unpacked patterns, a new boolean array (P, n) at each access."""
        return self.unpack()

    @property
    def nbytes(self) -> int:
        """Size of the packed masks in bytes (the gates take ``8 * d * P`` more)."""
        return self.packed.nbytes

    def unpack(self, start: int = 0, stop: int | None = None) -> BoolArray:
        """Boolean masks of the patterns ``start`` to ``stop`` (exclusive), like a slice of :attr:`masks`.

        Examples
        --------
        >>> P = ActivationPatterns.from_masks([[True, False], [False, True]], [[1.0], [2.0]])
        >>> P.unpack(1)
        array([[False,  True]])
        """
        return unpack(self.packed[start:stop], self.n_samples)

    def chunks(self, size: int = 4096) -> Iterator[tuple[slice, BoolArray]]:
        """Iterate over ``(slice, masks)`` pieces of at most ``size`` patterns, to bound the memory.

        Examples
        --------
        >>> P = ActivationPatterns.from_masks([[True], [False], [True]], [[1.0], [2.0], [3.0]])
        >>> [(piece.start, piece.stop, masks.shape) for piece, masks in P.chunks(2)]
        [(0, 2, (2, 1)), (2, 3, (1, 1))]
        """
        if size < 1:
            raise ValueError(f"size must be at least 1; got {size}.")
        for start in range(0, len(self), size):
            piece = slice(start, min(start + size, len(self)))
            yield piece, self.unpack(piece.start, piece.stop)

    def subset(self, index: npt.ArrayLike | slice) -> ActivationPatterns:
        """Patterns selected by integers, booleans (P,) or a slice, in that order.

        Examples
        --------
        >>> P = ActivationPatterns.from_masks([[True, False], [False, True]], [[1.0], [2.0]])
        >>> P.subset([1]).masks
        array([[False,  True]])
        """
        if not isinstance(index, slice):
            index = np.atleast_1d(np.asarray(index))
            if index.size == 0:
                index = index.astype(np.intp)
        return ActivationPatterns(self.packed[index], self.gates[index], self.n_samples)

    def unique(self) -> ActivationPatterns:
        """Drop repeated patterns; the first gate of each is kept, and so is the order.

        Examples
        --------
        >>> len(ActivationPatterns.from_masks([[True], [True], [False]], [[1.0], [2.0], [-1.0]]).unique())
        2
        """
        return self.subset(first_occurrences(self.packed))

    def union(self, other: ActivationPatterns) -> ActivationPatterns:
        """Patterns of ``self`` followed by the new ones of ``other``, each once.

        Raises
        ------
        ValueError
            When the two sets belong to different numbers of samples or features.

        Examples
        --------
        >>> A = ActivationPatterns.from_masks([[True, False]], [[1.0]])
        >>> B = ActivationPatterns.from_masks([[True, False], [False, True]], [[5.0], [-1.0]])
        >>> A.union(B).gates
        array([[ 1.],
               [-1.]])
        """
        if self.n_samples != other.n_samples or self.gates.shape[1] != other.gates.shape[1]:
            raise ValueError(
                f"other must have {self.n_samples} samples and {self.gates.shape[1]} features "
                f"as this set has; got {other.n_samples} and {other.gates.shape[1]}."
            )
        both = ActivationPatterns(
            np.concatenate([self.packed, other.packed]),
            np.concatenate([self.gates, other.gates]),
            self.n_samples,
        )
        return both.unique()

    def contains(self, masks: npt.ArrayLike) -> bool | BoolArray:
        """Tell whether a mask (n,) occurs, or for masks (k, n) which of them do (k,).

        Raises
        ------
        ValueError
            When the last dimension is not ``n_samples``.

        Examples
        --------
        >>> P = ActivationPatterns.from_masks([[True, False], [False, True]], [[1.0], [2.0]])
        >>> P.contains([True, True]), P.contains([[True, False], [True, True]])
        (False, array([ True, False]))
        """
        wanted = np.asarray(masks)
        if wanted.ndim not in (1, 2) or wanted.shape[-1] != self.n_samples:
            raise ValueError(f"masks must have shape ({self.n_samples},) or (k, {self.n_samples}); got {wanted.shape}.")
        found = members(pack(np.atleast_2d(wanted).astype(np.bool_)), self.packed)
        return found if wanted.ndim == 2 else bool(found[0])
