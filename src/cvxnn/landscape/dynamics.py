r"""Laboratory of training dynamics: gradient descent on the non-convex objective, seen through activation patterns.

A large initialisation leaves the patterns of the neurons nearly as they were (lazy training); from a small one the
neurons first turn towards few directions while they are still small, and grow afterwards: few patterns are left.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_number, as_seed
from cvxnn.landscape._gradient_descent import BACKTRACKING, Descent, Stuck, Weights
from cvxnn.landscape.trajectory import PatternOptima, Trajectory
from cvxnn.networks import ReLUNetwork, row_norms
from cvxnn.problem import Problem, require_no_output_bias, require_one_output, require_problem

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Stopped = Literal["steps", "time limit", "interrupted"] | Stuck

__all__ = ["Dynamics", "dynamics", "initial_network", "line_columns"]

_RECORDS = 100


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Record of a run of gradient descent: T recorded steps of a network with m neurons on n samples.

    Attributes
    ----------
    problem : Problem
    steps : ndarray (T,) of int
        Numbers of the recorded steps; 0 is the start.
    objective, loss : ndarray (T,)
        Training objective, and its part without weight decay.
    step_size : ndarray (T,)
        Step size in use at each record.
    n_patterns : ndarray (T,) of int
        Distinct activation patterns of the neurons that are active on some sample.
    changed : ndarray (T,)
        Share of the pairs of a neuron and a sample whose activation is not that of the start.
    norms, outputs : ndarray (T, m)
        Norms of the first-layer weights of each neuron; output weights, ``(T, m, c)`` for c outputs.
    activation_points : ndarray (T, m) or None
        For data of one input and a constant column: the input at which each neuron switches, NaN where it never does.
    fits : ndarray (T, n)
        Outputs on the samples, ``(T, n, c)`` for c outputs.
    weights : ndarray (T, m, d) or None
        First-layer weights, unless they were not to be kept.
    biases : ndarray (T,)
        Output biases; zero where the problem allows none.
    final : ReLUNetwork
        Network of the last record.
    trajectory : Trajectory or None
        Optima of the convex programs on the current patterns, at the records ``optimum_records``.
    optimum_records : ndarray (K,) of int
        Positions of these records in :attr:`steps`.
    stopped : {"steps", "stationary", "no descent", "diverged", "time limit", "interrupted"}
        Why the run ended: all steps taken; gradient zero; backtracking found no descent (a kink, or rounding); the next
        point was not finite; ``time_limit``; Ctrl-C.
    """

    problem: Problem
    steps: IntArray
    objective: FloatArray
    loss: FloatArray
    step_size: FloatArray
    n_patterns: IntArray
    changed: FloatArray
    norms: FloatArray
    outputs: FloatArray
    activation_points: FloatArray | None
    fits: FloatArray
    weights: FloatArray | None
    biases: FloatArray
    final: ReLUNetwork
    trajectory: Trajectory | None
    optimum_records: IntArray
    stopped: Stopped

    def __len__(self) -> int:
        """Return the number of records T."""
        return len(self.steps)

    def __repr__(self) -> str:
        """Key figures on one line."""
        return (
            f"Dynamics(steps={self.steps[-1]}, width={self.final.width}, "
            f"objective {self.objective[0]:.6g} -> {self.objective[-1]:.6g}, "
            f"patterns {self.n_patterns[0]} -> {self.n_patterns[-1]}, stopped={self.stopped!r})"
        )

    def network(self, record: int) -> ReLUNetwork:
        """Network of a record.

        Raises
        ------
        ValueError
            When the weights were not kept, or there is no such record.
        """
        if self.weights is None:
            raise ValueError("weights were not kept; run dynamics with keep_weights=True.")
        if not -len(self) <= record < len(self):
            raise ValueError(f"record must name one of the {len(self)} records; got {record}.")
        return ReLUNetwork(self.weights[record], self.outputs[record], output_bias=float(self.biases[record]))


@dataclass(frozen=True, eq=False)
class _Record:
    """What is kept of one step."""

    step: int
    objective: float
    loss: float
    step_size: float
    n_patterns: int
    changed: float
    norms: FloatArray
    a: FloatArray
    points: FloatArray | None
    fit: FloatArray
    W: FloatArray | None
    bias: float


