"""Architectures that :func:`cvxnn.solve` trains: small frozen values that say which network is meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_float_array, as_number
from cvxnn.patterns import ActivationPatterns, sample_patterns
from cvxnn.patterns._bits import pack, packed_width

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

__all__ = [
    "Architecture",
    "BatchNormReLU",
    "GatedReLU",
    "ParallelReLU",
    "Polynomial",
    "ReLU",
    "SampledGatedReLU",
    "gate_masks",
    "gate_patterns",
]

# Entries of a slab of products X g, which stays in the cache, and gates of a piece.
_SLAB = 1 << 17
_PIECE = 4096


@dataclass(frozen=True)
class ReLU:
    r"""Two-layer ReLU network :math:`f(X) = (X W^T)_+ a`, the default architecture.

    Parameters
    ----------
    one_vs_all : bool, default False
        With several outputs, the penalty of a neuron is :math:`\tfrac{\beta}{2} (\|w\|^2 + \|a\|_2^2)`, so that the
        outputs share neurons. With True it is :math:`\tfrac{\beta}{2} (\|w\|^2 + \|a\|_1^2)`: the problem separates
        into one for each output, and the optimum is never lower. Losses that couple the outputs (softmax) do not
        allow it. For one output there is no difference.

    Raises
    ------
    ValueError
        If the option is no bool.

    Examples
    --------
    >>> ReLU(one_vs_all=True)
    ReLU(one_vs_all=True)
    """

    one_vs_all: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no bool."""
        if not isinstance(self.one_vs_all, (bool, np.bool_)):
            raise ValueError(f"one_vs_all must be True or False; got {self.one_vs_all!r}.")


@dataclass(frozen=True)
class ParallelReLU:
    r"""Sum of ReLU sub-networks of ``depth`` layers, each a tree with ``width`` neurons below every neuron.

    Of depth three, :math:`f(X) = \sum_k a_k (\sum_{j \le m} b_{kj} (X w_{kj})_+)_+` with any number of
    sub-networks, and the penalty is :math:`\beta \sum_k |a_k| (\sum_j b_{kj}^2 \|w_{kj}\|^2)^{1/2}` for ``"path"`` and
    :math:`\beta \sum_k |a_k| \sum_j |b_{kj}| \|w_{kj}\|` for ``"l21"``. Weight decay on all three layers is another
    problem, which has no such convex program.

    Parameters
    ----------
    depth : int, default 3
        Layers, the output layer included; 2 is the two-layer network.
    width : int, default 2
        Neurons m in the first layer of a sub-network, and below every neuron between.
    penalty : {"path", "l21"}, default "path"
        Norm of a sub-network; "l21" is for at most three layers.

    Raises
    ------
    ValueError
        If an option is out of range.

    References
    ----------
    Ergen and Pilanci (2021), "Global optimality beyond two layers: training deep ReLU networks via convex programs".

    Examples
    --------
    >>> ParallelReLU(width=3)
    ParallelReLU(depth=3, width=3, penalty='path')
    """

    depth: int = 3
    width: int = 2
    penalty: str = "path"

    def __post_init__(self) -> None:
        """Check the options."""
        depth, width = as_count(self.depth, "depth"), as_count(self.width, "width")
        if depth < 2:
            raise ValueError(f"depth must be at least 2 (one hidden layer); got {depth}.")
        if self.penalty not in ("path", "l21"):
            raise ValueError(f'penalty must be "path" or "l21"; got {self.penalty!r}.')
        if self.penalty == "l21" and depth > 3:
            raise ValueError(f'penalty="l21" is for at most three layers, use "path" for more; got depth={depth}.')
        object.__setattr__(self, "depth", depth)
        object.__setattr__(self, "width", width)


