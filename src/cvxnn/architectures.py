"""Architectures that :func:`cvxnn.solve` trains: small frozen values that say which network is meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._powers import times_power
from cvxnn._validation import as_count, as_float_array, as_number, as_seed
from cvxnn._workers import in_parallel, pieces_of
from cvxnn.networks import row_norms
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
# Features up to which products are in single precision: beyond, rounding leaves too many signs open.
_SINGLE_FEATURES = 128
# Length below which squares may have vanished.
_SMALL = 1e-100


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
            If the data are not a finite matrix, or the seed is no non-negative integer.
        """
        seed = as_seed(random_state, "random_state")
        return GatedReLU(sample_patterns(X, self.n_gates, random_state=seed).gates)


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
"""Any of the architectures, as ``architecture=`` of :func:`cvxnn.solve` takes them."""


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

    def store(samples: slice, piece: slice, signs: BoolArray) -> None:
        masks[piece, samples] = signs

    _sweep_signs(data, rows, store)
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

    def store(samples: slice, piece: slice, signs: BoolArray) -> None:
        packed[piece, samples.start // 8 : (samples.stop + 7) // 8] = pack(signs)

    _sweep_signs(data, rows, store)
    return ActivationPatterns(packed, rows, len(data))


def _checked(X: npt.ArrayLike, gates: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    data, rows = as_float_array(X, "X", ndim=2, copy=False), as_float_array(gates, "gates", ndim=2)
    if data.shape[1] != rows.shape[1]:
        raise ValueError(f"X has {data.shape[1]} features but gates has {rows.shape[1]} columns; they must match.")
    return data, rows


def _sweep_signs(data: FloatArray, gates: FloatArray, store: Callable[[slice, slice, BoolArray], None]) -> None:
    """Hand the signs of all products to ``store``, with their samples (from a multiple of eight) and gates."""
    # Rows of order one: the products neither overflow nor underflow, and signs do not change.
    gates, length = _normalised(gates)
    # Products in single precision leave few signs open while the features are few.
    dtype = np.float32 if gates.shape[1] <= _SINGLE_FEATURES else np.float64
    factor = 2.0 * (gates.shape[1] + 4) * float(np.finfo(dtype).eps)
    for first in range(0, len(gates), _PIECE):
        piece = slice(first, min(first + _PIECE, len(gates)))
        rows, reach = gates[piece], factor * length[piece]
        left = rows.astype(dtype)

        def sweep(
            slabs: Sequence[slice],
            piece: slice = piece,
            rows: FloatArray = rows,
            reach: FloatArray = reach,
            left: npt.NDArray[np.floating] = left,
        ) -> None:
            for samples in slabs:
                x, limit = _normalised(data[samples])
                products = left @ x.astype(dtype, copy=False).T
                signs = products >= 0
                _settle(signs, products, rows, reach, x, limit)
                store(samples, piece, signs)

        step = max(64, _SLAB // len(rows) // 8 * 8)
        in_parallel(sweep, pieces_of([slice(i, min(i + step, len(data))) for i in range(0, len(data), step)]))


def _settle(
    signs: BoolArray,
    products: npt.NDArray[np.floating],
    rows: FloatArray,
    reach: FloatArray,
    x: FloatArray,
    limit: FloatArray,
) -> None:
    """Decide the signs of the products within ``reach`` times ``limit`` by products summed in order."""
    np.abs(products, out=products)
    # One comparison with the largest limit of the slab mostly spares those with the limit of each pair.
    largest = float(np.max(reach)) * float(np.max(limit))
    if float(np.min(products)) > largest:
        return
    flat = np.flatnonzero(products <= largest)
    # Zeros in sparse data bring many pairs, whose rows together would be large.
    pairs = max(1, _SLAB // rows.shape[1])
    for low in range(0, len(flat), pairs):
        i, j = np.divmod(flat[low : low + pairs], len(x))
        near = products[i, j] <= reach[i] * limit[j]
        i, j = i[near], j[near]
        signs[i, j] = _ordered_products(rows[i], x[j]) >= 0


def _normalised(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rows divided by powers of two that bring their lengths to order one, and these lengths."""
    length = np.sqrt(np.einsum("sd,sd->s", rows, rows))
    small = np.flatnonzero(length < _SMALL)
    if small.size:
        length[small] = row_norms(rows[small])
    exponent = -np.frexp(length)[1]
    return times_power(rows, exponent[:, None]), times_power(length, exponent)


def _ordered_products(left: FloatArray, right: FloatArray) -> FloatArray:
    """Row-wise inner products, summed in the order of the columns."""
    return np.cumsum(left * right, axis=1)[:, -1]