class _Recorder:
    """Records of a run, appended one at a time, so that an interrupt finds them whole."""

    def __init__(self, problem: Problem, start: ReLUNetwork, keep_weights: bool, optima: tuple[int, float]) -> None:
        self._problem, self._keep = problem, keep_weights
        self._first = problem.X @ start.W.T >= 0
        self._every = optima[0]
        self._optima = PatternOptima(problem, tol=optima[1]) if self._every else None
        self.rows: list[_Record] = []

    def append(self, step: int, descent: Descent) -> ReLUNetwork:
        """Record the point of the descent."""
        at, problem = descent.at, self._problem
        network = at.network()
        ahead = problem.X @ at.W.T
        active = ahead >= 0
        met = np.packbits(active[:, np.any(ahead > 0, axis=0)], axis=0)
        self.rows.append(
            _Record(
                step,
                descent.now.objective,
                descent.now.loss,
                descent.step_size,
                np.unique(met, axis=1).shape[1],
                float(np.mean(active != self._first)),
                row_norms(at.W),
                at.a,
                _activation_points(problem.X, at.W),
                network(problem.X),
                at.W if self._keep else None,
                at.b,
            )
        )
        return network

    def solve(self, network: ReLUNetwork, seconds: float | None) -> None:
        """Optimum of the patterns of the last record, where its turn has come."""
        if self._optima is not None and (len(self.rows) - 1) % self._every == 0:
            self._optima.add(network, time_limit=seconds)

    def result(self, final: ReLUNetwork, stopped: Stopped) -> Dynamics:
        """The record as arrays."""
        rows = self.rows
        trajectory = None if self._optima is None else self._optima.trajectory()
        return Dynamics(
            problem=self._problem,
            steps=np.array([row.step for row in rows], dtype=np.int64),
            objective=np.array([row.objective for row in rows]),
            loss=np.array([row.loss for row in rows]),
            step_size=np.array([row.step_size for row in rows]),
            n_patterns=np.array([row.n_patterns for row in rows], dtype=np.int64),
            changed=np.array([row.changed for row in rows]),
            norms=np.array([row.norms for row in rows]),
            outputs=np.array([row.a for row in rows]),
            activation_points=_stacked([row.points for row in rows]),
            fits=np.array([row.fit for row in rows]),
            weights=_stacked([row.W for row in rows]),
            biases=np.array([row.bias for row in rows]),
            final=final,
            trajectory=trajectory,
            optimum_records=np.arange(0 if trajectory is None else len(trajectory), dtype=np.int64) * self._every,
            stopped=stopped,
        )


def _stacked(arrays: list[FloatArray | None]) -> FloatArray | None:
    kept = [array for array in arrays if array is not None]
    return np.array(kept) if kept else None


def line_columns(X: FloatArray) -> tuple[int, int] | None:
    """Positions of the input and of the constant column of data on a line; None for other data.

    Examples
    --------
    >>> import numpy as np
    >>> line_columns(np.array([[1.0, 0.5], [1.0, 2.0]])), line_columns(np.array([[1.0, 0.5], [2.0, 1.0]]))
    ((1, 0), None)
    """
    if X.shape[1] != 2:
        return None
    constant = (np.ptp(X, axis=0) == 0.0) & (X[0] != 0.0)
    if constant[0] == constant[1]:
        return None
    return (1, 0) if constant[0] else (0, 1)


def _activation_points(X: FloatArray, W: FloatArray) -> FloatArray | None:
    """Inputs at which the neurons switch, for data on a line."""
    columns = line_columns(X)
    if columns is None:
        return None
    slope, height = W[:, columns[0]], W[:, columns[1]] * X[0, columns[1]]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        points = -height / slope
    return np.where(np.isfinite(points), points, np.nan)


