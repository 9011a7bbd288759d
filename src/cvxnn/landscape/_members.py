"""Networks of the optimal set from masses, masses from networks, and random members."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn.landscape._optimum import OptimalSetError
from cvxnn.landscape._polytope import MassPolytope
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = [
    "move_to_boundary",
    "padded_network",
    "random_corners",
    "random_masses",
    "read_masses",
    "require_finite_objective",
    "require_fitting_network",
    "split_at_random",
]

_TRIES = 50


def require_fitting_network(problem: Problem, net: Any, before: str, got: str) -> None:
    """Refuse what is no network for the data; ``before`` and ``got`` are words of the message."""
    fits = (
        isinstance(net, ReLUNetwork) and net.n_features == problem.n_features and net.a.shape[1:] == problem.y.shape[1:]
    )
    if not fits:
        outputs = "one output" if problem.n_outputs == 1 else f"{problem.n_outputs} outputs"
        found = repr(net) if isinstance(net, ReLUNetwork) else type(net).__name__
        raise ValueError(f"{before} a ReLUNetwork with {problem.n_features} features and {outputs}; {got} {found}.")


def require_finite_objective(problem: Problem, network: Any) -> None:
    """Refuse a network whose objective overflows: nothing can be said of it."""
    with np.errstate(over="ignore", invalid="ignore"):
        objective = network.objective(problem)
    if not math.isfinite(objective):
        raise ValueError(f"network has the objective {objective} on this problem; certify takes a finite one.")


def padded_network(
    directions: FloatArray, outputs: FloatArray, masses: FloatArray, width: int, *, split: bool
) -> ReLUNetwork:
    """Balanced network of the positive masses, brought to a width by halving heavy neurons or by zero neurons."""
    index = np.flatnonzero(masses > 0.0)
    shares = masses[index]
    while split and 0 < len(index) < width:
        heaviest = int(np.argmax(shares))
        shares[heaviest] *= 0.5
        shares, index = np.append(shares, shares[heaviest]), np.append(index, index[heaviest])
    return _with_zero_neurons(directions[index], outputs[index], shares, width)


def _with_zero_neurons(directions: FloatArray, outputs: FloatArray, masses: FloatArray, width: int) -> ReLUNetwork:
    root = np.sqrt(masses)
    extra = width - len(masses)
    W = np.vstack([root[:, None] * directions, np.zeros((extra, directions.shape[1]))])
    weights = outputs * root.reshape(-1, *[1] * (outputs.ndim - 1))
    return ReLUNetwork(W, np.concatenate([weights, np.zeros((extra, *outputs.shape[1:]))]))


def move_to_boundary(masses: FloatArray, move: FloatArray, share: float) -> FloatArray:
    """Add a share of the longest multiple of a move that leaves all masses non-negative."""
    falling = np.flatnonzero(move < 0.0)
    if falling.size == 0:
        return masses
    ratios = masses[falling] / -move[falling]
    moved = np.maximum(masses + share * float(np.min(ratios)) * move, 0.0)
    if share == 1.0:
        moved[falling[np.argmin(ratios)]] = 0.0
    return moved


def read_masses(
    net: ReLUNetwork, directions: FloatArray, outputs: FloatArray, *, scale: float, tol: float
) -> FloatArray:
    """Sum the masses of the neurons on each atom; refuse neurons that are unbalanced or no atom.

    Such neurons are left out where their squared weights together are at most ``tol * scale``.
    """
    sizes_w = np.linalg.norm(net.W, axis=1)
    one = outputs.ndim == 1
    heads, atoms = (net.a[:, None], outputs[:, None]) if one else (net.a, outputs)
    sizes_a = np.linalg.norm(heads, axis=1)
    squares = np.maximum(sizes_w, sizes_a) ** 2
    masses = np.zeros(len(outputs))
    wrong: dict[int, str] = {}
    for i in np.flatnonzero(squares > 0.0):
        if abs(sizes_w[i] - sizes_a[i]) > tol * max(sizes_w[i], sizes_a[i]):
            wrong[int(i)] = (
                f"Neuron {i} is not balanced: ||w|| = {sizes_w[i]:.6g}, |a| = {sizes_a[i]:.6g}; optimal neurons are."
            )
            continue
        same = np.flatnonzero(np.linalg.norm(atoms - heads[i] / sizes_a[i], axis=1) <= (1.0 if one else tol))
        distance = np.linalg.norm(directions[same] - net.W[i] / sizes_w[i], axis=1)
        if same.size == 0 or np.min(distance) > tol:
            nearest = f"; the nearest is {np.min(distance):.1e} away" if same.size else ""
            kind = "sign" if one else "output weights"
            wrong[int(i)] = f"Neuron {i} has a direction and {kind} that no optimal network uses{nearest}."
            continue
        masses[same[np.argmin(distance)]] += sizes_w[i] * sizes_a[i]
    if sum(squares[i] for i in wrong) > tol * scale:
        raise OptimalSetError(wrong[max(wrong, key=lambda i: squares[i])])
    return masses


def random_masses(rng: np.random.Generator, vertices: FloatArray, width: int | None) -> FloatArray:
    """Random point of a random face: of the whole polytope without a width, of one with few enough atoms with it."""
    if width is None:
        chosen = rng.permutation(len(vertices))[: rng.integers(1, min(len(vertices), 8) + 1)]
    else:
        first = rng.choice(np.flatnonzero(np.sum(vertices > 0.0, axis=1) <= width))
        support, picked = vertices[first] > 0.0, [int(first)]
        for candidate in rng.permutation(len(vertices))[:_TRIES]:
            union = support | (vertices[candidate] > 0.0)
            if candidate != first and np.sum(union) <= width:
                support = union
                picked.append(int(candidate))
        chosen = np.array(picked)
    return rng.dirichlet(np.ones(len(chosen))) @ vertices[chosen]


def random_corners(rng: np.random.Generator, polytope: MassPolytope, count: int = 20) -> FloatArray:
    """Vertices that minimise random objectives, for polytopes with too many vertices to list."""
    return np.array([polytope.corner(rng.standard_normal(polytope.n_atoms)) for _ in range(count)])


def split_at_random(
    rng: np.random.Generator, directions: FloatArray, outputs: FloatArray, masses: FloatArray, width: int
) -> ReLUNetwork:
    """Network of exactly this width: neurons split at random, zero neurons, in random order."""
    index = np.flatnonzero(masses > 0.0)
    values = masses[index]
    free = width - len(index)
    for _ in range(int(rng.integers(0, free + 1)) if len(index) else 0):
        chosen = int(rng.integers(len(index)))
        share = rng.uniform(0.05, 0.95)
        index = np.append(index, index[chosen])
        values = np.append(values, (1.0 - share) * values[chosen])
        values[chosen] *= share
    net = _with_zero_neurons(directions[index], outputs[index], values, width)
    return net.permuted(rng.permutation(width))
