"""Two-dimensional planes in the space of all weights: coordinates, residual distances, and objectives in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from cvxnn._validation import LARGEST_ENTRY, as_float_array
from cvxnn.landscape.network_path import NetworkPath
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["PlanePath", "PlanePoint", "WeightPlane", "flat_weights", "matching_order", "require_moderate"]

_BLOCK_ENTRIES = 2_000_000
_COLLINEAR = 1e-9
"""Two directions span no plane where the second leaves less than this beside the first, relative to its length."""


@dataclass(frozen=True, eq=False)
class PlanePoint:
    """A network seen in a plane.

    Attributes
    ----------
    name : str
    kind : {"network", "optimum"}
        "optimum" for a network that the lower bound proves optimal.
    position : ndarray (2,)
        Coordinates of its projection onto the plane.
    residual : float
        Euclidean distance of its weights from the plane.
    objective : float
        Objective of the network itself, not of its projection.
    """

    name: str
    kind: str
    position: FloatArray
    residual: float
    objective: float


@dataclass(frozen=True, eq=False)
class PlanePath:
    """A curve of networks seen in a plane; fields as for :class:`PlanePoint`, with one entry for each of k networks.

    Attributes
    ----------
    name : str
    kind : {"path", "descent"}
        "path" for a :class:`cvxnn.landscape.NetworkPath`, "descent" for a sequence of networks.
    positions : ndarray (k, 2)
    residuals : ndarray (k,)
    objectives : ndarray (k,)
    """

    name: str
    kind: str
    positions: FloatArray
    residuals: FloatArray
    objectives: FloatArray


@dataclass(frozen=True, eq=False)
class WeightPlane:
    """Plane through a network, with coordinates in orthonormal directions of the space of all weights.

    Attributes
    ----------
    problem : Problem
    origin : ReLUNetwork
        Network at the coordinates (0, 0).
    basis : ndarray (2, K)
        Orthonormal directions, in the order W, a, output bias of :func:`flat_weights`.
    """

    problem: Problem
    origin: ReLUNetwork
    basis: FloatArray

    @classmethod
    def spanned(cls, problem: Problem, origin: ReLUNetwork, first: FloatArray, second: FloatArray) -> WeightPlane:
        """Orthonormalise two directions; the first keeps its direction.

        Raises
        ------
        ValueError
            When they are collinear or one is zero.
        """
        lengths = np.linalg.norm(first), np.linalg.norm(second)
        if min(lengths) == 0.0:
            raise ValueError("The plane needs two directions that are not zero; one of them is (equal networks?).")
        one, two = first / lengths[0], second / lengths[1]
        rest = two - (two @ one) * one
        if np.linalg.norm(rest) <= _COLLINEAR:
            raise ValueError("The two directions of the plane are collinear; they span a line, not a plane.")
        rest /= np.linalg.norm(rest)
        rest -= (rest @ one) * one
        return cls(problem, origin, np.array([one, rest / np.linalg.norm(rest)]))

    def network(self, position: npt.ArrayLike) -> ReLUNetwork:
        """Network at the coordinates ``(2,)``."""
        at = as_float_array(position, "position", ndim=1)
        if at.shape != (2,):
            raise ValueError(f"position must hold two coordinates; got shape {at.shape}.")
        theta = flat_weights(self.origin) + at @ self.basis
        W, a, bias = self._split(theta[None])
        return ReLUNetwork(W[0], a[0], output_bias=float(bias[0]))

    def coordinates(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Positions ``(k, 2)`` of the projections of flat weights ``(k, K)``, and their distances from the plane."""
        moved = weights - flat_weights(self.origin)
        positions = moved @ self.basis.T
        return positions, np.linalg.norm(moved - positions @ self.basis, axis=1)

    def objectives(self, positions: FloatArray) -> FloatArray:
        """Objectives of the networks at positions ``(k, 2)``."""
        problem, out = self.problem, np.empty(len(positions))
        origin, decay = flat_weights(self.origin), problem.output_bias_decay or 0.0
        size = max(_BLOCK_ENTRIES // (max(self.origin.width, 1) * (problem.n_samples + problem.n_features)), 1)
        for start in range(0, len(positions), size):
            theta = origin + positions[start : start + size] @ self.basis
            W, a, bias = self._split(theta)
            hidden = np.maximum(W @ problem.X.T, 0.0)
            fits = np.swapaxes(hidden, 1, 2) @ a.reshape(*a.shape[:2], -1)
            fits = fits.reshape(-1, *problem.y.shape) + bias.reshape(-1, *[1] * problem.y.ndim)
            penalty = 0.5 * problem.beta * np.sum(theta[:, :-1] ** 2, axis=1) + 0.5 * decay * bias**2
            out[start : start + size] = penalty + [problem.loss_value(fit) for fit in fits]
        return out

    def point(self, name: str, kind: str, network: ReLUNetwork) -> PlanePoint:
        """See a network in the plane."""
        self.require_shape(network, name)
        position, residual = self.coordinates(flat_weights(network)[None])
        return PlanePoint(name, kind, position[0], float(residual[0]), network.objective(self.problem))

    def path(
        self,
        name: str,
        path: NetworkPath | Sequence[ReLUNetwork],
        num: int,
        *,
        orders: Sequence[npt.NDArray[np.int64]] = (),
    ) -> PlanePath:
        """See a path in the plane: ``num`` times and all breakpoints of a NetworkPath, or each of the networks.

        Of the ``orders`` of the neurons, that one is taken, for the whole path, which leads closest to the plane.
        """
        if isinstance(path, NetworkPath):
            self.require_shape(path.start, name)
            times = np.union1d(np.linspace(0.0, 1.0, num), path.breakpoints)
            W, a = path.weights(times)
            bias = np.zeros(len(times))
            with np.errstate(over="ignore", invalid="ignore"):
                kind, objectives = "path", path.objectives_at(times)
        else:
            networks = list(path)
            if not networks:
                raise ValueError(f"The path {name!r} holds no network; at least one is needed.")
            for network in networks:
                self.require_shape(network, name)
            W, a = np.array([net.W for net in networks]), np.array([net.a for net in networks])
            bias = np.array([net.output_bias for net in networks])
            with np.errstate(over="ignore", invalid="ignore"):
                kind, objectives = "descent", np.array([network.objective(self.problem) for network in networks])
        require_moderate(f"The path {name!r}", np.concatenate([W.ravel(), a.ravel(), bias]), objectives)
        seen = []
        for order in orders or (np.arange(W.shape[1]),):
            ordered = W[:, order].reshape(len(W), -1), a[:, order].reshape(len(W), -1), bias[:, None]
            seen.append(self.coordinates(np.concatenate(ordered, axis=1)))
        positions, residuals = min(seen, key=lambda pair: float(np.max(pair[1])))
        return PlanePath(name, kind, positions, residuals, objectives)

    def require_shape(self, network: ReLUNetwork, name: str) -> None:
        """Refuse a network of another shape than that of the origin."""
        require_same_shape(self.origin, network, name)

    def _split(self, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        size = self.origin.W.size
        W = theta[:, :size].reshape(len(theta), *self.origin.W.shape)
        return W, theta[:, size:-1].reshape(len(theta), *self.origin.a.shape), theta[:, -1]


def require_moderate(name: str, weights: FloatArray, objectives: FloatArray) -> None:
    """Refuse weights, or coordinates of some in a plane, and objectives that are so large that squares overflow."""
    largest, highest = float(np.max(np.abs(weights), initial=0.0)), float(np.max(objectives))
    # NaN passes neither comparison.
    if not (largest <= LARGEST_ENTRY and highest <= LARGEST_ENTRY**2):
        raise ValueError(
            f"{name} has weights up to {largest:.1e} and objectives up to {highest:.1e}; "
            f"a plane takes weights up to {LARGEST_ENTRY:.0e} and objectives up to {LARGEST_ENTRY**2:.0e}."
        )


def flat_weights(network: ReLUNetwork) -> FloatArray:
    """All weights of a network in one vector: W row by row, a, output bias."""
    return np.concatenate([network.W.ravel(), network.a.ravel(), [network.output_bias]])


def matching_order(first: ReLUNetwork, other: ReLUNetwork) -> npt.NDArray[np.int64]:
    """Order of the neurons of ``other`` whose weights are closest to those of ``first`` (Euclidean)."""
    one, two = (np.column_stack([net.W, net.a]) for net in (first, other))
    return linear_sum_assignment(cdist(one, two, "sqeuclidean"))[1]


def require_same_shape(first: ReLUNetwork, other: ReLUNetwork, name: str) -> None:
    """Refuse networks whose weights cannot be subtracted from each other."""
    if not isinstance(other, ReLUNetwork):
        raise ValueError(f"{name} must be a ReLUNetwork; got {type(other).__name__}.")
    if first.W.shape != other.W.shape or first.a.shape != other.a.shape:
        raise ValueError(
            f"{name} has width {other.width}, {other.n_features} features and {other.n_outputs} output(s); a plane "
            f"needs networks of one shape, here {first.width}, {first.n_features} and {first.n_outputs} "
            "(add zero neurons to the narrower ones)."
        )
