"""The graph of the vertices of the optimal polytope that networks of a given width can walk along.

Two vertices are joined at width m when the union of their supports has at most m atoms: then the segment between them
consists of networks of width m. The optimal networks of width m fill the faces with at most m atoms, and the vertices
of a face are joined by its edges; so the components of this graph are those of the set of these networks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_BLOCK_ENTRIES = 4_000_000


def vertex_components(vertices: FloatArray, width: int) -> IntArray:
    """Label the components of the vertices with at most ``width`` positive masses.

    Parameters
    ----------
    vertices : ndarray (V, k)
        Masses, one vertex a row; zeros are exact.
    width : int
        Number of neurons m.

    Returns
    -------
    ndarray (V,) of int64
        Labels 0, 1, ... in the order of the first vertex of each component; -1 where the support exceeds the width.
    """
    supports, sizes = _supports(vertices)
    labels = np.full(len(sizes), -1, dtype=np.int64)
    waiting = np.flatnonzero(sizes <= width)
    component = 0
    while waiting.size:
        frontier, waiting = waiting[:1], waiting[1:]
        while frontier.size:
            labels[frontier] = component
            reached = np.any(_joined(supports, sizes, frontier, waiting, width), axis=0)
            frontier, waiting = waiting[reached], waiting[~reached]
        component += 1
    return labels


def vertex_path(vertices: FloatArray, width: int, start: int, goal: int) -> list[int] | None:
    """Find a shortest path of vertices from ``start`` to ``goal`` at this width.

    Parameters
    ----------
    vertices : ndarray (V, k)
        Masses, one vertex a row; zeros are exact.
    width : int
        Number of neurons m.
    start, goal : int
        Rows of ``vertices``.

    Returns
    -------
    list of int or None
        Rows of ``vertices`` from ``start`` to ``goal``, both included, neighbours joined at this width; None where
        the two are not connected at this width.
    """
    supports, sizes = _supports(vertices)
    if max(sizes[start], sizes[goal]) > width:
        return None
    parent = np.full(len(sizes), -1, dtype=np.int64)
    frontier = np.array([start], dtype=np.intp)
    waiting = np.flatnonzero(sizes <= width)
    waiting = waiting[waiting != start]
    while frontier.size and start != goal and parent[goal] < 0:
        joined = _joined(supports, sizes, frontier, waiting, width)
        reached = np.any(joined, axis=0)
        parent[waiting[reached]] = frontier[np.argmax(joined[:, reached], axis=0)]
        frontier, waiting = waiting[reached], waiting[~reached]
    if start != goal and parent[goal] < 0:
        return None
    path = [int(goal)]
    while path[-1] != start:
        path.append(int(parent[path[-1]]))
    return path[::-1]


def _supports(vertices: FloatArray) -> tuple[npt.NDArray[np.float32], IntArray]:
    """Supports as rows of zeros and ones (exact in single precision), and their sizes."""
    positive = np.asarray(vertices) > 0.0
    return positive.astype(np.float32), np.asarray(np.sum(positive, axis=1), dtype=np.int64)


def _joined(
    supports: npt.NDArray[np.float32],
    sizes: IntArray,
    left: npt.NDArray[np.intp],
    right: npt.NDArray[np.intp],
    width: int,
) -> npt.NDArray[np.bool_]:
    """Tell which pairs have a union of supports of at most ``width`` atoms, ``(len(left), len(right))``."""
    joined = np.zeros((left.size, right.size), dtype=np.bool_)
    block = max(_BLOCK_ENTRIES // max(right.size, 1), 1)
    for first in range(0, left.size, block):
        rows = left[first : first + block]
        common = supports[rows] @ supports[right].T
        joined[first : first + block] = sizes[rows][:, None] + sizes[right][None, :] - common <= width
    return joined
