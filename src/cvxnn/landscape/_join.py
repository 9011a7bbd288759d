"""Join two optimal networks of one width by a route through vertices of the set of their masses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.landscape._masses import RANK_TOL, independent_masses
from cvxnn.landscape._moves import Atoms, Walker
from cvxnn.landscape._pieces import Piece
from cvxnn.landscape._pivots import edge_walk
from cvxnn.landscape.network_path import PathError

FloatArray = npt.NDArray[np.float64]

LOOSE_RANK_TOL = 1e-9
"""Dependence of neurons that are optimal only up to the accuracy of a solve."""


def settle(walker: Walker, *, tol: float = RANK_TOL) -> None:
    """Merge equal neurons and go straight to masses with independent contributions, at constant fit."""
    walker.merge_equal()
    on = walker.live
    weighted = walker.problem.sample_weight > 0
    columns = walker.columns()[np.ix_(weighted, on)]
    masses = np.zeros_like(walker.masses)
    masses[on] = independent_masses(columns, walker.masses[on], tol=tol)
    walker.go(masses, "walk to a vertex")


def union_atoms(first: Walker, second: Walker) -> Atoms:
    """Atoms of the second network, then those of the first that are not among them."""
    atoms = Atoms(second.directions[second.live], second.signs[second.live])
    new = first.live[np.array(first.homes(atoms), dtype=np.intp) < 0]
    return Atoms(np.vstack([atoms.directions, first.directions[new]]), np.concatenate([atoms.signs, first.signs[new]]))


def align(walker: Walker, atoms: Atoms) -> FloatArray:
    """Turn each neuron by rounding errors to the atom that it is; returns the masses of the atoms."""
    masses = np.zeros(len(atoms))
    on = walker.live
    homes = walker.homes(atoms)
    if -1 in homes:
        raise PathError(
            f"Neuron {int(on[homes.index(-1)])} of a network is none of the optimal neurons, so that the network "
            "is not optimal."
        )
    masses[homes] = walker.masses[on]
    walker.turn(on, atoms.directions[homes] * walker.masses[on, None], "align")
    walker.directions = walker.directions.copy()
    walker.directions[on] = atoms.directions[homes]
    return masses


def join_within(first: Walker, second: Walker) -> list[Piece] | None:
    """Pieces from the start of the first walker to that of the second on which only their own neurons occur.

    None where the width does not suffice for the edges, or no slot is free for a permutation.
    """
    X = first.problem.X[first.problem.sample_weight > 0]
    for tol in (RANK_TOL, LOOSE_RANK_TOL):
        one, other = first.copy(), second.copy()
        settle(one, tol=tol)
        settle(other, tol=tol)
        atoms = union_atoms(one, other)
        start, goal = align(one, atoms), align(other, atoms)
        route = edge_walk(atoms.columns(X), start, goal, first.width, tol=tol)
        pieces = None if route is None else join_along(one, other, atoms, route)
        if pieces is not None:
            return pieces
    return None


def join_along(first: Walker, second: Walker, atoms: Atoms, route: list[FloatArray]) -> list[Piece] | None:
    """Pieces from the start of the first walker to that of the second, which both stand at the ends of the route.

    The neurons are permuted where the route has most free slots. None where a permutation is needed and no slot is
    ever free.
    """
    meeting = int(np.argmin([np.count_nonzero(masses) for masses in route]))
    for masses in route[: meeting + 1]:
        _go_to(first, atoms, masses, second)
    for masses in route[meeting:][::-1]:
        _go_to(second, atoms, masses, first)
    slots = dict(zip(second.homes(atoms), second.live.tolist(), strict=True))
    goal = {i: slots[atom] for i, atom in zip(first.live.tolist(), first.homes(atoms), strict=True)}
    if not first.relocate(goal):
        return None
    return first.pieces + [piece.reversed() for piece in second.pieces[::-1]]


def _go_to(walker: Walker, atoms: Atoms, masses: FloatArray, other: Walker) -> None:
    """Move to the masses of the atoms; new atoms take the slots that they have in the other network where free."""
    slots = dict(zip(walker.homes(atoms), walker.live.tolist(), strict=True))
    wished = dict(zip(other.homes(atoms), other.live.tolist(), strict=True))
    free = set(walker.free.tolist())
    new = [atom for atom in np.flatnonzero(masses).tolist() if atom not in slots]
    for atom in new:
        if wished.get(atom) in free:
            slots[atom] = wished[atom]
            free.remove(slots[atom])
    for atom in new:
        if atom not in slots:
            slots[atom] = min(free - set(wished.values()), default=min(free))
            free.remove(slots[atom])
    if new:
        homes = np.array([slots[atom] for atom in new])
        walker.aim(homes, atoms.directions[new], atoms.signs[new])
    out = np.zeros_like(walker.masses)
    for atom, slot in slots.items():
        out[slot] = masses[atom]
    walker.go(out, "walk between vertices")
