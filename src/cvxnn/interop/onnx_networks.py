"""Networks of ONNX files and models, read node by node, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn.interop.model_file import write_atomically
from cvxnn.interop.network_layers import Layer, branches, chain
from cvxnn.interop.two_layer import (
    RELU,
    Affine,
    FloatArray,
    MissingExtraError,
    NetworkFormatError,
    TwoLayerWeights,
    affine,
    assemble,
)
from cvxnn.networks import ReLUNetwork
from cvxnn.programs.dispatch import Network
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.polynomial import PolynomialNetwork

__all__ = ["from_onnx", "read_onnx", "to_onnx"]

_PASSING = ("Identity", "Flatten", "Squeeze", "Reshape", "Cast", "Dropout")
_OPSET, _IR = 13, 8


def from_onnx(path_or_model: Any) -> ReLUNetwork:
    r"""Network of an ONNX file or model: Gemm or MatMul and Add, Relu, and again Gemm or MatMul and Add.

    ``Identity``, ``Flatten``, ``Squeeze``, ``Reshape``, ``Cast`` and ``Dropout`` (as in evaluation) are passed over.
    No node is executed.

    Parameters
    ----------
    path_or_model : str, Path, bytes or onnx.ModelProto
        One hidden layer, one output; weights as constants of the graph.

    Returns
    -------
    ReLUNetwork
        A hidden bias is its last input weight: the data have a column of ones at the end. An output bias is its
        ``output_bias``.

    Raises
    ------
    NetworkFormatError
        If the file is missing or damaged, or holds another node; the sentence names it.
    ImportError
        If the package onnx is not installed.

    Examples
    --------
    >>> from_onnx(to_onnx(ReLUNetwork([[1.0, 0.5]], [2.0])))
    ReLUNetwork(width=1, n_features=2, n_outputs=1)
    """
    return read_onnx(path_or_model).network


def read_onnx(path_or_model: Any) -> TwoLayerWeights:
    """Weights with the biases kept apart (see :func:`from_onnx`)."""
    onnx = _onnx("an ONNX model")
    if isinstance(path_or_model, onnx.ModelProto):
        model, source = path_or_model, "the ONNX model"
    else:
        model, source = _loaded(onnx, path_or_model)
    weights = assemble(_steps(onnx, model, source), source)
    _check_input(model, weights, source)
    return weights


def to_onnx(
    network: Network, path: str | Path | None = None, *, bias: bool = False, dtype: npt.DTypeLike = np.float32
) -> Any:
    r"""ONNX model that computes the same function: Gemm, Relu, Gemm for a ReLU network.

    Parameters
    ----------
    network : ReLUNetwork or a relative
        As in :func:`cvxnn.interop.to_torch`; gates take a ``GreaterOrEqual`` and a ``Where``, polynomials ``Mul`` and
        ``Add``.
    path : str or Path, optional
        File to write; complete or not at all.
    bias : bool, default False
        Turn the last input weight into the hidden bias: the model then takes the data without the column of ones.
    dtype : {float32, float64}, default float32
        Type of input, weights and output; float64 keeps every digit.

    Returns
    -------
    onnx.ModelProto
        Input "X" (n, d), output "f" (n, c), opset 13.

    Raises
    ------
    ValueError
        If ``dtype`` is another, or ``bias`` is asked for and the network has one input only, or has batch norm.
    ImportError
        If the package onnx is not installed.

    Examples
    --------
    >>> model = to_onnx(ReLUNetwork([[1.0, 0.5]], [2.0]), bias=True)
    >>> [node.op_type for node in model.graph.node]
    ['Gemm', 'Relu', 'Gemm']
    """
    onnx = _onnx("to_onnx")
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be float32 or float64; got {kind}.")
    helper, number = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(kind)
    graph = _Graph(onnx, kind)
    n_inputs, n_outputs = graph.write(network, bias=bias)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"cvxnn {type(network).__name__}",
            [helper.make_tensor_value_info("X", number, ["n", n_inputs])],
            [helper.make_tensor_value_info("f", number, ["n", n_outputs])],
            graph.constants,
        ),
        producer_name="cvxnn",
        ir_version=_IR,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    onnx.checker.check_model(model)
    if path is not None:
        write_atomically(Path(path), model.SerializeToString(deterministic=True))
    return model


class _Graph:
    """Nodes and constants of a model, written one after the other."""

    def __init__(self, onnx: Any, kind: np.dtype[Any]) -> None:
        self.onnx, self.kind = onnx, kind
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def write(self, network: Network, *, bias: bool) -> tuple[int, int]:
        """Write all of a network; numbers of its inputs and outputs."""
        if isinstance(network, GatedReLUNetwork | PolynomialNetwork):
            layers = branches(network, bias=bias)
            hidden = self._gemm("first", "X", layers["first"])
            if isinstance(network, GatedReLUNetwork):
                opened = self._node(
                    "GreaterOrEqual", self._gemm("gates", "X", layers["gates"]), self._number("zero", 0.0)
                )
                hidden = self._node("Where", opened, hidden, "zero")
            else:
                a, b, c = (self._number(name, value) for name, value in zip("abc", network.coefficients, strict=True))
                inner = self._node("Add", self._node("Mul", hidden, a), b)
                hidden = self._node("Add", self._node("Mul", inner, hidden), c)
            self._gemm("second", hidden, layers["second"], output="f")
            return layers["first"][0].shape[1], 1
        *others, last = chain(network, bias=bias)
        value = "X"
        for level, layer in enumerate(others):
            value = self._node("Relu", self._gemm(f"layer{level}", value, layer))
        self._gemm("last", value, last, output="f")
        return others[0][0].shape[1], last[0].shape[0]

    def _gemm(self, name: str, value: str, layer: Layer, output: str | None = None) -> str:
        arrays = {f"{name}.weight": layer[0], f"{name}.bias": layer[1]}
        names = [key for key, array in arrays.items() if array is not None]
        self.constants += [
            self.onnx.numpy_helper.from_array(array.astype(self.kind), key)
            for key, array in arrays.items()
            if array is not None
        ]
        return self._node("Gemm", value, *names, output=output, transB=1)

    def _number(self, name: str, value: float) -> str:
        self.constants.append(self.onnx.numpy_helper.from_array(np.array(value, dtype=self.kind), name))
        return name

    def _node(self, operation: str, *inputs: str, output: str | None = None, **options: Any) -> str:
        output = f"v{len(self.nodes)}" if output is None else output
        self.nodes.append(self.onnx.helper.make_node(operation, list(inputs), [output], **options))
        return output


def _onnx(what: str) -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise MissingExtraError.of(what, "onnx") from error
    return onnx


def _loaded(onnx: Any, given: Any) -> tuple[Any, str]:
    if not isinstance(given, (str, Path, bytes)):
        raise NetworkFormatError(f"a path, bytes or onnx.ModelProto is accepted; got {type(given).__name__}.")
    source = "the ONNX model" if isinstance(given, bytes) else str(given)
    if not isinstance(given, bytes) and not Path(given).is_file():
        raise NetworkFormatError(f"{source} {'is not a file' if Path(given).exists() else 'does not exist'}.")
    try:
        model = onnx.load_model_from_string(given) if isinstance(given, bytes) else onnx.load_model(source)
    except Exception as error:  # protobuf's errors share no base, and weights kept in other files may be missing
        raise NetworkFormatError(f"{source} is not an ONNX model, is truncated, or lacks its weights.") from error
    if not model.graph.node:
        raise NetworkFormatError(f"{source} holds no nodes; it is not an ONNX model.")
    return model, source


def _steps(onnx: Any, model: Any, source: str) -> list[Affine | str]:
    graph = model.graph
    constants = _constants(onnx, graph, source)
    inputs = [item.name for item in graph.input if item.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise NetworkFormatError(
            f"{source} has {len(inputs)} inputs and {len(graph.output)} outputs; one of each is accepted."
        )
    steps: list[Affine | str] = []
    current = inputs[0]
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            continue
        if node.domain not in ("", "ai.onnx"):
            steps.append(f"{node.domain}.{node.op_type}")
        elif node.op_type not in _PASSING:
            _append(onnx, steps, node, current, constants, source)
        elif node.input[0] != current or not _changes_nothing(onnx, node, constants, 0 < len(steps) < 3):
            steps.append(node.op_type)
        current = node.output[0]
    if current != graph.output[0].name:
        raise NetworkFormatError(f"{source} must return the output of its last layer; it returns another value.")
    return steps


def _constants(onnx: Any, graph: Any, source: str) -> dict[str, FloatArray]:
    """Tensors of the graph that are known before it runs."""
    tensors = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
    try:
        return {name: np.asarray(onnx.numpy_helper.to_array(item)) for name, item in tensors.items()}
    except Exception as error:  # a damaged tensor may raise ValueError, TypeError or IndexError
        raise NetworkFormatError(f"{source} holds a damaged tensor.") from error


def _check_input(model: Any, weights: TwoLayerWeights, source: str) -> None:
    """Refuse a model that folds several inputs, or parts of one, into a row."""
    constants = {item.name for item in model.graph.initializer}
    (item,) = [item for item in model.graph.input if item.name not in constants]
    sizes = [size.dim_value for size in item.type.tensor_type.shape.dim][1:]
    if all(sizes) and sizes and int(np.prod(sizes)) != weights.n_inputs:
        raise NetworkFormatError(
            f"{source} takes rows of {int(np.prod(sizes))} numbers but its first layer takes {weights.n_inputs}."
        )


def _changes_nothing(onnx: Any, node: Any, constants: Mapping[str, FloatArray], inside: bool) -> bool:
    """Whether a node passes rows of numbers on as they are; ``inside`` says that it stands between the layers."""
    options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        training = constants.get(node.input[2])
        return training is not None and not training.any()
    if node.op_type == "Cast":
        return options.get("to") in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
    if node.op_type == "Flatten":
        return options.get("axis", 1) == 1
    return not (inside and node.op_type in ("Squeeze", "Reshape"))


def _append(
    onnx: Any,
    steps: list[Affine | str],
    node: Any,
    current: str,
    constants: Mapping[str, FloatArray],
    source: str,
) -> None:
    """Add the step of one node; a bias that is added later joins the linear step before it."""
    name = node.op_type
    data = [item for item in node.input if item and item not in constants]
    if data != [current]:
        raise NetworkFormatError(
            f"{source} is not a chain of layers: {name} takes other inputs than the layer before it."
        )
    held = [constants[item] for item in node.input if item in constants]
    previous = steps[-1] if steps else None
    if name == "Relu":
        steps.append(RELU)
    elif name == "Gemm" and node.input[0] == current:
        steps.append(_gemm(onnx, node, held, source))
    elif name == "MatMul" and node.input[0] == current and held[0].ndim == 2:
        steps.append(affine(held[0].T))
    elif name == "Add" and isinstance(previous, tuple):
        weight, bias = previous
        steps[-1] = (weight, _bias(held[0], weight.shape[0], source) + (0.0 if bias is None else bias))
    else:
        steps.append(name)


def _gemm(onnx: Any, node: Any, held: list[FloatArray], source: str) -> Affine:
    options = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    if options.get("transA", 0) or held[0].ndim != 2:
        raise NetworkFormatError(f"{source} holds a Gemm of another form than x W + b.")
    weight = held[0].astype(np.float64) * options.get("alpha", 1.0)
    weight = weight if options.get("transB", 0) else weight.T
    if len(held) < 2:
        return affine(weight)
    return affine(weight, _bias(held[1], weight.shape[0], source) * options.get("beta", 1.0))


def _bias(held: FloatArray, size: int, source: str) -> FloatArray:
    if held.size not in (1, size) or held.shape[-1:] not in ((), (1,), (size,)):
        raise NetworkFormatError(f"{source} adds an array of shape {held.shape} to {size} values.")
    return np.broadcast_to(held.astype(np.float64).reshape(-1), (size,)).copy()
