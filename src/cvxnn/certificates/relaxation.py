r"""Global lower bounds without patterns: the doubly non-negative relaxation of the training problem.

Works for data of any rank and some hundreds of samples, where the patterns can neither be listed nor searched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_number
from cvxnn.certificates._reduction import reduce_pricing
from cvxnn.certificates._relaxation_result import BestBound, RelaxationBound
from cvxnn.certificates.cheap_bounds import cheap_bounds
from cvxnn.certificates.output_bias import best_dual
from cvxnn.certificates.relaxation_admm import Checkpoint, RelaxationADMM
from cvxnn.certificates.relaxation_rounding import round_multipliers
from cvxnn.certificates.relaxation_rows import RelaxationRows, reduce_rows
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem, require_no_output_bias, require_one_output

FloatArray = npt.NDArray[np.float64]

__all__ = ["RelaxationBound", "relaxation_bound"]

_CHECK_EVERY = 50
_STALL_CHECKS, _STALL = 10, 1e-7
"""Without a goal, stop once this many checks in a row gained no more than this fraction."""
_SETTLED = 1000
"""Iterations before which a stall says nothing."""
_MOST_ROWS = 4000
"""Two dozen matrices of this size squared are held."""
_FEW_ROWS = 25
"""Up to this many rows an interior-point method with cuts is faster and tighter."""


def relaxation_bound(
    problem: Problem,
    *,
    time_limit: float | None = None,
    target_gap: float | None = None,
    upper: float | None = None,
    warm_start: ReLUNetwork | None = None,
    on_improvement: Callable[[RelaxationBound], None] | None = None,
    method: str = "auto",
    max_iter: int = 20_000,
) -> RelaxationBound:
    r"""Lower bound of the objective over all networks of every width, by a semidefinite relaxation.

    Every neuron is lifted to ``v = (|a|, w, (Rw)_+, (-Rw)_+)`` and the network to ``Z = sum_i v_i v_i^T``, one for each
    output sign (R: the rows of X, normalised). What is kept of these matrices is

    .. math:: Z \succeq 0,\quad Z_{as}, Z_{at}, Z_{ss}, Z_{st}, Z_{tt} \ge 0,\quad Z_{s_j t_j} = 0,\quad
              \|Z_{w s_j}\| \le Z_{a s_j},\ \|Z_{w t_j}\| \le Z_{a t_j},\quad Z_{aa} = \operatorname{tr} Z_{ww}.

    The bound is not taken from the value of the relaxation but from its dual vector, whose norm is bounded rigorously,
    rounding included (:func:`cvxnn.certificates.relaxation_rounding.round_multipliers`): it is valid at any time.

    Parameters
    ----------
    problem : Problem
        Any loss; ``beta > 0`` for a bound above 0.
    time_limit : float, optional
        Seconds of wall time, exceeded by no more than one iteration and one rounding. None works until the goal is met
        or the bound stalls.
    target_gap : float, optional
        Stop once ``(upper - bound) <= target_gap * |upper|``; needs `upper` or `warm_start`.
    upper : float, optional
        Objective of a network; by default that of `warm_start`.
    warm_start : ReLUNetwork, optional
        A good network: the method begins from its neurons.
    on_improvement : callable, optional
        Called with each better bound.
    method : {"auto", "alternating directions", "interior point"}
        "auto" takes the interior-point method, which also cuts the sphere in pieces, for up to 25 different rows.
    max_iter : int, default 20000
        Most iterations of alternating directions.

    Returns
    -------
    RelaxationBound
        The best bound met.

    Raises
    ------
    ValueError
        If the network does not fit the problem, or an option is out of range; the interior-point method takes no
        output bias.

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", Theorem 1, for the dual; Sahiner, Ergen, Pauly
    and Pilanci (2021), "Vector-output ReLU neural network problems are copositive programs", for the copositive form.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [1.0, 1.0]])
    >>> bound = relaxation_bound(Problem(X, [1.0, -1.0, 0.5, 2.0], beta=0.1), method="alternating directions")
    >>> round(bound.lower_bound, 4)
    0.6304
    """
    _validate(problem, warm_start, method, max_iter)
    limit = math.inf if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    goal = None if target_gap is None else as_number(target_gap, "target_gap", minimum=0.0)
    if upper is None and warm_start is not None:
        upper = warm_start.objective(problem)
    best = _Best(problem, limit, goal, upper, on_improvement)
    try:
        zero = np.zeros(problem.n_samples)
        best.cheap(zero)
        if warm_start is not None:
            best.cheap(warm_start(problem.X) - warm_start.output_bias)
        if problem.beta > 0.0 and best.open():
            _improve(problem, best, warm_start, method, max_iter)
    except KeyboardInterrupt:
        best.interrupted = True
    return best.result()


def _validate(problem: Problem, warm_start: ReLUNetwork | None, method: str, max_iter: int) -> None:
    require_one_output(problem, "relaxation_bound")
    if method == "interior point":
        require_no_output_bias(problem, "The interior-point method")
    if method not in ("auto", "alternating directions", "interior point"):
        raise ValueError(f"method must be 'auto', 'alternating directions' or 'interior point'; got {method!r}.")
    as_count(max_iter, "max_iter", minimum=0)
    if warm_start is not None and warm_start.n_features != problem.n_features:
        raise ValueError(f"warm_start takes {warm_start.n_features} features but the problem has {problem.n_features}.")


class _Best(BestBound):
    """Best bound so far, and when to stop."""

    def __init__(
        self,
        problem: Problem,
        limit: float,
        goal: float | None,
        upper: float | None,
        on_improvement: Callable[[RelaxationBound], None] | None,
    ) -> None:
        super().__init__(problem, "zero")
        self.goal, self.upper, self.on_improvement = goal, upper, on_improvement
        self.deadline = self.start + limit

    def cheap(self, fit: FloatArray) -> None:
        """Bound at the dual vector of some outputs without bias, with a dual norm bound that takes no time."""
        problem = self.problem
        nu = best_dual(problem, fit)
        pricing = reduce_pricing(problem.X, nu)
        tau = 0.0 if pricing is None else pricing.upper(min(cheap_bounds(pricing).values()))
        if self.offer(nu, tau, "cheap"):
            self.tell()

    def tell(self) -> None:
        """Report the bound."""
        if self.on_improvement is not None:
            self.on_improvement(self.result())

    def open(self) -> bool:
        """Whether there is time left and something to gain."""
        if time.monotonic() >= self.deadline:
            return False
        if self.upper is None:
            return True
        slack = 0.0 if self.goal is None else self.goal * abs(self.upper)
        return self.upper - self.bound > slack


def _improve(problem: Problem, best: _Best, warm_start: ReLUNetwork | None, method: str, max_iter: int) -> None:
    rows = reduce_rows(problem.X)
    lines = len(rows.rows)
    if lines == 0 or problem.loss_value(np.zeros(problem.n_samples)) == 0.0:
        return
    few = lines <= _FEW_ROWS and problem.output_bias_decay is None
    if method == "interior point" or (method == "auto" and few):
        _interior_point(problem, best)
    elif lines <= _MOST_ROWS and max_iter > 0:
        _alternate(problem, rows, best, warm_start, max_iter)


def _interior_point(problem: Problem, best: _Best) -> None:
    from cvxnn.certificates.relaxation_interior_point import interior_point_bound  # Clarabel takes time to import

    remaining = best.deadline - time.monotonic()
    found = interior_point_bound(
        problem,
        time_limit=remaining if math.isfinite(remaining) else None,
        target_gap=1e-6 if best.goal is None else best.goal,
        upper=best.upper,
    )
    best.iterations, best.directions, best.signs = found.iterations, found.directions, found.signs
    best.interrupted = found.interrupted
    if found.lower_bound > best.bound and best.offer(found.dual, found.dual_norm_bound, found.method):
        best.tell()


def _alternate(
    problem: Problem, rows: RelaxationRows, best: _Best, warm_start: ReLUNetwork | None, max_iter: int
) -> None:
    admm = RelaxationADMM(problem, rows)
    if warm_start is not None:
        admm.start(*_neurons(rows, warm_start))
    recent: list[float] = []
    with ThreadPoolExecutor(2) as pool, closing(admm.run(min(_CHECK_EVERY, max_iter), best.deadline)) as checkpoints:
        for checkpoint in checkpoints:
            best.iterations = checkpoint.iteration
            if best.offer(checkpoint.nu, _dual_norm(rows, checkpoint, pool), "alternating directions"):
                best.directions, best.signs = admm.neurons()
                best.tell()
            recent.append(best.bound)
            del recent[: -_STALL_CHECKS - 1]
            stalled = len(recent) > _STALL_CHECKS and recent[-1] - recent[0] <= _STALL * abs(recent[-1])
            if not best.open() or checkpoint.iteration >= max_iter or (stalled and checkpoint.iteration >= _SETTLED):
                break


def _dual_norm(rows: RelaxationRows, checkpoint: Checkpoint, pool: ThreadPoolExecutor) -> float:
    other = pool.submit(round_multipliers, rows, checkpoint.nu, -1, checkpoint.minus)
    try:
        one = round_multipliers(rows, checkpoint.nu, 1, checkpoint.plus)
    finally:
        two = other.result()
    return max(one, two)


def _neurons(rows: RelaxationRows, network: ReLUNetwork) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
    """Reduced unit directions, masses and signs of the neurons that are not dead."""
    vectors = network.W * np.abs(network.a)[:, None]
    if rows.basis is not None:
        vectors = vectors @ rows.basis
    masses = np.sqrt(np.sum(vectors * vectors, axis=1))
    live = masses > 0.0
    signs = np.where(network.a[live] > 0.0, 1, -1).astype(np.int64)
    return vectors[live] / masses[live, None], masses[live], signs