@dataclass(frozen=True, eq=False, repr=False)
class GatedReLU:
    r"""Two-layer gated ReLU network :math:`f(X) = \sum_i \mathrm{diag}(1[X g_i \ge 0])\, X w_i a_i` with fixed gates.

    The gates decide which samples a neuron sees; they are not trained, and every gate may carry any number of neurons.
    Training is then a convex group lasso without cones.

    Parameters
    ----------
    gates : array-like (P, d)
        One gate a row, in the units of 1 / feature; only the signs of ``X g`` matter.

    Raises
    ------
    ValueError
        If the gates are not a non-empty finite matrix.

    References
    ----------
    Mishkin, Sahiner and Pilanci (2022), "Fast Convex Optimization for Two-Layer ReLU Networks: Equivalent Model Classes
    and Cone Decompositions", section 2.

    Examples
    --------
    >>> GatedReLU([[1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    GatedReLU(n_gates=3, n_features=2)
    """

    gates: FloatArray

    def __post_init__(self) -> None:
        """Check and freeze the gates."""
        gates = as_float_array(self.gates, "gates", ndim=2)
        gates.flags.writeable = False
        object.__setattr__(self, "gates", gates)

    def __len__(self) -> int:
        """Return the number of gates P."""
        return self.gates.shape[0]

    def __repr__(self) -> str:
        """Short form with the sizes."""
        return f"GatedReLU(n_gates={len(self)}, n_features={self.gates.shape[1]})"

    def masks(self, X: npt.ArrayLike) -> BoolArray:
        """Activation patterns ``1[X g >= 0]`` of the gates on data (n, d), ``(P, n)``; see :func:`gate_masks`."""
        return gate_masks(X, self.gates)


@dataclass(frozen=True)
class SampledGatedReLU:
    r"""Gated ReLU network whose gates are drawn for the data, by number: see :class:`GatedReLU`.

    Parameters
    ----------
    n_gates : int, default 1000
        Gates with different activation patterns; there are fewer where the data have fewer patterns.

    Raises
    ------
    ValueError
        If the number is not a positive integer.

    Examples
    --------
    >>> SampledGatedReLU(3).drawn([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], random_state=0)
    GatedReLU(n_gates=3, n_features=2)
    """

    n_gates: int = 1000

    def __post_init__(self) -> None:
        """Check the number."""
        object.__setattr__(self, "n_gates", as_count(self.n_gates, "n_gates"))

    def drawn(self, X: npt.ArrayLike, *, random_state: int = 0) -> GatedReLU:
        """Architecture with gates from :func:`cvxnn.patterns.sample_patterns` on data (n, d).

        Raises
        ------
        ValueError
            If the data are not a finite matrix.
        """
        return GatedReLU(sample_patterns(X, self.n_gates, random_state=random_state).gates)


@dataclass(frozen=True)
class BatchNormReLU:
    r"""Two-layer ReLU network with batch norm in the hidden layer.

    .. math:: f(X) = \sum_i a_i \Big(\gamma_i \frac{\tilde X w_i}{\|\tilde X w_i\|} + \alpha_i \frac{\mathbf 1}{\sqrt
              n}\Big)_+

    with the centred data :math:`\tilde X`. Weight decay is
    :math:`\tfrac\beta2 \sum_i (\gamma_i^2 + \alpha_i^2 + a_i^2)`; the first layer itself is not penalised, since
    batch norm makes its length irrelevant.

    References
    ----------
    Ergen, Sahiner, Ozturkler, Pauly, Mardani and Pilanci (2022), "Demystifying batch normalization in ReLU networks".

    Examples
    --------
    >>> BatchNormReLU()
    BatchNormReLU()
    """


@dataclass(frozen=True)
class Polynomial:
    r"""Two-layer network with a polynomial activation of degree two.

    .. math:: f(X) = \sum_j \alpha_j \sigma(X w_j), \qquad \sigma(t) = a t^2 + b t + c

    The rows :math:`w_j` have norm 1, and the penalty is :math:`\beta \sum_j |\alpha_j|`. That is another penalty
    than the weight decay of a ReLU network, so that objectives of both are not to be compared.

    Parameters
    ----------
    a, b, c : float
        Coefficients, not all zero. ``Polynomial(0.09, 0.5, 0.47)`` is close to the ReLU on [-5, 5].

    Raises
    ------
    ValueError
        If a coefficient is not a finite number, or all are zero.

    References
    ----------
    Bartan and Pilanci (2021), "Neural spectrahedra and semidefinite lifts: global convex optimization of polynomial
    activation neural networks in fully polynomial-time".

    Examples
    --------
    >>> Polynomial(1, 0, 0)
    Polynomial(a=1.0, b=0.0, c=0.0)
    """

    a: float
    b: float
    c: float

    def __post_init__(self) -> None:
        """Check the coefficients."""
        for name in ("a", "b", "c"):
            object.__setattr__(self, name, as_number(getattr(self, name), name))
        if self.a == self.b == self.c == 0.0:
            raise ValueError("a, b and c are all 0: such a network is the zero function; one must not be 0.")


