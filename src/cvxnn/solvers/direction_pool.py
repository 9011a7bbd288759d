"""Directions that searches have reached, kept as starts of later searches on the same data."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SingleArray = npt.NDArray[np.float32]

__all__ = ["DirectionPool"]


class DirectionPool:
    r"""Local maxima of :math:`s\,\nu^\top (X u)_+` met by searches, for all dual vectors of one data matrix.

    The maxima move little when the dual vector does: a short ascent leads from those of the last dual vector to most of
    those of the next, where random starts would have to find each of them again. What is kept serves as starts only, so
    that nothing depends on how old it is.

    Attributes
    ----------
    points : ndarray (k, d)
        Starts as :class:`NeuronSearch` uses them.
    signs : ndarray (k,)

    Examples
    --------
    >>> pool = DirectionPool()
    >>> pool.replace(np.eye(2, dtype=np.float32), np.ones(2, dtype=np.float32))
    >>> len(pool)
    2
    """

    def __init__(self) -> None:
        self.points: SingleArray = np.zeros((0, 0), dtype=np.float32)
        self.signs: SingleArray = np.zeros(0, dtype=np.float32)

    def __len__(self) -> int:
        """Return the number of directions."""
        return len(self.signs)

    def replace(self, points: SingleArray, signs: SingleArray) -> None:
        """Hold these directions from now on."""
        self.points, self.signs = points, signs
