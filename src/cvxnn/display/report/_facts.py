"""What a report tells: figures of a model on a table, computed once, apart from how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import GatedReLU
from cvxnn.certificates.certificate import Scope, relative_gap
from cvxnn.display.report._kinds import Kind, kind_of
from cvxnn.display.report._units import Neuron, neurons_of
from cvxnn.interop.foreign_model import ForeignModel
from cvxnn.interop.model import Model
from cvxnn.landscape import NetworkCertificate, RelativeCertificate
from cvxnn.networks import ReLUNetwork
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.problem import Problem
from cvxnn.programs.batch_norm import BatchNormReLUNetwork
from cvxnn.programs.dispatch import Network
from cvxnn.solution import Status

FloatArray = npt.NDArray[np.float64]
Proof = NetworkCertificate | RelativeCertificate

__all__ = ["Bound", "Facts", "Part"]

_SHARE_OF_TOL, _ROUNDING = 0.01, 1e-13
"""A network is beaten by another one whose objective is lower by this part of the tolerance, or by this share."""

_LARGEST = 1e150
"""Largest output whose square a report sums up; the objective may be as large as its square."""


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
    def of(cls, label: str, model: Model | ForeignModel, X: FloatArray, encoded: FloatArray) -> Part:
        """Rows with the outputs of the model.

        Raises
        ------
        ValueError
            If an output is too large for its square to be drawn, in the units of the target, too.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = model.network(X)
            size = float(np.max(np.abs(outputs))) * max(1.0, *(part.scale for part in model.target.parts))
        if not size <= _LARGEST:
            raise ValueError(
                f"the network has outputs beyond {_LARGEST:.0e} on the {label}; a report takes smaller ones."
            )
        return cls(label, X, encoded, outputs)


@dataclass(frozen=True)
class Bound:
    """What is known about how low the objective can get.

    Attributes
    ----------
    lower_bound : float
    gap : float
        Relative gap of the network to it.
    scope : {"global", "patterns"}
    whole : bool
        Whether it holds for every network of the kind; of gated networks these are all with the same gates.
    source : {"proved", "stored"}
        Whether it was proved for this report, or is what the file says.
    """

    lower_bound: float
    gap: float
    scope: Scope
    whole: bool
    source: Literal["proved", "stored"]