Architecture = ReLU | GatedReLU | SampledGatedReLU | BatchNormReLU | Polynomial | ParallelReLU


def gate_masks(X: npt.ArrayLike, gates: npt.ArrayLike) -> BoolArray:
    """Activation patterns ``1[X g >= 0]`` of gates (P, d) on data (n, d), ``(P, n)``.

    Each entry depends on its own sample and gate only: where rounding could decide the sign, the product is summed in
    the order of the features, whatever the other rows are. A gate has therefore the same pattern alone as in a list.

    Raises
    ------
    ValueError
        If an argument is not a finite matrix, or the numbers of columns differ.

    Examples
    --------
    >>> gate_masks([[1.0, -1.0], [2.0, 1.0]], [[1.0, 1.0], [-1.0, 0.0]])
    array([[ True,  True],
           [False, False]])
    """
    data, rows = _checked(X, gates)
    masks = np.empty((len(rows), len(data)), dtype=np.bool_)
    for samples, piece, signs in _sign_slabs(data, rows):
        masks[piece, samples] = signs
    return masks


def gate_patterns(X: npt.ArrayLike, gates: npt.ArrayLike) -> ActivationPatterns:
    """Activation patterns of gates (P, d) on data (n, d), as :func:`gate_masks` but packed slab by slab.

    The masks are never held as booleans: memory is that of the bits, ``n P / 8`` bytes.

    Raises
    ------
    ValueError
        If an argument is not a finite matrix, or the numbers of columns differ.

    Examples
    --------
    >>> gate_patterns([[1.0, -1.0], [2.0, 1.0]], [[1.0, 1.0], [-1.0, 0.0]]).masks
    array([[ True,  True],
           [False, False]])
    """
    data, rows = _checked(X, gates)
    packed = np.empty((len(rows), packed_width(len(data))), dtype=np.uint8)
    for samples, piece, signs in _sign_slabs(data, rows):
        packed[piece, samples.start // 8 : (samples.stop + 7) // 8] = pack(signs)
    return ActivationPatterns(packed, rows, len(data))


def _checked(X: npt.ArrayLike, gates: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    data, rows = as_float_array(X, "X", ndim=2), as_float_array(gates, "gates", ndim=2)
    if data.shape[1] != rows.shape[1]:
        raise ValueError(f"X has {data.shape[1]} features but gates has {rows.shape[1]} columns; they must match.")
    return data, rows


def _sign_slabs(data: FloatArray, gates: FloatArray) -> Iterator[tuple[slice, slice, BoolArray]]:
    """Samples (from a multiple of eight), gates, and the signs of their products."""
    # Rows of order one: the products neither overflow nor underflow, and signs do not change.
    gates = _normalised(gates)
    length = np.sqrt(np.sum(gates * gates, axis=1))
    factor = 4.0 * (gates.shape[1] + 2) * float(np.finfo(np.float64).eps)
    for first in range(0, len(gates), _PIECE):
        piece = slice(first, min(first + _PIECE, len(gates)))
        rows, size = gates[piece], length[piece, None]
        step = max(64, _SLAB // len(rows) // 8 * 8)
        for start in range(0, len(data), step):
            samples = slice(start, min(start + step, len(data)))
            x = _normalised(data[samples])
            products = rows @ x.T
            signs = products >= 0
            limit = factor * np.sqrt(np.sum(x * x, axis=1))
            np.abs(products, out=products)
            # One comparison with the largest limit of the slab mostly spares those with the limit of each pair.
            if float(np.min(products)) <= float(np.max(size)) * float(np.max(limit)):
                i, j = np.nonzero(products <= size * limit)
                # Zeros in sparse data bring many pairs, whose rows together would be large.
                pairs = max(1, _SLAB // rows.shape[1])
                for low in range(0, len(i), pairs):
                    here = i[low : low + pairs], j[low : low + pairs]
                    signs[here] = _ordered_products(rows[here[0]], x[here[1]]) >= 0
            yield samples, piece, signs


def _normalised(rows: FloatArray) -> FloatArray:
    """Rows divided by powers of two that bring their largest entries to order one."""
    exponent = np.frexp(np.max(np.abs(rows), axis=1, keepdims=True))[1]
    return np.ldexp(rows, -exponent)


def _ordered_products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Row-wise inner products, summed in the order of the columns."""
    total = np.zeros(len(left))
    for k in range(left.shape[1]):
        total += left[:, k] * right[:, k]
    return total
