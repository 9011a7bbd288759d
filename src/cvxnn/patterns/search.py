"""Heuristic search for unit directions that violate dual feasibility."""

from __future__ import annotations

import math
import numbers
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.networks import unit_rows

from ._distinct import SIMILARITY, distinct
from ._local_maxima import Landscape, Maxima

Float = npt.NDArray[np.float64]

# Shares of the starts that the concave steps take over: the best after the ascent, and the best before it,
# since the ascent leads away from narrow maxima.
_CLIMBED, _RAW = 0.25, 0.25
_LEADERS, _FLIPS = 10, 4
_SLACK = 1e-5  # relative amount that polishing may add to a coarse value


@dataclass(frozen=True)
class SearchResult:
    """Directions found by `search`, sorted by value, largest first.

    Attributes
    ----------
    directions : (k, d) array
        Distinct unit vectors ``u``.
    signs : (k,) array
        ``s = +1.0`` or ``-1.0``.
    values : (k,) array
        ``s nu^T (X u)_+``, evaluated in float64 at the returned directions.
    n_starts : int
        Number of starting directions; each is used once for either sign.
    """

    directions: Float
    signs: Float
    values: Float
    n_starts: int


def search(
    X: npt.ArrayLike,
    nu: npt.ArrayLike,
    *,
    starts: npt.ArrayLike | None = None,
    n_starts: int = 200,
    threshold: float = 0.0,
    max_results: int | None = None,
    similarity: float = SIMILARITY,
    random_state: int | np.random.Generator | None = 0,
    time_limit: float | None = None,
    n_steps: int = 40,
) -> SearchResult:
    r"""Find unit directions ``u`` and signs ``s`` with a large ``s nu^T (X u)_+``.

    A network is optimal only if ``|nu^T (X u)_+| <= beta`` for every unit vector ``u``, where ``nu`` is minus
    the gradient of the loss at its fit; a direction above ``beta`` is a neuron worth adding.  The search is a
    heuristic: what it returns is attained and thus a lower bound on the maximum, but finding nothing proves
    nothing.

    Stage 1 is projected gradient ascent with diminishing steps from many starts.  Maxima lie on hyperplanes
    ``x_j^T u = 0`` with ``s nu_j < 0``, where ascent alone stalls; stage 2 therefore linearises the convex
    terms ``s nu_j > 0`` and maximises the rest exactly, through the dual

    .. math:: \max_{\|u\| \le 1} g^\top u - \sum_{s\nu_j < 0} |\nu_j| (x_j^\top u)_+
              = \min_{0 \le \lambda \le 1} \Big\| g - \sum_{s\nu_j < 0} \lambda_j |\nu_j| x_j \Big\|,

    until nothing changes (convex-concave procedure), from the best points of stage 1 and the best of the
    starts themselves, and then tries one-row flips of the active sets of the best maxima.  Each local maximum
    is finally moved exactly onto its hyperplanes.

    Parameters
    ----------
    X : (n, d) array
        Data.
    nu : (n,) array
        Dual vector.
    starts : (k, d) array, optional
        Directions to start from, such as the neurons of the current network; zero rows are ignored.
    n_starts : int, default 200
        Number of generated starts: perturbations and row reflections of ``starts`` where given, random
        vectors, rows, sums and differences of rows.
    threshold : float, default 0.0
        Only values above it are returned; pass ``beta`` to get violations only.
    max_results : int, optional
        Return at most this many directions.
    similarity : float, default 0.998
        Of two directions of one sign whose cosine exceeds this, only the better is returned.
    random_state : int, numpy.random.Generator or None, default 0
        Seed of the generated starts.
    time_limit : float, optional
        Seconds after which the search stops with what it has.
    n_steps : int, default 40
        Ascent steps of stage 1.

    Returns
    -------
    SearchResult
        Empty if no direction exceeds the threshold.

    Raises
    ------
    ValueError
        If an array has the wrong shape or holds NaN or infinity, or if an option is out of range.

    References
    ----------
    The dual constraint: M. Pilanci and T. Ergen, "Neural Networks are Convex Regularizers", ICML 2020.
    The convex-concave procedure: A. L. Yuille and A. Rangarajan, Neural Computation 15(4), 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn.patterns.search import search
    >>> found = search(np.eye(2), np.array([3.0, 4.0]))
    >>> found.directions.round(6), found.signs, found.values.round(6)
    (array([[0.6, 0.8]]), array([1.]), array([5.]))
    """
    data, dual, given = _check_arrays(X, nu, starts)
    _check_options(n_starts, threshold, max_results, similarity, time_limit, n_steps, given.shape[0])
    started = time.monotonic()
    rng = np.random.default_rng(random_state)

    rows, sigma, frame, unit_value = _signed_rows(data, dual)
    if rows.shape[0] == 0:
        return SearchResult(np.zeros((0, data.shape[1])), np.zeros(0), np.zeros(0), 0)
    scaled = data / np.abs(data).max()
    if frame is not None:
        scaled, given = scaled @ frame, given @ frame
    given = unit_rows(given[np.linalg.norm(given, axis=1) > 0])
    generated = _generate(scaled, given, n_starts, rng)

    directions, signs = [], []
    for sign, share in ((1.0, 0.5), (-1.0, 1.0)):
        deadline = None if time_limit is None else started + share * time_limit
        landscape = Landscape(rows, sign * sigma, deadline)
        found = _explore(landscape, given, generated, n_steps)
        least = threshold / unit_value * (1.0 - _SLACK)
        one = np.ones_like(found.values)
        order = distinct(found.points, one, found.values, above=least, similarity=similarity)
        points = landscape.polish(found.take(order)).points
        points = points if frame is None else points @ frame.T
        directions.append(unit_rows(points))
        signs.append(np.full(points.shape[0], sign))
    directions, signs = np.concatenate(directions), np.concatenate(signs)
    values = signs * (dual @ np.maximum(data @ directions.T, 0.0))
    order = distinct(directions, signs, values, above=threshold, similarity=similarity)[:max_results]
    return SearchResult(directions[order], signs[order], values[order], given.shape[0] + generated.shape[0])


