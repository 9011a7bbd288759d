r"""Coarse part of a preconditioner: the masses of the neurons, coupled through the loss.

Blocks of single neurons miss that neurons which act on the same samples replace each other. Along its own direction
:math:`u_i` a neuron has no curvature but that of the loss, so that there the coupling is strongest; the system
restricted to the masses is small, and solved whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

AnyFloats = npt.NDArray[np.floating]

__all__ = ["MassCoupling"]

_RIDGE_SINGLE, _RIDGE_DOUBLE = 1e-5, 1e-12
"""Share of the diagonal that is added to it: outputs may depend on each other, and rounding costs definiteness."""


class MassCoupling:
    r"""Applies :math:`U (U^\top H U)^{-1} U^\top`; the column of U of a neuron is its direction, in its own block.

    Added to the inverse of the blocks of H, it makes a two-level preconditioner.

    Parameters
    ----------
    gram : ndarray (k, k)
        The matrix :math:`U^\top H U`.
    directions : ndarray (k, d)
        Directions :math:`u_i`, one a row.

    References
    ----------
    Nicolaides (1987), "Deflation of conjugate gradients with applications to boundary value problems".

    Examples
    --------
    >>> coupling = MassCoupling(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> coupling.apply(np.array([[3.0, 5.0], [5.0, 3.0]])).round(6)
    array([[1., 0.],
           [0., 1.]])
    """

    def __init__(self, gram: AnyFloats, directions: AnyFloats) -> None:
        self._directions = directions
        diagonal = np.diagonal(gram).astype(np.float64)
        self._scale = 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
        scaled = gram * (self._scale[:, None] * self._scale)
        ridge = _RIDGE_SINGLE if directions.dtype == np.float32 else _RIDGE_DOUBLE
        self._factor: tuple[npt.NDArray[np.float64], bool] | None = None
        while self._factor is None and ridge < 1.0:
            scaled[np.diag_indices_from(scaled)] = 1.0 + ridge
            try:
                self._factor = cho_factor(scaled, lower=True, check_finite=False)
            except np.linalg.LinAlgError:
                ridge *= 100.0

    def apply(self, residual: AnyFloats) -> AnyFloats:
        """Coarse solution for a residual ``(k, d)``; zero where the matrix had no factor."""
        if self._factor is None:
            return np.zeros_like(residual)
        forces = np.einsum("ij,ij->i", self._directions, residual)
        masses = self._scale * cho_solve(self._factor, self._scale * forces, check_finite=False)
        return masses.astype(residual.dtype)[:, None] * self._directions
