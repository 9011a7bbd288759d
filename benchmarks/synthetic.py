"""Synthetic tables, among them programs whose optimum is known in closed form.

The optimum is planted from the dual side: choose the dual vector and the active blocks first, then set
``y = fit + nu``. The conditions of optimality hold by construction, for a certificate that owes nothing to a solver.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

__all__ = ["Planted", "curve", "planted_gated", "planted_relu", "teacher"]


@dataclass(frozen=True, eq=False)
class Planted:
    """Known optimum of the squared loss (half the sum of squares).

    Attributes
    ----------
    beta : float
        Weight decay for which it is optimal.
    objective : float
        Optimal objective, exact up to rounding.
    gates : ndarray (P, d) or None
        Gates of the gated program; None where the optimum is that of ReLU networks of every width.
    """

    beta: float
    objective: float
    gates: FloatArray | None = None


def teacher(n: int, d: int, *, neurons: int = 10, noise: float = 0.1, random_state: int = 0) -> tuple[FloatArray, ...]:
    """Gaussian features and the targets of a random ReLU network with relative noise; features (n, d - 1), no ones."""
    rng = np.random.default_rng(random_state)
    X = rng.standard_normal((n, d - 1))
    W, signs = rng.standard_normal((neurons, d)), rng.choice([-1.0, 1.0], neurons)
    clean = np.maximum(X @ W[:, :-1].T + W[:, -1], 0.0) @ signs
    return X, clean + noise * clean.std() * rng.standard_normal(n)


def curve(n: int, *, random_state: int = 0) -> tuple[FloatArray, ...]:
    """One feature and a noisy bent curve: with the bias the rank is 2, and every activation pattern can be listed."""
    rng = np.random.default_rng(random_state)
    x = np.sort(rng.uniform(-2.0, 2.0, n))
    return x[:, None], np.sin(2.0 * x) + 0.5 * np.abs(x) + 0.2 * rng.standard_normal(n)


def planted_gated(
    n: int, d: int, P: int, *, active: int | None = None, random_state: int = 0
) -> tuple[FloatArray, FloatArray, Planted]:
    r"""Gated program with a known optimum: data, targets, and the gates with the value.

    For active gates S and unit vectors e_i choose nu with :math:`X^T D_i\,\nu = \beta e_i` on S, keep only further
    gates with :math:`\|X^T D_j\,\nu\| < \beta`, and set :math:`u_i = t_i e_i`, :math:`y = \sum_S D_i X u_i + \nu`.

    Parameters
    ----------
    n, d, P : int
        Samples, features (the last one constant), gates.
    active : int, optional
        Number of active gates, at most ``n // (3 d)``; ``min(10, n // (3 d), P)`` by default.
    random_state : int, default 0
    """
    count = min(10, n // (3 * d), P) if active is None else active
    if not 1 <= count <= min(P, n // (3 * d)):
        raise ValueError(f"active must lie between 1 and min(P, n // (3 d)) = {min(P, n // (3 * d))}; got {count}.")
    rng = np.random.default_rng(random_state)
    X = np.column_stack([rng.standard_normal((n, d - 1)), np.ones(n)])
    gates, columns, gram = _independent(X, count, rng)
    directions = rng.standard_normal((count, d))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    beta = 0.01 * n
    nu = columns @ np.linalg.solve(gram, beta * directions.ravel())
    # Noise that no active block sees, small enough to leave room to the other gates.
    noise = rng.standard_normal(n)
    noise -= columns @ np.linalg.solve(gram, columns.T @ noise)
    nu += noise * (0.2 * beta / np.sqrt(n * d))
    listed = [gates]
    while sum(map(len, listed)) < P:
        more = rng.standard_normal((P, d))
        norms = np.linalg.norm((more @ X.T >= 0) * nu @ X, axis=1)
        listed.append(more[norms < 0.999 * beta])
    sizes = rng.uniform(0.3, 1.0, count)
    fit = columns @ (sizes[:, None] * directions).ravel()
    all_gates = np.concatenate(listed)[:P]
    order = rng.permutation(P)
    value = 0.5 * float(nu @ nu) + beta * float(sizes.sum())
    return X, fit + nu, Planted(beta, value, np.ascontiguousarray(all_gates[order]))


def _independent(X: FloatArray, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Gates whose columns D_i X are independent, these columns, and their Gram matrix."""
    while True:
        gates = rng.standard_normal((count, X.shape[1]))
        columns = np.concatenate([np.where(X @ gate >= 0, 1.0, 0.0)[:, None] * X for gate in gates], axis=1)
        gram = columns.T @ columns
        if np.linalg.cond(gram) < 1e8:
            return gates, columns, gram


def planted_relu(n: int, d: int, *, random_state: int = 0) -> tuple[FloatArray, FloatArray, Planted]:
    r"""ReLU networks of every width, optimum in closed form: rows of an orthogonal matrix, each repeated n/d times.

    With c copies of each row and the mean targets m of the copies, the positive and the negative part of m are fitted
    by one neuron each, shrunk by :math:`(1 - \beta / (c \|m_\pm\|))_+` (Ergen and Pilanci, 2021, whitened data).

    Parameters
    ----------
    n, d : int
        Samples, a multiple of d, and features.
    random_state : int, default 0
    """
    if n % d:
        raise ValueError(f"n must be a multiple of d; got n={n}, d={d}.")
    rng, copies = np.random.default_rng(random_state), n // d
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    targets = np.repeat(rng.standard_normal(d), copies) + 0.3 * rng.standard_normal(n)
    means = targets.reshape(d, copies).mean(axis=1)
    beta, fit, penalty = 0.1 * copies * float(np.linalg.norm(means)), np.zeros(d), 0.0
    for part in (np.maximum(means, 0.0), np.minimum(means, 0.0)):
        size = float(np.linalg.norm(part))
        shrunk = max(1.0 - beta / (copies * size), 0.0) if size else 0.0
        fit += shrunk * part
        penalty += shrunk * size
    residual = targets - np.repeat(fit, copies)
    value = 0.5 * float(residual @ residual) + beta * penalty
    order = rng.permutation(n)
    return np.repeat(rotation, copies, axis=0)[order], targets[order], Planted(beta, value)
