"""Directions that searches for neurons start from: random ones, rows, and relatives of the maxima that are known."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from cvxnn.networks import unit_rows

FloatArray = npt.NDArray[np.float64]

__all__ = ["late_starts", "usual_starts"]

_OPPOSITE_NOISE = 0.3


def usual_starts(
    rows: FloatArray,
    neurons: FloatArray,
    count: int,
    rng: np.random.Generator,
    origin: Literal["near", "far"],
    scales: FloatArray | float = 1.0,
) -> FloatArray:
    """Starts where neurons are missing in many places: relatives of the present ones, rows, and random vectors.

    Relatives are noisy copies, reflections at rows, sums and differences of two, and noisy opposites: each kind finds
    neurons that the others miss. The first two kinds alone are "near". Where the origin is "far", half of the starts
    are random vectors, a twelfth are rows and their sums and differences, and the others are relatives.

    Parameters
    ----------
    rows : ndarray (n, d)
    neurons : ndarray (k, d)
        Unit vectors of the present neurons; without any all starts are random vectors and rows.
    count : int
    rng : Generator
    origin : {"near", "far"}
    scales : ndarray (d,), default 1
        Factors of the columns of the rows; only the rows drawn are multiplied.

    Returns
    -------
    ndarray (count, d)
        Unit vectors.

    Examples
    --------
    >>> starts = usual_starts(np.eye(2), np.eye(2), 6, np.random.default_rng(0), "near")
    >>> starts.shape, np.allclose(np.linalg.norm(starts, axis=1), 1.0)
    ((6, 2), True)
    """
    n, d = rows.shape
    flip = np.where(rng.random((count, 1)) < 0.5, -1.0, 1.0)
    first, second = rows[rng.integers(n, size=count)] * scales, rows[rng.integers(n, size=count)] * scales
    out = flip * (first + rng.integers(-1, 2, size=(count, 1)) * second)
    gauss = rng.standard_normal((count, d))
    turn = np.arange(count)
    # Long ascents from random vectors, and from differences of rows, meet the most violations far from all neurons.
    random = turn % 4 >= 2
    out = np.where(random[:, None], gauss, out)
    if len(neurons):
        base, other = _drawn(neurons, count, rng), _drawn(neurons, count, rng)
        spread = 10.0 ** rng.uniform(-2.0, 0.0, size=(count, 1))
        row = unit_rows(first)
        reflected = base - (1.0 + spread) * np.sum(base * row, axis=1, keepdims=True) * row
        relatives = (
            base + spread * unit_rows(gauss),
            reflected,
            base + other,
            base - other,
            -base + _OPPOSITE_NOISE * unit_rows(gauss),
        )
        for k, relative in enumerate(relatives[:2] if origin == "near" else relatives):
            chosen = turn % 2 == k if origin == "near" else (turn % (len(relatives) + 1) == k) & ~random
            out[chosen] = relative[chosen]
    return _unit(out, rng)


def late_starts(
    neurons: FloatArray,
    maxima: FloatArray,
    count: int,
    rng: np.random.Generator,
    origin: Literal["around", "across", "beyond"],
) -> FloatArray:
    """Starts where few violating neurons are left: relatives of all good maxima that are known, not of neurons alone.

    A maximum a little below beta is as good a neighbour as a neuron, and there are many more of them; a small
    disturbance of either leads back. "around" are copies of maxima (a half) and of neurons (a quarter) with noise, and
    sums of two neurons; "across" are opposites of neurons with noise, and sums and differences of two maxima; "beyond"
    are differences of two neurons, and random vectors, which find what nothing else does where features are few, and
    nothing where they are many.

    Parameters
    ----------
    neurons : ndarray (k, d)
        Unit vectors of the present neurons.
    maxima : ndarray (m, d)
        Unit vectors of the maxima that are known, the neurons among them. Without any all starts are random.
    count : int
    rng : Generator
    origin : {"around", "across", "beyond"}

    Returns
    -------
    ndarray (count, d)
        Unit vectors.

    Examples
    --------
    >>> starts = late_starts(np.eye(2), np.eye(2), 6, np.random.default_rng(0), "across")
    >>> starts.shape, np.allclose(np.linalg.norm(starts, axis=1), 1.0)
    ((6, 2), True)
    """
    out = rng.standard_normal((count, maxima.shape[1]))
    if len(maxima) == 0:
        return _unit(out, rng)
    neurons = neurons if len(neurons) else maxima
    noise = unit_rows(out)
    turn = np.arange(count)
    large = 10.0 ** rng.uniform(-0.5, 0.0, size=(count, 1))
    first, second = _drawn(maxima, count, rng), _drawn(maxima, count, rng)
    own, other = _drawn(neurons, count, rng), _drawn(neurons, count, rng)
    if origin == "around":
        any_size = 10.0 ** rng.uniform(-2.0, 0.0, size=(count, 1))
        kinds = (first + large * noise, own + any_size * noise, first + large * noise, own + other)
    elif origin == "across":
        kinds = (-own + large * noise, first + second, first - second)
    else:
        kinds = (out, own - other)
    for k, kind in enumerate(kinds):
        chosen = turn % len(kinds) == k
        out[chosen] = kind[chosen]
    return _unit(out, rng)


def _drawn(vectors: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    return vectors[rng.integers(len(vectors), size=count)]


def _unit(vectors: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Unit rows; random vectors in place of zero ones."""
    dead = ~np.any(vectors != 0.0, axis=1)
    vectors[dead] = rng.standard_normal((int(dead.sum()), vectors.shape[1]))
    return unit_rows(vectors)
