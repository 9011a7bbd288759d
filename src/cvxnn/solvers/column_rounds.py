"""Rounds of search, masses and joint Newton steps: column generation without programs on cells."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cvxnn.problem import Problem
from cvxnn.solvers.cell_program import affords_polish, refinements
from cvxnn.solvers.column_state import PROOF_THRESHOLD, ColumnOptions, ColumnState
from cvxnn.solvers.direction_pool import DirectionPool
from cvxnn.solvers.joint_moves import JointMoves
from cvxnn.solvers.mass_program import solve_masses
from cvxnn.solvers.neuron_search import Ascents, NeuronSearch
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.opening_moves import SCHEDULES, opening_moves
from cvxnn.solvers.thorough_search import find_thoroughly

FloatArray = npt.NDArray[np.float64]

__all__ = ["ColumnRounds"]

_THRESHOLD = 0.3
"""Relative excess over beta, in units of the tolerance, that counts as a violation where no proof follows."""

_STARTS, _PROOF_STARTS = 800, 200
"""Most starts of a search; where a proof follows."""
_LARGEST_SEARCH, _LARGEST_LATE_SEARCH = 1.2e11, 4.8e11
"""Multiplications of a search that the number of its starts is cut down to, by no more than a factor of eight. Late,
when few violations are left to find, and they decide what a round gains, a search may take as long as the moves."""

_CONFIRMING = 4
"""Independent searches with twice the starts that must all find nothing before none is reported."""

_POOL_CONFIRMING, _POOL_SHARE, _POOL_CLIMBED = 1, 0.25, 0.5
"""With a pool of directions: the number of these searches, the share of the starts in the others, and the number of
pooled directions that an ascent begins from, relative to that of the starts."""

_OWN_CLIMBED = 0.25
"""The last number where the pool holds only what earlier rounds have found."""

_LATE_BELOW = 0.05
"""Violation below which the searches remember what they find and look beside all of it; before, that takes time in
which neurons found beside the present ones lower the objective more."""

_THOROUGH_WORK, _THOROUGH_STARTS = 1e6, 200
"""Up to this n d^2 the search with exact concave steps has a say, too."""

_SCHEDULES: tuple[tuple[tuple[float, int], ...], ...] = (
    ((3e-2, 2), (1e-2, 6), (3e-3, 4), (1e-3, 2), (3e-4, 1), (1e-4, 1)),
    *SCHEDULES,
    ((1e-4, 3), (1e-5, 3), (1e-6, 4), (1e-7, 6)),
)
"""Smoothings and most steps at each: of the rounds, finer from one to the next where little is gained. Large smoothings
lead to better minima if few steps, which do not settle, are taken where the kinks all but vanish, and more where they
are seen."""

_FINISH = ((1e-5, 6), (1e-6, 6), (1e-7, 8), (1e-8, 8))
_LEVEL_GAINS = (1e-3, 1e-4, 1e-7)
"""Relative gains of a round below which the next schedule takes over."""

_SHORT_LEVEL = 2
"""Schedule where less time is left than the moves of the last round took."""

_LEAST_GAIN = 1e-6
"""Relative gain that counts as progress however loose the tolerance is: a violation beyond it remains to be removed."""

_MOST_EFFORT, _MOST_SLOW_ROUNDS = 8, 6
"""How many times as many starts are tried where rounds gain little, and after how many such rounds in a row the neurons
are settled; if the next one gains little, too, that counts as stalled. A search that finds something has not ended, and
most often one of the next finds nothing."""

_FEWEST_NEW, _NEW_SHARE = 20, 1.0
"""Neurons that a round may add: so many, or this share of those present where that is more."""

_NEW_MASS = 1e-2
"""Their mass before the masses are solved for, relative to the mean of the others."""

_FINISH_SHARE, _FINISH_COST, _POLISH_SHARE = 0.05, 2.0, 0.2
"""Share of the time left that is kept to settle the neurons; less where that many joint steps, of this multiple of what
the steps of the last round took, end sooner; and the share of that which is for the polish, where it is affordable."""


class ColumnRounds:
    """Improves a point by rounds of column generation in which all neurons move.

    A round finds neurons that violate the dual (:class:`NeuronSearch`), gives the best of them a small mass, solves for
    all masses, moves all neurons jointly (:class:`JointMoves`), and merges those that no sample separates. Where little
    is gained, more starts and a finer smoothing follow.

    Parameters
    ----------
    problem : Problem
        Reduced problem.
    options : ColumnOptions
    least_gain : float, optional
        Relative gain of a round below which another method takes over, which searches thoroughly.
    """

    def __init__(self, problem: Problem, options: ColumnOptions, *, least_gain: float | None = None) -> None:
        self.problem, self.options, self.least_gain = problem, options, least_gain
        self.search = NeuronSearch(problem)
        self.moves = JointMoves(problem, self.search.products)
        left = options.deadline - time.perf_counter()
        self.kept = 0.0 if math.isinf(left) else _FINISH_SHARE * max(left, 0.0)
        self.last_round = options.deadline - self.kept
        # What one round finds far from all neurons hardly moves until the next.
        self.pool = DirectionPool() if options.pool is None else options.pool
        self.late = False
        self._limit_starts(_LARGEST_SEARCH)
        self.may_be_thorough = least_gain is None
        self.seconds = 0.0
        self.settled: Neurons | None = None

    def _limit_starts(self, work: float) -> None:
        """Set the numbers of starts of searches that may take so many multiplications."""
        n, d = self.problem.X.shape
        own = self.options.pool is None
        # The ascent takes 60 steps of two products for either sign; the refinement about two thirds of that.
        most = _PROOF_STARTS if self.options.exact else _STARTS
        self.most_starts = int(np.clip(work / (400.0 * n * d), _STARTS // 8, most))
        self.pooled = int((_OWN_CLIMBED if own else _POOL_CLIMBED) * self.most_starts)
        self.usual_starts = self.most_starts if own else int(_POOL_SHARE * self.most_starts)
        self.starts = self.usual_starts

    def run(self, state: ColumnState, report: Callable[[ColumnState], None], violating: Neurons | None = None) -> None:
        """Improve ``state`` until no violating neuron is found, a limit is met, or progress ends.

        The first round takes the ``violating`` neurons where they are given, and searches none.
        """
        slow, level = 0, 0
        if state.outcome == "running":
            opened, each = opening_moves(self.problem, self.moves, state.neurons, deadline=self.last_round)
            state.offer(self.problem, [opened])
            self.seconds = each * sum(count for _, count in _SCHEDULES[0])
        while state.outcome == "running":
            if state.stop_at_limits(self.options):
                break
            if time.perf_counter() >= self.last_round:
                state.outcome = "time_limit"
                break
            before = state.objective
            found = self._find(state, min(2**slow, _MOST_EFFORT)) if violating is None else violating
            violating = None
            state.iteration += 1
            if found is not None:
                self._round(state, found, level)
                gain = (before - state.objective) / max(abs(before), 1e-300)
                progress = gain > max(min(0.1 * self.options.tol, _LEAST_GAIN), 1e-12)
                while level < len(_LEVEL_GAINS) and gain < _LEVEL_GAINS[level]:
                    level += 1
                    # One at a time: a smoothing may have led one round astray, long before the last.
                    if progress:
                        break
                slow = 0 if progress else slow + 1
                if self.least_gain is not None and gain < self.least_gain:
                    state.outcome = "stalled"
                elif slow == _MOST_SLOW_ROUNDS:
                    # Next to what is left to gain the moves are rough: neurons may only have seemed to violate.
                    self._settle(state, self.last_round)
                elif slow > _MOST_SLOW_ROUNDS:
                    state.outcome = "stalled"
            report(state)
        self._settle(state, self.options.deadline)

    def _find(self, state: ColumnState, effort: int) -> Neurons | None:
        """Violating neurons; None, and the outcome set, where the searches find none or the time is over."""
        nu = self.problem.dual_vector(state.neurons.fit(self.problem.X))
        threshold = 1.0 + (PROOF_THRESHOLD if self.options.exact else _THRESHOLD) * self.options.tol
        if state.violation < _LATE_BELOW and not self.late:
            self.late = True
            self._limit_starts(_LARGEST_LATE_SEARCH)
        plan = self._plan(effort)
        for k, starts in enumerate(plan):
            found, values = self.search.find(
                nu,
                state.neurons,
                n_starts=starts,
                threshold=threshold,
                random_state=np.random.default_rng([self.options.seed, state.iteration, k]),
                deadline=self.last_round,
                pool=self.pool if self.late else self.options.pool,
                n_pooled=self.pooled,
                ascents=Ascents.JUMP if k % 2 else Ascents.LATE if self.late else Ascents.USUAL,
            )
            if len(found) == 0 and k == len(plan) - 1 and self.may_be_thorough:
                # It takes as long as the others together; with a pool, which tries hard by itself, once is enough.
                self.may_be_thorough = self.options.pool is None
                found, values = self._thorough(state, threshold)
            # A search that the deadline cut short has shown nothing.
            if len(found) == 0 and time.perf_counter() >= self.last_round:
                state.outcome = "time_limit"
                return None
            if len(found):
                state.violation = float(values[0]) - 1.0
                return self._most_useful(found, len(state.neurons))
        state.violation = 0.0
        state.outcome = "search"
        return None

    def _plan(self, effort: int) -> list[int]:
        """Numbers of random starts of the searches that must all find nothing."""
        pool = self.options.pool
        if self.options.exact:
            return [self.starts * effort]
        if pool is None:
            return [self.starts * effort] + [2 * self.most_starts] * _CONFIRMING
        # Where little was gained the directions of the pool alone have been tried.
        first = [0] if effort == 1 and len(pool) else []
        return [*first, self.starts * effort] + [2 * self.most_starts] * _POOL_CONFIRMING

    def _most_useful(self, found: Neurons, width: int) -> Neurons:
        """The best of the neurons found; where most are left over, the next search takes fewer starts."""
        most = max(_FEWEST_NEW, int(_NEW_SHARE * width))
        if len(found) > most:
            self.starts = max(self.starts // 2, self.most_starts // 4)
        elif 4 * len(found) < most:
            self.starts = min(2 * self.starts, self.usual_starts)
        return found.take(np.arange(min(len(found), most)))

    def _thorough(self, state: ColumnState, threshold: float) -> tuple[Neurons, FloatArray]:
        """Search with exact concave steps where it is cheap."""
        n, d = self.problem.X.shape
        if n * d * d > _THOROUGH_WORK:
            return Neurons.empty(d), np.zeros(0)
        return find_thoroughly(
            self.problem,
            state.neurons,
            n_starts=_THOROUGH_STARTS,
            threshold=threshold,
            random_state=self.options.seed_at(state.iteration),
            deadline=self.last_round,
        )

    def _round(self, state: ColumnState, found: Neurons, level: int) -> None:
        """Give the new neurons a small mass, then optimise all masses and vectors; keep what is better."""
        mass = _NEW_MASS * float(state.neurons.masses.mean()) if len(state.neurons) else 1.0
        joined = state.neurons.joined(Neurons(mass * found.vectors, found.signs))
        massed = solve_masses(self.problem, joined, tol=1e-8)
        state.offer(self.problem, [massed])
        begin = time.perf_counter()
        # A large smoothing left too early is worse than none.
        schedule = _SCHEDULES[level if self.options.deadline - begin > self.seconds else max(level, _SHORT_LEVEL)]
        moved = self.moves.cleaned(self.moves.minimize(massed, schedule, deadline=self.options.deadline))
        self.seconds = time.perf_counter() - begin
        # Steps that the deadline cut short are the last.
        each = self.seconds / sum(count for _, count in schedule)
        settling = _FINISH_COST * each * sum(count for _, count in _FINISH)
        self.last_round = self.options.deadline - min(self.kept, settling)
        state.offer(self.problem, [moved, solve_masses(self.problem, moved, tol=1e-10)])

    def _settle(self, state: ColumnState, deadline: float) -> None:
        """Settle all neurons on their kinks, and polish where that is affordable."""
        left = deadline - time.perf_counter()
        if len(state.neurons) == 0 or left <= 0.0 or state.neurons is self.settled:
            return
        reserved = 0.0 if math.isinf(left) or not affords_polish(state.neurons) else _POLISH_SHARE * left
        moved = self.moves.minimize(state.neurons, _FINISH, deadline=deadline - reserved)
        state.offer(self.problem, [moved])
        if time.perf_counter() < deadline:
            state.offer(self.problem, refinements(self.problem, state.neurons, deadline=deadline))
        if time.perf_counter() < deadline:
            self.settled = state.neurons
