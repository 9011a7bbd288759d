r"""The ReLU program for several outputs under the true weight decay.

.. math:: \min_{W, A}\ \mathrm{loss}((X W^T)_+ A, Y) + \tfrac{\beta}{2}(\|W\|_F^2 + \|A\|_F^2)
          = \min\ \mathrm{loss}\big(\textstyle\sum_i D_i X Z_i\big) + \beta \sum_i \|Z_i\|_{K_i, *}

with a matrix :math:`Z_i (d, c)` for each activation pattern and the norm
:math:`\|Z\|_{K,*} = \min\{\sum_l \|u_l\| \|g_l\| : Z = \sum_l u_l g_l^T, u_l \in K\}` (Sahiner, Ergen, Pauly and
Pilanci, 2021, "Vector-output ReLU neural network problems are copositive programs", Theorem 1). The norm is hard to
evaluate in general, so the program is solved in its factors :math:`u_l, g_l` by column generation; the dual constraint
:math:`\max_{\|u\| \le 1} \|N^T (X u)_+\| \le \beta` is checked exactly for data of rank at most 3.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import Certificate, relative_gap
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.vector_certificate import certify_outputs, certify_outputs_patterns
from cvxnn.certificates.vector_pricing import vector_norm_bound
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem
from cvxnn.programs.reduction import reduce_problem
from cvxnn.programs.relu import ReLUOptions
from cvxnn.progress import Recorder
from cvxnn.solution import Blocks, Solution, Status
from cvxnn.solvers.vector_columns import VectorOptions, VectorState, first_network, generate_directions, improve
from cvxnn.solvers.vector_confined import solve_confined
from cvxnn.solvers.vector_narrowing import narrow_outputs
from cvxnn.solvers.vector_neurons import VectorNeurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["FactoredBlocks", "factored_blocks", "is_exact_outputs", "solve_vector_output"]

_EXACT_RANK = 3
_EXACT_WORK, _CERTIFY_WORK = 20_000_000, 200_000_000
"""Arcs times outputs of a scan of the arrangement that is done by itself, or where a certificate is asked for."""

_START_SAMPLES = 100
_PATIENCE = 0.5
_RESERVE, _NARROW_SHARE = 0.2, 0.4
_PROOFS = 40


class FactoredBlocks(NamedTuple):
    """Factors of the convex variables: ``Z_i`` is the sum of ``u_l g_l^T`` over the rows l with ``home[l] == i``."""

    home: npt.NDArray[np.intp]
    u: FloatArray
    g: FloatArray


def factored_blocks(problem: Problem, network: ReLUNetwork, patterns: ActivationPatterns) -> FactoredBlocks:
    """Convex variables of a network: each neuron goes to the cone that it violates least.

    ``ReLUNetwork.from_directions(blocks.u, blocks.g)`` is the way back.

    Parameters
    ----------
    problem : Problem
    network : ReLUNetwork
        With c outputs.
    patterns : ActivationPatterns
        Patterns on ``problem.X`` whose cones hold the neurons.

    Examples
    --------
    >>> problem = Problem([[1.0], [-1.0]], [[1.0, 2.0], [0.0, 0.0]])
    >>> P = ActivationPatterns.from_gates(problem.X, [[1.0]])
    >>> blocks = factored_blocks(problem, ReLUNetwork([[2.0]], [[1.0, 0.0]]), P)
    >>> blocks.home, blocks.u, blocks.g
    (array([0]), array([[1.]]), array([[2., 0.]]))
    """
    neurons = VectorNeurons.from_layers(network.W, network.a)
    t = problem.X @ neurons.directions.T
    masks = patterns.masks
    violation = masks.astype(np.float64) @ np.maximum(-t, 0.0) + (~masks).astype(np.float64) @ np.maximum(t, 0.0)
    return FactoredBlocks(np.argmin(violation, axis=0), neurons.directions, neurons.outputs)


def is_exact_outputs(problem: Problem, *, certify: bool) -> bool:
    """Whether the dual constraint of a problem of full column rank can be checked exactly, in a reasonable time."""
    rank, rows = problem.n_features, int(np.count_nonzero(np.any(problem.X != 0, axis=1)))
    if rank > _EXACT_RANK:
        return False
    arcs = {1: 2, 2: 2 * rows, 3: 4 * rows * rows}[rank]
    return arcs * problem.n_outputs <= (_CERTIFY_WORK if certify else _EXACT_WORK)


def solve_vector_output(problem: Problem, options: ReLUOptions, recorder: Recorder) -> Solution:
    """Solve the ReLU program for several outputs, over all patterns or confined to the listed ones.

    Parameters
    ----------
    problem : Problem
        With targets ``(n, c)``.
    options : ReLUOptions
    recorder : Recorder
        Clock and history.
    """
    return _Solve(problem, options, recorder).run()


class _Solve:
    """One solve: the reduced problem, the best state so far and the proof."""

    def __init__(self, problem: Problem, options: ReLUOptions, recorder: Recorder) -> None:
        self.problem, self.options, self.recorder = problem, options, recorder
        limit = options.time_limit
        self.deadline = math.inf if limit is None else time.perf_counter() + limit
        self.reduction = reduce_problem(problem, keep_samples=options.listed is not None)
        self.small = self.reduction.problem
        self.exact = options.listed is None and is_exact_outputs(self.small, certify=options.certify)
        self.state = VectorState.zero(self.small)
        # The bound comes after the columns, and a narrowing: they need their share of the time.
        share = (0.0 if options.max_width is None else _NARROW_SHARE) + _RESERVE
        reserve = 0.0 if limit is None else share * limit
        self.columns = VectorOptions(options.tol, options.max_iter, self.deadline - reserve, options.seed)
        self.proved: Certificate | None = None

    def run(self) -> Solution:
        interrupted = False
        try:
            if self.options.listed is not None:
                masks = self.options.listed.masks[:, self.reduction.samples]
                solve_confined(self.small, masks, self.state, self.columns, self.report, start=self._warm())
            else:
                self._start()
                generate_directions(self.small, self.state, self.columns, self.report)
                if self.exact:
                    self._prove()
        except KeyboardInterrupt:
            interrupted = True
        return self._finish(interrupted=interrupted)

    def report(self, state: VectorState) -> None:
        """Write the state to the history."""
        N = self.small.project_dual(self.small.dual_vector(state.neurons.fit(self.small.X)))
        estimate, _ = scaled_dual_bound(self.small, N, self.small.beta * (1.0 + state.violation))
        scale = self.reduction.objective_scale
        self.recorder.record(
            "columns",
            state.iteration,
            objective=scale * state.objective,
            lower_bound=0.0,
            estimate=scale * estimate,
            width=len(state.neurons),
            violation=state.violation,
        )

    def _warm(self) -> VectorNeurons | None:
        """Given network in the reduced coordinates; parts outside the row space go."""
        network = self.options.warm_start
        if network is None:
            return None
        scale = self.reduction.vector_scale
        return VectorNeurons.from_layers(network.W @ self.reduction.basis, network.a / scale)

    def _start(self) -> None:
        given = self._warm()
        if given is not None:
            self.state.offer(self.small, given)
            improve(self.small, self.state, given, self.columns.deadline)
        elif self.small.n_samples > _START_SAMPLES and not self._zero_is_optimal():
            first_network(self.small, self.state, self.columns)

    def _zero_is_optimal(self) -> bool:
        """Whether a cheap bound proves the zero network optimal."""
        N = self.small.dual_vector(np.zeros_like(self.small.y))
        return vector_norm_bound(self.small.X, N) <= self.small.beta

    def _prove(self) -> None:
        """Check the dual constraint exactly; directions that violate it go back to column generation."""
        state, tol = self.state, self.options.tol
        for _ in range(_PROOFS):
            if state.outcome not in ("search", "stalled"):
                return
            network = self._network()
            remaining = None if math.isinf(self.deadline) else max(self.columns.deadline - time.perf_counter(), 0.0)
            certificate, pricing = certify_outputs(
                self.problem,
                network(self.problem.X),
                network.objective(self.problem),
                starts=network.W if network.width else None,
                time_limit=remaining,
            )
            if pricing.interrupted:
                raise KeyboardInterrupt
            if self.proved is None or certificate.lower_bound > self.proved.lower_bound:
                self.proved = certificate
            state.violation = max(pricing.lower / self.problem.beta - 1.0, 0.0)
            violating = pricing.values > self.problem.beta * (1.0 + 1e-3 * tol)
            if certificate.gap <= tol or pricing.method != "arrangement" or not np.any(violating):
                return
            before, state.outcome = state.objective, "running"
            found = pricing.directions[violating] @ self.reduction.basis
            found /= np.linalg.norm(found, axis=1, keepdims=True)
            generate_directions(self.small, state, self.columns, self.report, found)
            if not state.objective < before:
                return

    def _network(self, neurons: VectorNeurons | None = None) -> ReLUNetwork:
        """Network of neurons of the reduced problem, by default the best, on the original data."""
        chosen = self.state.neurons if neurons is None else neurons
        directions = chosen.directions @ self.reduction.basis.T
        if not len(chosen):
            return ReLUNetwork.zero(self.problem.n_features, self.problem.n_outputs)
        return ReLUNetwork.from_directions(directions, self.reduction.vector_scale * chosen.outputs)

    def _finish(self, *, interrupted: bool) -> Solution:
        """Certify on the original problem, and tell how it ended."""
        problem, options = self.problem, self.options
        free = self._network()
        network, objective = free, free.objective(problem)
        if options.max_width is not None and free.width > options.max_width:
            network, interrupted = self._narrowed(options.max_width, interrupted=interrupted)
            # The bound comes from the fit of the best network of all widths, the objective from the narrow one.
            objective = network.objective(problem)
        patterns = self._patterns(free, network)
        try:
            certificate = replace(self._proof(free, patterns, interrupted=interrupted), objective=objective)
        except KeyboardInterrupt:
            interrupted = True
            certificate = self._cheap(free, objective)
        status = self._status(certificate, interrupted=interrupted)
        if network is not free and status in (Status.STALLED, Status.UNPROVED):
            status = Status.WIDTH_LIMIT
        with contextlib.suppress(KeyboardInterrupt):
            self.recorder.record(
                "certify",
                self.state.iteration,
                objective=objective,
                lower_bound=certificate.lower_bound,
                estimate=certificate.lower_bound,
                width=network.width,
                violation=self.state.violation,
            )
        blocks = _blocks(problem, network, patterns)
        steps = max(self.state.iteration, 1)
        return Solution(network, certificate, status, patterns, blocks, self.recorder.history(), steps)

    def _narrowed(self, width: int, *, interrupted: bool) -> tuple[ReLUNetwork, bool]:
        """Network within the width limit, and whether the user has interrupted by now."""
        if not interrupted:
            with contextlib.suppress(KeyboardInterrupt):
                kept = narrow_outputs(
                    self.small, self.state.neurons, width, deadline=self.deadline, seed=self.options.seed
                )
                return self._network(kept), False
        kept = narrow_outputs(self.small, self.state.neurons, width, deadline=-math.inf)
        return self._network(kept), True

    def _patterns(self, free: ReLUNetwork, network: ReLUNetwork) -> ActivationPatterns:
        if self.options.listed is not None:
            return self.options.listed
        # The zero network uses no cell; any one keeps the record of patterns non-empty.
        gates = np.vstack([free.W, network.W]) if free.width or network.width else self.reduction.basis.T[:1]
        return ActivationPatterns.from_gates(self.problem.X, gates).unique()

    def _cheap(self, network: ReLUNetwork, objective: float) -> Certificate:
        starts = network.W if network.width else None
        return certify_outputs(self.problem, network(self.problem.X), objective, starts=starts, method="cheap")[0]

    def _proof(self, network: ReLUNetwork, patterns: ActivationPatterns, *, interrupted: bool) -> Certificate:
        """Best bound that time and options allow: for networks of all widths, or among the patterns."""
        problem, options = self.problem, self.options
        fit, objective = network(problem.X), network.objective(problem)
        certificate = self.proved
        if certificate is None:
            # Listed patterns may hold the best network of all, and then the bound is tight for all.
            reach = is_exact_outputs(self.small, certify=options.certify) and not interrupted
            if reach:
                remaining = None if math.isinf(self.deadline) else max(self.deadline - time.perf_counter(), 0.0)
                starts = network.W if network.width else None
                certificate, pricing = certify_outputs(problem, fit, objective, starts=starts, time_limit=remaining)
                if pricing.interrupted:
                    raise KeyboardInterrupt
            else:
                certificate = self._cheap(network, objective)
        gap = relative_gap(objective, certificate.lower_bound)
        if gap <= options.tol or (network.width == 0 and options.listed is None):
            return certificate
        patience = _PATIENCE
        if not interrupted:
            patience = None if math.isinf(self.deadline) else max(self.deadline - time.perf_counter(), _PATIENCE)
        sizes = np.linalg.norm(network.W, axis=1, keepdims=True)
        among = certify_outputs_patterns(
            problem,
            fit,
            objective,
            patterns.masks,
            network.W / np.where(sizes > 0.0, sizes, 1.0),
            global_lower_bound=certificate.global_lower_bound,
            dual_norm_attained=certificate.dual_norm_attained,
            time_limit=patience,
        )
        # A proof for all networks that is nearly closed says more than one among the patterns that misses, too.
        closed = relative_gap(objective, among.lower_bound) <= options.tol
        better = among.lower_bound > certificate.lower_bound
        return among if closed or (gap > 10.0 * options.tol and better) else certificate

    def _status(self, certificate: Certificate, *, interrupted: bool) -> Status:
        met = certificate.gap <= self.options.tol
        if met and certificate.scope == "global":
            return Status.GLOBAL_OPTIMUM
        if interrupted:
            return Status.INTERRUPTED
        limits = {"max_iter": Status.MAX_ITER, "time_limit": Status.TIME_LIMIT}
        if self.state.outcome in limits:
            return limits[self.state.outcome]
        searched = self.state.outcome == "search" or self.options.listed is not None
        if not searched:
            return Status.STALLED
        return Status.PATTERNS_OPTIMUM if met else Status.UNPROVED


def _blocks(problem: Problem, network: ReLUNetwork, patterns: ActivationPatterns) -> Blocks:
    """Matrices ``Z (P, d, c)`` of the patterns; the outputs carry the signs, so that ``v`` is zero."""
    factors = factored_blocks(problem, network, patterns)
    u = np.zeros((len(patterns), problem.n_features, problem.n_outputs))
    np.add.at(u, factors.home, factors.u[:, :, None] * factors.g[:, None, :])
    return Blocks(u, np.zeros_like(u))
