"""Neurons as variables of the convex program: signed vectors that carry direction and mass at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._workers import in_parallel
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.solvers.row_slabs import row_pieces

FloatArray = npt.NDArray[np.float64]
AnyFloats = npt.NDArray[np.floating]

__all__ = ["Neurons", "sum_of_outputs"]


def sum_of_outputs(X: AnyFloats, columns: AnyFloats, weights: AnyFloats) -> FloatArray:
    """Values ``sum_i weights_i (X z_i)_+`` ``(n,)`` for the columns z ``(d, k)``, without an array of the hidden layer.

    Examples
    --------
    >>> sum_of_outputs(np.eye(2), np.array([[3.0, -4.0], [4.0, 3.0]]), np.array([1.0, -1.0]))
    array([3., 1.])
    """
    fit = np.empty(len(X))

    def sweep(slabs: Sequence[slice]) -> None:
        for rows in slabs:
            fit[rows] = np.maximum(X[rows] @ columns, 0.0) @ weights

    in_parallel(sweep, row_pieces(len(X), columns.shape[1]))
    return fit


@dataclass(frozen=True, eq=False)
class Neurons:
    r"""Signed vectors :math:`z_i` of the function :math:`f(X) = \sum_i s_i (X z_i)_+`.

    A vector is the product of the direction and the mass of a balanced neuron, so the training objective reads
    :math:`\mathrm{loss}(f(X), y) + \beta \sum_i \|z_i\|` (Pilanci and Ergen, 2020, Theorem 1).

    Parameters
    ----------
    vectors : ndarray (k, d)
        The vectors z, one a row; k = 0 is the zero function.
    signs : ndarray (k,)
        Output signs, -1.0 or +1.0.

    Raises
    ------
    ValueError
        If the shapes do not match.

    Examples
    --------
    >>> import numpy as np
    >>> neurons = Neurons(np.array([[3.0, 4.0]]), np.array([-1.0]))
    >>> neurons.fit(np.eye(2)), neurons.masses
    (array([-3., -4.]), array([5.]))
    """

    vectors: FloatArray
    signs: FloatArray

    def __post_init__(self) -> None:
        """Check the shapes."""
        if self.vectors.ndim != 2 or self.signs.shape != (self.vectors.shape[0],):
            raise ValueError(
                f"vectors must have shape (k, d) and signs (k,); got {self.vectors.shape} and {self.signs.shape}."
            )

    @classmethod
    def empty(cls, n_features: int) -> Neurons:
        """No neurons: the zero function of ``n_features`` inputs."""
        return cls(np.zeros((0, n_features)), np.zeros(0))

    @classmethod
    def from_network(cls, network: ReLUNetwork) -> Neurons:
        """Vectors ``|a_i| w_i`` with the signs of ``a_i``; neurons that contribute nothing are left out."""
        vectors = np.abs(network.a)[:, None] * network.W
        keep = np.any(vectors != 0, axis=1)
        return cls(vectors[keep], np.sign(network.a[keep]))

    def __len__(self) -> int:
        """Return the number of neurons k."""
        return self.vectors.shape[0]

    @property
    def masses(self) -> FloatArray:
        """Norms of the vectors, ``(k,)``."""
        return np.linalg.norm(self.vectors, axis=1)

    def fit(self, X: FloatArray) -> FloatArray:
        """Fitted values ``sum_i s_i (X z_i)_+``, ``(n,)``."""
        return sum_of_outputs(X, self.vectors.T, self.signs)

    def objective(self, problem: Problem) -> float:
        """Training objective of the balanced network."""
        return problem.loss_value(self.fit(problem.X)) + problem.beta * float(self.masses.sum())

    def network(self) -> ReLUNetwork:
        """Balanced network that computes the same function."""
        return ReLUNetwork.from_vectors(self.vectors, self.signs)

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Neurons:
        """Neurons chosen by an index or a mask."""
        return Neurons(self.vectors[index], self.signs[index])

    def joined(self, other: Neurons) -> Neurons:
        """Append the neurons of ``other`` to these."""
        return Neurons(np.vstack([self.vectors, other.vectors]), np.concatenate([self.signs, other.signs]))
