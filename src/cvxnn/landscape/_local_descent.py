r"""Descent of a network without a free slot: straight lines of its vectors, each walked to its first minimum.

Along a straight line of the vectors :math:`z_i = |a_i| w_i` the fit is piecewise linear, so between two kinks the
objective is convex. Whether it falls is therefore decided exactly, by its slope before each kink.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, linear_sum_assignment, minimize

from cvxnn.landscape._moves import Atoms, Walker
from cvxnn.networks import merge_vectors, row_norms
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

_ITERATIONS = 200
_TRIALS = 8
_LONGEST_RAY = 2_000_000
"""Most pre-activations of a network that is walked along rays; beyond it a walk takes too long."""


def merge_compatible(walker: Walker) -> bool:
    """Merge neurons of one sign without opposite pre-activations; the fit stays and the objective does not rise."""
    X = walker.problem.X[walker.problem.sample_weight > 0]
    vectors = walker.directions * walker.masses[:, None]
    end = vectors.copy()
    for sign in (1.0, -1.0):
        members = [int(i) for i in walker.live if walker.signs[i] == sign]
        while members:
            group = members[:1]
            for other in members[1:]:
                if len(merge_vectors(X, vectors[[*group, other]])) == 1:
                    group.append(other)
            end[group] = 0.0
            end[group[0]] = vectors[group].sum(axis=0)
            members = [i for i in members if i not in group]
    merged = np.any((end == 0.0) & (vectors != 0.0))
    if merged:
        walker.turn(np.arange(walker.width), end, "merge neurons")
    return bool(merged)


def move_towards(walker: Walker, atoms: Atoms, masses: FloatArray) -> None:
    """Turn the neurons towards those of the optimum, as matched at least cost, for as long as the objective falls."""
    if walker.directions.shape[0] * walker.problem.n_samples > _LONGEST_RAY:
        return
    vectors = walker.directions * walker.masses[:, None]
    goal = atoms.directions * masses[:, None]
    distance = row_norms((vectors[:, None, :] - goal[None, :, :]).reshape(-1, vectors.shape[1]))
    mismatch = walker.signs[:, None] != atoms.signs[None, :]
    cost = np.where(mismatch, 1e6 * (1.0 + float(distance.max(initial=0.0))), distance.reshape(mismatch.shape))
    slots, chosen = linear_sum_assignment(cost)
    fitting = ~mismatch[slots, chosen]
    end = np.zeros_like(vectors)
    end[slots[fitting]] = goal[chosen[fitting]]
    _walk_ray(walker, end, "turn towards the optimum")


def follow_descent(walker: Walker) -> None:
    """Follow a quasi-Newton descent in all weights by straight lines on which the objective falls."""
    if walker.directions.shape[0] * walker.problem.n_samples > _LONGEST_RAY:
        return
    on = walker.live
    signs = walker.signs[on]
    shape = (on.size, walker.directions.shape[1])
    iterates: list[FloatArray] = []

    def value_and_gradient(flat: FloatArray) -> tuple[float, FloatArray]:
        return _value_and_gradient(walker.problem, flat.reshape(shape), signs)

    roots = np.sqrt(walker.masses[on])[:, None] * walker.directions[on]
    minimize(
        value_and_gradient,
        roots.ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=lambda flat: iterates.append(flat.reshape(shape).copy()),
        options={"maxiter": _ITERATIONS, "ftol": 1e-15, "gtol": 1e-12},
    )
    reached = 0
    while reached < len(iterates):
        ahead = len(iterates) - reached
        for _ in range(_TRIALS):
            roots = iterates[reached + ahead - 1]
            end = np.zeros_like(walker.directions)
            end[on] = roots * row_norms(roots)[:, None]
            if ahead == 1 or _first_minimum(walker, end) == 1.0:
                break
            ahead = max(ahead // 2, 1)
        if not _walk_ray(walker, end, "descend"):
            return
        reached += ahead


def _value_and_gradient(problem: Problem, roots: FloatArray, signs: FloatArray) -> tuple[float, FloatArray]:
    """Objective of the balanced neurons ``w = v, a = s ||v||`` and its gradient in the v."""
    norms = row_norms(roots)
    outputs = np.maximum(problem.X @ roots.T, 0.0)
    fit = outputs @ (signs * norms)
    slope = problem.loss_gradient(fit)
    units = np.divide(roots, norms[:, None], out=np.zeros_like(roots), where=norms[:, None] > 0.0)
    gradient = (signs * (slope @ outputs))[:, None] * units
    gradient += (signs * norms)[:, None] * ((outputs > 0.0).T * slope) @ problem.X
    gradient += 2.0 * problem.beta * roots
    return problem.loss_value(fit) + problem.beta * float(norms @ norms), gradient.ravel()


def _walk_ray(walker: Walker, end: FloatArray, stage: str) -> bool:
    """Move all vectors straight towards ``end`` up to the first minimum; whether the end was reached."""
    step = _first_minimum(walker, end)
    if step > 0.0:
        start = walker.directions * walker.masses[:, None]
        walker.turn(np.arange(walker.width), end if step == 1.0 else start + step * (end - start), stage)
    return step == 1.0


def _first_minimum(walker: Walker, end: FloatArray) -> float:
    """Largest step in [0, 1] up to which the objective falls along the straight line of the vectors to ``end``."""
    problem, signs = walker.problem, walker.signs
    start = walker.directions * walker.masses[:, None]
    move = end - start
    before, change = problem.X @ start.T, problem.X @ move.T
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(change != 0.0, -before / change, np.inf)
    crossing = (times > 0.0) & (times < 1.0)
    kinks = np.unique(np.concatenate([times[crossing], [1.0]]))

    def slope(step: float, rate: FloatArray) -> float:
        vectors = start + step * move
        norms = row_norms(vectors)
        grow = np.einsum("kd,kd->k", vectors, move)
        growth = np.divide(grow, norms, out=-row_norms(move), where=norms > 0.0)
        fit = np.maximum(problem.X @ vectors.T, 0.0) @ signs
        return float(problem.loss_gradient(fit) @ rate) + problem.beta * float(growth.sum())

    left = 0.0
    for right in kinks:
        middle = 0.5 * (left + right)
        rate = np.where(before + middle * change > 0.0, change, 0.0) @ signs
        if slope(right, rate) > 0.0:
            if slope(left, rate) >= 0.0:
                return left
            lowest: Any = brentq(slope, left, float(right), args=(rate,), xtol=1e-15)
            return float(lowest) * (1.0 - 1e-12)
        left = float(right)
    return 1.0
