"""Groups of the parallel program: trees of neurons with fixed activation patterns and signs."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.conic_groups import LinearGroup, solve_groups
from cvxnn.solvers.group_newton import polish_groups
from cvxnn.solvers.trees import Trees, tree_norms

FloatArray = npt.NDArray[np.float64]

__all__ = ["GroupSet", "linear_group"]

_NOTHING = 1e-9
"""Norm of a group, relative to the sum of all, that counts as zero after the conic solver."""


def linear_group(
    X: FloatArray, masks: list[npt.NDArray[np.bool_]], signs: list[FloatArray], output: float
) -> LinearGroup:
    """Output and cone of one tree with the patterns ``masks`` of its neurons, layer by layer, as linear maps.

    Examples
    --------
    >>> one = np.array([[True, False]])
    >>> group = linear_group(np.eye(2), [one, one[0]], [np.ones(1)], -1.0)
    >>> group.fit
    array([[-1., -0.],
           [-0., -0.]])
    """
    n, d = X.shape
    shape = masks[0].shape[:-1]
    leaves = int(np.prod(shape, dtype=int))
    maps = np.zeros((leaves, n, leaves, d))
    maps[np.arange(leaves), :, np.arange(leaves)] = X
    maps = maps.reshape(*shape, n, leaves * d)
    cone = []
    for level, mask in enumerate(masks):
        if level:
            maps = np.sum(signs[level - 1][..., None, None] * maps, axis=-3)
        cone.append((np.where(mask, 1.0, -1.0)[..., None] * maps).reshape(-1, leaves * d))
        maps = mask[..., None] * maps
    rows = np.vstack(cone)
    return LinearGroup(output * maps, rows[np.any(rows != 0.0, axis=1)])


class GroupSet:
    """Distinct groups met so far, solved together."""

    def __init__(self, problem: Problem, norm: str, shape: tuple[int, ...]) -> None:
        self.problem, self.norm, self.shape = problem, norm, shape
        self.parts = int(np.prod(shape[:-1], dtype=int)) if norm == "l21" else 1
        self.groups: list[LinearGroup] = []
        self.masks: list[list[npt.NDArray[np.bool_]]] = []
        self.signs: list[list[FloatArray]] = []
        self.outputs: list[float] = []
        self._known: set[bytes] = set()

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.groups)

    @property
    def size(self) -> int:
        """Nonzero entries of the program, roughly."""
        n, leaves = self.problem.n_samples, int(np.prod(self.shape[:-1], dtype=int))
        return len(self) * n * (leaves + 1) * int(np.prod(self.shape, dtype=int))

    def add(self, trees: Trees) -> int:
        """Add the groups of trees; returns how many are new."""
        before = len(self)
        masks = trees.masks(self.problem.X)
        for k in range(len(trees)):
            mine, signs = [level[k] for level in masks], [level[k] for level in trees.signs]
            output = float(trees.outputs[k])
            key = b"".join([*(np.packbits(x).tobytes() for x in mine), *(x.tobytes() for x in signs)])
            key += b"+" if output > 0 else b"-"
            if key not in self._known:
                self._known.add(key)
                self.groups.append(linear_group(self.problem.X, mine, signs, output))
                self.masks.append(mine)
                self.signs.append(signs)
                self.outputs.append(output)
        return len(self) - before

    def solve(self, time_limit: float | None) -> Trees | None:
        """Optimal trees among the groups; None where the solver fails."""
        if not self.groups:
            return None
        start = time.perf_counter()
        vectors = solve_groups(self.problem, self.groups, self.parts, time_limit=time_limit)
        if vectors is None:
            return None
        left = None if time_limit is None else max(time_limit - (time.perf_counter() - start), 0.0)
        vectors = polish_groups(self.problem, self.groups, vectors, self.parts, time_limit=left)
        stacked = vectors.reshape(len(vectors), *self.shape)
        signs = tuple(np.array([mine[i] for mine in self.signs]) for i in range(len(self.signs[0])))
        trees = Trees(stacked, signs, np.array(self.outputs))
        sizes = tree_norms(stacked, self.norm)
        keep = sizes > _NOTHING * max(float(sizes.sum()), 1e-300)
        return trees.take(keep)

    def on(self, X: FloatArray) -> Iterator[LinearGroup]:
        """Yield the same groups on other data of the same samples."""
        for masks, signs, output in zip(self.masks, self.signs, self.outputs, strict=True):
            yield linear_group(X, masks, signs, output)
