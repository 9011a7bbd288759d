"""Two-layer ReLU networks as frozen values: forward pass, objective, and moves that keep the function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_features, as_float_array, as_number, frozen_weights

if TYPE_CHECKING:
    from cvxnn.patterns import ActivationPatterns
    from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["ReLUNetwork"]

_PARALLEL = 1e-13
"""Largest difference of an entry of unit vectors that count as equal."""


class HiddenLayer:
    """Sizes of a network whose first layer is ``W (m, d)``."""

    W: FloatArray

    @property
    def width(self) -> int:
        """Number of neurons m."""
        return self.W.shape[0]

    @property
    def n_features(self) -> int:
        """Number of inputs d."""
        return self.W.shape[1]


@dataclass(frozen=True, eq=False)
class ReLUNetwork(HiddenLayer):
    r"""Two-layer ReLU network :math:`f(X) = (X W^T)_+\, a`.

    Parameters
    ----------
    W : array-like (m, d)
        First layer, one neuron a row. A hidden bias is a weight on a column of ones of the data.
    a : array-like (m,) or (m, c)
        Second layer, for one or for c outputs. Width m = 0 is allowed: it is the zero function.
    output_bias : float, default 0.0
        Constant b that is added to the only output, for problems with an ``output_bias_decay``.

    Raises
    ------
    ValueError
        If the shapes do not match or an entry is not finite.

    Examples
    --------
    >>> net = ReLUNetwork([[1.0, 0.0], [0.0, 1.0]], [1.0, -2.0])
    >>> net([[3.0, 1.0], [-1.0, 2.0]])
    array([ 1., -4.])
    >>> net.width
    2
    """

    W: FloatArray
    a: FloatArray
    output_bias: float = 0.0

    def __post_init__(self) -> None:
        """Check and freeze the arrays."""
        object.__setattr__(self, "output_bias", as_number(self.output_bias, "output_bias"))
        W, a = np.array(self.W, dtype=np.float64), np.array(self.a, dtype=np.float64)
        if W.ndim != 2 or W.shape[1] == 0:
            raise ValueError(f"W must have shape (m, d) with d >= 1; got {W.shape}.")
        if a.ndim not in (1, 2) or a.shape[0] != W.shape[0] or 0 in a.shape[1:]:
            raise ValueError(f"a must have shape (m,) or (m, c) with m = {W.shape[0]} as in W; got {a.shape}.")
        for name, array in (("W", W), ("a", a)):
            object.__setattr__(self, name, frozen_weights(array, name))
        if self.output_bias and a.ndim != 1:
            raise ValueError(f"output_bias needs a network with one output; a has shape {a.shape}.")

    @classmethod
    def zero(cls, n_features: int, n_outputs: int = 1) -> ReLUNetwork:
        """Network without neurons for data with ``n_features`` columns."""
        return cls(np.zeros((0, n_features)), np.zeros(0) if n_outputs == 1 else np.zeros((0, n_outputs)))

    @classmethod
    def from_vectors(cls, vectors: npt.ArrayLike, signs: npt.ArrayLike) -> ReLUNetwork:
        r"""Balanced network of the convex variables ``z_i`` with output signs ``s_i``.

        Each nonzero ``z`` becomes the neuron :math:`w = z/\sqrt{\|z\|},\ a = s\sqrt{\|z\|}`, so that
        :math:`(\|w\|^2 + a^2)/2 = \|z\|` (Pilanci and Ergen, 2020, Theorem 1).

        Examples
        --------
        >>> ReLUNetwork.from_vectors([[4.0, 0.0]], [-1]).a
        array([-2.])
        """
        z, s = np.asarray(vectors, dtype=np.float64), np.asarray(signs, dtype=np.float64)
        norm = row_norms(z)
        keep = norm > 0
        root = np.sqrt(norm[keep])
        return cls(z[keep] / root[:, None], s[keep] * root)

    @classmethod
    def from_directions(cls, directions: npt.ArrayLike, coefficients: npt.ArrayLike) -> ReLUNetwork:
        r"""Balanced network of the blocks :math:`u_k g_k^T`: directions ``U (k, d)``, coefficients ``G (k, c)``.

        Each nonzero block becomes the neuron :math:`w = u\sqrt{\|g\|/\|u\|},\ a = g\sqrt{\|u\|/\|g\|}`, so that
        :math:`(\|w\|^2 + \|a\|^2)/2 = \|u\|\|g\|`. One coefficient for each direction, ``G (k,)``, makes one output.

        Examples
        --------
        >>> net = ReLUNetwork.from_directions([[2.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [0.0, 0.0]])
        >>> net.W, net.a
        (array([[2., 0.]]), array([[0., 2.]]))
        """
        net = cls(np.asarray(directions, dtype=np.float64), np.asarray(coefficients, dtype=np.float64)).balanced()
        keep = np.any(net.W != 0, axis=1)
        return replace(net, W=net.W[keep], a=net.a[keep])

    @property
    def n_outputs(self) -> int:
        """Number of outputs c."""
        return 1 if self.a.ndim == 1 else self.a.shape[1]

    def __call__(self, X: npt.ArrayLike) -> FloatArray:
        """Outputs of the network, ``(n,)`` or ``(n, c)``."""
        output = np.maximum(self._preactivations(X), 0.0) @ self.a
        return output + self.output_bias if self.output_bias else output

    def __repr__(self) -> str:
        """Short form with the sizes."""
        bias = f", output_bias={self.output_bias:.6g}" if self.output_bias else ""
        return f"ReLUNetwork(width={self.width}, n_features={self.n_features}, n_outputs={self.n_outputs}{bias})"

    def _preactivations(self, X: npt.ArrayLike) -> FloatArray:
        data = as_features(X, self.n_features)
        return data @ self.W.T

    def _output_rows(self) -> FloatArray:
        """Second layer as ``(m, c)`` also for one output."""
        return self.a[:, None] if self.a.ndim == 1 else self.a

    def penalty(self) -> float:
        r"""Weight decay term :math:`\tfrac12(\|W\|_F^2 + \|a\|_F^2)`, without beta."""
        return 0.5 * float(np.sum(self.W * self.W) + np.sum(self.a * self.a))

    def objective(self, problem: Problem) -> float:
        r"""Training objective :math:`\mathrm{loss}(f(X), y) + \beta\,`:meth:`penalty`.

        With an output bias b, :math:`\tfrac{\kappa}{2} b^2` is added, kappa being the problem's ``output_bias_decay``.

        Examples
        --------
        >>> from cvxnn import Problem
        >>> ReLUNetwork([[1.0]], [1.0]).objective(Problem([[1.0]], [2.0], beta=0.5))
        1.0
        """
        if self.n_outputs != problem.n_outputs:
            raise ValueError(
                f"network and problem must have as many outputs; got {self.n_outputs} and {problem.n_outputs}."
            )
        if problem.output_bias_decay is None and self.output_bias:
            raise ValueError(
                f"network has an output bias of {self.output_bias:.6g} but the problem allows none; "
                "make the problem with output_bias_decay (0 for a free bias)."
            )
        bias_cost = 0.5 * (problem.output_bias_decay or 0.0) * self.output_bias**2
        fit = self(problem.X).reshape(problem.y.shape)
        return problem.loss_value(fit) + problem.beta * self.penalty() + bias_cost

    def patterns(self, X: npt.ArrayLike) -> ActivationPatterns:
        """Activation pattern ``1[X w >= 0]`` of each neuron, in the order of the neurons."""
        from cvxnn.patterns import ActivationPatterns

        return ActivationPatterns.from_masks(self._preactivations(X).T >= 0, self.W)

    def balanced(self) -> ReLUNetwork:
        r"""Rescale each neuron to :math:`\|w\| = \|a\|`; the function is unchanged and the penalty never rises.

        A neuron with ``w = 0`` or ``a = 0`` contributes nothing and becomes zero on both sides.

        Examples
        --------
        >>> net = ReLUNetwork([[8.0, 0.0]], [2.0]).balanced()
        >>> net.W, net.a
        (array([[4., 0.]]), array([4.]))
        """
        size_w, size_a = row_norms(self.W), row_norms(self._output_rows())
        root = np.sqrt(size_w) * np.sqrt(size_a)
        W = self.W * safe_ratio(root, size_w)[:, None]
        factor = safe_ratio(root, size_a)
        return replace(self, W=W, a=self.a * (factor if self.a.ndim == 1 else factor[:, None]))

    def without_dead_neurons(self, X: npt.ArrayLike) -> ReLUNetwork:
        """Drop the neurons that contribute nothing on the data: ``(X w)_+ = 0``, ``w = 0`` or ``a = 0``."""
        alive = np.any(self._preactivations(X) > 0, axis=0) & np.any(self._output_rows() != 0, axis=1)
        return replace(self, W=self.W[alive], a=self.a[alive])

    def permuted(self, order: Sequence[int] | npt.NDArray[np.int64]) -> ReLUNetwork:
        """Reorder the neurons; ``order`` is a permutation of ``range(width)``."""
        index = np.asarray(order, dtype=np.int64)
        if index.shape != (self.width,) or not np.array_equal(np.sort(index), np.arange(self.width)):
            raise ValueError(f"order must be a permutation of range({self.width}); got {list(index)[:10]}.")
        return replace(self, W=self.W[index], a=self.a[index])

    def split(self, index: int, fraction: float = 0.5) -> ReLUNetwork:
        r"""Replace neuron ``index`` by two with shares ``fraction`` and ``1 - fraction`` of its mass.

        Both new neurons keep the direction and the sign; weights are scaled by the square root of the share, so that
        neither the function nor the penalty changes. The second one is appended at the end.

        Examples
        --------
        >>> ReLUNetwork([[2.0]], [2.0]).split(0, 0.25).W
        array([[1.        ],
               [1.73205081]])
        """
        share = as_number(fraction, "fraction", minimum=0.0)
        if share > 1.0:
            raise ValueError(f"fraction must lie in [0, 1]; got {fraction!r}.")
        if not -self.width <= index < self.width:
            raise ValueError(f"index must name one of the {self.width} neurons; got {index}.")
        index %= self.width
        first, second = np.sqrt(share), np.sqrt(1.0 - share)
        W = np.vstack([self.W, second * self.W[index][None]])
        a = np.concatenate([self.a, second * self.a[index][None]])
        W[index] *= first
        a[index] *= first
        return replace(self, W=W, a=a)

    def merged(self, X: npt.ArrayLike) -> ReLUNetwork:
        r"""Merge neurons wherever the data allow it; the function on the data is unchanged, the penalty never rises.

        Two neurons of the same output sign merge when no sample has strictly opposite pre-activations under them,
        which is exactly when :math:`(Xw_1)_+ + (Xw_2)_+ = (X(w_1 + w_2))_+`. They are replaced by the balanced neuron
        of :math:`|a_1| w_1 + |a_2| w_2`. Merging is greedy in the order of the neurons; no pair
        that can be merged is left, except where rounding moves a pre-activation across zero.

        With several outputs, rows of ``a`` that are positively parallel take the part of the sign, and neurons whose
        ``w`` are positively parallel merge, too, by adding their rows of ``a``. Two neurons in one cone with other rows
        of ``a`` are not one neuron and stay two.

        Examples
        --------
        >>> net = ReLUNetwork([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0])
        >>> net.merged([[1.0, 2.0], [-1.0, -1.0]]).width
        1
        """
        data = as_float_array(X, "X", ndim=2)
        live = self.without_dead_neurons(data)
        if self.a.ndim != 1:
            return _merged_rows(data, live)
        vectors, signs = np.abs(live.a)[:, None] * live.W, np.sign(live.a)
        merged = [merge_vectors(data, vectors[signs == s]) for s in (1.0, -1.0)]
        out_signs = np.concatenate([np.ones(len(merged[0])), -np.ones(len(merged[1]))])
        return replace(ReLUNetwork.from_vectors(np.vstack(merged), out_signs), output_bias=self.output_bias)


def _merged_rows(X: FloatArray, network: ReLUNetwork) -> ReLUNetwork:
    """Merge neurons of several outputs: parallel first layers, and parallel second layers in a common cone."""
    while True:
        W, A = network.W, network.a
        units, sums = [], []
        for group in _parallel_rows(W):
            # Sums of blocks w a^T with a common direction of w.
            units.append(W[group[0]] / row_norms(W[group[:1]])[0])
            sums.append(row_norms(W[group]) @ A[group])
        shorter = ReLUNetwork.from_directions(
            np.array(units).reshape(-1, W.shape[1]), np.array(sums).reshape(-1, A.shape[1])
        )
        W, A = shorter.W, shorter.a
        vectors, rows = [np.zeros((0, W.shape[1]))], [np.zeros((0, A.shape[1]))]
        for group in _parallel_rows(A):
            sizes = row_norms(A[group])
            vectors.append(merge_vectors(X, sizes[:, None] * W[group]))
            rows.append(np.tile(A[group[0]] / sizes[0], (len(vectors[-1]), 1)))
        merged = ReLUNetwork.from_directions(np.vstack(vectors), np.vstack(rows))
        if merged.width == network.width:
            return merged
        network = merged


def _parallel_rows(rows: FloatArray) -> list[npt.NDArray[np.int64]]:
    """Groups of nonzero rows that are positive multiples of each other, but for rounding."""
    units = rows / row_norms(rows)[:, None]
    left = np.arange(len(rows))
    groups = []
    while left.size:
        same = np.max(np.abs(units[left] - units[left[0]]), axis=1) <= _PARALLEL
        groups.append(left[same])
        left = left[~same]
    return groups


def merge_vectors(X: FloatArray, vectors: FloatArray) -> FloatArray:
    """Sum greedily the vectors ``(k, d)`` that have no strictly opposite pre-activation on ``X`` between them."""
    z = X @ vectors.T
    positive, negative = (z > 0).T, (z < 0).T
    groups: list[FloatArray] = []
    group_positive = np.zeros((len(vectors), len(X)), dtype=bool)
    group_negative = np.zeros_like(group_positive)
    for vector, up, down in zip(vectors, positive, negative, strict=True):
        k = len(groups)
        conflict = np.any(group_positive[:k] & down, axis=1) | np.any(group_negative[:k] & up, axis=1)
        free = np.flatnonzero(~conflict)
        if free.size:
            home = int(free[0])
            groups[home] = groups[home] + vector
        else:
            home = k
            groups.append(vector)
        group_positive[home] |= up
        group_negative[home] |= down
    return np.array(groups).reshape(len(groups), X.shape[1])


def row_norms(rows: FloatArray) -> FloatArray:
    """Euclidean norm of each row, without overflow or underflow of the squares."""
    if rows.size == 0:
        return np.zeros(rows.shape[0])
    scale = np.max(np.abs(rows), axis=1)
    safe = np.where(scale > 0, scale, 1.0)
    return safe * np.sqrt(np.sum((rows / safe[:, None]) ** 2, axis=1)) * (scale > 0)


def unit_rows(rows: npt.NDArray) -> npt.NDArray:
    """Rows of unit length; zero rows stay zero.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(size, np.finfo(rows.dtype).tiny)


def safe_ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
