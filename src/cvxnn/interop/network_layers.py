"""Networks as chains of layers, and modules and graphs of those that are none."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn.networks import ReLUNetwork
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.programs.batch_norm import BatchNormReLUNetwork
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.polynomial import PolynomialNetwork

FloatArray = npt.NDArray[np.float64]
Layer = tuple[FloatArray, FloatArray | None]
"""Weight (out, in) and bias (out,), each a new array."""

__all__ = ["Layer", "branches", "chain", "gated_graph", "polynomial_graph"]


def chain(network: ReLUNetwork | BatchNormReLUNetwork | ParallelReLUNetwork, *, bias: bool) -> list[Layer]:
    """Linear layers of a network, with ReLU between them; at least one neuron, if only a zero.

    Parameters
    ----------
    network : ReLUNetwork, BatchNormReLUNetwork or ParallelReLUNetwork
        Batch norm is folded into the first layer. Every neuron of a sub-network is one of its layer.
    bias : bool
        Turn the last input weight into the bias of the first layer.

    Raises
    ------
    ValueError
        If ``bias`` is asked for and there is no such weight.
    """
    if isinstance(network, BatchNormReLUNetwork):
        if bias:
            raise ValueError("bias=True is for networks with a column of ones; batch norm has its own shift.")
        return chain(network.folded(), bias=True)
    if isinstance(network, ParallelReLUNetwork):
        return _tree_layers(network, bias=bias)
    W, a = network.W.copy(), network.a.reshape(network.width, network.n_outputs).T.copy()
    if network.width == 0:
        # Frameworks warn of empty matrices or refuse them.
        W, a = np.zeros((1, network.n_features)), np.zeros((network.n_outputs, 1))
    needs_offset = bias or network.output_bias != 0.0
    return [_first(W, bias=bias), (a, np.full(network.n_outputs, network.output_bias) if needs_offset else None)]


def _first(W: FloatArray, *, bias: bool) -> Layer:
    if not bias:
        return W, None
    if W.shape[1] < 2:
        raise ValueError("bias=True needs a network with at least two inputs, the last for the bias; this one has 1.")
    return np.ascontiguousarray(W[:, :-1]), W[:, -1].copy()


def _tree_layers(network: ParallelReLUNetwork, *, bias: bool) -> list[Layer]:
    """Layers of all sub-networks side by side; a neuron is joined to those below it only."""
    if network.width == 0:
        return [_first(np.zeros((1, network.n_features)), bias=bias), (np.zeros((1, 1)), None)]
    layers = [_first(network.W.reshape(-1, network.n_features).copy(), bias=bias)]
    for level in network.b:
        rows = level.reshape(-1, level.shape[-1])
        count, below = rows.shape
        joined = np.zeros((count, count, below))
        joined[np.arange(count), np.arange(count)] = rows
        layers.append((joined.reshape(count, count * below), None))
    layers.append((network.a[None].copy(), None))
    return layers


def branches(network: GatedReLUNetwork | PolynomialNetwork, *, bias: bool) -> dict[str, Layer]:
    """Linear layers ``first`` and ``second`` of a network, and ``gates``; at least one neuron, if only a zero."""
    d = network.n_features
    empty = network.width == 0
    W = np.zeros((1, d)) if empty else network.W.copy()
    weights = network.a if isinstance(network, GatedReLUNetwork) else network.alpha
    layers = {"first": _first(W, bias=bias), "second": (np.zeros((1, 1)) if empty else weights[None].copy(), None)}
    if isinstance(network, GatedReLUNetwork):
        layers["gates"] = _first(np.zeros((1, d)) if empty else network.gates.copy(), bias=bias)
    return layers


def polynomial_graph(network: Any, modules: dict[str, Any]) -> Any:
    """PyTorch module of a network with a polynomial activation, from its linear layers."""
    from torch import fx

    a, b, c = network.coefficients
    graph = fx.Graph()
    values = graph.call_module("first", (graph.placeholder("x"),))
    inner = graph.call_function(operator.add, (graph.call_function(operator.mul, (values, a)), b))
    hidden = graph.call_function(operator.add, (graph.call_function(operator.mul, (inner, values)), c))
    graph.output(graph.call_module("second", (hidden,)))
    return fx.GraphModule(modules, graph, "PolynomialNetwork")


def gated_graph(modules: dict[str, Any]) -> Any:
    """PyTorch module of a gated network, from its linear layers."""
    import torch
    from torch import fx

    graph = fx.Graph()
    x = graph.placeholder("x")
    opened = graph.call_function(operator.ge, (graph.call_module("gates", (x,)), 0.0))
    hidden = graph.call_function(torch.where, (opened, graph.call_module("first", (x,)), 0.0))
    graph.output(graph.call_module("second", (hidden,)))
    return fx.GraphModule(modules, graph, "GatedReLUNetwork")
