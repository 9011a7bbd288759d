"""What a network is the sum of: neurons, or sub-networks, with their sizes and inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import gate_masks
from cvxnn.networks import ReLUNetwork, row_norms, safe_ratio
from cvxnn.parallel_networks import ParallelReLUNetwork, block_norms
from cvxnn.programs.batch_norm import BatchNormReLUNetwork
from cvxnn.programs.dispatch import Network
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.polynomial import PolynomialNetwork

FloatArray = npt.NDArray[np.float64]

__all__ = ["Neuron", "neurons_of", "strongest"]

_ENTRIES = 20_000_000
"""Numbers that are held at once where rows pass through all neurons."""


@dataclass(frozen=True, eq=False)
class Neuron:
    """One neuron, or one sub-network of a parallel network.

    Attributes
    ----------
    w : ndarray (d,)
        Input weights, with that of the column of ones or of batch norm last. Of a sub-network: for each input the root
        of the sum of squares over all paths.
    a : ndarray (c,)
        Output weights.
    mass : float
        What it contributes to the price of the weights of a balanced network, without beta.
    active : float or None
        Share of the rows on which it is on; None where it is never off.
    """

    w: FloatArray
    a: FloatArray
    mass: float
    active: float | None


def neurons_of(network: Network, X: FloatArray) -> tuple[Neuron, ...]:
    """Neurons or sub-networks by falling mass, with the share of the rows of X on which they are on."""
    if network.width == 0:
        return ()
    if isinstance(network, ParallelReLUNetwork):
        return _sub_networks(network, X)
    if isinstance(network, PolynomialNetwork):
        return _sorted(network.W, network.alpha, np.abs(network.alpha), None)
    if isinstance(network, GatedReLUNetwork):
        gates = network.gates
        active = _share_on(lambda rows: gate_masks(rows, gates).T, 1, X, units=network.width)
        return _sorted(network.W, network.a, row_norms(network.W) * np.abs(network.a), active)
    if isinstance(network, BatchNormReLUNetwork):
        folded = network.folded()
        mass = np.hypot(network.gamma, network.alpha) * np.abs(network.a)
        return _sorted(folded.W, folded.a, mass, _relu_share(folded, np.column_stack([X, np.ones(len(X))])))
    rows = network.a[:, None] if network.a.ndim == 1 else network.a
    return _sorted(network.W, network.a, row_norms(network.W) * row_norms(rows), _relu_share(network, X))


def _sub_networks(network: ParallelReLUNetwork, X: FloatArray) -> tuple[Neuron, ...]:
    vectors = network.vectors()[0]
    size = int(np.prod(network.W.shape[1:]))
    paths = vectors.reshape(network.width, size // network.n_features, network.n_features)
    # The output weight is part of the paths, and apart from them in the table.
    lengths = row_norms(paths.transpose(0, 2, 1).reshape(-1, paths.shape[1])).reshape(-1, network.n_features)
    w = safe_ratio(lengths, np.abs(network.a)[:, None] + 0.0 * lengths)
    active = _share_on(_roots(network), size, X, units=network.width)
    return _sorted(w, network.a, block_norms(vectors, network.norm), active)


def strongest(neuron: Neuron, count: int, inputs: int) -> list[int]:
    """Positions of the inputs with the largest weights, at most ``count``, without those of no weight."""
    order = np.argsort(-np.abs(neuron.w[:inputs]), kind="stable")[:count]
    return [int(position) for position in order if neuron.w[position] != 0.0]


def _sorted(W: FloatArray, a: FloatArray, masses: FloatArray, active: FloatArray | None) -> tuple[Neuron, ...]:
    rows = a[:, None] if a.ndim == 1 else a
    order = np.argsort(-masses, kind="stable")
    return tuple(Neuron(W[k], rows[k], float(masses[k]), None if active is None else float(active[k])) for k in order)


def _relu_share(network: ReLUNetwork, X: FloatArray) -> FloatArray:
    return _share_on(lambda rows: rows @ network.W.T > 0.0, 1, X, units=network.width)


def _roots(network: ParallelReLUNetwork) -> Callable[[FloatArray], npt.NDArray[np.bool_]]:
    """Whether the neuron at the root of each sub-network is on."""

    def on(rows: FloatArray) -> npt.NDArray[np.bool_]:
        hidden = np.maximum(np.tensordot(rows, network.W, axes=(1, network.W.ndim - 1)), 0.0)
        for layer in network.b:
            hidden = np.maximum(np.sum(hidden * layer, axis=-1), 0.0)
        return hidden > 0.0

    return on


def _share_on(on: Callable[[FloatArray], npt.NDArray[np.bool_]], size: int, X: FloatArray, *, units: int) -> FloatArray:
    """Share of the rows for which each of the units, which take ``size`` numbers a row each, is on."""
    count, step = np.zeros(units), max(1, _ENTRIES // max(1, size * units))
    for start in range(0, len(X), step):
        count += np.count_nonzero(on(X[start : start + step]), axis=0)
    return count / len(X)
