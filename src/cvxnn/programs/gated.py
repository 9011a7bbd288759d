r"""Gated ReLU networks and the group lasso that trains them.

With fixed gates, training the network :math:`f(X) = \sum_i D_i X w_i a_i,\ D_i = \mathrm{diag}(1[X g_i \ge 0])` with
weight decay is equivalent to

.. math:: \min_u\ \mathrm{loss}\Big(\sum_i D_i X u_i\Big) + \beta \sum_i \|u_i\|

(Mishkin, Sahiner and Pilanci, 2022, section 2): :math:`u_i = a_i w_i` in one direction,
:math:`w_i = u_i/\sqrt{\|u_i\|},\ a_i = \sqrt{\|u_i\|}` in the other. The program has no cones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_features, as_float_array, as_number, frozen_weights
from cvxnn._workers import in_parallel
from cvxnn.architectures import GatedReLU, gate_masks, gate_patterns
from cvxnn.certificates.gated_bound import certify_gated
from cvxnn.networks import HiddenLayer, row_norms, safe_ratio
from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns._bits import unpack
from cvxnn.problem import Problem
from cvxnn.progress import Recorder
from cvxnn.solution import Blocks, Solution, Status
from cvxnn.solvers.group_lasso import solve_group_lasso
from cvxnn.solvers.row_slabs import row_pieces

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

__all__ = ["GatedReLUNetwork", "solve_gated"]


@dataclass(frozen=True, eq=False, repr=False)
class GatedReLUNetwork(HiddenLayer):
    r"""Two-layer gated ReLU network :math:`f(X) = \sum_i \mathrm{diag}(1[X g_i \ge 0])\, X w_i a_i`.

    Parameters
    ----------
    gates : array-like (m, d)
        Gate of each neuron; gates may repeat.
    W : array-like (m, d)
        First layer, one neuron a row.
    a : array-like (m,)
        Second layer. Width m = 0 is allowed: it is the zero function.

    Raises
    ------
    ValueError
        If the shapes do not match or an entry is not finite.

    References
    ----------
    Mishkin, Sahiner and Pilanci (2022), "Fast Convex Optimization for Two-Layer ReLU Networks: Equivalent Model Classes
    and Cone Decompositions", section 2.

    Examples
    --------
    >>> net = GatedReLUNetwork([[1.0, 0.0]], [[0.0, 2.0]], [0.5])
    >>> net([[1.0, 3.0], [-1.0, 3.0]])
    array([3., 0.])
    """

    gates: FloatArray
    W: FloatArray
    a: FloatArray

    def __post_init__(self) -> None:
        """Check and freeze the arrays."""
        gates, W, a = (np.array(value, dtype=np.float64) for value in (self.gates, self.W, self.a))
        if W.ndim != 2 or W.shape[1] == 0:
            raise ValueError(f"W must have shape (m, d) with d >= 1; got {W.shape}.")
        if gates.shape != W.shape:
            raise ValueError(f"gates must have the shape {W.shape} of W; got {gates.shape}.")
        if a.shape != W.shape[:1]:
            raise ValueError(f"a must have shape (m,) with m = {W.shape[0]} as in W; got {a.shape}.")
        for name, array in (("gates", gates), ("W", W), ("a", a)):
            object.__setattr__(self, name, frozen_weights(array, name))

    @classmethod
    def from_vectors(cls, gates: npt.ArrayLike, vectors: npt.ArrayLike) -> GatedReLUNetwork:
        r"""Balanced network of the convex variables :math:`u_i`, one neuron for each nonzero row of ``vectors (P, d)``.

        Examples
        --------
        >>> GatedReLUNetwork.from_vectors([[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 4.0]]).W
        array([[0., 2.]])
        """
        g, u = np.asarray(gates, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
        norm = row_norms(u)
        keep = norm > 0
        root = np.sqrt(norm[keep])
        return cls(g[keep], u[keep] / root[:, None], root)

    def __call__(self, X: npt.ArrayLike) -> FloatArray:
        """Evaluate the network on data (n, d): outputs ``(n,)``."""
        data = as_features(X, self.n_features)
        return self._outputs(data, lambda rows: gate_masks(data[rows], self.gates))

    def _outputs(self, data: FloatArray, masks: Callable[[slice], BoolArray]) -> FloatArray:
        """Outputs on samples, given the masks ``(m, s)`` of each slab of them."""
        output = np.zeros(len(data))

        def sweep(slabs: Sequence[slice]) -> None:
            for rows in slabs:
                hidden = self.W @ data[rows].T
                hidden *= masks(rows)
                output[rows] = self.a @ hidden

        if self.width:
            in_parallel(sweep, row_pieces(len(data), self.width))
        return output

    def __repr__(self) -> str:
        """Short form with the sizes."""
        return f"GatedReLUNetwork(width={self.width}, n_features={self.n_features})"

    def penalty(self) -> float:
        r"""Weight decay term :math:`\tfrac12(\|W\|_F^2 + \|a\|^2)`, without beta; gates are not penalised."""
        return 0.5 * float(np.sum(self.W * self.W) + np.sum(self.a * self.a))

    def objective(self, problem: Problem) -> float:
        r"""Training objective :math:`\mathrm{loss}(f(X), y) + \beta\,`:meth:`penalty`.

        Examples
        --------
        >>> GatedReLUNetwork([[1.0]], [[1.0]], [1.0]).objective(Problem([[1.0]], [2.0], beta=0.5))
        1.0
        """
        return problem.loss_value(self(problem.X)) + problem.beta * self.penalty()

    def objective_on(self, problem: Problem, patterns: ActivationPatterns) -> float:
        """:meth:`objective`, given the patterns of the gates on the data, one for each neuron.

        Examples
        --------
        >>> net = GatedReLUNetwork([[1.0]], [[1.0]], [1.0])
        >>> net.objective_on(Problem([[1.0]], [2.0], beta=0.5), ActivationPatterns.from_masks([[True]], [[1.0]]))
        1.0
        """

        def masks(rows: slice) -> BoolArray:
            return unpack(patterns.packed[:, rows.start // 8 : (rows.stop + 7) // 8], rows.stop - rows.start)

        return problem.loss_value(self._outputs(problem.X, masks)) + problem.beta * self.penalty()

    def balanced(self) -> GatedReLUNetwork:
        r"""Rescale each neuron to :math:`\|w\| = |a|`; the function is unchanged and the penalty never rises.

        Examples
        --------
        >>> GatedReLUNetwork([[1.0]], [[8.0]], [-2.0]).balanced().a
        array([-4.])
        """
        size_w, size_a = row_norms(self.W), np.abs(self.a)
        root = np.sqrt(size_w) * np.sqrt(size_a)
        return GatedReLUNetwork(
            self.gates, self.W * safe_ratio(root, size_w)[:, None], self.a * safe_ratio(root, size_a)
        )

    def vectors(self, gates: npt.ArrayLike) -> FloatArray:
        r"""Blocks :math:`u_i = \sum a_j w_j` over the neurons j with gate i, for listed gates ``(P, d)``.

        The inverse of :meth:`from_vectors`; of equal gates in the list only the first receives the neurons.

        Raises
        ------
        ValueError
            If a neuron has a gate that is not listed.

        Examples
        --------
        >>> net = GatedReLUNetwork([[0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0])
        >>> net.vectors([[1.0, 0.0], [0.0, 1.0]])
        array([[ 0.,  0.],
               [ 1., -1.]])
        """
        rows = as_float_array(gates, "gates", ndim=2)
        place: dict[bytes, int] = {}
        for i, row in enumerate(rows + 0.0):
            place.setdefault(row.tobytes(), i)
        out = np.zeros_like(rows)
        for gate, w, a in zip(self.gates + 0.0, self.W, self.a, strict=True):
            home = place.get(gate.tobytes())
            if home is None:
                raise ValueError("gates must list the gate of every neuron; one of them is missing.")
            out[home] += a * w
        return out


def solve_gated(
    problem: Problem,
    architecture: GatedReLU,
    *,
    tol: float = 1e-6,
    time_limit: float | None = None,
    max_iter: int | None = None,
    warm_start: GatedReLUNetwork | None = None,
    recorder: Recorder | None = None,
    patterns: ActivationPatterns | None = None,
) -> Solution:
    r"""Train a gated ReLU network with fixed gates to a certified optimum.

    Parameters
    ----------
    problem : Problem
        Data, loss and weight decay ``beta > 0``.
    architecture : GatedReLU
        The gates.
    tol : float, default 1e-6
        Relative duality gap, > 0.
    time_limit : float, optional
        Seconds from the call on; the best network so far is returned when they run out.
    max_iter : int, optional
        Iterations, 200 by default: working sets, or Newton steps on all rows where the samples are many.
    warm_start : GatedReLUNetwork, optional
        Network whose gates are among those of the architecture.
    recorder : Recorder, optional
        Clock, history and callback; ``Recorder(callback)`` calls back after each working set.
    patterns : ActivationPatterns, optional
        Result of :func:`cvxnn.architectures.gate_patterns` for the data and the gates, if it is at hand.

    Returns
    -------
    Solution
        Its network is a balanced :class:`GatedReLUNetwork`; ``patterns`` and ``blocks`` have one row for each gate, and
        ``blocks.v`` is 0. The bound holds for all gated networks with these gates, however often each is used: scope
        "patterns". It is no bound for ReLU networks, so that ``global_lower_bound`` is 0.

    Raises
    ------
    ValueError
        If ``beta`` is zero, an option is out of range, or the gates have another number of columns than the data.

    References
    ----------
    Mishkin, Sahiner and Pilanci (2022), "Fast Convex Optimization for Two-Layer ReLU Networks: Equivalent Model Classes
    and Cone Decompositions", section 2.

    Examples
    --------
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0]], [2.0, -1.0], beta=0.5)
    >>> s = solve_gated(problem, GatedReLU([[1.0, -1.0], [-1.0, 1.0]]))
    >>> round(s.objective, 6), s.network.width, s.status.value
    (1.25, 2, 'patterns optimum')
    """
    begin = time.perf_counter()
    _check_options(problem, architecture, tol, time_limit, max_iter)
    gates = architecture.gates
    if patterns is None:
        patterns = gate_patterns(problem.X, gates)
    start = None
    if warm_start is not None:
        if warm_start.n_features != problem.n_features:
            raise ValueError(
                f"warm_start takes {warm_start.n_features} features; the problem has {problem.n_features}."
            )
        start = warm_start.vectors(gates)
    left = None if time_limit is None else max(0.0, time_limit - (time.perf_counter() - begin))
    result = solve_group_lasso(
        problem, patterns, tol=tol, time_limit=left, max_iter=max_iter, warm_start=start, recorder=recorder
    )
    network = GatedReLUNetwork.from_vectors(gates[result.index], result.vectors)
    objective = network.objective_on(problem, patterns.subset(result.index))
    certificate = certify_gated(problem, objective, patterns, result.dual)
    status = result.status
    if certificate.gap <= tol:
        status = Status.PATTERNS_OPTIMUM
    elif status.converged:
        status = Status.STALLED
    u = np.zeros(gates.shape)
    u[result.index] = result.vectors
    return Solution(
        network=network,
        certificate=certificate,
        status=status,
        patterns=patterns,
        blocks=Blocks(u, np.zeros_like(u)),
        history=result.history,
        n_iter=result.n_iter,
    )


def _check_options(
    problem: Problem, architecture: GatedReLU, tol: float, time_limit: float | None, max_iter: int | None
) -> None:
    if problem.beta == 0.0:
        raise ValueError("beta must be > 0 to train a gated network to a certified optimum; got 0.")
    if architecture.gates.shape[1] != problem.n_features:
        raise ValueError(
            f"gates has {architecture.gates.shape[1]} columns but X has {problem.n_features} features; they must match."
        )
    as_number(tol, "tol", minimum=0.0, inclusive=False)
    if time_limit is not None:
        as_number(time_limit, "time_limit", minimum=0.0)
    if max_iter is not None and (isinstance(max_iter, bool) or int(max_iter) != max_iter or max_iter < 1):
        raise ValueError(f"max_iter must be a positive integer; got {max_iter!r}.")