def initial_network(
    problem: Problem,
    *,
    width: int = 100,
    scale: float = 1.0,
    paired: bool = False,
    random_state: int | None = 0,
) -> ReLUNetwork:
    r"""Random balanced network: :math:`w_i = \text{scale} \cdot g_i`, :math:`a_i = \pm\|w_i\|`, g standard normal.

    Parameters
    ----------
    problem : Problem
        Gives the numbers of features and outputs; with c outputs the sign is a random unit vector.
    width : int, default 100
        Number of neurons m.
    scale : float, default 1.0
        Standard deviation of the first-layer weights. The outputs grow with its square.
    paired : bool, default False
        Give the neurons ``i`` and ``i + m/2`` the same first layer and opposite output weights, so that the network
        starts as the zero function at any scale; the width must be even.
    random_state : int or None, default 0
        Seed; None stands for 0.

    Raises
    ------
    ValueError
        On a width that is not positive, or odd for pairs, or a scale that is not positive.

    References
    ----------
    Boursier, Pillaud-Vivien and Flammarion (2022), "Gradient flow dynamics of shallow ReLU networks", for the balanced
    start; Chizat, Oyallon and Bach (2019), "On lazy training in differentiable programming", for scale and pairs.

    Examples
    --------
    >>> from cvxnn import Problem
    >>> net = initial_network(Problem([[1.0, 2.0]], [1.0]), width=4, scale=0.1, paired=True)
    >>> net.width, net([[1.0, 2.0]])
    (4, array([0.]))
    """
    require_problem(problem)
    m, size = as_count(width, "width"), as_number(scale, "scale", minimum=0.0, inclusive=False)
    if paired and m % 2:
        raise ValueError(f"width must be even with paired=True; got {m}.")
    rng = np.random.default_rng(as_seed(random_state, "random_state"))
    drawn = m // 2 if paired else m
    W = size * rng.standard_normal((drawn, problem.n_features))
    side = rng.standard_normal((drawn, *problem.y.shape[1:]))
    rows = side.reshape(drawn, -1)
    a = (row_norms(W)[:, None] * rows / row_norms(rows)[:, None]).reshape(side.shape)
    return ReLUNetwork(np.vstack([W, W]), np.concatenate([a, -a])) if paired else ReLUNetwork(W, a)


def dynamics(
    problem: Problem,
    start: ReLUNetwork | None = None,
    *,
    width: int = 100,
    scale: float = 1.0,
    paired: bool = False,
    steps: int = 1000,
    step_size: float | Literal["backtracking"] | None = None,
    record: int | Iterable[int] | None = None,
    optima_every: int | None = None,
    tol: float = 1e-6,
    keep_weights: bool = True,
    time_limit: float | None = None,
    random_state: int | None = 0,
) -> Dynamics:
    r"""Run full-batch gradient descent on both layers and record what the patterns of the neurons do.

    .. math:: \theta_{t+1} = \theta_t - \eta_t \nabla L(\theta_t), \qquad \theta = (W, a)

    L is the objective of the problem, with weight decay; the derivative of the ReLU is taken as 0 at 0.

    Parameters
    ----------
    problem : Problem
        With any loss, sample weights, several outputs, or an output bias (which starts at that of ``start``, or 0).
    start : ReLUNetwork, optional
        Network to start from; ``width``, ``scale``, ``paired`` and ``random_state`` are for the random start that is
        drawn without one, see :func:`initial_network`.
    width, scale, paired, random_state
        Of the random start.
    steps : int, default 1000
        Steps to take.
    step_size : float, "backtracking" or None
        A constant. "backtracking": the step is doubled, then halved until it lowers the objective. None, the default:
        one over an estimate of the largest curvature (the Lipschitz constant of the gradient) at the start, renewed
        where a step of that size raises the objective, and never longer than before.
    record : int or iterable of int, optional
        Record each so many steps, or at these step numbers; about 100 evenly spaced ones by default. The first and the
        last step are always recorded.
    optima_every : int, optional
        Solve the convex program on the current patterns at each so many records, see :func:`trajectory_optima`; not at
        all by default. Needs one output, ``beta > 0`` and no output bias.
    tol : float, default 1e-6
        Relative gap of these solves.
    keep_weights : bool, default True
        Keep the first-layer weights of each record (T m d numbers).
    time_limit : float, optional
        Seconds, after which the run stops.

    Returns
    -------
    Dynamics
        The record so far also on Ctrl-C, at the time limit, or where the step size makes the run diverge; ``stopped``
        says which.

    Raises
    ------
    ValueError
        On options out of range, a start that does not fit the problem, or optima that the problem does not allow.

    References
    ----------
    Chizat, Oyallon and Bach (2019), "On lazy training in differentiable programming"; Maennel, Bousquet and Gelly
    (2018), "Gradient descent quantizes ReLU network features"; Pilanci and Ergen (2020), Theorem 1, for the programs.

    Examples
    --------
    >>> from cvxnn import Problem, ReLUNetwork
    >>> problem = Problem([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 0.0, 1.0], beta=0.01)
    >>> run = dynamics(problem, width=50, scale=0.001, steps=2000, optima_every=50)
    >>> run.n_patterns[0], run.n_patterns[-1], run.stopped
    (np.int64(5), np.int64(2), 'steps')
    >>> bool(run.objective[-1] >= run.trajectory.optima[-1])
    True
    """
    first = _checked_start(problem, start, width, scale, paired, random_state)
    count = as_count(steps, "steps", minimum=0)
    wanted = _records(record, count)
    size = _checked_step_size(step_size)
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    every = 0 if optima_every is None else as_count(optima_every, "optima_every")
    if every:
        _require_optima(problem)
    begin = time.perf_counter()
    recorder = _Recorder(problem, first, keep_weights, (every, tol))
    descent = Descent(problem, Weights(first.W, first.a, first.output_bias), size)
    step = 0
    stopped: Stopped = "steps"
    try:
        while True:
            left = None if limit is None else max(limit - (time.perf_counter() - begin), 0.0)
            if step in wanted:
                recorder.solve(recorder.append(step, descent), left)
            if step == count:
                break
            reason = "time limit" if left == 0.0 else descent.move()
            if reason is not None:
                stopped = reason
                break
            step += 1
    except KeyboardInterrupt:
        stopped = "interrupted"
    if not recorder.rows or recorder.rows[-1].step != step:
        recorder.append(step, descent)
    return recorder.result(descent.at.network(), stopped)


