r"""From a gated ReLU network to a ReLU network with the same outputs on the data: the cone decomposition.

A block u of a gate is free, while a ReLU neuron has to stay in the cone :math:`K = \{z : (2D - I) X z \ge 0\}` of
its pattern. Where the cone has interior points, :math:`K - K` is the whole space (Mishkin, Sahiner and Pilanci,
2022, "Fast convex optimization for two-layer ReLU networks", section 3), so that :math:`u = z_1 - z_2` with both in
K, and :math:`D X u = (X z_1)_+ - (X z_2)_+`. The least norm :math:`\|z_1\| + \|z_2\|` is found by a second-order
cone program.
"""

# pyright: reportAttributeAccessIssue=false
# Clarabel ships no type stubs for its compiled module.

from __future__ import annotations

from dataclasses import dataclass

import clarabel
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.optimize import linprog

from cvxnn._validation import as_features
from cvxnn.architectures import gate_masks
from cvxnn.networks import ReLUNetwork, row_norms
from cvxnn.patterns._rank import reduce_rank
from cvxnn.programs.gated import GatedReLUNetwork

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

__all__ = ["ConeDecomposition", "decompose_cones"]

_INSIDE = 1e-12
"""Least slack of an interior point of length one, relative to the rows, that is no rounding."""

_ROUNDING = 1e-14
"""Slack relative to the length of a vector that may be a rounded zero."""

_INTERIOR = 1e-9
_STEPS = 60


@dataclass(frozen=True, eq=False)
class ConeDecomposition:
    """ReLU network with the outputs of a gated one on the data.

    Attributes
    ----------
    network : ReLUNetwork
        At most two neurons for each block of the gated network.
    gated_norm : float
        Sum of the norms of the blocks, the penalty of the balanced gated network without beta.
    relu_norm : float
        Sum of the norms of the parts, the penalty of the ReLU network.
    """

    network: ReLUNetwork
    gated_norm: float
    relu_norm: float

    @property
    def growth(self) -> float:
        """Factor by which the norm grows; 1 where every block is in its cone already, and for the zero network."""
        return self.relu_norm / self.gated_norm if self.gated_norm > 0.0 else 1.0


def decompose_cones(network: GatedReLUNetwork, X: npt.ArrayLike) -> ConeDecomposition:
    r"""ReLU network whose outputs on the data are those of a gated ReLU network.

    On other data the outputs differ. The objective rises by :math:`\beta` times the growth of the norm, so that the
    ReLU network shows how far the optimum of ReLU networks can be from that of gated ones with these gates.

    Parameters
    ----------
    network : GatedReLUNetwork
    X : array-like (n, d)
        The data on which the outputs agree.

    Raises
    ------
    ValueError
        Where the cone of a gate has no interior, so that its block may not be a difference of two of its vectors.

    Examples
    --------
    >>> gated = GatedReLUNetwork([[1.0, 0.0]], [[0.0, 1.0]], [1.0])
    >>> X = np.array([[1.0, 1.0], [1.0, -1.0]])
    >>> parts = decompose_cones(gated, X)
    >>> parts.network(X).round(6), round(parts.growth, 6)
    (array([ 1., -1.]), 1.414214)
    """
    data = as_features(X, network.n_features)
    # One block for each gate: neurons of one gate add up.
    gates = np.unique(network.gates + 0.0, axis=0)
    blocks = network.vectors(gates) if len(gates) else np.zeros((0, data.shape[1]))
    reduced, basis = reduce_rank(data)
    masks = gate_masks(data, gates) if len(gates) else np.zeros((0, len(data)), dtype=bool)
    vectors, signs, total = [], [], 0.0
    for gate, mask, block in zip(gates, masks, blocks, strict=True):
        # What is orthogonal to the data has no output.
        u = basis.T @ block
        total += float(np.linalg.norm(block))
        # A sample that the gate lets through everywhere on one side decides nothing: rows of zeros drop out.
        rows = np.where(mask[:, None], reduced, -reduced)[np.any(reduced != 0.0, axis=1)]
        for part, sign in zip(_difference(rows / row_norms(rows)[:, None], u, gate), (1.0, -1.0), strict=True):
            if np.any(part):
                vectors.append(basis @ part)
                signs.append(sign)
    parts = np.array(vectors).reshape(len(vectors), data.shape[1])
    return ConeDecomposition(ReLUNetwork.from_vectors(parts, np.array(signs)), total, float(np.sum(row_norms(parts))))


