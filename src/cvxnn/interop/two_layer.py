"""Weights of a network with one hidden ReLU layer, as other libraries hold them, and how layers become them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn.networks import ReLUNetwork

FloatArray = npt.NDArray[np.float64]

__all__ = ["MissingExtraError", "NetworkFormatError", "TwoLayerWeights", "affine", "assemble", "weights_of_tensors"]

RELU = "ReLU"
_SHAPE = "Linear, ReLU, Linear"
_ADVICE = "use the part of the network before it"


class NetworkFormatError(ValueError):
    """A network or file that is not one hidden ReLU layer; the message is one plain sentence."""


class MissingExtraError(ImportError):
    """An optional package that this network or file needs; the message says how to install it."""

    @classmethod
    def of(cls, what: str, package: str) -> MissingExtraError:
        """Error for ``what`` that needs ``package``, which the extra of the same name installs."""
        return cls(f'{what} needs {package}; pip install "cvxnn[{package}]".')


@dataclass(frozen=True, eq=False)
class TwoLayerWeights:
    r"""Weights of :math:`f(x) = \sum_i a_i (w_i^\top x + b_i)_+ + c` with the biases kept apart.

    Parameters
    ----------
    W : array-like (m, d)
        First layer, one neuron a row (the layout of PyTorch; scikit-learn and Keras hold its transpose).
    a : array-like (m,) or (c, m)
        Second layer, for one or for c outputs (the layout of PyTorch).
    hidden_bias : array-like (m,), optional
        Biases of the neurons; None where the layer has none.
    output_bias : float or array (c,), optional
        Biases of the outputs; None where the layer has none, which is another thing than a bias of 0.

    Raises
    ------
    NetworkFormatError
        If shapes do not fit, or a weight is not finite.

    Examples
    --------
    >>> weights = TwoLayerWeights([[1.0, 2.0]], [3.0], hidden_bias=[4.0], output_bias=5.0)
    >>> weights.network.W, weights.n_inputs
    (array([[1., 2., 4.]]), 2)
    """

    W: FloatArray
    a: FloatArray
    hidden_bias: FloatArray | None = None
    output_bias: float | FloatArray | None = None

    def __post_init__(self) -> None:
        """Check and freeze the arrays."""
        W, a = _numbers(self.W, "W"), _numbers(self.a, "a")
        if W.ndim != 2 or W.shape[1] == 0:
            raise NetworkFormatError(f"W must have shape (m, d) with d >= 1; got {W.shape}.")
        a = a.reshape(-1) if a.ndim == 2 and a.shape[0] == 1 else a
        if a.ndim not in (1, 2) or a.shape[-1] != W.shape[0] or 0 in a.shape[:-1]:
            raise NetworkFormatError(
                f"the second layer must have one weight for each of the {W.shape[0]} neurons; got shape {a.shape}."
            )
        object.__setattr__(self, "W", _frozen(W))
        object.__setattr__(self, "a", _frozen(a))
        if self.hidden_bias is not None:
            bias = _numbers(self.hidden_bias, "hidden_bias")
            if bias.size != W.shape[0]:
                raise NetworkFormatError(
                    f"the hidden layer has {W.shape[0]} neurons but {bias.size} biases; they must match."
                )
            object.__setattr__(self, "hidden_bias", _frozen(bias.reshape(-1)))
        if self.output_bias is not None:
            offset = _numbers(self.output_bias, "output_bias")
            if offset.size != self.n_outputs:
                raise NetworkFormatError(
                    f"the network has {self.n_outputs} outputs but {offset.size} output biases; they must match."
                )
            single = self.n_outputs == 1
            object.__setattr__(
                self, "output_bias", float(offset.reshape(-1)[0]) if single else _frozen(offset.reshape(-1))
            )

    @property
    def offset(self) -> FloatArray:
        """Biases of the outputs ``(c,)``, 0 where there are none."""
        none = np.zeros(self.n_outputs)
        return none if self.output_bias is None else none + self.output_bias

    @property
    def n_outputs(self) -> int:
        """Number of outputs c."""
        return 1 if self.a.ndim == 1 else self.a.shape[0]

    @property
    def n_inputs(self) -> int:
        """Number of inputs, the column of ones not counted."""
        return self.W.shape[1]

    @property
    def network(self) -> ReLUNetwork:
        """The same function as a :class:`ReLUNetwork`; a hidden bias is its last input weight.

        Biases of several outputs become one more neuron, which sees the column of ones alone.
        """
        return self.network_with_column(1.0)

    def network_with_column(self, value: float) -> ReLUNetwork:
        """The same function for data whose last column holds ``value`` instead of ones."""
        W = self.W if self.hidden_bias is None else np.column_stack([self.W, self.hidden_bias / value])
        if self.n_outputs == 1:
            return ReLUNetwork(W, self.a, output_bias=float(self.offset[0]))
        if not np.any(self.offset):
            return ReLUNetwork(W, self.a.T)
        if self.hidden_bias is None:
            raise NetworkFormatError(
                f"the network has {self.n_outputs} outputs with biases but no hidden biases; "
                "several outputs with biases need hidden biases, too."
            )
        constant = ReLUNetwork.from_directions(np.append(np.zeros(self.n_inputs), 1.0 / value)[None], self.offset[None])
        return ReLUNetwork(np.vstack([W, constant.W]), np.vstack([self.a.T, constant.a]))


def _numbers(value: Any, name: str) -> FloatArray:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise NetworkFormatError(f"{name} holds values that are not real numbers ({error}).") from error
    if not np.all(np.isfinite(array)):
        raise NetworkFormatError(f"{name} contains NaN or infinite values; all weights must be finite.")
    return array


def _frozen(array: FloatArray) -> FloatArray:
    array.flags.writeable = False
    return array


Affine = tuple[FloatArray, "FloatArray | None"]


def affine(weight: Any, bias: Any = None) -> Affine:
    """Step of a network: weight (out, in) and bias (out,) or None."""
    return _numbers(weight, "a weight"), None if bias is None else _numbers(bias, "a bias")


def assemble(steps: Sequence[Affine | str], source: str) -> TwoLayerWeights:
    """Weights of the steps, which must be linear, ReLU, linear; any other step is given by its name.

    Raises
    ------
    NetworkFormatError
        If the steps are others, with one sentence that names them.
    """
    names = [step if isinstance(step, str) else "Linear" for step in steps]
    foreign = [name for name in names if name not in ("Linear", RELU)]
    if foreign:
        advice = f" ({_ADVICE})" if names[-1] == foreign[0] and names[:3] == ["Linear", RELU, "Linear"] else ""
        raise NetworkFormatError(f"{source} holds {foreign[0]}; only {_SHAPE} is accepted{advice}.")
    first, second = ([step for step in steps if not isinstance(step, str)] + [None, None])[:2]
    if names != ["Linear", RELU, "Linear"] or first is None or second is None:
        found = ", ".join(names) or "no layer"
        raise NetworkFormatError(f"{source} must be {_SHAPE} (one hidden layer); found {found}.")
    return _joined(first, second, source)


def _joined(first: Affine, second: Affine, source: str) -> TwoLayerWeights:
    (W, hidden), (a, offset) = first, second
    if W.shape[0] != a.shape[1]:
        raise NetworkFormatError(
            f"{source} has {W.shape[0]} hidden neurons but its second layer takes {a.shape[1]}; they must match."
        )
    return TwoLayerWeights(W, a, hidden, offset)


def weights_of_tensors(tensors: Mapping[str, Any], source: str) -> TwoLayerWeights:
    """Weights from named arrays: two matrices and up to two biases, under any names.

    Matrices are (out, in), or (in, out) under names that end in "kernel". The arrays "W" (m, d) and "a", (m,) or
    (c, m), with optional "hidden_bias" and "output_bias", are taken as they are. A bias belongs to the matrix whose
    name has the same beginning. Which matrix is the first layer follows from the shapes; where both orders fit, from
    the names (numbers in them count as numbers).

    Raises
    ------
    NetworkFormatError
        If the arrays are others.
    """
    arrays = {str(name): _numbers(value, f"{name!r} in {source}") for name, value in tensors.items()}
    if {"W", "a"} <= arrays.keys() <= {"W", "a", "hidden_bias", "output_bias"}:
        return TwoLayerWeights(arrays["W"], arrays["a"], arrays.get("hidden_bias"), arrays.get("output_bias"))
    matrices = {name: array for name, array in arrays.items() if array.ndim == 2}
    biases = {name: array for name, array in arrays.items() if array.ndim == 1}
    foreign = [name for name in arrays if name not in matrices and not _is_bias(name)]
    if foreign or len(matrices) != 2 or len(biases) > 2:
        held = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:8]) or "nothing"
        more = "" if len(arrays) <= 8 else f", ... ({len(arrays)} in all)"
        raise NetworkFormatError(
            f"{source} must hold the two weight matrices of {_SHAPE} and at most two biases; found {held}{more}."
        )
    layers = {name: array.T if name.endswith("kernel") else array for name, array in matrices.items()}
    first, second = _ordered(layers, source)
    owner = {name: _owner(name, [first, second], layers, source) for name in biases}
    if len(set(owner.values())) != len(owner):
        raise NetworkFormatError(f"{source} holds two biases for one layer: {', '.join(biases)}.")
    bias_of = {layer: biases[name] for name, layer in owner.items()}
    return _joined((layers[first], bias_of.get(first)), (layers[second], bias_of.get(second)), source)


def _is_bias(name: str) -> bool:
    return re.search(r"(bias|^b|[._]b)_?\d*$", name, re.IGNORECASE) is not None


def _stem(name: str) -> str:
    """Name of the layer: 'net.0.weight' gives 'net.0.', 'W1' and 'b1' give '1'."""
    return re.sub(r"(weights?|kernel|bias|(?<![A-Za-z])[Wwb](?=_?\d*$))", "", name)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _ordered(layers: Mapping[str, FloatArray], source: str) -> tuple[str, str]:
    one, two = sorted(layers, key=_natural)
    fits = [
        (first, second)
        for first, second in ((one, two), (two, one))
        if layers[second].shape[1] == layers[first].shape[0]
    ]
    if not fits:
        shapes = f"{layers[one].shape} and {layers[two].shape}"
        raise NetworkFormatError(f"the matrices in {source} have shapes {shapes}; no order of them makes a network.")
    single = [pair for pair in fits if layers[pair[1]].shape[0] == 1]
    return (single or fits)[0]


def _owner(bias: str, names: Sequence[str], layers: Mapping[str, FloatArray], source: str) -> str:
    same = [name for name in names if _stem(name) == _stem(bias)]
    if len(same) != 1:
        raise NetworkFormatError(
            f"{source} holds the bias {bias!r}, which belongs to neither of {names[0]!r} and {names[1]!r} by its name."
        )
    return same[0]
