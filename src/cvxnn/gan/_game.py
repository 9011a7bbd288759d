"""The game between a quadratic discriminator and a generator, with both players."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array, as_number
from cvxnn.certificates.moment_bound import quadratic_moment_bound
from cvxnn.solvers.quadratic_game import solve_quadratic_game

FloatArray = npt.NDArray[np.float64]

__all__ = ["QuadraticGame", "quadratic_game"]

_GAME_FEATURES = 40
"""Features up to which the semidefinite program is set up: it has d (d + 1) / 2 variables and three cones."""


@dataclass(frozen=True, eq=False)
class QuadraticGame:
    r"""Saddle point of the game between a quadratic discriminator and a generator.

    Attributes
    ----------
    second_moment : ndarray (d, d)
        H, the generator's second moment ``G^T G``.
    directions : ndarray (k, d)
        Unit neurons u of the discriminator.
    output_weights : ndarray (k,)
        Their weights v; the discriminator is :math:`\sum_j v_j (x^\top u_j)^2`.
    objective : float
        Trace of H: the generator's squared norm.
    payoff : float
        Least value of the game against this discriminator, scaled to be feasible: at most the optimum.
    lower_bound : float
        Proved lower bound of the norm, which rests on the data alone.
    """

    second_moment: FloatArray
    directions: FloatArray
    output_weights: FloatArray
    objective: float
    payoff: float
    lower_bound: float


def quadratic_game(
    X: npt.ArrayLike, beta_d: float, *, tol: float = 1e-10, time_limit: float | None = None
) -> QuadraticGame:
    r"""Saddle point of the game of :func:`quadratic_generator`, with the discriminator that certifies it.

    .. math:: \min_{H \succeq 0}\ \max_{v, u}\ \mathrm{tr} H + \sum_j v_j u_j^\top (X^\top X - H) u_j
              - \beta_d \sum_j |v_j|

    is convex in H and concave in the discriminator; a semidefinite program solves it.

    Parameters
    ----------
    X : array-like (n, d)
        At most 40 features.
    beta_d : float
        Penalty of the discriminator, > 0.
    tol : float
        Tolerance of the semidefinite program.
    time_limit : float, optional
        Seconds.

    Raises
    ------
    ValueError
        On bad input, or more than 40 features; :func:`quadratic_generator` has no such limit.
    RuntimeError
        Where the solver returns no usable point.

    Examples
    --------
    >>> game = quadratic_game([[2.0, 0.0], [0.0, 1.0]], beta_d=3.0)
    >>> round(game.objective, 6), round(game.payoff, 6), abs(game.directions).round(4)
    (1.0, 1.0, array([[1., 0.]]))
    """
    X = as_float_array(X, "X", ndim=2)
    beta_d = as_number(beta_d, "beta_d", minimum=0.0, inclusive=False)
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    d = X.shape[1]
    if d > _GAME_FEATURES:
        raise ValueError(
            f"X must have at most {_GAME_FEATURES} features, since the semidefinite program would have "
            f"{d * (d + 1) // 2} variables; got {d} (quadratic_generator has no such limit)."
        )
    A = X.T @ X
    scale = max(float(np.linalg.norm(A, 2)), beta_d)
    saddle = solve_quadratic_game(A / scale, beta_d / scale, tol=tol, time_limit=limit)
    if saddle is None:
        raise RuntimeError("The semidefinite program returned no usable point; raise tol or time_limit.")
    moment, M = saddle[0] * scale, saddle[1]
    values, vectors = np.linalg.eigh(M)
    # A discriminator whose matrix exceeds the identity lets the generator's norm fall without limit.
    values = values / max(1.0, float(values[-1]))
    used = np.abs(values) > np.sqrt(tol)
    payoff = float(np.sum(values * np.sum((X @ vectors) ** 2, axis=0)) - beta_d * np.sum(np.abs(values)))
    return QuadraticGame(
        second_moment=moment,
        directions=vectors.T[used],
        output_weights=values[used],
        objective=float(np.trace(moment)),
        payoff=payoff,
        lower_bound=quadratic_moment_bound(X, beta_d),
    )