def _checked_start(
    problem: Problem, start: ReLUNetwork | None, width: int, scale: float, paired: bool, random_state: int | None
) -> ReLUNetwork:
    require_problem(problem)
    if start is None:
        return initial_network(problem, width=width, scale=scale, paired=paired, random_state=random_state)
    sizes = problem.n_features, problem.n_outputs
    if not isinstance(start, ReLUNetwork) or (start.n_features, start.n_outputs) != sizes or start.width == 0:
        raise ValueError(
            f"start must be a ReLUNetwork with at least one neuron, {sizes[0]} features and {sizes[1]} output(s); "
            f"got {start!r}."
        )
    start.objective(problem)  # Refuses an output bias that the problem does not allow.
    return ReLUNetwork(start.W, start.a.reshape(start.width, *problem.y.shape[1:]), output_bias=start.output_bias)


def _records(record: Any, steps: int) -> set[int]:
    """Step numbers to record."""
    if record is None:
        chosen = np.linspace(0, steps, min(_RECORDS, steps) + 1).round().astype(np.int64)
    elif hasattr(record, "__index__"):
        chosen = np.arange(0, steps + 1, as_count(record, "record"))
    else:
        chosen = [as_count(number, "record", minimum=0) for number in record]
    return {0, steps, *(int(number) for number in chosen if number <= steps)}


def _checked_step_size(step_size: Any) -> float | str | None:
    if step_size is None or (isinstance(step_size, str) and step_size == BACKTRACKING):
        return step_size
    if isinstance(step_size, str):
        raise ValueError(f'step_size must be a positive number, "{BACKTRACKING}" or None; got {step_size!r}.')
    return as_number(step_size, "step_size", minimum=0.0, inclusive=False)


def _require_optima(problem: Problem) -> None:
    """Refuse optima of patterns where no convex program on them is at hand."""
    require_one_output(problem, "dynamics with optima_every")
    require_no_output_bias(problem, "dynamics with optima_every")
    if problem.beta == 0.0:
        raise ValueError(
            "beta is 0; optima_every needs beta > 0, since without it optima may not be attained (leave it out)."
        )
