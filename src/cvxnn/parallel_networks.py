"""Parallel networks of any depth as frozen values: sub-networks that end in one neuron each, added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_features, frozen_weights
from cvxnn.networks import ReLUNetwork, row_norms, safe_ratio
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["NORMS", "ParallelReLUNetwork", "block_norms"]

NORMS = ("path", "l21")
"""Words for the norm of a sub-network."""


@dataclass(frozen=True, eq=False, repr=False)
class ParallelReLUNetwork:
    r"""Sum of sub-networks, each a tree of ReLU neurons with one neuron at its root.

    Of depth three, with m neurons in the first layer of each of K sub-networks,

    .. math:: f(X) = \sum_{k \le K} a_k \Big( \sum_{j \le m} b_{kj} (X w_{kj})_+ \Big)_+ .

    Of depth L, every neuron above the first layer has m neurons of its own below it. A network in which neurons share
    their inputs is such a tree with repeated weights, of the same path norm.

    Parameters
    ----------
    W : array-like (K, m, ..., m, d)
        First layers, with L - 2 axes for the neurons of a sub-network.
    b : sequence of arrays (K, m, ..., m)
        Weights of the layers between, from the first on, with L - 2, L - 3, ..., 1 such axes; one array stands for
        itself where L = 3, and the sequence is empty where L = 2.
    a : array-like (K,)
        Output weights.
    norm : {"path", "l21"}, default "path"
        How :meth:`penalty` measures a sub-network.

    Raises
    ------
    ValueError
        If the shapes do not match, an entry is not finite, or the norm does not fit.

    References
    ----------
    Ergen and Pilanci (2021), "Global optimality beyond two layers: training deep ReLU networks via convex programs";
    Ergen and Pilanci (2021), "Path regularization: a convexity and sparsity inducing regularization for parallel ReLU
    networks".

    Examples
    --------
    >>> net = ParallelReLUNetwork([[[1.0], [-1.0]]], [[[2.0, 1.0]]], [3.0])
    >>> net([[1.0], [-1.0]])
    array([6., 3.])
    >>> net.width, net.depth, net.branching
    (1, 3, 2)
    """

    W: FloatArray
    b: tuple[FloatArray, ...]
    a: FloatArray
    norm: str = "path"

    def __post_init__(self) -> None:
        """Check and freeze the arrays."""
        W, a = np.array(self.W, dtype=np.float64), np.array(self.a, dtype=np.float64)
        given = (self.b,) if isinstance(self.b, np.ndarray) else self.b
        b = tuple(np.array(layer, dtype=np.float64) for layer in given)
        if W.ndim < 2 or W.shape[-1] == 0 or 0 in W.shape[1:]:
            raise ValueError(f"W must have shape (K, m, ..., m, d) with m, d >= 1; got {W.shape}.")
        if a.shape != W.shape[:1]:
            raise ValueError(f"a must have shape ({len(W)},) to match W; got {a.shape}.")
        shapes = [W.shape[: 1 + axes] for axes in range(W.ndim - 2, 0, -1)]
        if [layer.shape for layer in b] != shapes:
            raise ValueError(f"b must hold arrays of the shapes {shapes} to match W; got {[x.shape for x in b]}.")
        _check_norm(self.norm, W.ndim)
        for name, array in (("W", W), ("a", a), *(("b", layer) for layer in b)):
            frozen_weights(array, name)
        for name, value in (("W", W), ("b", b), ("a", a)):
            object.__setattr__(self, name, value)

    @classmethod
    def from_vectors(
        cls, vectors: npt.ArrayLike, signs: Sequence[npt.ArrayLike], outputs: npt.ArrayLike, norm: str = "path"
    ) -> ParallelReLUNetwork:
        r"""Balanced network of the convex variables.

        Of depth three: ``path`` gives :math:`\|w_j\| = 1,\ b_j = I_j \|v_j\| / \sqrt{\|V\|_F},\ a = s \sqrt{\|V\|_F}`,
        and ``l21`` gives :math:`\|W\|_F = 1,\ b_j = I_j \sqrt{\|v_j\|},\ a = s \sqrt{\sum_j \|v_j\|}`. In both
        :math:`(\|b\|^2 + a^2) / 2` is the norm of the sub-network.

        Parameters
        ----------
        vectors : array-like (K, m, ..., m, d)
        signs : sequence of arrays
            Signs :math:`I` of the layers between, of the shapes of ``b``.
        outputs : array-like (K,)
            Signs :math:`s` of the output weights.
        norm : {"path", "l21"}

        Examples
        --------
        >>> net = ParallelReLUNetwork.from_vectors([[[3.0], [-4.0]]], [[[1, -1]]], [1])
        >>> round(net.penalty(), 9), net([[1.0], [-1.0]])
        (5.0, array([3., 0.]))
        """
        V, s = np.array(vectors, dtype=np.float64), np.array(outputs, dtype=np.float64)
        levels = [np.array(level, dtype=np.float64) for level in signs]
        keep = block_norms(V, norm) > 0
        V, s, levels = V[keep], s[keep], [level[keep] for level in levels]
        total = np.sqrt(block_norms(V, norm))
        size: Any = row_norms(V.reshape(-1, V.shape[-1])).reshape(V.shape[:-1])
        if V.ndim == 2:
            return cls(V * safe_ratio(total, size)[:, None], (), s * total, norm)
        if norm == "l21":
            W = V * safe_ratio(np.ones_like(size), total[:, None] * np.sqrt(size))[..., None]
            return cls(W, (levels[0] * np.sqrt(size),), s * total, norm)
        W: FloatArray = V * safe_ratio(np.ones_like(size), size)[..., None]
        b: list[FloatArray] = []
        for depth, level in enumerate(levels):
            above = row_norms(size.reshape(-1, size.shape[-1])).reshape(size.shape[:-1])
            top = total[:, None] if depth == len(levels) - 1 else 1.0
            b.append(level * safe_ratio(size, above[..., None] + 0.0 * size) * top)
            size = above
        return cls(W, tuple(b), s * total, norm)

    @classmethod
    def from_two_layers(cls, network: ReLUNetwork, depth: int, norm: str = "path") -> ParallelReLUNetwork:
        """Chains of single neurons that have the outputs and the penalty of a two-layer network of one output.

        Examples
        --------
        >>> net = ParallelReLUNetwork.from_two_layers(ReLUNetwork([[2.0]], [-2.0]), 4)
        >>> net, net([[1.0]]), net.penalty()
        (ParallelReLUNetwork(width=1, depth=4, branching=1, n_features=1, norm='path'), array([-4.]), 4.0)
        """
        lead = (network.width,) + (1,) * (depth - 2)
        vectors = (np.abs(network.a)[:, None] * network.W).reshape(*lead, network.n_features)
        signs = [np.ones(lead[: 1 + axes]) for axes in range(depth - 2, 0, -1)]
        return cls.from_vectors(vectors, signs, np.sign(network.a), norm)

    def to_two_layers(self) -> ReLUNetwork:
        """Balanced two-layer network with the same outputs, of a network with one neuron in each layer.

        Chains with a weight between that is not positive are constantly zero and are left out, though their penalty
        need not be zero.

        Raises
        ------
        ValueError
            If neurons have more than one input neuron.

        Examples
        --------
        >>> ParallelReLUNetwork([[[3.0]], [[1.0]]], [[[1.0], [-1.0]]], [3.0, 1.0]).to_two_layers().W
        array([[3.]])
        """
        if self.branching != 1:
            raise ValueError(f"to_two_layers needs one neuron in each layer; this network has {self.branching}.")
        vectors = self.vectors()[0].reshape(self.width, self.n_features)
        alive = row_norms(vectors) > 0 if self.width else np.zeros(0, dtype=np.bool_)
        for layer in self.b:
            alive &= layer.reshape(self.width) > 0
        vectors, root = vectors[alive], np.sqrt(row_norms(vectors[alive]))
        return ReLUNetwork(vectors / root[:, None], np.sign(self.a[alive]) * root)

    def with_vectors(
        self, vectors: npt.ArrayLike, signs: Sequence[npt.ArrayLike], outputs: npt.ArrayLike
    ) -> ParallelReLUNetwork:
        """Balanced network with more sub-networks, given as in :meth:`from_vectors`, appended at the end.

        Examples
        --------
        >>> net = ParallelReLUNetwork([[1.0]], [], [1.0])
        >>> net.with_vectors([[-2.0]], [], [1.0])([[1.0], [-1.0]])
        array([1., 2.])
        """
        own, levels, tops = self.vectors()
        added = [np.concatenate([mine, np.asarray(more)]) for mine, more in zip(levels, signs, strict=True)]
        return self.from_vectors(
            np.concatenate([own, np.asarray(vectors)]), added, np.concatenate([tops, np.asarray(outputs)]), self.norm
        )

    @property
    def width(self) -> int:
        """Number of sub-networks K."""
        return len(self.a)

    @property
    def depth(self) -> int:
        """Number of layers L, the output layer included."""
        return self.W.ndim

    @property
    def branching(self) -> int:
        """Neurons m below each neuron (1 for depth two)."""
        return self.W.shape[1] if self.W.ndim > 2 else 1

    @property
    def n_features(self) -> int:
        """Number of inputs d."""
        return self.W.shape[-1]

    def __repr__(self) -> str:
        """Short form with the sizes."""
        return (
            f"ParallelReLUNetwork(width={self.width}, depth={self.depth}, branching={self.branching}, "
            f"n_features={self.n_features}, norm={self.norm!r})"
        )

    def __call__(self, X: npt.ArrayLike) -> FloatArray:
        """Outputs of the network, ``(n,)``."""
        data = as_features(X, self.n_features)
        hidden = np.maximum(np.tensordot(data, self.W, axes=(1, self.W.ndim - 1)), 0.0)
        for layer in self.b:
            hidden = np.maximum(np.sum(hidden * layer, axis=-1), 0.0)
        return hidden @ self.a

    def vectors(self) -> tuple[FloatArray, tuple[FloatArray, ...], FloatArray]:
        """Convex variables: vectors of the shape of W, signs of the layers between, and signs of the outputs.

        The inverse of :meth:`from_vectors`, up to the balance of the weights.
        """
        scale = np.abs(self.a)
        for layer in reversed(self.b):
            scale = scale[..., None] * np.abs(layer)
        signs = tuple(np.where(layer < 0, -1.0, 1.0) for layer in self.b)
        return self.W * scale[..., None], signs, np.where(self.a < 0, -1.0, 1.0)

    def penalty(self) -> float:
        r"""Sum of the norms of the sub-networks, without beta.

        Scaling a weight up and one below it down changes nothing.

        With the norms :math:`t` of the paths :math:`|a_k b_{kj}| \|w_{kj}\|` of a sub-network, ``path`` is
        :math:`(\sum t^2)^{1/2}` and ``l21`` is :math:`\sum t`.
        """
        return float(np.sum(block_norms(self.vectors()[0], self.norm)))

    def objective(self, problem: Problem) -> float:
        r"""Training objective :math:`\mathrm{loss}(f(X), y) + \beta\,`:meth:`penalty`.

        Examples
        --------
        >>> from cvxnn import Problem
        >>> ParallelReLUNetwork([[[1.0]]], [[[1.0]]], [1.5]).objective(Problem([[1.0]], [2.0], beta=0.5))
        0.875
        """
        return problem.loss_value(self(problem.X)) + problem.beta * self.penalty()


def block_norms(vectors: FloatArray, norm: str) -> FloatArray:
    """Norm of each sub-network ``(K,)``: Frobenius for "path", sum of the lengths of the vectors for "l21"."""
    count = len(vectors)
    if norm == "path":
        return row_norms(vectors.reshape(count, -1)) if count else np.zeros(0)
    lengths = row_norms(vectors.reshape(-1, vectors.shape[-1]))
    return lengths.reshape(count, -1).sum(axis=1) if count else np.zeros(0)


def _check_norm(norm: str, depth: int) -> None:
    if norm not in NORMS:
        raise ValueError(f"norm must be 'path' or 'l21'; got {norm!r}.")
    if norm == "l21" and depth > 3:
        raise ValueError(f"norm 'l21' is defined for networks of at most three layers; got depth {depth}.")
