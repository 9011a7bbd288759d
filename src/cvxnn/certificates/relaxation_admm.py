r"""Alternating direction method for the doubly non-negative relaxation of the training problem.

With one matrix ``Z = sum_i v_i v_i^T`` of ``v = (|a|, w, (Rw)_+, (-Rw)_+)`` for each output sign, the training problem

.. math:: \min\ \ell(Z_{as} - Z'_{as})
          + \tfrac\beta2 (Z_{aa} + \operatorname{tr} Z_{ww} + Z'_{aa} + \operatorname{tr} Z'_{ww})

is one over sums of such products. The relaxation keeps that Z is positive semidefinite, that products of a, s and t are
non-negative, that ``s_j t_j = 0``, that ``||w s_j|| <= a s_j`` and that ``Z_aa = tr Z_ww``. In the coordinates of
:mod:`cvxnn.certificates._relaxation_block` each of the two steps is a projection (Boyd et al., 2011, "Distributed
optimization and statistical learning via the alternating direction method of multipliers"). It proves nothing: dual
vector and multipliers are handed to `round_multipliers`, which makes a bound of any of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from cvxnn.certificates._relaxation_block import Image, SignBlock
from cvxnn.certificates._relaxation_loss import SlotLoss
from cvxnn.certificates.output_bias import best_dual
from cvxnn.certificates.relaxation_rounding import Multipliers
from cvxnn.certificates.relaxation_rows import RelaxationRows
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["Checkpoint", "RelaxationADMM"]

_PENALTY = 0.2
_WARM = 3.5
"""First penalty, in units of beta over the largest mass that an optimal network can have; larger from a start."""
_ASPECT = 1.0
"""Scale of w beside a in the norm of the method."""
_BALANCE_EVERY, _BALANCE_UNTIL = 20, 600
"""Iterations between adaptations of the penalty, and until they become ten times as rare."""
_LOPSIDED = 2.0
"""Ratio of the residuals beyond which the penalty is adapted, by no more than the next factor."""
_LARGEST_CHANGE = 1.6


@dataclass(frozen=True)
class Checkpoint:
    """What one moment of the method offers to the rounding.

    Attributes
    ----------
    iteration : int
    nu : ndarray (n,)
        Dual vector, in the units of the loss gradient.
    plus, minus : Multipliers
        Of both output signs.
    value : float
        Objective of the matrices; not a bound.
    """

    iteration: int
    nu: FloatArray
    plus: Multipliers
    minus: Multipliers
    value: float


class RelaxationADMM:
    """State of the method; `run` continues it.

    Parameters
    ----------
    problem : Problem
        With ``beta > 0`` and at least one row that is not zero.
    rows : RelaxationRows
        Reduced rows of its data.
    """

    def __init__(self, problem: Problem, rows: RelaxationRows) -> None:
        left, sigma, right = np.linalg.svd(rows.rows, full_matrices=False)
        self.problem, self.rows, self.turn = problem, rows, right
        self.loss = SlotLoss(problem, rows)
        self.blocks = [SignBlock(left, sigma, _ASPECT, seed) for seed in (0, 1)]
        # A network no worse than the zero network has a mass of at most loss(0) / beta.
        largest = self.loss.value(np.zeros(self.loss.slots))
        self.rho = _PENALTY / largest if largest > 0.0 else 1.0
        self.iteration = 0

    def start(self, directions: FloatArray, masses: FloatArray, signs: npt.NDArray[np.int64]) -> None:
        """Begin from the neurons of a network: reduced unit directions ``(k, r)``, masses and signs ``(k,)``."""
        r = self.rows.rank
        self.rho *= _WARM
        for sign, block in zip((1, -1), self.blocks, strict=True):
            mine = signs == sign
            root = np.sqrt(masses[mine])
            w = (root[:, None] * (directions[mine] @ self.turn.T)).T
            factor = np.empty((1 + r + len(self.rows.rows), len(root)))
            factor[0] = root
            factor[1 : 1 + r] = w * (_ASPECT / block.to_x)[:, None]
            factor[1 + r :] = math.sqrt(0.5) * np.abs(self.rows.rows @ (self.turn.T @ w))
            block.begin(factor)
        difference = self.blocks[0].head_copy - self.blocks[1].head_copy
        self.loss.settle_bias(difference)
        slope = self.loss.collect(best_dual(self.problem, self.loss.fit(difference))) / self.problem.beta
        for sign, block in zip((1, -1), self.blocks, strict=True):
            block.head = block.head_copy - 0.5 * sign * slope / self.rho

    def run(self, every: int, deadline: float = math.inf) -> Generator[Checkpoint, None, None]:
        """Iterate for ever; yield after every so many iterations and once ``time.monotonic()`` is past the deadline."""
        with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(2) as pool:
            while True:
                for _ in range(every):
                    self._iterate(pool)
                    if time.monotonic() >= deadline:
                        break
                yield self.checkpoint()

    def _iterate(self, pool: ThreadPoolExecutor) -> None:
        self.iteration += 1
        every = _BALANCE_EVERY if self.iteration <= _BALANCE_UNTIL else 10 * _BALANCE_EVERY
        measured = self.iteration % every == 0
        before = [block.copies() for block in self.blocks] if measured else None
        # The signs meet in the loss only. Linear algebra and array operations release the interpreter.
        second = pool.submit(self.blocks[1].step, self.rho)
        try:
            self.blocks[0].step(self.rho)
        finally:
            second.result()
        points = [block.points() for block in self.blocks]
        heads = self.loss.prox(points[0], points[1], self.rho)
        for block, point, head in zip(self.blocks, points, heads, strict=True):
            block.settle(head, point.length)
        if before is not None:
            self._balance(before)

    def _balance(self, before: list[Image]) -> None:
        """Adapt the penalty so that both residuals, each relative to its own scale, are alike (Wohlberg, 2017)."""
        primal = change = copies = multipliers = 0.0
        for block, old in zip(self.blocks, before, strict=True):
            new = block.copies()
            primal += block.image(products=True).minus(new).square()
            change += new.minus(old).square()
            copies += new.square()
            multipliers += block.multipliers().square()
        if min(primal, change, copies, multipliers) <= 0.0:
            return
        ratio = math.sqrt(primal / copies * multipliers / change)
        if 1.0 / _LOPSIDED <= ratio <= _LOPSIDED:
            return
        factor = min(max(math.sqrt(ratio), 1.0 / _LARGEST_CHANGE), _LARGEST_CHANGE)
        self.rho *= factor
        for block in self.blocks:
            block.rescale(1.0 / factor)

    def checkpoint(self) -> Checkpoint:
        """Dual vector and multipliers of the current state, in the units of the problem."""
        difference = self.blocks[0].head_copy - self.blocks[1].head_copy
        nu = best_dual(self.problem, self.loss.fit(difference))
        value = self.problem.beta * (self.loss.value(difference) + sum(block.value() for block in self.blocks))
        return Checkpoint(self.iteration, nu, self._multipliers(0, nu), self._multipliers(1, nu), value)

    def _multipliers(self, index: int, nu: FloatArray) -> Multipliers:
        g = len(self.rows.rows)
        found = self.blocks[index].multipliers()
        scale = -self.problem.beta * self.rho
        cone = 2.0 * scale * _ASPECT * (found.cone @ self.turn)
        # The terms in (a, s) carry the dual vector and the length of the cone's, too.
        linear = 2.0 * scale * found.head - (1 - 2 * index) * self.loss.collect(nu)
        linear -= np.sqrt(np.sum(cone * cone, axis=1))
        return Multipliers(
            linear[:g], linear[g:], scale * found.ss, scale * found.tt, scale * found.st, cone[:g], cone[g:]
        )

    def neurons(self) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """Directions ``(k, d)`` and signs of the leading eigenvectors of the matrices, as candidates for neurons."""
        directions, signs = [], []
        for sign, block in zip((1, -1), self.blocks, strict=True):
            order = np.argsort(-np.sum(block.factor**2, axis=0), kind="stable")
            found = block.neurons()[order] @ self.turn
            norms = np.sqrt(np.sum(found * found, axis=1))
            live = norms > 1e-12
            directions.append(found[live] / norms[live, None])
            signs.append(np.full(int(np.count_nonzero(live)), sign))
        return self.rows.lift(np.vstack(directions)), np.concatenate(signs)
