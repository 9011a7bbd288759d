"""Which samples a hidden weight vector has on its kink, moving it exactly onto them, and the open cells around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.patterns import enumerate_patterns

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["KinkReading", "adjacent_cells", "read_kinks"]

_EXACT = 1e-12
_ROUNDS = 5
_FAR = 30.0


@dataclass(frozen=True)
class KinkReading:
    """Samples on the kink of one neuron.

    Attributes
    ----------
    w : ndarray (d,)
        Weight vector, moved onto its kinks where that was asked for.
    on : ndarray (n,) of bool
        Samples with a pre-activation of zero; samples that are zero themselves are not among them.
    active : ndarray (n,) of bool
        Samples with a positive pre-activation.
    largest : float
        Largest ``|x_j^T w| / (||x_j|| ||w||)``, before the move, that was read as zero.
    moved : float
        ``||w_before - w|| / ||w_before||``.
    """

    w: FloatArray
    on: BoolArray
    active: BoolArray
    largest: float
    moved: float


def read_kinks(X: FloatArray, w: FloatArray, kink_tol: float, *, snap: bool) -> KinkReading:
    """Read the kinks of a nonzero weight vector: samples with ``|x_j^T w| <= kink_tol ||x_j|| ||w||``.

    With ``snap`` the vector is projected onto the subspace where they vanish. Where the samples are so close to
    dependent that this would move it by much more than ``kink_tol``, it stays, and only exact zeros count as kinks.
    """
    size = float(np.linalg.norm(w))
    norms = np.linalg.norm(X, axis=1)
    nonzero = norms > 0
    units = X / np.where(nonzero, norms, 1.0)[:, None]
    cosines = units @ (w / size)
    on = nonzero & (np.abs(cosines) <= kink_tol)
    largest = float(np.max(np.abs(cosines[on]), initial=0.0))
    if not snap or largest <= _EXACT:
        return KinkReading(w, on, nonzero & ~on & (cosines > 0), largest, 0.0)
    current, unit = on, w / size
    for _ in range(_ROUNDS):
        unit = _project(units[current], w / size)
        length = float(np.linalg.norm(unit))
        now = nonzero & (np.abs(units @ unit) <= kink_tol * length)
        if length == 0.0 or not np.any(now & ~current):
            break
        current = current | now
    moved = float(np.linalg.norm(w / size - unit))
    if moved > _FAR * kink_tol * np.sqrt(np.count_nonzero(current)):
        exact = nonzero & (np.abs(cosines) <= _EXACT)
        return KinkReading(w, exact, nonzero & ~exact & (cosines > 0), _EXACT if np.any(exact) else 0.0, 0.0)
    largest = float(np.max(np.abs(cosines[current])))
    return KinkReading(size * unit, current, nonzero & ~current & (units @ unit > 0), largest, moved)


def _project(rows: FloatArray, w: FloatArray) -> FloatArray:
    """Part of ``w`` orthogonal to the rows."""
    _, values, right = np.linalg.svd(rows, full_matrices=False)
    basis = right[values > 1e-9 * values[0]]
    once = w - basis.T @ (basis @ w)
    return once - basis.T @ (basis @ once)


def adjacent_cells(X: FloatArray, reading: KinkReading, max_cells: int) -> tuple[BoolArray, FloatArray]:
    """Masks ``(P, n)`` of all open cells whose closure contains the vector, and a gate ``(P, d)`` in each.

    The cells around w are those of the arrangement of the samples on its kinks. Samples that are zero count as active.

    Raises
    ------
    PatternLimitError
        When there may be more than ``max_cells``.
    """
    zero_rows = ~np.any(X != 0, axis=1)
    if not np.any(reading.on):
        return (reading.active | zero_rows)[None, :], reading.w[None, :].copy()
    local = enumerate_patterns(X[reading.on], max_patterns=max_cells)
    masks = np.repeat((reading.active | zero_rows)[None, :], len(local), axis=0)
    masks[:, reading.on] = local.masks
    unit = reading.w / np.linalg.norm(reading.w)
    off = ~reading.on & ~zero_rows
    ahead, moves = X[off] @ unit, local.gates @ X[off].T
    ratio = np.full(moves.shape, np.inf)
    np.divide(np.abs(ahead)[None, :], np.abs(moves), out=ratio, where=moves != 0)
    step = np.minimum(0.5 * np.min(ratio, axis=1, initial=np.inf), 1e-3)
    return masks, unit + step[:, None] * local.gates
