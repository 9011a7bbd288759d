"""Patterns of the cells around neurons, and the neurons as blocks of the program over these patterns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns._bits import pack, packed_width
from cvxnn.programs.reduction import Reduction
from cvxnn.solution import Blocks
from cvxnn.solvers.cells import adjacent_gates
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.row_slabs import row_slabs

FloatArray = npt.NDArray[np.float64]

__all__ = ["attained_norm", "cone_blocks", "used_patterns"]

_SLAB_ENTRIES = 1 << 20
"""Entries of the work arrays of a slab of rows."""


def used_patterns(reduction: Reduction, X: FloatArray, neurons: Neurons, gates: FloatArray) -> ActivationPatterns:
    """Patterns on the full data of the cells of the last program and of the cells around the neurons, each once."""
    own = adjacent_gates(reduction.problem.X, neurons.vectors)
    lifted = np.vstack([own, gates]) @ reduction.basis.T
    if len(lifted) == 0:
        # The zero network uses no cell; any one keeps the record of patterns non-empty.
        lifted = reduction.basis.T[:1]
    packed = np.empty((len(lifted), packed_width(len(X))), dtype=np.uint8)
    for rows in row_slabs(len(X), len(lifted), entries=_SLAB_ENTRIES):
        # Slabs begin at whole bytes of the packed masks.
        packed[:, rows.start // 8 : -(-rows.stop // 8)] = pack(lifted @ X[rows].T >= 0)
    return ActivationPatterns(packed, lifted, len(X)).unique()


def cone_blocks(X: FloatArray, neurons: Neurons, patterns: ActivationPatterns) -> Blocks:
    """Blocks ``(u, v)`` of the patterns: each neuron goes to the cone that it violates least, in sum over the rows."""
    u = np.zeros((len(patterns), X.shape[1]))
    v = np.zeros_like(u)
    violation = np.zeros((len(patterns), len(neurons)))
    for rows in row_slabs(len(X), len(patterns) + len(neurons), entries=_SLAB_ENTRIES):
        packed = patterns.packed[:, rows.start // 8 : -(-rows.stop // 8)]
        masks = ActivationPatterns(packed, patterns.gates, rows.stop - rows.start).masks
        z = X[rows] @ neurons.vectors.T
        # Sums of parts of one sign: no rounding where there is no violation.
        violation += masks.astype(np.float64) @ np.maximum(-z, 0.0)
        violation += (~masks).astype(np.float64) @ np.maximum(z, 0.0)
    home = np.argmin(violation, axis=0)
    for block, sign in ((u, 1.0), (v, -1.0)):
        of_sign = neurons.signs == sign
        np.add.at(block, home[of_sign], neurons.vectors[of_sign])
    return Blocks(u, v)


def attained_norm(X: FloatArray, nu: FloatArray, network: ReLUNetwork) -> float:
    """Largest ``|nu^T (X u)_+|`` over the directions u of the neurons."""
    sizes = np.linalg.norm(network.W, axis=1)
    units = network.W[sizes > 0] / sizes[sizes > 0, None]
    total = np.zeros(len(units))
    for rows in row_slabs(len(X), len(units), entries=1 << 20):
        total += nu[rows] @ np.maximum(X[rows] @ units.T, 0.0)
    return float(np.max(np.abs(total), initial=0.0))
