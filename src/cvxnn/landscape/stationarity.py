r"""Stationarity of a two-layer ReLU network: Clarke, directional, and what convex program it solves.

The objective has kinks where a pre-activation vanishes. Directional (B-) stationarity, no one-sided derivative being
negative, holds exactly when the network is a global optimum of the convex program confined to all open cells that touch
its neurons, each with the neuron's output sign. Clarke stationarity is weaker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_number
from cvxnn.landscape._adjacent_cells import KinkReading, adjacent_cells
from cvxnn.landscape._cell_optimum import CellOptimum
from cvxnn.landscape._neuron_stationarity import NeuronStationarity, judge_neuron, read_network
from cvxnn.landscape._subsampled import subsampled_optimum
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, require_no_output_bias, require_one_output
from cvxnn.solvers.cells import unique_cells

FloatArray = npt.NDArray[np.float64]

__all__ = ["DescentDirection", "NeuronStationarity", "Stationarity", "stationarity"]

_HALVINGS = 60


class DescentDirection(NamedTuple):
    """Direction ``(dW, da)`` in the weights along which the objective falls."""

    dW: FloatArray
    da: FloatArray


@dataclass(frozen=True, eq=False)
class Stationarity:
    """Stationarity of a network, by :func:`stationarity`.

    Attributes
    ----------
    problem : Problem
    given : ReLUNetwork
        Network that was asked about.
    network : ReLUNetwork
        Network that was judged: ``given`` with the weights of ``snapped`` and ``zeroed`` neurons moved.
    objective : float
        Objective of ``given``.
    clarke_residual, directional_residual : float
        Largest residual of the neurons and of the output bias; 0 for a stationary network. They are lower bounds
        where :attr:`reason` tells so.
    output_bias_residual : float
        Departure of the sum of the dual vector from ``kappa b``, relative to the sum of the sizes of both; 0 for
        problems without an output bias.
    neurons : tuple of NeuronStationarity
    tol, kink_tol : float
    snapped : ndarray of int
        Neurons whose weight vector was moved onto its kinks.
    zeroed : ndarray of int
        Neurons so small beside the largest one that they were read as zero.
    largest_snapped : float
        Largest ``|x_j^T w| / (||x_j|| ||w||)`` that was read as zero.
    reason : str
        Why a verdict is None; empty where both are decided.
    descent_direction : DescentDirection or None
        Direction from :attr:`network` that lowers the objective, where the network is not directionally stationary.
        ``network.W + t * dW``, ``network.a + t * da`` is lower for ``t = descent_step``, as was checked.
    descent_output_bias : float
        Part of the direction in the output bias.
    descent_rate : float
        One-sided derivative along the direction, negative; 0 where there is none.
    descent_step : float
    """

    problem: Problem
    given: ReLUNetwork
    network: ReLUNetwork
    objective: float
    clarke_residual: float
    directional_residual: float
    output_bias_residual: float
    neurons: tuple[NeuronStationarity, ...]
    tol: float
    kink_tol: float
    snapped: npt.NDArray[np.int64]
    zeroed: npt.NDArray[np.int64]
    largest_snapped: float
    reason: str
    descent_direction: DescentDirection | None
    descent_output_bias: float
    descent_rate: float
    descent_step: float
    _readings: dict[int, KinkReading] = field(repr=False)
    _max_cells: int = field(repr=False)

    @property
    def is_clarke(self) -> bool | None:
        """Whether 0 lies in Clarke's subdifferential, to within ``tol``; None where it was not decided."""
        exact = all(neuron.clarke_exact for neuron in self.neurons)
        return _verdict(self.clarke_residual, self.tol, exact=exact)

    @property
    def is_directional(self) -> bool | None:
        """Whether no one-sided derivative is negative, to within ``tol``; None where it was not decided."""
        exact = all(neuron.directional_exact for neuron in self.neurons)
        return _verdict(self.directional_residual, self.tol, exact=exact)

    @cached_property
    def _cells(self) -> tuple[ActivationPatterns, FloatArray]:
        X = self.problem.X
        masks, gates, signs = [np.zeros((0, len(X)), dtype=np.bool_)], [np.zeros((0, X.shape[1]))], [np.zeros(0)]
        for neuron in self.neurons:
            if neuron.kind in ("active", "dead"):
                cell, gate = adjacent_cells(X, self._readings[neuron.index], self._max_cells)
                masks.append(cell)
                gates.append(gate)
                signs.append(np.full(len(cell), np.sign(self.network.a[neuron.index])))
        every, sign = np.concatenate(masks), np.concatenate(signs)
        index = unique_cells(every, sign)
        return ActivationPatterns.from_masks(every[index], np.concatenate(gates)[index]), sign[index]

    @property
    def patterns(self) -> ActivationPatterns:
        """Open cells whose closure holds a neuron, each once for each output sign that occurs there.

        Raises
        ------
        PatternLimitError
            When a neuron may touch more than ``max_cells`` of them.
        """
        return self._cells[0]

    @property
    def pattern_signs(self) -> FloatArray:
        """Output sign of each pattern, ``(P,)``."""
        return self._cells[1]

    @cached_property
    def subsampled(self) -> CellOptimum:
        """Optimum of the convex program on :attr:`patterns` with :attr:`pattern_signs`, with a proved bound.

        The patterns are not listed for it: kinks that bend the dual function down need no case distinction.

        Raises
        ------
        PatternLimitError
            When a neuron has more than ``max_cells`` cells of concave kinks.
        ValueError
            For a problem with an output bias or with a loss that has no conic form.
        """
        require_no_output_bias(self.problem, "subsampled_optimum")
        indices = [neuron.index for neuron in self.neurons if neuron.kind in ("active", "dead")]
        readings = [self._readings[i] for i in indices]
        signs = np.sign(self.network.a[indices])
        return subsampled_optimum(self.problem, self.network, readings, signs, self._max_cells)

    @property
    def subsampled_optimum(self) -> float:
        """Optimal value of the convex program on :attr:`patterns`, computed when it is first asked for."""
        return self.subsampled.value

    @property
    def distance(self) -> float:
        """Objective minus :attr:`subsampled_optimum`: 0, up to rounding, exactly for directionally stationary ones."""
        return self.objective - self.subsampled_optimum

    def __repr__(self) -> str:
        """Both verdicts with their residuals."""
        return (
            f"Stationarity(is_clarke={self.is_clarke}, is_directional={self.is_directional}, "
            f"clarke_residual={self.clarke_residual:.1e}, directional_residual={self.directional_residual:.1e}, "
            f"snapped={len(self.snapped)}, zeroed={len(self.zeroed)})"
        )


