r"""Certificate of a network with a polynomial activation: its pricing problem is an eigenvalue problem.

The dual constraint of :math:`\sum_j \alpha_j \sigma(X u_j),\ \sigma(t) = a t^2 + b t + c,\ \|u_j\| = 1`, is

.. math:: \max_{\|u\| = 1} |\nu^\top \sigma(X u)| \le \beta, \qquad
          \nu^\top \sigma(X u) = u^\top Q u + g^\top u + c\,\mathbf 1^\top \nu,\quad
          Q = a X^\top \mathrm{diag}(\nu) X,\ g = b X^\top \nu

(Bartan and Pilanci, 2021, "Neural spectrahedra and semidefinite lifts"). A quadratic function on a sphere has no
duality gap: its maximum is the least :math:`\mu + s` with

.. math:: \begin{pmatrix} \mu I - Q & -g/2 \\ -g^\top/2 & s \end{pmatrix} \succeq 0,

and *any* such pair bounds it. The pair is found from the eigenvalues of Q, and the matrix inequality is proved by a
Cholesky factorisation in floating point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import TINY, gamma, norm_up
from cvxnn.certificates.certificate import Certificate, certify_norm
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]
Coefficients = tuple[float, float, float]

__all__ = ["SphereMaximum", "certify_polynomial", "maximise_on_sphere", "polynomial_dual_norm"]

_ROOT_STEPS = 200
_SHIFTS = 40
_HARD = 1e-7


@dataclass(frozen=True, eq=False)
class SphereMaximum:
    """Maximum of a quadratic function on the unit sphere.

    Attributes
    ----------
    multiplier, slack : float
        Numbers mu and s whose sum is the maximum, as computed.
    directions : ndarray (k, d)
        Unit vectors that attain it to rounding: one, or two where it is attained on both sides.
    """

    multiplier: float
    slack: float
    directions: FloatArray


def maximise_on_sphere(
    Q: FloatArray, g: FloatArray, *, eigen: tuple[FloatArray, FloatArray] | None = None
) -> SphereMaximum:
    r"""Maximise :math:`u^\top Q u + g^\top u` over unit vectors by the secular equation.

    Parameters
    ----------
    Q : ndarray (d, d)
        Symmetric.
    g : ndarray (d,)
    eigen : (ndarray (d,), ndarray (d, d)), optional
        Eigenvalues in ascending order and eigenvectors of Q, if they are at hand.

    References
    ----------
    More and Sorensen (1983), "Computing a trust region step".

    Examples
    --------
    >>> best = maximise_on_sphere(np.diag([1.0, 0.0]), np.array([0.0, 1.0]))
    >>> round(best.multiplier + best.slack, 9), best.directions.round(6).tolist()
    (1.25, [[-0.866025, 0.5], [0.866025, 0.5]])
    """
    values, vectors = np.linalg.eigh(Q) if eigen is None else eigen
    h = vectors.T @ g
    top = float(values[-1])
    size = float(np.linalg.norm(g))
    excess = values - top
    if size == 0.0:
        return SphereMaximum(top, 0.0, np.stack([vectors[:, -1], -vectors[:, -1]]))

    def length(distance: float) -> float:
        return float(np.linalg.norm(0.5 * h / (distance - excess)))

    # The length falls from the pole at distance 0 to below 1 at |g| / 2.
    high = 0.5 * size
    tiny = max(high, float(values[-1] - values[0])) * 1e-18
    distance = _root(length, tiny, high) if length(tiny) > 1.0 else 0.0
    denominator = distance - excess
    inside = np.divide(0.5 * h, denominator, out=np.zeros_like(h), where=denominator > 0)
    slack = 0.5 * float(h @ inside)
    rest = 1.0 - float(inside @ inside)
    if rest > _HARD:
        # The hard case: what is missing goes along the top eigenvector, to either side.
        side = np.zeros_like(h)
        side[-1] = math.sqrt(rest)
        both = np.stack([inside - side, inside + side]) @ vectors.T
        return SphereMaximum(top + distance, slack, both / np.linalg.norm(both, axis=1, keepdims=True))
    u = vectors @ inside
    return SphereMaximum(top + distance, slack, (u / np.linalg.norm(u))[None])


def _root(length: Callable[[float], float], low: float, high: float) -> float:
    """Distance at which the falling function is 1, from above; bisection of logarithms, as it may be tiny."""
    for _ in range(_ROOT_STEPS):
        middle = math.sqrt(low) * math.sqrt(high)
        if not low < middle < high:
            break
        if length(middle) > 1.0:
            low = middle
        else:
            high = middle
    return high


def polynomial_dual_norm(X: FloatArray, coefficients: Coefficients, nu: FloatArray) -> tuple[float, float, list]:
    r"""Proved upper bound and attained value of :math:`\max_{\|u\|=1} |\nu^\top \sigma(X u)|`, and the maximisers.

    Parameters
    ----------
    X : ndarray (n, d)
    coefficients : (a, b, c)
    nu : ndarray (n,)

    Returns
    -------
    upper : float
        Not below the exact maximum, rounding included.
    attained : float
        Largest value met, as computed.
    maxima : list of (float, ndarray (k, d), float)
        For each of the signs +1 and -1: the sign, the unit vectors that maximise ``sign * nu^T sigma(X u)``, the value.

    Examples
    --------
    >>> upper, attained, _ = polynomial_dual_norm(np.eye(2), (1.0, 0.0, 0.0), np.array([3.0, -1.0]))
    >>> attained, upper - 3.0 < 1e-12
    (3.0, True)
    """
    n, d = X.shape
    scaled, nu_scaled, powers, (a, b, c) = _normalised(X, coefficients, nu)
    weighted = nu_scaled[:, None] * scaled
    Q = a * (scaled.T @ weighted)
    Q = 0.5 * (Q + Q.T)
    g = b * (scaled.T @ nu_scaled)
    # The sum may cancel entirely, and c be the largest coefficient: it is rounded only once.
    constant = c * math.fsum(nu_scaled)
    # Rounding of the other two: sums of n products of up to four factors, in any order.
    absolute = np.abs(nu_scaled)
    slack = gamma(n + 8)
    rows = float(absolute @ np.sum(scaled * scaled, axis=1))
    margin = slack * (abs(a) * rows + abs(b) * float(np.linalg.norm(absolute @ np.abs(scaled))))
    margin = margin * (1.0 + 1e-6) + 4e-16 * abs(constant) + (n + 1) * (d + 1) ** 2 * TINY
    uppers, maxima = [], []
    values, vectors = np.linalg.eigh(Q)
    for sign in (1.0, -1.0):
        order = slice(None, None, int(sign))
        best = maximise_on_sphere(sign * Q, sign * g, eigen=(sign * values[order], vectors[:, order]))
        uppers.append(_proved(sign * Q, sign * g, best) + sign * constant)
        u = best.directions
        met = sign * (np.sum((u @ Q) * u, axis=1) + u @ g + constant)
        maxima.append((sign, u, _scaled(float(np.max(met)), powers)))
    # The two last sums round, too.
    upper = (max(*uppers, 0.0) + margin) * (1.0 + 4e-16) + 2e-16 * abs(constant)
    attained = max(value for _, _, value in maxima)
    return math.nextafter(_scaled(upper, powers), math.inf), max(attained, 0.0), maxima


def _normalised(X: FloatArray, coefficients: Coefficients, nu: FloatArray) -> tuple:
    """Data, vector and coefficients of order one; powers of two make the scaling exact but for underflow."""
    power = math.frexp(float(np.max(np.abs(X))))[1] if np.any(X) else 0
    power_nu = math.frexp(float(np.max(np.abs(nu))))[1] if np.any(nu) else 0
    a, b, c = coefficients
    # The coefficients take the scale of the data: a t^2 + b t + c with t in units of 2^power.
    exponents = [math.frexp(value)[1] + k * power for value, k in ((a, 2), (b, 1), (c, 0)) if value != 0.0]
    common = max(exponents, default=0)
    moved = tuple(math.ldexp(value, k * power - common) for value, k in ((a, 2), (b, 1), (c, 0)))
    return np.ldexp(X, -power), np.ldexp(nu, -power_nu), power_nu + common, moved


def _scaled(value: float, power: int) -> float:
    try:
        return math.ldexp(value, power)
    except OverflowError:
        return math.copysign(math.inf, value)


def _proved(Q: FloatArray, g: FloatArray, best: SphereMaximum) -> float:
    r"""Upper bound of the maximum for the matrices as they are stored, from a factorisation of the shifted matrix.

    If Cholesky's method ends without a breakdown on the stored matrix M, then
    :math:`\lambda_{\min}(M) \ge -\gamma_{d+2}\,\mathrm{tr}\,M / (1 - \gamma_{d+2})` (Demmel, 1989; Rump, 2006,
    "Verification of positive definiteness"). Shifting M by t raises the bound by 2 t, since :math:`\|(u, 1)\|^2 = 2`.
    """
    d = len(g)
    matrix = np.empty((d + 1, d + 1))
    matrix[:d, :d] = -Q
    matrix[:d, d] = matrix[d, :d] = -0.5 * g
    matrix[d, d] = 0.0
    size = float(np.max(np.abs(matrix), initial=0.0)) + abs(best.multiplier) + abs(best.slack)
    # No bound is better than that of the norms, which needs no factorisation.
    crude = float(norm_up(np.append(norm_up(Q), TINY))) + float(norm_up(g))
    shift = (d + 2) * 2.0**-52 * size
    for _ in range(_SHIFTS):
        corner, pole = best.slack + shift, best.multiplier + shift
        trial = matrix.copy()
        trial[np.diag_indices(d)] += pole
        trial[d, d] = corner
        # Each diagonal entry is one rounded sum.
        rounded = 2.0**-52 * size
        try:
            np.linalg.cholesky(trial)
        except np.linalg.LinAlgError:
            shift *= 4.0
            continue
        error = gamma(d + 4) * float(np.trace(trial)) * (1.0 + 1e-6) + rounded + (d + 2) * TINY
        return min((pole + corner + 2.0 * error) * (1.0 + 4e-16) + 2e-16 * size, crude)
    return crude


def certify_polynomial(
    problem: Problem, coefficients: Coefficients, objective: float, nu: FloatArray
) -> tuple[Certificate, list]:
    r"""Certificate of scope "global": a bound over every network of any width with this activation.

    Parameters
    ----------
    problem : Problem
    coefficients : (a, b, c)
    objective : float
        Objective of the network, from its weights.
    nu : ndarray (n,)
        Dual vector; minus the gradient of the loss at the fit is the natural choice.

    Returns
    -------
    certificate : Certificate
        ``dual_norm_bound`` bounds :math:`\max_{\|u\|=1} |\nu^\top \sigma(X u)|`.
    maxima : list
        As of :func:`polynomial_dual_norm`.

    Examples
    --------
    >>> problem = Problem([[1.0]], [2.0], beta=0.5)
    >>> certificate, _ = certify_polynomial(problem, (1.0, 0.0, 0.0), 0.875, np.array([0.5]))
    >>> certificate.gap < 1e-12
    True
    """
    nu = problem.loss.project_dual(nu, problem.y, problem.sample_weight)
    upper, attained, maxima = polynomial_dual_norm(problem.X, coefficients, nu)
    certificate = certify_norm(problem, objective, nu, upper, min(attained, upper), method="quadratic on the sphere")
    return certificate, maxima
