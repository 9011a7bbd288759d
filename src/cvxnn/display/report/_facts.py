"""What a report tells: figures of a model on a table, computed once, apart from how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import Scope, relative_gap
from cvxnn.interop.model import Model
from cvxnn.landscape import NetworkCertificate
from cvxnn.networks import ReLUNetwork, row_norms

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

__all__ = ["Bound", "Facts", "Neuron", "Part", "strongest"]

_CHUNK = 20_000
"""Rows that pass through all neurons at a time, lest n x m numbers be held at once."""


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of the table that are judged together, such as those of the training.

    Attributes
    ----------
    label : str
        Such as "training rows".
    X : ndarray (n, d)
    encoded : ndarray (n,) or (n, t)
        Targets as the model encodes them.
    outputs : ndarray (n,) or (n, c)
        Outputs of the network.
    """

    label: str
    X: FloatArray
    encoded: FloatArray
    outputs: FloatArray

    @classmethod
    def of(cls, label: str, model: Model, X: FloatArray, encoded: FloatArray) -> Part:
        """Rows with the outputs of the model."""
        return cls(label, X, encoded, model.network(X))


@dataclass(frozen=True)
class Bound:
    """What is known about how low the objective can get.

    Attributes
    ----------
    lower_bound : float
    gap : float
        Relative gap of the network to it.
    scope : {"global", "patterns"}
    source : {"proved", "stored"}
        Whether it was proved for this report, or is what the file says.
    """

    lower_bound: float
    gap: float
    scope: Scope
    source: Literal["proved", "stored"]


@dataclass(frozen=True, eq=False)
class Neuron:
    """One neuron: ``w (d,)`` and ``a (c,)``, its mass ``||w|| ||a||``, and the share of the rows on which it is on."""

    w: FloatArray
    a: FloatArray
    mass: float
    active: float