def stationarity(
    problem: Problem,
    network: ReLUNetwork,
    *,
    kink_tol: float = 1e-7,
    tol: float = 1e-6,
    snap: bool = True,
    max_cells: int = 10_000,
) -> Stationarity:
    r"""Decide whether a network is stationary, in the sense of Clarke and in every direction.

    With :math:`\nu = -\nabla\ell(f)`, the objective changes to first order under a move (d, e) of a neuron (w, a) by

    .. math:: \Big(\beta w - a \sum_{x_j^\top w > 0} \nu_j x_j\Big)^\top d
              - \sum_{x_j^\top w = 0} a \nu_j (x_j^\top d)_+ + \big(\beta a - \nu^\top (Xw)_+\big) e .

    *Directional* stationarity asks that this is never negative. Where it holds, the network is a global optimum of the
    convex program confined to the open cells whose closure holds its neurons, each with the neuron's output sign; and
    such an optimum is directionally stationary. *Clarke* stationarity asks that 0 lies in the hull of the gradients on
    these cells. It is weaker: at a kink with :math:`a\nu_j > 0` a Clarke stationary network may go downhill on both
    sides, and it then solves no such program.

    Parameters
    ----------
    problem : Problem
        With ``beta > 0``; an output bias is judged, too.
    network : ReLUNetwork
        With one output. Any width, neurons of any kind.
    kink_tol : float, default 1e-7
        A pre-activation is read as zero where :math:`|x_j^\top w| \le` ``kink_tol`` :math:`\|x_j\|\|w\|`. Networks that
        were trained by gradient methods lie near their kinks, not on them: 1e-4 or 1e-3 suits L-BFGS and SGD. A
        neuron smaller than ``kink_tol`` times the largest one, or than ``kink_tol * sqrt(objective / beta)``, is read
        as zero.
    tol : float, default 1e-6
        Largest relative residual of a stationary network.
    snap : bool, default True
        Move weight vectors exactly onto the kinks that were read (and small neurons to zero) before judging.
    max_cells : int, default 10000
        Most cells around one neuron to be looked at, where the cheaper tests do not decide.

    Returns
    -------
    Stationarity
        Verdicts, residuals, the neurons one by one, the patterns around them with the optimum of their program, and
        a direction of descent.

    Raises
    ------
    ValueError
        On ``beta = 0``, a network that does not fit the problem, or options out of range.

    Notes
    -----
    Both residuals are exact (one bounded least-squares problem for each cell of the concave kinks; the hull by
    non-negative least squares) unless a neuron has more than ``max_cells`` cells and its kinks are linearly dependent.

    References
    ----------
    Wang, Lacotte and Pilanci (2022), "The hidden convex optimization landscape of regularized two-layer ReLU networks:
    an exact characterization of optimal solutions", relates stationary points to sub-sampled convex programs. The
    equivalence holds for directional stationarity and all adjacent cells; at kinks it fails for Clarke's.

    Examples
    --------
    A network that is Clarke stationary at a kink of the wrong kind:

    >>> from cvxnn import Problem, ReLUNetwork
    >>> problem = Problem([[0.0, 1.0], [1.0, -1.0]], [2.0, 2.0], beta=1.0)
    >>> result = stationarity(problem, ReLUNetwork([[1.0, 0.0]], [1.0]))
    >>> result.is_clarke, result.is_directional
    (True, False)
    >>> result.objective, round(result.subsampled_optimum, 6)
    (3.5, 2.992641)
    """
    _check(problem, network, max_cells)
    kink_tol = as_number(kink_tol, "kink_tol", minimum=0.0)
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    judged, readings, zeroed = read_network(problem, network, kink_tol, snap=snap)
    nu = problem.dual_vector(judged(problem.X))
    neurons, moves = [], []
    for i in range(judged.width):
        neuron, move = judge_neuron(problem, nu, i, judged, readings.get(i), tol, int(max_cells))
        neurons.append(neuron)
        moves.append(move)
    bias_gradient, bias_residual = _bias(problem, nu, judged.output_bias)
    clarke = max([bias_residual, *(neuron.clarke_residual for neuron in neurons)])
    directional = max([bias_residual, *(neuron.directional_residual for neuron in neurons)])
    descent = _descent(problem, judged, neurons, moves, bias_gradient if bias_residual > tol else 0.0, tol)
    return Stationarity(
        problem=problem,
        given=network,
        network=judged,
        objective=network.objective(problem),
        clarke_residual=clarke,
        directional_residual=directional,
        output_bias_residual=bias_residual,
        neurons=tuple(neurons),
        tol=tol,
        kink_tol=kink_tol,
        snapped=np.array([i for i, reading in readings.items() if reading.moved > 0.0], dtype=np.int64),
        zeroed=zeroed,
        largest_snapped=max((reading.largest for reading in readings.values()), default=0.0),
        reason=_reason(neurons, tol, int(max_cells)),
        descent_direction=descent[0],
        descent_output_bias=descent[1],
        descent_rate=descent[2],
        descent_step=descent[3],
        _readings=readings,
        _max_cells=int(max_cells),
    )


