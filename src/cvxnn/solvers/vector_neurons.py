"""Neurons of a network with several outputs as blocks of the convex program: unit directions and output rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["VectorNeurons"]


@dataclass(frozen=True, eq=False)
class VectorNeurons:
    r"""Blocks :math:`u_k g_k^\top` of :math:`f(X) = \sum_k (X u_k)_+ g_k^\top` with unit vectors :math:`u_k`.

    Parameters
    ----------
    directions : ndarray (k, d)
        Unit vectors.
    outputs : ndarray (k, c)
        Rows :math:`g_k`; the block costs :math:`\beta \|g_k\|`.

    Examples
    --------
    >>> neurons = VectorNeurons(np.array([[1.0]]), np.array([[3.0, 4.0]]))
    >>> neurons.masses, neurons.fit(np.array([[2.0], [-1.0]]))
    (array([5.]), array([[6., 8.],
           [0., 0.]]))
    """

    directions: FloatArray
    outputs: FloatArray

    @classmethod
    def empty(cls, n_features: int, n_outputs: int) -> VectorNeurons:
        """No neurons: the zero function."""
        return cls(np.zeros((0, n_features)), np.zeros((0, n_outputs)))

    @classmethod
    def from_layers(cls, W: FloatArray, A: FloatArray) -> VectorNeurons:
        """Blocks of the neurons ``(w, a)`` of a network; those with a zero layer go."""
        sizes = np.linalg.norm(W, axis=1)
        keep = (sizes > 0.0) & np.any(A != 0.0, axis=1)
        return cls(W[keep] / sizes[keep, None], A[keep] * sizes[keep, None])

    def __len__(self) -> int:
        """Number of neurons."""
        return len(self.directions)

    @property
    def masses(self) -> FloatArray:
        """Norms of the output rows, ``(k,)``."""
        return np.linalg.norm(self.outputs, axis=1)

    def layers(self) -> tuple[FloatArray, FloatArray]:
        """Balanced layers ``W (k, d)`` and ``A (k, c)`` with ``||w|| = ||a||``."""
        root = np.sqrt(self.masses)
        return self.directions * root[:, None], self.outputs / np.where(root > 0.0, root, 1.0)[:, None]

    def network(self) -> ReLUNetwork:
        """Balanced network."""
        return ReLUNetwork.from_directions(self.directions, self.outputs)

    def fit(self, X: FloatArray) -> FloatArray:
        """Outputs on data, ``(n, c)``."""
        return np.maximum(X @ self.directions.T, 0.0) @ self.outputs

    def objective(self, problem: Problem) -> float:
        """Objective of the convex program, which is that of the balanced network."""
        return problem.loss_value(self.fit(problem.X)) + problem.beta * float(np.sum(self.masses))

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> VectorNeurons:
        """Neurons of an index or a mask."""
        return VectorNeurons(self.directions[index], self.outputs[index])

    def joined(self, directions: FloatArray) -> VectorNeurons:
        """Neurons and further directions of zero mass."""
        zeros = np.zeros((len(directions), self.outputs.shape[1]))
        return VectorNeurons(np.vstack([self.directions, directions]), np.vstack([self.outputs, zeros]))
