r"""Certificate of a gated ReLU network: its pricing problem has a closed form, so that the bound is exact but rounding.

With fixed gates the dual constraint reads :math:`\max_i \|X^T D_i \nu\| \le \beta` (Mishkin, Sahiner and Pilanci, 2022,
section 2: a group lasso). Upper bounds of the norms with the rounding of their evaluation added make a multiple of any
vector feasible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cvxnn._powers import times_power
from cvxnn._workers import in_parallel, pieces_of
from cvxnn.certificates._rounding import TINY, UNIT_ROUNDOFF, gamma, norm_up
from cvxnn.certificates.certificate import Certificate, certify_confined
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, require_one_output

FloatArray = npt.NDArray[np.float64]

__all__ = ["GatedNorms", "certify_gated", "gated_dual_norm", "largest_gated_block"]

# Floats of a slab of expanded masks, which stays in the cache, and patterns of a piece.
_SLAB = 1 << 17
_PIECE = 4096
# Rounding of a sum, relative to its norm, from which on it is made anew as an exact and a small part.
_COARSE = 1e-9
# Most masks that are kept as floats, and the power of two up to which data are of moderate size.
_KEPT, _MODERATE = 1 << 20, 64


def gated_dual_norm(X: FloatArray, patterns: ActivationPatterns, nu: FloatArray) -> tuple[float, float]:
    r"""Proved upper bound and computed value of :math:`\max_i \|X^T D_i \nu\|` over the patterns.

    Parameters
    ----------
    X : ndarray (n, d)
    patterns : ActivationPatterns
        Patterns ``D_i`` of the n samples.
    nu : ndarray (n,)

    Returns
    -------
    upper : float
        Not below the exact maximum, rounding included.
    value : float
        The maximum as computed.

    Examples
    --------
    >>> import numpy as np
    >>> P = ActivationPatterns.from_masks([[True, False], [True, True]], [[1.0], [1.0]])
    >>> upper, value = gated_dual_norm(np.array([[3.0], [1.0]]), P, np.array([1.0, -1.0]))
    >>> value, upper >= 3.0
    (3.0, True)
    """
    upper, value, _ = largest_gated_block(X, patterns, nu)
    return upper, value


def largest_gated_block(X: FloatArray, patterns: ActivationPatterns, nu: FloatArray) -> tuple[float, float, FloatArray]:
    """Bound and value of :func:`gated_dual_norm`, and the unit vector ``(d,)`` of the block that attains the value.

    The vector is zero where the value is.

    Examples
    --------
    >>> P = ActivationPatterns.from_masks([[True, False], [True, True]], [[1.0], [1.0]])
    >>> largest_gated_block(np.array([[3.0], [1.0]]), P, np.array([1.0, -1.0]))[2]
    array([1.])
    """
    return GatedNorms(X, patterns).largest(nu)


class GatedNorms:
    r"""Norms :math:`\|X^T D_i \nu\|` of one dual vector after another, with the same data and patterns.

    What does not depend on the vector is found once: the samples that some pattern keeps, the scale of the data, and,
    where ``keep`` is true and they are small, the masks as floats.

    Parameters
    ----------
    X : ndarray (n, d)
    patterns : ActivationPatterns
        Patterns ``D_i`` of the n samples.
    keep : bool, default False

    Examples
    --------
    >>> P = ActivationPatterns.from_masks([[True, False], [True, True]], [[1.0], [1.0]])
    >>> norms = GatedNorms(np.array([[3.0], [1.0]]), P, keep=True)
    >>> [norms.largest(np.array(nu))[1] for nu in ([1.0, -1.0], [1.0, 1.0])]
    [3.0, 4.0]
    """

    def __init__(self, X: FloatArray, patterns: ActivationPatterns, *, keep: bool = False) -> None:
        self._X, self._packed = X, patterns.packed
        self._used = _used_samples(patterns)
        size = max(float(np.max(X, initial=0.0)), -float(np.min(X, initial=0.0)))
        self._empty = size == 0.0 or not self._used.any()
        # Powers of two: an exact scaling, up to underflow, which TINY pads. Data of moderate size need none.
        power = math.frexp(size)[1]
        self._power = power if abs(power) > _MODERATE else 0
        self._masks: FloatArray | None = None
        if keep and len(patterns) * len(X) <= _KEPT:
            self._masks = patterns.masks.astype(np.float64)

    def largest(self, nu: FloatArray) -> tuple[float, float, FloatArray]:
        """Bound, value and unit vector of :func:`largest_gated_block` for a vector ``(n,)``."""
        X = self._X
        n, d = X.shape
        if self._empty or not np.any(nu):
            return 0.0, 0.0, np.zeros(d)
        power_nu = math.frexp(max(float(np.max(nu)), -float(np.min(nu))))[1]
        weights = np.ldexp(nu, -power_nu)
        # A mask only drops terms, so |X|^T |nu| bounds the absolute terms of every block at once.
        magnitude = _magnitude(X, weights * self._used, self._power)
        slack = float(norm_up(gamma(n + 3) * (1.0 + 4.0 * gamma(n + 3)) * magnitude)) + n * d * TINY
        # Large entries of X may meet small ones of nu: the blocks, too, come to order one before they are squared.
        power = math.frexp(float(np.max(magnitude)))[1]
        value, best = self._top(power, lambda rows: [_divided(X[rows], self._power) * weights[rows, None]])
        upper = _upper(value, slack, d)
        if slack > _COARSE * value:
            # Beyond all sums of absolute terms, rounding included.
            sigma = math.ldexp(2.0, power)
            value, best = self._top(power, lambda rows: _parts(_divided(X[rows], self._power), weights[rows], sigma))
            slack = n * gamma(n + 4) * 4.0 * UNIT_ROUNDOFF * sigma * math.sqrt(d) * (1.0 + 1e-12) + n * d * TINY
            upper = min(upper, _upper(value, slack, d))
        shift = self._power + power_nu
        # The last scaling rounds where the bound is subnormal.
        return math.nextafter(_scaled(upper, shift), math.inf), _scaled(value, shift), best

    def _top(self, power: int, terms: Callable[[slice], list[FloatArray]]) -> tuple[float, FloatArray]:
        """Largest norm of the sums of terms over the patterns, with its unit vector; ``2**power`` is their order."""
        packed, (n, d) = self._packed, self._X.shape
        largest, best = 0.0, np.zeros(d)
        for first in range(0, len(packed), _PIECE):
            if self._masks is None:
                blocks = _blocks(n, d, packed[first : first + _PIECE], terms)
            else:
                masks = self._masks[first : first + _PIECE]
                blocks = _joined([masks @ part for part in terms(slice(None))])
            blocks = times_power(blocks, -power)
            squares = np.einsum("kd,kd->k", blocks, blocks)
            top = int(np.argmax(squares))
            if squares[top] > largest:
                largest, best = float(squares[top]), blocks[top]
        root = math.sqrt(largest)
        return math.ldexp(root, power), best / root if largest > 0.0 else best


def _divided(X: FloatArray, power: int) -> FloatArray:
    """Return ``X / 2**power``, for the power zero the array itself."""
    return times_power(X, -power) if power else X


def _magnitude(X: FloatArray, weights: FloatArray, power: int) -> FloatArray:
    """Computed ``|X|^T |weights|`` for the data divided by ``2**power``, ``(d,)``."""

    def sweep(rows: slice) -> FloatArray:
        return np.abs(weights[rows]) @ np.abs(_divided(X[rows], power))

    step = max(64, _SLAB // X.shape[1])
    return np.sum(in_parallel(sweep, [slice(i, i + step) for i in range(0, len(X), step)]), axis=0)


def _upper(value: float, slack: float, d: int) -> float:
    """Bound of a norm of d entries that is computed up to a slack: each entry is rounded twice more, then the norm."""
    return (value * (1.0 + gamma(d + 6)) + slack) * (1.0 + 4e-16)


def _parts(x: FloatArray, weights: FloatArray, sigma: float) -> list[FloatArray]:
    """Split the exact products ``x weights`` into multiples of ``u sigma``, whose sums are exact, and rests below that.

    The error of a product is one itself (Dekker, 1971), and the multiples are extracted as in Rump, Ogita and Oishi
    (2008), "Accurate floating-point summation": as the absolute products add up to less than ``sigma / 2``, the
    multiples add up without rounding, in any order. A rest is at most ``2 u sigma``, its own rounding included.
    """
    w = weights[:, None]
    product = x * w
    x_high, w_high = _high(x), _high(w)
    x_low, w_low = x - x_high, w - w_high
    error = ((x_high * w_high - product) + x_high * w_low + x_low * w_high) + x_low * w_low
    multiple = (sigma + product) - sigma
    return [multiple, (product - multiple) + error]


def _high(x: FloatArray) -> FloatArray:
    """Leading 26 bits of each entry (Veltkamp's splitting)."""
    scaled = 134217729.0 * x
    return scaled - (scaled - x)


def _blocks(n: int, d: int, packed: npt.NDArray[np.uint8], terms: Callable[[slice], list[FloatArray]]) -> FloatArray:
    """Sums of each of the terms ``(s, d)`` of some rows over the samples of each pattern, added up: rows ``(k, d)``."""
    step = max(64, _SLAB // len(packed) // 8 * 8)

    def sweep(slabs: Sequence[slice]) -> list[FloatArray]:
        total: list[FloatArray] = []
        store = np.empty((len(packed), min(step, n)))
        for rows in slabs:
            masks = store[:, : rows.stop - rows.start]
            bits = packed[:, rows.start // 8 : (rows.stop + 7) // 8]
            np.copyto(masks, np.unpackbits(bits, axis=1, count=masks.shape[1], bitorder="little"))
            sums = [masks @ part for part in terms(rows)]
            total = [before + more for before, more in zip(total, sums, strict=True)] if total else sums
        return total

    slabs = [slice(start, min(n, start + step)) for start in range(0, n, step)]
    # Each kind of terms is added up on its own: exact sums stay exact.
    return _joined([np.sum(parts, axis=0) for parts in zip(*in_parallel(sweep, pieces_of(slabs)), strict=True)])


def _joined(parts: list[FloatArray]) -> FloatArray:
    """Sum of arrays, the first of them if there are no others."""
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _used_samples(patterns: ActivationPatterns) -> npt.NDArray[np.bool_]:
    """Samples that some pattern keeps, ``(n,)``; the others add no rounding."""
    if len(patterns) == 0:
        return np.zeros(patterns.n_samples, dtype=bool)
    union = np.bitwise_or.reduce(patterns.packed, axis=0)
    return np.unpackbits(union, count=patterns.n_samples, bitorder="little").astype(bool)


def _scaled(value: float, power: int) -> float:
    """Return ``value * 2**power``, infinity where that is too large."""
    try:
        return math.ldexp(value, power)
    except OverflowError:
        return math.inf


def certify_gated(
    problem: Problem,
    objective: float,
    patterns: ActivationPatterns,
    nu: FloatArray,
    *,
    norms: GatedNorms | None = None,
) -> Certificate:
    r"""Certificate of a gated ReLU network, of scope "patterns".

    The lower bound holds for every gated network :math:`\sum_i D_i X w_i a_i` with these patterns, each with any number
    of neurons. It says nothing about networks with other gates, and nothing about ReLU networks unless the list holds
    all patterns of the data; ``global_lower_bound`` is therefore 0, the bound that every non-negative loss has.

    Parameters
    ----------
    problem : Problem
    objective : float
        Objective of the network, from its weights.
    patterns : ActivationPatterns
        Patterns of the gates on ``problem.X``.
    nu : ndarray (n,)
        Dual vector; minus the gradient of the loss at the fit is the natural choice.
    norms : GatedNorms, optional
        Those of ``problem.X`` and ``patterns``, where several dual vectors are to share them.

    Returns
    -------
    Certificate
        ``dual_norm_attained`` is the largest :math:`\|X^T D_i \nu\|` as computed.

    References
    ----------
    Mishkin, Sahiner and Pilanci (2022), "Fast Convex Optimization for Two-Layer ReLU Networks", section 2.

    Examples
    --------
    >>> import numpy as np
    >>> problem = Problem([[1.0]], [2.0], beta=0.5)
    >>> P = ActivationPatterns.from_masks([[True]], [[1.0]])
    >>> certify_gated(problem, 0.875, P, np.array([0.5])).gap < 1e-12
    True
    """
    require_one_output(problem, "certify_gated")
    nu = problem.loss.project_dual(nu, problem.y, problem.sample_weight)
    upper, value, _ = (norms or GatedNorms(problem.X, patterns)).largest(nu)
    return certify_confined(problem, objective, nu, upper, value, n_patterns=len(patterns), method="gated dual norm")