def _check(problem: Problem, network: ReLUNetwork, max_cells: int) -> None:
    require_one_output(problem, "stationarity")
    if not isinstance(network, ReLUNetwork):
        raise ValueError(f"network must be a cvxnn.ReLUNetwork; got {type(network).__name__}.")
    if problem.beta == 0.0:
        raise ValueError("beta is 0; stationarity needs beta > 0, since residuals are relative to the weight decay.")
    if network.a.ndim != 1 or network.n_features != problem.n_features:
        raise ValueError(
            f"network must be a ReLUNetwork with {problem.n_features} features and one output; got {network!r}."
        )
    as_count(max_cells, "max_cells")


def _verdict(residual: float, tol: float, *, exact: bool) -> bool | None:
    if residual > tol:
        return False
    return True if exact else None


def _bias(problem: Problem, nu: FloatArray, bias: float) -> tuple[float, float]:
    """Derivative in the output bias, and its size relative to its terms."""
    if problem.output_bias_decay is None:
        return 0.0, 0.0
    pull = problem.output_bias_decay * bias
    gradient = pull - float(np.sum(nu))
    scale = abs(pull) + float(np.sum(np.abs(nu)))
    return gradient, abs(gradient) / scale if scale > 0.0 else 0.0


def _descent(
    problem: Problem,
    network: ReLUNetwork,
    neurons: list[NeuronStationarity],
    moves: list[tuple[FloatArray, float]],
    bias_gradient: float,
    tol: float,
) -> tuple[DescentDirection | None, float, float, float]:
    """Join the steepest descents of the neurons that are not stationary, and check that the objective falls."""
    dW, da = np.zeros_like(network.W), np.zeros_like(network.a)
    for neuron, (w_move, a_move) in zip(neurons, moves, strict=True):
        if neuron.directional_residual > tol:
            dW[neuron.index], da[neuron.index] = -w_move, -a_move
    rate = -float(np.sum(dW * dW) + np.sum(da * da)) - bias_gradient**2
    if rate == 0.0:
        return None, 0.0, 0.0, 0.0
    start = network.objective(problem)
    step = 1.0 / problem.beta
    for _ in range(_HALVINGS):
        moved = ReLUNetwork(network.W + step * dW, network.a + step * da, network.output_bias - step * bias_gradient)
        if moved.objective(problem) < start:
            return DescentDirection(dW, da), -bias_gradient, rate, step
        step *= 0.5
    return None, 0.0, 0.0, 0.0


def _reason(neurons: list[NeuronStationarity], tol: float, max_cells: int) -> str:
    open_cases = [
        neuron.index
        for neuron in neurons
        if (not neuron.clarke_exact and neuron.clarke_residual <= tol)
        or (not neuron.directional_exact and neuron.directional_residual <= tol)
    ]
    if not open_cases:
        return ""
    named = ", ".join(str(index) for index in open_cases[:5]) + ("" if len(open_cases) <= 5 else ", ...")
    return f"more than max_cells={max_cells} cells touch neuron {named}, and its kinks are linearly dependent"