@dataclass(frozen=True, eq=False)
class Facts:
    """Figures of a model on a table.

    Attributes
    ----------
    model : Model
    parts : tuple of Part
        The rows that the objective and the bounds are about first; then, if there are any, the held-out ones.
    trained_on : bool
        Whether the first part are the rows of the training.
    beta : float
        Weight decay in the units of the summed loss over the rows of the first part.
    proofs : tuple of NetworkCertificate
        One for each problem of the model; empty where no proof was asked for.
    objective, misfit, decay : float
        The objective is the misfit plus the price of the weights.
    neurons : tuple of Neuron
        By falling mass.

    Raises
    ------
    ValueError
        If the model is of another architecture than the ReLU network.
    """

    model: Model
    parts: tuple[Part, ...]
    trained_on: bool
    beta: float
    proofs: tuple[NetworkCertificate, ...] = ()
    objective: float = field(init=False)
    misfit: float = field(init=False)
    decay: float = field(init=False)
    neurons: tuple[Neuron, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Compute the figures."""
        problems = self.model.problems(self.parts[0].X, self.parts[0].encoded, beta=self.beta)
        networks = _relu_networks(self.model)
        # As in the objective of networks.py, so that all commands print the same digits.
        objective = sum(network.objective(problem) for network, problem in zip(networks, problems, strict=True))
        decay = sum(0.5 * self.beta * float(np.sum(net.W**2) + np.sum(net.a**2)) for net in networks)
        for key, value in (("objective", objective), ("decay", decay), ("misfit", objective - decay)):
            object.__setattr__(self, key, float(value))
        object.__setattr__(self, "neurons", _neurons(_relu(self.model.network), self.parts[0].X))

    @property
    def fits_file(self) -> bool:
        """Whether the weights give the objective that the file claims; False on other rows than in training."""
        claimed = self.model.certificate.objective
        return self.trained_on and bool(np.isclose(self.objective, claimed, rtol=1e-9, atol=0.0))

    @property
    def bound(self) -> Bound | None:
        """The bound that was proved for the report, else the one in the file if it is about this very network."""
        if self.proofs:
            lower = sum(proof.lower_bound for proof in self.proofs)
            return Bound(lower, relative_gap(self.objective, lower), "global", "proved")
        return self._stored(self.model.certificate.lower_bound, self.model.certificate.scope)

    @property
    def global_bound(self) -> Bound | None:
        """The bound that holds for networks of every width; None where nothing is known."""
        if self.proofs:
            return self.bound
        return self._stored(self.model.certificate.global_lower_bound, "global")

    def _stored(self, lower: float, scope: Scope) -> Bound | None:
        return Bound(lower, relative_gap(self.objective, lower), scope, "stored") if self.fits_file else None

    @property
    def better(self) -> tuple[ReLUNetwork, ...] | None:
        """Better networks of the problems, where the proofs met one."""
        if all(proof.better is None for proof in self.proofs):
            return None
        return tuple(proof.better or proof.network for proof in self.proofs)

    @property
    def best_objective(self) -> float:
        """Lowest objective that was met."""
        return sum(proof.best_objective for proof in self.proofs) if self.proofs else self.objective

    def escape(self) -> tuple[int, Neuron, float] | None:
        """Problem, neuron to add and the objective after that; None where no neuron is known that lowers it."""
        for position, proof in enumerate(self.proofs):
            if proof.escape is None:
                continue
            w, a = proof.escape
            rows = np.concatenate([proof.network.a, np.asarray(a, dtype=np.float64)[None]])
            more = ReLUNetwork(np.vstack([proof.network.W, w]), rows)
            objective = self.objective - proof.objective + more.objective(proof.problem)
            if objective < self.objective:
                return position, _neurons(ReLUNetwork(w[None], rows[-1:]), self.parts[0].X)[0], objective
        return None

    def way_down(self, count: int = 40) -> tuple[FloatArray, FloatArray]:
        """Objective from the zero network (0) over this one (1) to the better one (2) where one is known.

        On the way the masses of one network fall and those of the next grow, in proportion: the networks stand side by
        side, the outputs are mixed and so is the price of the weights, so that the objective is convex on each piece.
        """
        problems = self.model.problems(self.parts[0].X, self.parts[0].encoded, beta=self.beta)
        stations: list[Sequence[ReLUNetwork]] = [_relu_networks(self.model)]
        if self.better is not None:
            stations.append(self.better)
        shares = np.linspace(0.0, 1.0, count + 1)
        total = np.zeros(len(stations) * count + 1)
        for position, problem in enumerate(problems):
            fits, prices = [np.zeros_like(problem.y)], [0.0]
            for networks in stations:
                fits.append(networks[position](problem.X))
                prices.append(networks[position].objective(problem) - problem.loss_value(fits[-1]))
            for piece in range(len(stations)):
                values = [
                    problem.loss_value((1.0 - share) * fits[piece] + share * fits[piece + 1])
                    + (1.0 - share) * prices[piece]
                    + share * prices[piece + 1]
                    for share in shares[int(piece > 0) :]
                ]
                total[piece * count + int(piece > 0) : (piece + 1) * count + 1] += values
        return np.linspace(0.0, len(stations), len(total)), total

    def input_shares(self) -> FloatArray:
        """Share of each input in the weights of the first layer, neurons counted with their output weight, ``(k,)``."""
        inputs = len(self.model.preprocessing.inputs)
        if not self.neurons:
            return np.zeros(inputs)
        weights = sum(np.abs(neuron.w[:inputs]) * np.linalg.norm(neuron.a) for neuron in self.neurons)
        total = float(np.sum(weights))
        return np.asarray(weights / total if total > 0.0 else weights, dtype=np.float64)

    def scores(self) -> list[float | None]:
        """R² or accuracy of each part."""
        return [self.model.score(part.outputs, part.encoded) for part in self.parts]


def strongest(neuron: Neuron, count: int, inputs: int) -> list[int]:
    """Positions of the inputs with the largest weights, at most ``count``, without those of no weight."""
    order = np.argsort(-np.abs(neuron.w[:inputs]), kind="stable")[:count]
    return [int(position) for position in order if neuron.w[position] != 0.0]


def _relu(network: object) -> ReLUNetwork:
    if not isinstance(network, ReLUNetwork):
        raise ValueError(f"a report is about a ReLU network; this model holds a {type(network).__name__}.")
    return network


def _relu_networks(model: Model) -> list[ReLUNetwork]:
    """Networks of the problems of the model."""
    return [_relu(network) for network in model.networks()]


def _neurons(network: ReLUNetwork, X: FloatArray) -> tuple[Neuron, ...]:
    rows = network.a[:, None] if network.a.ndim == 1 else network.a
    masses = row_norms(network.W) * row_norms(rows)
    active = np.zeros(network.width)
    for start in range(0, len(X), _CHUNK):
        active += np.count_nonzero(X[start : start + _CHUNK] @ network.W.T > 0.0, axis=0)
    order = np.argsort(-masses, kind="stable")
    return tuple(Neuron(network.W[k], rows[k], float(masses[k]), float(active[k]) / len(X)) for k in order)
