r"""One-vs-all: networks of several outputs whose penalty separates over the outputs.

.. math:: \mathrm{loss}(f(X), Y) + \tfrac{\beta}{2} \sum_k (\|w_k\|^2 + \|a_k\|_1^2), \qquad f(X) = (X W^T)_+ a

is, after balancing, :math:`\mathrm{loss} + \beta \sum_k \|w_k\| \|a_k\|_1`: a neuron that serves several outputs may be
split into one for each output at no cost. With a loss that adds up over the outputs, the problem is therefore c of one
output, each of which is convex (Pilanci and Ergen, 2020, Theorem 1), and its optimum is not below that of the penalty
:math:`\tfrac{\beta}{2}(\|W\|_F^2 + \|a\|_F^2)`, for which neurons may be shared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import Certificate
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, problem_of
from cvxnn.programs.relu import ReLUOptions, solve_relu
from cvxnn.progress import Recorder
from cvxnn.solution import Blocks, Solution, Status

FloatArray = npt.NDArray[np.float64]

__all__ = ["output_problems", "solve_one_vs_all", "stacked_network", "worst_status"]

_EPS = float(np.finfo(np.float64).eps)
_WORST_FIRST = (
    Status.INTERRUPTED,
    Status.STALLED,
    Status.TIME_LIMIT,
    Status.MAX_ITER,
    Status.WIDTH_LIMIT,
    Status.UNPROVED,
    Status.PATTERNS_OPTIMUM,
    Status.GLOBAL_OPTIMUM,
)


def output_problems(problem: Problem) -> list[Problem]:
    """Problems of the single outputs, whose objectives add up to that of the one-vs-all penalty.

    Raises
    ------
    ValueError
        If the loss couples the outputs.
    """
    if not problem.loss.entrywise:
        raise ValueError(
            f'one_vs_all needs a loss that adds up over the outputs; got loss="{problem.loss.name}" '
            '(use labels -1 and +1 in each column with loss="logistic", or one_vs_all=False).'
        )
    if problem.n_outputs == 1:
        return [problem]
    weight = problem.sample_weight
    return [problem_of(problem.X, y, problem.beta, problem.loss, sample_weight=weight) for y in problem.y.T]


def solve_one_vs_all(problem: Problem, options: ReLUOptions, recorder: Recorder) -> Solution:
    """Solve the problems of the outputs in turn, and put their networks side by side.

    The time is shared by the problems. Objectives and bounds are sums; the scope is "global" where it is so for every
    output, and then it means the networks of every width under the one-vs-all penalty. Blocks have the shape
    ``(P, d, c)``, and the dual vector ``(n, c)`` is the feasible point itself.

    Parameters
    ----------
    problem : Problem
        With a loss that adds up over its outputs.
    options : ReLUOptions
        As for one output; the warm start has as many outputs as the problem.
    recorder : Recorder
        Clock and history.

    Raises
    ------
    ValueError
        If the loss couples the outputs, or the width is limited.
    """
    parts = output_problems(problem)
    if options.max_width is not None:
        raise ValueError(
            "max_width does not go with one_vs_all, where each neuron serves one output; "
            "leave it out, or solve a problem for each column of y."
        )
    end = math.inf if options.time_limit is None else time.perf_counter() + options.time_limit
    waiting = [part.loss_value(np.zeros(part.n_samples)) for part in parts]
    solutions: list[Solution] = []
    for k, part in enumerate(parts):
        record = _PartRecorder(recorder, solutions, sum(waiting[k + 1 :]))
        share = None if math.isinf(end) else max(end - time.perf_counter(), 0.0) / (len(parts) - k)
        own = replace(options, time_limit=share, warm_start=_output_start(options.warm_start, k))
        try:
            solutions.append(solve_relu(part, own, record))
        except KeyboardInterrupt:
            own = replace(own, time_limit=0.0)
            solutions.append(replace(solve_relu(part, own, record), status=Status.INTERRUPTED))
        if solutions[-1].status is Status.INTERRUPTED:
            # One Ctrl-C stops the whole solve: the outputs to come only get what no time can give.
            end = time.perf_counter()
    return _joined(problem, solutions, options, recorder)


class _PartRecorder(Recorder):
    """Recorder of one output that writes the sums over all outputs to the recorder of the whole solve."""

    def __init__(self, whole: Recorder, done: Sequence[Solution], waiting: float) -> None:
        super().__init__(False)
        self._whole = whole
        self._objective = waiting + sum(solution.objective for solution in done)
        self._proved = sum(solution.lower_bound for solution in done)
        self._width = sum(solution.network.width for solution in done)
        self._iterations = sum(solution.n_iter for solution in done)

    def record(
        self,
        phase: str,
        iteration: int,
        *,
        objective: float,
        lower_bound: float,
        estimate: float,
        width: int,
        violation: float,
    ) -> None:
        """Add what the other outputs have, and pass it on."""
        self._whole.record(
            phase,
            self._iterations + iteration,
            objective=self._objective + objective,
            lower_bound=self._proved + lower_bound,
            estimate=self._proved + estimate,
            width=self._width + width,
            violation=violation,
        )


def _output_start(network: ReLUNetwork | None, output: int) -> ReLUNetwork | None:
    """Neurons of a start that serve an output."""
    if network is None or network.a.ndim == 1:
        return network
    serving = network.a[:, output] != 0
    return ReLUNetwork(network.W[serving], network.a[serving, output])


def stacked_network(networks: Sequence[ReLUNetwork]) -> ReLUNetwork:
    """Network with output k equal to network k: neurons side by side, ``a (m, c)`` with one nonzero a row."""
    a = np.zeros((sum(network.width for network in networks), len(networks)))
    row = 0
    for k, network in enumerate(networks):
        a[row : row + network.width, k] = network.a
        row += network.width
    return ReLUNetwork(np.vstack([network.W for network in networks]), a)


def worst_status(solutions: Sequence[Solution]) -> Status:
    """Status of the problem that ended worst."""
    return min((solution.status for solution in solutions), key=_WORST_FIRST.index)


def _joined(problem: Problem, solutions: Sequence[Solution], options: ReLUOptions, recorder: Recorder) -> Solution:
    """One solution with the sums of objectives and bounds."""
    if problem.n_outputs == 1:
        return replace(solutions[0], history=recorder.history())
    network = stacked_network([solution.network for solution in solutions])
    certificate = _joined_certificate(problem, network, [solution.certificate for solution in solutions])
    status = worst_status(solutions)
    if certificate.gap <= options.tol and certificate.scope == "global":
        status = Status.GLOBAL_OPTIMUM
    patterns, blocks = _joined_blocks(problem, solutions, options.listed)
    steps = sum(solution.n_iter for solution in solutions)
    return Solution(network, certificate, status, patterns, blocks, recorder.history(), steps)


def _joined_certificate(problem: Problem, network: ReLUNetwork, parts: Sequence[Certificate]) -> Certificate:
    """Sums of the bounds, rounded down; the scope of the weakest."""
    confined = any(part.scope == "patterns" for part in parts)
    patterns = [part.n_patterns for part in parts if part.n_patterns is not None]
    return Certificate(
        objective=network.objective(problem),
        lower_bound=_sum_below(part.lower_bound for part in parts),
        scope="patterns" if confined else "global",
        global_lower_bound=_sum_below(part.global_lower_bound for part in parts),
        dual=np.column_stack([part.scale * part.dual for part in parts]),
        scale=1.0,
        dual_norm_bound=max(part.scale * part.dual_norm_bound for part in parts) * (1.0 + 4.0 * _EPS),
        dual_norm_attained=max(part.dual_norm_attained for part in parts),
        n_patterns=sum(patterns) if confined else None,
        method="one-vs-all, " + " and ".join(sorted({part.method for part in parts})),
    )


def _sum_below(values: Iterable[float]) -> float:
    """Sum of bounds that is not above the exact one; ``fsum`` rounds once."""
    return max(math.nextafter(math.fsum(values), -math.inf), 0.0)


def _joined_blocks(
    problem: Problem, solutions: Sequence[Solution], listed: ActivationPatterns | None
) -> tuple[ActivationPatterns, Blocks]:
    """Patterns of all outputs one below the other (once where they were listed), and blocks ``(P, d, c)``."""
    if listed is not None:
        u = np.stack([solution.blocks.u for solution in solutions], axis=2)
        v = np.stack([solution.blocks.v for solution in solutions], axis=2)
        return listed, Blocks(u, v)
    counts = [len(solution.patterns) for solution in solutions]
    # Fresh zeros take no memory until they are written to, and most stay as they are.
    u = np.zeros((sum(counts), problem.n_features, problem.n_outputs))
    v = np.zeros_like(u)
    first = 0
    for k, (solution, count) in enumerate(zip(solutions, counts, strict=True)):
        for target, block in ((u, solution.blocks.u), (v, solution.blocks.v)):
            used = np.flatnonzero(block.any(axis=1))
            target[first + used, :, k] = block[used]
        first += count
    packed = np.vstack([solution.patterns.packed for solution in solutions])
    gates = np.vstack([solution.patterns.gates for solution in solutions])
    return ActivationPatterns(packed, gates, problem.n_samples), Blocks(u, v)
