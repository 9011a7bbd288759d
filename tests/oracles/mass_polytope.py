"""Slow truths for the polytope ``{c >= 0 : A c = b}`` of optimal masses: all supports, and linear programs."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

FloatArray = npt.NDArray[np.float64]


def vertices_by_supports(A: FloatArray, b: FloatArray) -> FloatArray:
    """Try every support: a vertex has independent columns, positive masses, and the right fit."""
    k = A.shape[1]
    unit = A / np.linalg.norm(A, axis=0)
    rank = int(np.linalg.matrix_rank(unit, tol=1e-9))
    found = []
    for size in range(rank + 1):
        for support in map(list, itertools.combinations(range(k), size)):
            if size and np.linalg.matrix_rank(unit[:, support], tol=1e-9) < size:
                continue
            masses = np.linalg.lstsq(A[:, support], b, rcond=None)[0]
            small = np.linalg.norm(A[:, support] @ masses - b) <= 1e-8 * max(np.linalg.norm(b), 1e-300)
            if small and np.all(masses > 1e-9 * max(masses.max(initial=0.0), 1e-300)):
                vertex = np.zeros(k)
                vertex[support] = masses
                found.append(vertex)
    return np.array(found).reshape(len(found), k)


def components_by_linear_programs(A: FloatArray, b: FloatArray, width: int) -> int:
    """Count the components of the union of the faces ``P_S``, ``|S| = width``, from the pairs that meet."""
    k = A.shape[1]
    sets = [frozenset(S) for S in itertools.combinations(range(k), min(width, k))]
    feasible: dict[frozenset[int], bool] = {}

    def nonempty(S: frozenset[int]) -> bool:
        if S not in feasible:
            support = sorted(S)
            if support:
                result = linprog(np.zeros(len(support)), A_eq=A[:, support], b_eq=b, bounds=(0, None), method="highs")
                feasible[S] = result.status == 0
            else:
                feasible[S] = not np.any(b)
        return feasible[S]

    nodes = [S for S in sets if nonempty(S)]
    label = list(range(len(nodes)))
    for i, j in itertools.combinations(range(len(nodes)), 2):
        if label[i] != label[j] and nonempty(nodes[i] & nodes[j]):
            old, new = label[j], label[i]
            label = [new if value == old else value for value in label]
    return len(set(label))
