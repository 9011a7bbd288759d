"""Architectures and their networks as arrays and a JSON record, for model files."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import Architecture, BatchNormReLU, GatedReLU, ParallelReLU, Polynomial, ReLU
from cvxnn.networks import ReLUNetwork
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.programs.batch_norm import BatchNormReLUNetwork
from cvxnn.programs.dispatch import Network
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.polynomial import PolynomialNetwork

FloatArray = npt.NDArray[np.float64]

__all__ = ["array_names", "read_architecture", "read_network", "record_of", "tensors_of"]

_ARRAYS: dict[str, tuple[str, ...]] = {
    "relu": ("W", "a"),
    "gated": ("gates", "W", "a", "listed_gates"),
    "batch_norm": ("W", "gamma", "alpha", "a", "mean", "scale"),
    "polynomial": ("W", "alpha"),
    "parallel": ("W", "a"),
}

_MOST_LEVELS = 62
"""Arrays have at most 64 axes."""


def record_of(network: Network, architecture: Architecture) -> dict[str, Any]:
    """Kind of the network, with the numbers that are no arrays.

    Examples
    --------
    >>> record_of(ReLUNetwork([[1.0]], [1.0]), ReLU())
    {'kind': 'relu'}
    """
    if isinstance(network, GatedReLUNetwork):
        return {"kind": "gated"}
    if isinstance(network, BatchNormReLUNetwork):
        return {"kind": "batch_norm", "n_samples": network.n_samples}
    if isinstance(network, PolynomialNetwork):
        return {"kind": "polynomial", "coefficients": list(network.coefficients)}
    if isinstance(network, ParallelReLUNetwork) and isinstance(architecture, ParallelReLU):
        sizes = {"depth": architecture.depth, "width": architecture.width}
        return {"kind": "parallel", **sizes, "penalty": architecture.penalty}
    return {"kind": "relu"}


def tensors_of(network: Network, architecture: Architecture) -> dict[str, FloatArray]:
    """Arrays of the network under the names of a model file."""
    if isinstance(network, ParallelReLUNetwork):
        return {"W": network.W, "a": network.a, **{f"b{level}": layer for level, layer in enumerate(network.b)}}
    kind = record_of(network, architecture)["kind"]
    tensors: dict[str, FloatArray] = {name: getattr(network, name) for name in _ARRAYS[kind] if name != "listed_gates"}
    if isinstance(architecture, GatedReLU):
        tensors["listed_gates"] = architecture.gates
    return tensors


def array_names(record: dict[str, Any]) -> list[str]:
    """Names of the arrays that a record needs, sorted.

    Raises
    ------
    ValueError
        If the kind is not known.
    """
    kind = record["kind"]
    if kind not in _ARRAYS:
        raise ValueError(f"an architecture of kind {kind!r} is not known")
    levels = read_architecture(record, {}).depth - 2 if kind == "parallel" else 0
    if levels > _MOST_LEVELS:
        raise ValueError(f"a network of {levels + 2} layers is not possible")
    return sorted([*_ARRAYS[kind], *(f"b{level}" for level in range(levels))])


def read_architecture(record: dict[str, Any], tensors: dict[str, FloatArray]) -> Any:
    """Architecture of a record.

    Raises
    ------
    ValueError
        If its numbers are not possible.
    """
    kind = record["kind"]
    if kind == "gated":
        return GatedReLU(tensors["listed_gates"])
    if kind == "polynomial":
        return Polynomial(*record["coefficients"])
    if kind == "parallel":
        return ParallelReLU(record["depth"], record["width"], record["penalty"])
    return BatchNormReLU() if kind == "batch_norm" else ReLU()


def read_network(record: dict[str, Any], tensors: dict[str, FloatArray]) -> Network:
    """Network of a record and its arrays.

    Raises
    ------
    ValueError
        If the arrays do not fit each other or the architecture.
    """
    kind = record["kind"]
    architecture = read_architecture(record, tensors)
    arrays = [tensors[name] for name in _ARRAYS[kind] if name != "listed_gates"]
    if kind == "gated":
        network = GatedReLUNetwork(*arrays)
        # Refuses a gate that is not listed.
        network.vectors(architecture.gates)
        return network
    if kind == "batch_norm":
        return BatchNormReLUNetwork(*arrays, n_samples=record["n_samples"])
    if kind == "polynomial":
        return PolynomialNetwork(*arrays, coefficients=(architecture.a, architecture.b, architecture.c))
    if kind == "parallel":
        layers = tuple(tensors[f"b{level}"] for level in range(architecture.depth - 2))
        network = ParallelReLUNetwork(tensors["W"], layers, tensors["a"], architecture.penalty)
        width = architecture.width if architecture.depth > 2 else 1
        if (network.depth, network.branching) != (architecture.depth, width):
            raise ValueError(f"W has shape {network.W.shape}, which does not fit {architecture!r}")
        return network
    return ReLUNetwork(tensors["W"], tensors["a"])