def _difference(rows: FloatArray, u: FloatArray, gate: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Vectors of the cone ``rows z >= 0`` whose difference is u, of least norm in sum."""
    zero = np.zeros_like(u)
    length = float(np.linalg.norm(u))
    slacks = rows @ u
    if length == 0.0 or np.all(slacks >= -_ROUNDING * length):
        return u, zero
    if np.all(slacks <= _ROUNDING * length):
        return zero, -u
    inner = _interior_point(rows)
    if inner is None:
        shown = np.array2string(gate, precision=3, threshold=6)
        raise ValueError(
            f"the cone of the gate {shown} has no interior on these data: some samples are opposite or dependent under "
            "its pattern, so that its block is no difference of two vectors of the cone; leave this gate out."
        )
    second = _least_norm(rows, u / length)
    # The solver meets the cone to its accuracy; a common move inwards leaves the difference as it is.
    push = _INTERIOR
    for _ in range(_STEPS):
        low = second + push * inner
        high = low + u / length
        if np.all(rows @ low >= 0.0) and np.all(rows @ high >= 0.0):
            return length * high, length * low
        push *= 2.0
    raise ValueError("the cone of a gate is too thin for a decomposition in floating point; leave this gate out.")


def _interior_point(rows: FloatArray) -> FloatArray | None:
    """Unit vector with the largest least slack on unit rows, in the maximum norm; None without interior."""
    r = rows.shape[1]
    found = linprog(
        np.append(np.zeros(r), -1.0),
        A_ub=np.column_stack([-rows, np.ones(len(rows))]),
        b_ub=np.zeros(len(rows)),
        bounds=[*[(-1.0, 1.0)] * r, (None, 1.0)],
        method="highs",
    )
    if not found.success or found.x[-1] <= _INSIDE:
        return None
    point = found.x[:-1] / np.linalg.norm(found.x[:-1])
    return point if np.min(rows @ point) > 0.0 else None


def _least_norm(rows: FloatArray, u: FloatArray) -> FloatArray:
    """Second part z of ``min ||z + u|| + ||z||, rows z >= 0, rows (z + u) >= 0``, up to the accuracy of the solver."""
    n, r = rows.shape
    # Variables z, then the two norms.
    slack = sp.csc_array(np.column_stack([-rows, np.zeros((n, 2))]))
    norms = np.zeros((2 * (r + 1), r + 2))
    for k in range(2):
        norms[k * (r + 1), r + k] = -1.0
        norms[k * (r + 1) + 1 : (k + 1) * (r + 1), :r] = -np.eye(r)
    # Both constraints in one: rows z >= max(0, -rows u).
    right = np.concatenate([-np.maximum(0.0, -(rows @ u)), [0.0], u, [0.0], np.zeros(r)])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    cones = [clarabel.NonnegativeConeT(n), clarabel.SecondOrderConeT(r + 1), clarabel.SecondOrderConeT(r + 1)]
    solution = clarabel.DefaultSolver(
        sp.csc_matrix((r + 2, r + 2)),
        np.append(np.zeros(r), [1.0, 1.0]),
        sp.csc_matrix(sp.vstack([slack, sp.csc_array(norms)])),
        right,
        cones,
        settings,
    ).solve()
    point = np.asarray(solution.x)[:r]
    return point if np.all(np.isfinite(point)) else np.zeros(r)
