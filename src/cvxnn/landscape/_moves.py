"""Moves of a network of fixed width: masses between neurons, new neurons in free slots, permutations, splits."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.landscape._masses import contributions, mass_objective, minimize_masses
from cvxnn.landscape._pieces import BalancePiece, MassPiece, Piece, TurnPiece
from cvxnn.networks import ReLUNetwork, row_norms
from cvxnn.problem import Problem, require_problem

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

_BALANCED = 1e-12
_SAME_DIRECTION = 1e-7
"""Unit directions closer than this are one atom."""


@dataclass(frozen=True, eq=False)
class Atoms:
    """Unit directions ``(k, d)`` with output signs ``(k,)``."""

    directions: FloatArray
    signs: FloatArray

    def __len__(self) -> int:
        """Return the number of atoms."""
        return len(self.signs)

    def columns(self, X: FloatArray) -> FloatArray:
        """Contributions ``s (X u)_+``, ``(n, k)``."""
        return contributions(X, self.directions, self.signs)

    def nearest(self, direction: FloatArray, sign: float) -> int:
        """Index of the atom that equals the given one up to rounding; -1 where there is none."""
        if len(self) == 0:
            return -1
        distance = row_norms(self.directions - direction) + 2.0 * (self.signs != sign)
        best = int(np.argmin(distance))
        return best if distance[best] <= _SAME_DIRECTION else -1


def check_network(problem: Problem, network: ReLUNetwork, name: str) -> None:
    """Refuse networks that do not belong to the problem, or whose objective exceeds floating point."""
    require_problem(problem)
    if not isinstance(network, ReLUNetwork):
        raise ValueError(f"{name} must be a cvxnn.ReLUNetwork; got {type(network).__name__}.")
    if network.n_features != problem.n_features or network.a.ndim != 1:
        raise ValueError(
            f"{name} must have {problem.n_features} features and one output as the problem has; got {network!r}."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        objective = network.objective(problem)
    if not np.isfinite(objective):
        raise ValueError(f"{name} has weights so large that its objective is not finite in floating point.")


class Walker:
    """A network on the move: slots with a direction, a sign and a mass each, and the pieces walked so far.

    A slot of mass zero is free: it may be given any direction without moving the network.
    """

    def __init__(self, problem: Problem, network: ReLUNetwork) -> None:
        self.problem = problem
        self.pieces: list[Piece] = []
        size_w, size_a = row_norms(network.W), np.abs(network.a)
        masses = size_w * size_a
        live = masses > 0.0
        self.masses = np.where(live, masses, 0.0)
        self.directions = np.divide(network.W, size_w[:, None], out=np.zeros_like(network.W), where=live[:, None])
        self.signs = np.where(network.a < 0.0, -1.0, 1.0)
        unbalanced = np.abs(size_w - size_a) > _BALANCED * np.maximum(size_w, size_a)
        if np.any(unbalanced):
            self.pieces.append(BalancePiece(network.W, network.a))

    def copy(self) -> Walker:
        """Return another walker at the same place; the arrays are never changed, only replaced."""
        twin = copy(self)
        twin.pieces = list(self.pieces)
        return twin

    @property
    def width(self) -> int:
        """Number of slots."""
        return len(self.masses)

    @property
    def free(self) -> IntArray:
        """Slots of mass zero."""
        return np.flatnonzero(self.masses == 0.0)

    @property
    def live(self) -> IntArray:
        """Slots of positive mass."""
        return np.flatnonzero(self.masses > 0.0)

    def homes(self, atoms: Atoms) -> list[int]:
        """For each live slot the atom that its neuron is, -1 where it is none."""
        return [atoms.nearest(self.directions[i], float(self.signs[i])) for i in self.live]

    def columns(self) -> FloatArray:
        """Contributions of all slots at mass one, ``(n, m)``."""
        return contributions(self.problem.X, self.directions, self.signs)

    def objective(self) -> float:
        """Objective of the present network."""
        on = self.live
        columns = contributions(self.problem.X, self.directions[on], self.signs[on])
        return mass_objective(self.problem, columns, self.masses[on])

    def dual(self) -> FloatArray:
        """Minus the gradient of the loss at the present fit, ``(n,)``."""
        on = self.live
        columns = contributions(self.problem.X, self.directions[on], self.signs[on])
        return self.problem.dual_vector(columns @ self.masses[on])

    def network(self) -> ReLUNetwork:
        """Return the present network, balanced."""
        roots = np.sqrt(self.masses)
        return ReLUNetwork(roots[:, None] * self.directions, roots * self.signs)

    def aim(self, slots: IntArray, directions: FloatArray, signs: FloatArray) -> None:
        """Give free slots new directions and signs."""
        # Earlier pieces share the arrays, so they are replaced, not changed.
        self.directions, self.signs = self.directions.copy(), self.signs.copy()
        self.directions[slots], self.signs[slots] = directions, signs

    def go(self, masses: FloatArray, stage: str) -> None:
        """Move the masses along a straight line."""
        if np.array_equal(masses, self.masses):
            return
        self.pieces.append(MassPiece(self.directions, self.signs, self.masses, masses, stage))
        self.masses = masses

    def turn(self, slots: IntArray, vectors: FloatArray, stage: str) -> None:
        """Move the vectors (direction times mass) of some slots along straight lines; their signs stay."""
        start = self.directions * self.masses[:, None]
        end = start.copy()
        end[slots] = vectors
        if np.array_equal(start, end):
            return
        self.pieces.append(TurnPiece(start, end, self.signs, stage))
        masses = row_norms(vectors)
        self.directions, self.masses = self.directions.copy(), self.masses.copy()
        self.masses[slots] = masses
        live = masses > 0.0
        self.directions[slots[live]] = vectors[live] / masses[live, None]

    def optimize(self, slots: IntArray, stage: str) -> None:
        """Go straight to the best masses of the given slots, which include all live ones."""
        columns = contributions(self.problem.X, self.directions[slots], self.signs[slots])
        masses = np.zeros_like(self.masses)
        masses[slots] = minimize_masses(self.problem, columns, self.masses[slots])
        self.go(masses, stage)

    def merge_equal(self, stage: str = "merge equal neurons") -> None:
        """Move the masses of equal neurons to the first of them; the function stays."""
        masses = self.masses.copy()
        keep: list[int] = []
        for slot in self.live:
            atoms = Atoms(self.directions[keep], self.signs[keep])
            home = atoms.nearest(self.directions[slot], float(self.signs[slot]))
            if home < 0:
                keep.append(int(slot))
            else:
                masses[keep[home]] += masses[slot]
                masses[slot] = 0.0
        self.go(masses, stage)

    def relocate(self, goal: dict[int, int], stage: str = "permute") -> bool:
        """Bring the neuron of each slot in ``goal`` to the slot that it names, through free slots.

        ``goal`` names every live slot, and its values differ. Returns False where no slot is free and a cycle remains.
        """
        goal = {source: aim for source, aim in goal.items() if source != aim}
        while goal:
            free = set(self.free.tolist())
            ready = {source: aim for source, aim in goal.items() if aim in free}
            if not ready:
                if not free:
                    return False
                source, parking = min(goal), min(free)
                goal[parking] = goal.pop(source)
                ready = {source: parking}
            else:
                for source in ready:
                    del goal[source]
            sources, aims = np.array(list(ready)), np.array(list(ready.values()))
            self.aim(aims, self.directions[sources], self.signs[sources])
            masses = self.masses.copy()
            masses[aims], masses[sources] = self.masses[sources], 0.0
            self.go(masses, stage)
        return True