@dataclass(frozen=True, eq=False)
class Facts:
    """Figures of a model on a table.

    Attributes
    ----------
    model : Model or ForeignModel
    parts : tuple of Part
        The rows that the objective and the bounds are about first; then, if there are any, the held-out ones.
    trained_on : bool
        Whether the first part are the rows of the training.
    beta : float
        Weight decay in the units of the summed loss over the rows of the first part.
    proofs : tuple of NetworkCertificate or RelativeCertificate
        One for each problem of the model; empty where no proof was asked for.
    kind : Kind
        Words on the architecture.
    objective, misfit, decay : float
        The objective is the misfit plus the price of the weights. Of a network of another program they are in the units
        of its training.
    neurons : tuple of Neuron
        By falling mass; of a parallel network its sub-networks.

    Raises
    ------
    ValueError
        If the weights are so large that the objective overflows, or nearly does.
    """

    model: Model | ForeignModel
    parts: tuple[Part, ...]
    trained_on: bool
    beta: float
    proofs: tuple[Proof, ...] = ()
    kind: Kind = field(init=False)
    objective: float = field(init=False)
    misfit: float = field(init=False)
    decay: float = field(init=False)
    neurons: tuple[Neuron, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Compute the figures."""
        pairs = list(zip(self._problems(), self.model.networks(), strict=True))
        # As in the objective of the network, so that all commands print the same digits.
        with np.errstate(over="ignore", invalid="ignore"):
            objective = sum(self._value(problem, network) for problem, network in pairs)
        if not objective <= _LARGEST**2:
            raise ValueError(f"the network has an objective beyond {_LARGEST**2:.0e}; a report takes smaller ones.")
        misfit = sum(self._loss(problem, _fit(network, problem.X)) for problem, network in pairs)
        figures = {"objective": float(objective), "misfit": float(misfit), "decay": max(float(objective - misfit), 0.0)}
        for key, value in figures.items():
            object.__setattr__(self, key, value)
        object.__setattr__(self, "kind", kind_of(self.model.architecture))
        object.__setattr__(self, "neurons", neurons_of(self.model.network, self.parts[0].X))

    def _problems(self) -> list[Problem]:
        return self.model.problems(self.parts[0].X, self.parts[0].encoded, beta=self.beta)

    def _value(self, problem: Problem, network: Any) -> float:
        if isinstance(self.model, Model):
            return network.objective(problem)
        # The sum over the data as given, with which the command certify agrees to the last digit.
        judged = self.model.judged
        return judged.objective if network is judged.network else judged.training_objective(network)

    def _loss(self, problem: Problem, fit: FloatArray) -> float:
        factor = 1.0 if isinstance(self.model, Model) else self.model.judged.training.loss_factor
        return factor * problem.loss_value(fit)

    @property
    def fits_file(self) -> bool:
        """Whether the weights give the objective that the file claims; False on other rows than in training."""
        if isinstance(self.model, ForeignModel):
            return False
        claimed = self.model.certificate.objective
        return self.trained_on and bool(np.isclose(self.objective, claimed, rtol=1e-9, atol=0.0))

    @property
    def was_cut_short(self) -> bool:
        """Whether the file says that the training was stopped before its search had ended."""
        stopped = (Status.MAX_ITER.value, Status.TIME_LIMIT.value, Status.INTERRUPTED.value)
        return isinstance(self.model, Model) and self.model.certificate.status in stopped

    @property
    def bound(self) -> Bound | None:
        """The bound that was proved for the report, else the one in the file if it is about this very network."""
        if self.proofs:
            lower = sum(proof.lower_bound for proof in self.proofs)
            if isinstance(self.model, ForeignModel):
                lower = self.model.judged.training_bound(lower)
            return self._bound(lower, self.proofs[0].scope, "proved")
        if not isinstance(self.model, Model) or not self.fits_file:
            return None
        return self._bound(self.model.certificate.lower_bound, self.model.certificate.scope, "stored")

    @property
    def global_bound(self) -> Bound | None:
        """The bound that holds for every network of the kind, of every width; None where nothing is known."""
        bound = self.bound
        if bound is None or bound.whole or not isinstance(self.model, Model):
            return bound
        return self._bound(self.model.certificate.global_lower_bound, "global", "stored")

    def _bound(self, lower: float, scope: Any, source: Literal["proved", "stored"]) -> Bound:
        whole = scope == "global" or isinstance(self.model.architecture, GatedReLU)
        return Bound(lower, relative_gap(self.objective, lower), scope, whole, source)

    @property
    def better(self) -> tuple[Network, ...] | None:
        """Better networks of the problems, where the proofs met one that is better in the units of the objective."""
        networks = tuple(self._best_of(proof) for proof in self.proofs)
        unchanged = all(best is proof.network for best, proof in zip(networks, self.proofs, strict=True))
        return None if unchanged else networks

    def _best_of(self, proof: Proof) -> Any:
        own = self._value(proof.problem, proof.network)
        if proof.better is not None and self._value(proof.problem, proof.better) < own:
            return proof.better
        if isinstance(self.model, ForeignModel) and isinstance(proof, NetworkCertificate):
            # Its objective is not quite that of the problem: what is better there need not be, and the other way round.
            added = _added(proof)
            if added is not None and self._value(proof.problem, added[1]) < own:
                return added[1]
        return proof.network

    @property
    def best_objective(self) -> float:
        """Lowest objective that was met."""
        if self.better is None:
            return self.objective
        return float(sum(self._value(proof.problem, self._best_of(proof)) for proof in self.proofs))

    @property
    def is_beaten(self) -> bool:
        """Whether a network was found whose objective is clearly lower."""
        if isinstance(self.model, Model):
            return any(proof.is_global is False for proof in self.proofs)
        return self.best_objective < self.objective * (1.0 - max(_SHARE_OF_TOL * self.model.tol, _ROUNDING))

    def escape(self) -> tuple[int, Neuron, float] | None:
        """Problem, neuron or sub-network to add, and the objective after that; None where none is known to lower it."""
        for position, proof in enumerate(self.proofs):
            added = None if isinstance(proof, RelativeCertificate) else _added(proof)
            if added is None:
                continue
            single, more = added
            objective = self.objective - self._value(proof.problem, proof.network) + self._value(proof.problem, more)
            if objective < self.objective:
                if isinstance(self.model, ForeignModel) and isinstance(single, ReLUNetwork):
                    single = self.model.judged.with_ones(single)
                return position, neurons_of(single, self.parts[0].X)[0], objective
        return None

    def way_down(self, count: int = 40) -> tuple[FloatArray, FloatArray]:
        """Objective from the zero network (0) over this one (1) to the better one (2) where one is clearly better.

        On the way the masses of one network fall and those of the next grow, in proportion: the networks stand side by
        side, the outputs are mixed and so is the price of the weights, so that the objective is convex on each piece.
        The bias of the output is mixed, too.
        """
        stations: list[Sequence[Network]] = [self.model.networks()]
        if self.is_beaten and self.better is not None:
            stations.append(self.better)
        shares = np.linspace(0.0, 1.0, count + 1)
        total = np.zeros(len(stations) * count + 1)
        for position, problem in enumerate(self._problems()):
            fits, prices, biases = [np.zeros_like(problem.y)], [0.0], [0.0]
            for networks in stations:
                network = networks[position]
                fits.append(_fit(network, problem.X))
                biases.append(network.output_bias if isinstance(network, ReLUNetwork) else 0.0)
                loss = self._loss(problem, fits[-1])
                prices.append(self._value(problem, network) - loss - self._bias_price(biases[-1]))
            for piece in range(len(stations)):

                def mixed(pair: Sequence[Any], share: float, start: int = piece) -> Any:
                    return (1.0 - share) * pair[start] + share * pair[start + 1]

                values = [
                    self._loss(problem, mixed(fits, share))
                    + mixed(prices, share)
                    + self._bias_price(mixed(biases, share))
                    for share in shares[int(piece > 0) :]
                ]
                total[piece * count + int(piece > 0) : (piece + 1) * count + 1] += values
        return np.linspace(0.0, len(stations), len(total)), total

    def _bias_price(self, bias: float) -> float:
        """Price of the bias of the output, which networks of other programs may have."""
        if isinstance(self.model, Model):
            return 0.0
        return 0.5 * self.model.judged.training.output_bias_decay * bias**2

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


def _fit(network: Any, X: FloatArray) -> FloatArray:
    """Outputs as in training: batch norm takes the statistics of these rows."""
    return network.on_batch(X)(X) if isinstance(network, BatchNormReLUNetwork) else network(X)


def _added(proof: NetworkCertificate) -> tuple[ReLUNetwork | ParallelReLUNetwork, Any] | None:
    """Neuron or sub-network to add as a network of its own, and the network with it."""
    escape, network = proof.escape, proof.network
    if escape is None:
        return None
    if isinstance(escape, ParallelReLUNetwork):
        return escape, network.with_vectors(*escape.vectors())
    w, a = escape
    rows = np.concatenate([network.a, np.asarray(a, dtype=np.float64)[None]])
    more = ReLUNetwork(np.vstack([network.W, w]), rows, output_bias=network.output_bias)
    return ReLUNetwork(w[None], rows[-1:]), more
