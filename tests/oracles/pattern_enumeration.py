"""Slow truth for activation patterns: one linear program per sign vector, in a tree over the samples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog


def patterns_by_linear_programming(X: npt.ArrayLike) -> set[tuple[bool, ...]]:
    """All patterns 1[X g >= 0] of open cells; samples that are zero are active in each.

    A partial sign vector is kept when some g satisfies ``s_j x_j^T g >= 1`` for its samples; scaling g shows
    that this is the same as strict positivity.
    """
    rows = np.asarray(X, dtype=float)
    partial: list[tuple[bool, ...]] = [()]
    for j in range(rows.shape[0]):
        choices = (True, False) if rows[j].any() else (True,)
        grown = [(*bits, bit) for bits in partial for bit in choices]
        partial = [bits for bits in grown if len(choices) == 1 or _is_cell(rows[: j + 1], bits)]
    return set(partial)


def _is_cell(rows: npt.NDArray[np.float64], bits: tuple[bool, ...]) -> bool:
    norms = np.linalg.norm(rows, axis=1)
    used = norms > 0
    normals = np.where(bits, 1.0, -1.0)[used, None] * rows[used] / norms[used, None]
    answer = linprog(np.zeros(rows.shape[1]), A_ub=-normals, b_ub=-np.ones(len(normals)), bounds=(None, None))
    if answer.status not in (0, 2):
        raise ArithmeticError(f"linear program ended with status {answer.status}: {answer.message}")
    return answer.status == 0