def _check_arrays(X: npt.ArrayLike, nu: npt.ArrayLike, starts: npt.ArrayLike | None) -> tuple[Float, Float, Float]:
    data, dual = np.asarray(X, dtype=np.float64), np.asarray(nu, dtype=np.float64)
    if data.ndim != 2 or 0 in data.shape:
        raise ValueError(f"X must be a non-empty 2-d array (n, d), but has shape {data.shape}.")
    if dual.shape != (data.shape[0],):
        raise ValueError(f"nu must have shape ({data.shape[0]},) to match X, but has {dual.shape}.")
    given = np.zeros((0, data.shape[1])) if starts is None else np.asarray(starts, dtype=np.float64)
    if given.ndim != 2 or given.shape[1] != data.shape[1]:
        raise ValueError(f"starts must have shape (k, {data.shape[1]}) to match X, but has {given.shape}.")
    for name, array in (("X", data), ("nu", dual), ("starts", given)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite entries; all entries must be finite.")
    return data, dual, given


def _check_options(
    n_starts: int,
    threshold: float,
    max_results: int | None,
    similarity: float,
    time_limit: float | None,
    n_steps: int,
    n_given: int,
) -> None:
    least = 0 if n_given else 1
    counts = [("n_starts", n_starts, least), ("n_steps", n_steps, 1)]
    if max_results is not None:
        counts.append(("max_results", max_results, 1))
    for name, value, low in counts:
        if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < low:
            raise ValueError(f"{name} must be an integer of at least {low}, but is {value!r}.")
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"threshold must be a finite number of at least 0, but is {threshold!r}.")
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity must lie in (0, 1], but is {similarity!r}.")
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit must be a positive number of seconds or None, but is {time_limit!r}.")


def _signed_rows(data: Float, dual: Float) -> tuple[Float, Float, Float | None, float]:
    """Return ``|nu_j| x_j`` at maximal norm 1, the signs, a frame of the row space if ``d > n``, the scale.

    Only these products matter, since ``nu_j (x_j^T u)_+ = sign(nu_j) (|nu_j| x_j^T u)_+``.
    """
    size, weight = np.abs(data).max(), np.abs(dual).max()
    if size == 0 or weight == 0:
        return np.zeros((0, data.shape[1])), np.zeros(0), None, 1.0
    rows = (data / size) * (np.abs(dual) / weight)[:, None]
    frame = None
    if rows.shape[1] > rows.shape[0]:
        frame = np.linalg.qr((data / size).T)[0]
        rows = rows @ frame
    norms = np.linalg.norm(rows, axis=1)
    used = norms > 0
    largest = norms.max() if used.any() else 1.0
    return rows[used] / largest, np.sign(dual[used]), frame, float(largest * size * weight)


def _generate(scaled: Float, given: Float, count: int, rng: np.random.Generator) -> Float:
    """Draw unit starts: Gaussian vectors, rows, their sums and differences, relatives of the given starts."""
    n, d = scaled.shape
    first = rng.integers(n, size=count)
    second = rng.integers(n, size=count)
    out = rng.standard_normal((count, d))
    noise = out / math.sqrt(d)
    kind = np.arange(count) % 8
    flip_sign = np.where(rng.random(count) < 0.5, -1.0, 1.0)[:, None]
    for k, pairs in ((1, -1.0), (2, -1.0), (3, -1.0), (4, 1.0), (5, 0.0)):
        out[kind == k] = (flip_sign * scaled[first] + pairs * flip_sign * scaled[second])[kind == k]
    if given.shape[0]:
        base = given[rng.integers(given.shape[0], size=count)]
        spread = 10.0 ** rng.uniform(-3.0, 0.0, size=count)[:, None]
        row = unit_rows(scaled[first])
        reflected = base - (1.0 + spread) * (base * row).sum(axis=1, keepdims=True) * row
        out = np.where((kind % 4 == 0)[:, None], reflected, out)
        out = np.where((kind % 4 == 1)[:, None], base + spread * noise, out)
    dead = ~(np.linalg.norm(out, axis=1) > 0)  # equal rows have a zero difference
    out[dead] = rng.standard_normal((int(dead.sum()), d))
    return unit_rows(out)


def _explore(landscape: Landscape, given: Float, generated: Float, n_steps: int) -> Maxima:
    """Find local maxima from the starts."""
    climbed = landscape.describe(landscape.climb(np.concatenate([given, generated]), n_steps))
    start = landscape.describe(given).join(climbed.best(math.ceil(_CLIMBED * climbed.values.size)))
    raw = landscape.describe(generated)
    return landscape.explore(start.join(raw.best(math.ceil(_RAW * raw.values.size))), _LEADERS, _FLIPS)
