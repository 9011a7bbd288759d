"""Networks of PyTorch: modules, state dicts and checkpoints, and the way back."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cvxnn.interop.network_layers import Layer, branches, chain, gated_graph, polynomial_graph
from cvxnn.interop.two_layer import (
    RELU,
    Affine,
    MissingExtraError,
    NetworkFormatError,
    TwoLayerWeights,
    affine,
    assemble,
    weights_of_tensors,
)
from cvxnn.networks import ReLUNetwork
from cvxnn.programs.dispatch import Network
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.polynomial import PolynomialNetwork

__all__ = ["from_torch", "read_torch", "read_torch_file", "to_torch"]

_CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model")
_PASSING = ("Flatten", "Identity", "Dropout")
_PASSING_CALLS = ("flatten", "squeeze", "view", "reshape", "contiguous", "dropout")
_SHAPE_CALLS = ("size", "getattr", "getitem")
_CHAIN = "only a chain Linear, ReLU, Linear is accepted"
_PROBES = 16


def from_torch(module_or_state_dict: Any) -> ReLUNetwork:
    r"""Network of a PyTorch module ``Linear, ReLU, Linear`` or of a ``state_dict``, any names, dtype and device.

    A module is traced symbolically, so nested ``Sequential`` and own classes with ``torch.relu`` in ``forward`` work;
    ``Flatten``, ``Identity`` and ``Dropout`` (as in evaluation) are passed over. What was read is compared with the
    module itself on a few inputs. A ``state_dict`` holds no layers, only arrays: that the activation is ReLU is then
    the caller's word.

    Parameters
    ----------
    module_or_state_dict : torch.nn.Module, mapping of str to tensor, or a fitted skorch estimator
        One hidden layer.

    Returns
    -------
    ReLUNetwork
        A hidden bias is its last input weight: the data have a column of ones at the end. An output bias is its
        ``output_bias``; biases of several outputs are one more neuron on the column of ones. Weights become float64
        without rounding.

    Raises
    ------
    NetworkFormatError
        If there is another layer, another number of layers, or several outputs have biases and the hidden layer has
        none; the sentence names it.
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    >>> from_torch(module).W.shape
    (8, 4)
    """
    return read_torch(module_or_state_dict).network


def read_torch(module_or_state_dict: Any) -> TwoLayerWeights:
    """Weights with the biases kept apart (see :func:`from_torch`)."""
    torch = _torch("a PyTorch network")
    given = module_or_state_dict
    if isinstance(given, Mapping):
        return weights_of_tensors(_arrays(torch, given), "the state_dict")
    given = getattr(given, "module_", given)
    while isinstance(given, torch.nn.Module):
        # torch.compile and DataParallel wrap the module that holds the weights.
        inner = getattr(given, "_orig_mod", None)
        if inner is None and type(given).__name__ in ("DataParallel", "DistributedDataParallel"):
            inner = given.module
        if inner is None:
            break
        given = inner
    if not isinstance(given, torch.nn.Module):
        raise NetworkFormatError(f"a torch.nn.Module or a state_dict is accepted; got {type(given).__name__}.")
    weights = assemble(_steps(torch, given), f"the module {type(given).__name__}")
    _compare(torch, given, weights)
    return weights


def read_torch_file(path: str | Path) -> TwoLayerWeights:
    """Weights of a checkpoint (.pt, .pth): tensors only, read with ``weights_only=True``, so that no code runs."""
    torch = _torch(str(path))
    if not Path(path).is_file():
        raise NetworkFormatError(f"{path} {'is not a file' if Path(path).exists() else 'does not exist'}.")
    try:
        with warnings.catch_warnings():
            # A TorchScript archive draws a warning before it is refused.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(str(path), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may raise anything, from EOFError to RuntimeError
        raise NetworkFormatError(
            f"{path} is damaged or holds more than tensors, which could run code when loaded; "
            "save module.state_dict() instead."
        ) from error
    for key in _CHECKPOINT_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise NetworkFormatError(f"{path} must hold a state_dict; found {type(content).__name__}.")
    return weights_of_tensors(_arrays(torch, content), str(path))


def to_torch(network: Network, *, bias: bool = False, dtype: Any = None) -> Any:
    r"""PyTorch module that computes the same function: ``Sequential(Linear, ReLU, Linear)`` for a ReLU network.

    Parameters
    ----------
    network : ReLUNetwork or a relative
        Batch norm with the stored statistics is folded into the first layer; a parallel network becomes
        ``Linear, ReLU, Linear, ReLU, ...`` with zeros between neurons that are not joined. Gated networks and
        polynomial activations become a ``torch.fx.GraphModule`` of linear layers; a sample that lies on the boundary
        of a gate, to rounding, may fall on its other side.
    bias : bool, default False
        Turn the last input weight into the hidden bias: the module then takes the data without the column of ones.
    dtype : torch.dtype, optional
        PyTorch's default (float32) unless given; ``torch.float64`` keeps every digit.

    Returns
    -------
    torch.nn.Module
        Outputs have shape ``(n, c)``. The output layer of a ReLU network has a bias if ``bias`` is true or the
        network's output bias is not zero.

    Raises
    ------
    ValueError
        If ``bias`` is asked for and the network has one input only, or has batch norm.
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> import torch
    >>> net = ReLUNetwork([[1.0, 0.5]], [2.0])
    >>> module = to_torch(net, bias=True, dtype=torch.float64)
    >>> module(torch.tensor([[3.0]], dtype=torch.float64)).item(), float(net([[3.0, 1.0]])[0])
    (7.0, 7.0)
    """
    torch = _torch("to_torch")
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if isinstance(network, GatedReLUNetwork | PolynomialNetwork):
        modules = {name: _linear(torch, layer, dtype) for name, layer in branches(network, bias=bias).items()}
        return gated_graph(modules) if "gates" in modules else polynomial_graph(network, modules)
    first, *others = [_linear(torch, layer, dtype) for layer in chain(network, bias=bias)]
    return torch.nn.Sequential(first, *(part for layer in others for part in (torch.nn.ReLU(), layer)))


def _linear(torch: Any, layer: Layer, dtype: Any) -> Any:
    weight, bias = layer
    # No random start: it would draw from the global generator.
    linear = torch.nn.utils.skip_init(
        torch.nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None, dtype=dtype
    )
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        if bias is not None:
            linear.bias.copy_(torch.from_numpy(bias))
    return linear


def _torch(what: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError.of(what, "torch") from error
    return torch


def _arrays(torch: Any, tensors: Mapping[Any, Any]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise NetworkFormatError(f"the state_dict must hold tensors; {name!r} is {type(value).__name__}.")
        arrays[str(name)] = _array(torch, value)
    return arrays


def _array(torch: Any, tensor: Any) -> Any:
    if tensor.is_complex() or tensor.layout != torch.strided:
        raise NetworkFormatError("the weights must be dense tensors of real numbers.")
    return tensor.detach().to(device="cpu", dtype=torch.float64).numpy()


def _steps(torch: Any, module: Any) -> list[Affine | str]:
    """Layers in the order in which an input passes them."""
    # A Linear alone is a leaf of the tracer only inside another module.
    root = module if isinstance(module, torch.nn.Sequential) else torch.nn.Sequential(module)
    return _walk(torch, root, type(module).__name__)


def _walk(torch: Any, root: Any, name: str) -> list[Affine | str]:
    from torch import fx

    try:
        graph = fx.symbolic_trace(root).graph
    except Exception as error:  # forward() is the user's code and may raise anything
        raise NetworkFormatError(
            f"the module {name} cannot be traced to its layers; pass torch.nn.Sequential(Linear, ReLU, Linear) "
            "or its state_dict()."
        ) from error
    steps: list[Affine | str] = []
    current: Any = None
    shapes: set[Any] = set()
    for node in graph.nodes:
        if node.op == "output":
            if node.args[0] is not current:
                raise NetworkFormatError(f"the module {name} must return the output of its last layer alone.")
            break
        if current is None:
            current = node
            continue
        if node.op in ("placeholder", "get_attr"):
            raise NetworkFormatError(f"the module {name} uses {node.target!r} beside its layers; {_CHAIN}.")
        if node.op != "call_module" and _called(node) in _SHAPE_CALLS:
            shapes.add(node)
            continue
        if set(node.all_input_nodes) - shapes != {current}:
            raise NetworkFormatError(f"the module {name} has another input at {node.name!r}; {_CHAIN}.")
        step = _module_step(torch, root.get_submodule(node.target)) if node.op == "call_module" else _call_step(node)
        if step is not None:
            steps.append(step)
        current = node
    return steps


def _module_step(torch: Any, layer: Any) -> Affine | str | None:
    kind = type(layer).__name__
    if type(layer) is torch.nn.Linear:
        if layer._forward_pre_hooks:
            raise NetworkFormatError(
                "a Linear layer has hooks before it, such as a pruning mask; remove them first (prune.remove)."
            )
        return affine(_array(torch, layer.weight), None if layer.bias is None else _array(torch, layer.bias))
    if type(layer) is torch.nn.ReLU:
        return RELU
    return None if kind in _PASSING and type(layer).__module__.startswith("torch.nn") else kind


def _called(node: Any) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _call_step(node: Any) -> str | None:
    called = _called(node)
    if called in ("relu", "relu_"):
        return RELU
    return None if called in _PASSING_CALLS else called


def _compare(torch: Any, module: Any, weights: TwoLayerWeights) -> None:
    """Refuse a module whose own outputs are not those of the weights that were read."""
    inputs = np.random.default_rng(0).standard_normal((_PROBES, weights.n_inputs))
    try:
        # A copy, for evaluation mode and float64 are not the caller's.
        twin = copy.deepcopy(module).to(device="cpu", dtype=torch.float64).eval()
        with torch.no_grad():
            outputs = twin(torch.from_numpy(inputs)).numpy().reshape(-1, weights.n_outputs)
    except Exception as error:  # forward() is the user's code and may raise anything
        raise NetworkFormatError(
            f"the module {type(module).__name__} does not take inputs of shape (n, {weights.n_inputs}) in float64."
        ) from error
    data = inputs if weights.hidden_bias is None else np.column_stack([inputs, np.ones(_PROBES)])
    expected = weights.network(data).reshape(-1, weights.n_outputs)
    size = np.max(np.abs(expected), initial=1e-300)
    if outputs.shape != expected.shape or not np.allclose(outputs, expected, rtol=1e-9, atol=1e-9 * size):
        raise NetworkFormatError(
            f"the module {type(module).__name__} computes something else than its layers Linear, ReLU, Linear "
            "(hooks, or a change in forward)."
        )
