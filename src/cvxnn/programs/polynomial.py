r"""Networks with a polynomial activation of degree two: the semidefinite program and its neurons.

For :math:`f(X) = \sum_j \alpha_j \sigma(X u_j)`, :math:`\sigma(t) = a t^2 + b t + c`, :math:`\|u_j\| = 1` and penalty
:math:`\beta \sum_j |\alpha_j|`, the network is carried by two matrices,
:math:`Z_\pm = \sum_{\pm \alpha_j > 0} |\alpha_j| (u_j, 1)(u_j, 1)^\top`:

.. math:: \min_{Z_\pm \succeq 0}\ \ell\big(\mathcal A(Z_+ - Z_-)\big) + \beta\, (Z_+ + Z_-)_{d+1, d+1}, \qquad
          \mathrm{tr}\, Z_{1:d, 1:d} = Z_{d+1, d+1},

.. math:: \mathcal A(Z)_j = a\, x_j^\top Z_{1:d, 1:d} x_j + b\, x_j^\top Z_{1:d, d+1} + c\, Z_{d+1, d+1}

(Bartan and Pilanci, 2021, "Neural spectrahedra and semidefinite lifts: global convex optimization of polynomial
activation neural networks in fully polynomial-time"). Back, every such Z is a sum of at most d + 1 terms
:math:`p p^\top` with :math:`\|p_{1:d}\| = |p_{d+1}|`, each a neuron
:math:`u = p_{1:d}/p_{d+1},\ \alpha = \pm p_{d+1}^2`.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import Polynomial
from cvxnn.certificates.certificate import Certificate, relative_gap
from cvxnn.certificates.polynomial_bound import certify_polynomial
from cvxnn.losses import HuberLoss, LogisticLoss, SquaredHingeLoss, SquaredLoss
from cvxnn.networks import row_norms
from cvxnn.problem import Problem
from cvxnn.programs.polynomial_network import Coefficients, PolynomialNetwork, activation
from cvxnn.programs.reduction import reduce_problem
from cvxnn.progress import Recorder
from cvxnn.solution import Solution, Status
from cvxnn.solvers.mass_program import optimal_masses
from cvxnn.solvers.rank_one_terms import rank_one_terms
from cvxnn.solvers.spectrahedral import SpectrahedralState, solve_spectrahedral

FloatArray = npt.NDArray[np.float64]

__all__ = ["PolynomialNetwork", "solve_polynomial"]

_CORRECTIONS = 100
"""Most rounds of neurons from the pricing problem after the semidefinite program."""

_INNER_SHARE, _FINEST = 1e-2, 1e-11
"""Gap of the semidefinite program relative to the one that is asked for, and the least."""

_NOISE = 1e-13
"""Masses below this share of the largest are rounding."""

_NEAR = 1e-6
"""One minus the cosine of neurons that may be one."""

_SMALL = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
"""Masses, as shares of the largest, below which neurons may go in the end."""


@dataclass(frozen=True)
class _Reduced:
    """Problem of order one and full rank with the scaled activation, and the way back.

    Attributes
    ----------
    problem : Problem
    coefficients : (a, b, c)
    basis : ndarray (d, r)
        Unit vectors of the original problem are ``basis u``.
    samples : ndarray (n',) of int
        Samples kept.
    mass_scale, dual_scale, objective_scale : float
        Masses, dual vectors and objectives of the original problem in those of the reduced one.
    """

    problem: Problem
    coefficients: Coefficients
    basis: FloatArray
    samples: npt.NDArray[np.int64]
    mass_scale: float
    dual_scale: float
    objective_scale: float


def _reduce(problem: Problem, coefficients: Coefficients) -> _Reduced:
    """Scale data, targets, weights and activation to order one.

    Where the data have not full rank one more direction is kept, along which they are zero: unit vectors may point
    there.
    """
    reduction = reduce_problem(problem)
    small, basis = reduction.problem, reduction.basis
    data = small.X
    largest = float(np.max(np.abs(problem.X)))
    size = float(np.linalg.norm(data))
    sigma = 1.0
    if size > 0.0:
        sigma = largest * float(np.linalg.norm((problem.X[reduction.samples] / largest) @ basis)) / size
    if basis.shape[1] < problem.n_features:
        least = int(np.argmin(row_norms(basis)))
        spare = np.eye(problem.n_features)[least]
        for _ in range(2):
            spare = spare - basis @ (basis.T @ spare)
            spare /= np.linalg.norm(spare)
        basis, data = np.column_stack([basis, spare]), np.column_stack([data, np.zeros(len(data))])
    tau = reduction.vector_scale * sigma
    a, b, c = coefficients
    scaled = (a * sigma * sigma, b * sigma, c)
    power = max(abs(value) for value in scaled)
    beta = problem.beta * tau / power / reduction.objective_scale
    inner = Problem(data, small.y, beta, small.loss, sample_weight=small.sample_weight)
    unit = (scaled[0] / power, scaled[1] / power, scaled[2] / power)
    scale = reduction.objective_scale
    return _Reduced(inner, unit, basis, reduction.samples, tau / power, scale / tau, scale)


@dataclass(frozen=True)
class _Neurons:
    """Unit vectors ``(k, r)``, signs and masses of the reduced problem."""

    directions: FloatArray
    signs: FloatArray
    masses: FloatArray

    def joined(self, other: _Neurons) -> _Neurons:
        return _Neurons(
            np.vstack([self.directions, other.directions]),
            np.append(self.signs, other.signs),
            np.append(self.masses, other.masses),
        )


def _merged(neurons: _Neurons, *, even: bool) -> _Neurons:
    """Neurons with those of one sign and nearly one direction in one; of an even activation, or the opposite one."""
    directions, signs, masses = neurons.directions.copy(), neurons.signs, neurons.masses.copy()
    order = np.argsort(-masses, kind="stable")
    for place, k in enumerate(order):
        if masses[k] == 0.0:
            continue
        rest = order[place + 1 :]
        if even:
            directions[rest] *= np.where(directions[rest] @ directions[k] < 0.0, -1.0, 1.0)[:, None]
        near = rest[(signs[rest] == signs[k]) & (directions[rest] @ directions[k] > 1.0 - _NEAR) & (masses[rest] > 0.0)]
        total = masses[k] * directions[k] + masses[near] @ directions[near]
        directions[k] = total / np.linalg.norm(total)
        masses[k] += float(np.sum(masses[near]))
        masses[near] = 0.0
    used = masses > 0.0
    return _Neurons(directions[used], signs[used], masses[used])


class _Run:
    """Solve of one problem: the best neurons so far, and their certificate."""

    def __init__(self, problem: Problem, coefficients: Coefficients) -> None:
        self.original, self.coefficients = problem, coefficients
        self.reduced = _reduce(problem, coefficients)
        self.small = self.reduced.problem
        self.neurons = _Neurons(np.zeros((0, self.small.n_features)), np.zeros(0), np.zeros(0))
        self.objective = self.small.loss_value(np.zeros(self.small.n_samples))
        self.network = self.expand()
        self.certificate, self.maxima = self._bound(problem.dual_vector(np.zeros(problem.n_samples)))

    def expand(self) -> PolynomialNetwork:
        """Network of the neurons on the original data."""
        W = self.neurons.directions @ self.reduced.basis.T
        norms = row_norms(W)
        alpha = self.neurons.signs * self.neurons.masses * self.reduced.mass_scale
        return PolynomialNetwork(W / norms[:, None], alpha, self.coefficients)

    def restrict(self, network: PolynomialNetwork) -> _Neurons:
        """Neurons of the reduced problem; what the data do not see turns to the direction that they miss."""
        directions = network.W @ self.reduced.basis
        if directions.shape[1] > 1 and not np.any(self.small.X[:, -1]):
            directions[:, -1] = np.sqrt(np.maximum(1.0 - np.sum(directions[:, :-1] ** 2, axis=1), 0.0))
        norms = row_norms(directions)
        keep = (norms > 0.0) & (network.alpha != 0.0)
        alpha = network.alpha[keep] / self.reduced.mass_scale
        return _Neurons(directions[keep] / norms[keep, None], np.sign(alpha), np.abs(alpha))

    def offer(self, neurons: _Neurons) -> bool:
        """Give neurons their best masses, and keep them if they are better."""
        found = self._massed(neurons)
        if found is None or not found[1] < self.objective:
            return False
        self._keep(*found)
        return True

    def _keep(self, neurons: _Neurons, objective: float) -> None:
        self.neurons, self.objective = neurons, objective
        self.network = self.expand()

    def _massed(self, neurons: _Neurons) -> tuple[_Neurons, float] | None:
        """Neurons with their best masses, and the objective; None where no neuron has an output."""
        outputs = activation(self.small.X @ neurons.directions.T, self.reduced.coefficients) * neurons.signs
        live = np.any(outputs != 0.0, axis=0)
        if not np.any(live):
            return None
        outputs, directions, signs = outputs[:, live], neurons.directions[live], neurons.signs[live]
        masses = optimal_masses(self.small, outputs, neurons.masses[live])
        used = masses > _NOISE * float(np.max(masses))
        value = self.small.loss_value(outputs[:, used] @ masses[used]) + self.small.beta * float(masses[used].sum())
        return _Neurons(directions[used], signs[used], masses[used]), value

    def certify(self, nu: FloatArray | None = None) -> float:
        """Gap with the better of the bounds so far and one more: that of the network or of a given dual vector."""
        point = self.original.dual_vector(self.network(self.original.X)) if nu is None else nu
        found, maxima = self._bound(point)
        if nu is None:
            self.maxima = maxima
        best = found if found.lower_bound > self.certificate.lower_bound else self.certificate
        self.certificate = replace(best, objective=found.objective)
        return self.certificate.gap

    def _bound(self, nu: FloatArray) -> tuple[Certificate, list]:
        return certify_polynomial(self.original, self.coefficients, self.network.objective(self.original), nu)

    def take(self, state: SpectrahedralState) -> None:
        """Neurons of the matrices of the semidefinite program, and the bound of its dual vector."""
        parts = [rank_one_terms(root) for root in state.roots]
        terms = np.vstack(parts)
        signs = np.repeat([1.0, -1.0], [len(part) for part in parts])
        norms = row_norms(terms[:, :-1])
        # The direction is p / p_{d+1}: a vector and its negative are the same neuron.
        turned = np.where(terms[:, -1:] < 0.0, -terms[:, :-1], terms[:, :-1])
        keep = (norms > 0.0) & (terms[:, -1] != 0.0)
        self.offer(_Neurons(turned[keep] / norms[keep, None], signs[keep], terms[keep, -1] ** 2))
        nu = np.zeros(self.original.n_samples)
        nu[self.reduced.samples] = self.reduced.dual_scale * state.nu
        self.certify(self.original.loss.project_dual(nu, self.original.y, self.original.sample_weight))

    def tidy(self, tol: float) -> None:
        """Merge neighbours and drop small neurons, what is left of the null space, while the gap is below ``tol``."""
        bound = self.certificate.lower_bound / self.reduced.objective_scale
        merged = self._massed(_merged(self.neurons, even=self.coefficients[1] == 0.0))
        if merged is not None and relative_gap(merged[1], bound) <= tol:
            self._keep(*merged)
        for share in _SMALL:
            masses = self.neurons.masses
            used = masses > share * float(np.max(masses, initial=0.0))
            if np.all(used):
                continue
            few = _Neurons(self.neurons.directions[used], self.neurons.signs[used], masses[used])
            found = self._massed(few)
            if found is not None and relative_gap(found[1], bound) <= tol:
                self._keep(*found)
                return

    def correct(self) -> bool:
        """Take in the neurons that violate the dual most; whether they have helped."""
        neurons = self.neurons
        for sign, directions, value in self.maxima:
            if value > self.original.beta:
                W = self.restrict(PolynomialNetwork(directions, np.full(len(directions), sign), self.coefficients))
                neurons = neurons.joined(replace(W, masses=np.zeros(len(W.masses))))
        return self.offer(neurons)


def solve_polynomial(
    problem: Problem,
    architecture: Polynomial,
    *,
    tol: float = 1e-6,
    time_limit: float | None = None,
    max_iter: int | None = None,
    warm_start: PolynomialNetwork | None = None,
    recorder: Recorder | None = None,
) -> Solution:
    """Train a network with a polynomial activation to a certified global optimum.

    Parameters
    ----------
    problem : Problem
        Data, loss (squared, huber, logistic or squared_hinge) and ``beta > 0``.
    architecture : Polynomial
        The activation.
    tol : float, default 1e-6
        Relative duality gap.
    time_limit : float, optional
        Seconds; the best network so far is returned when they run out.
    max_iter : int, optional
        Steps of the interior-point method, 200 by default.
    warm_start : PolynomialNetwork, optional
        The result is never worse; if it is optimal, it is returned with its proof.
    recorder : Recorder, optional
        Clock, history and callback.

    Returns
    -------
    Solution
        Its network is a :class:`PolynomialNetwork`, its ``blocks`` are the two matrices of size d + 1 of the
        semidefinite program, and ``patterns`` is None. The bound holds for networks of every width: scope "global".

    Raises
    ------
    ValueError
        For other losses, and for problems too large: more than 9000 samples together with more than 75 features.

    Examples
    --------
    >>> s = solve_polynomial(Problem([[1.0], [2.0]], [1.0, 4.0], beta=0.1), Polynomial(1.0, 0.0, 0.0))
    >>> s.scope, s.gap < 1e-6, round(s.objective, 6)
    ('global', True, 0.099706)
    """
    if not isinstance(problem.loss, SquaredLoss | HuberLoss | LogisticLoss | SquaredHingeLoss):
        raise ValueError(
            f"loss {problem.loss.name!r} is not covered with a polynomial activation; "
            "squared, huber, logistic and squared_hinge are."
        )
    recorder = Recorder(False) if recorder is None else recorder
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    run = _Run(problem, (architecture.a, architecture.b, architecture.c))
    scale = run.reduced.objective_scale
    state: SpectrahedralState | None = None

    def report(current: SpectrahedralState) -> None:
        recorder.record(
            "interior",
            current.iteration,
            objective=scale * current.objective,
            lower_bound=0.0,
            estimate=scale * current.objective * (1.0 - current.gap),
            width=2 * (run.small.n_features + 1),
            violation=0.0,
        )

    interrupted = False
    try:
        if warm_start is not None and run.offer(run.restrict(warm_start)):
            run.certify()
        if run.certificate.gap > tol:
            state = solve_spectrahedral(
                run.small,
                run.reduced.coefficients,
                tol=max(_INNER_SHARE * tol, _FINEST),
                max_iter=200 if max_iter is None else max_iter,
                deadline=deadline,
                report=report,
            )
            interrupted = state.outcome == "interrupted"
            run.take(state)
            _correct(run, tol, deadline, stop=state.outcome not in ("solved", "stalled"))
            run.tidy(_INNER_SHARE * tol)
    except KeyboardInterrupt:
        interrupted = True
    return _finish(run, state, tol, recorder, interrupted=interrupted)


def _correct(run: _Run, tol: float, deadline: float, *, stop: bool) -> None:
    """Close what rounding has left of the gap by neurons from the pricing problem."""
    gap = run.certify()
    for _ in range(0 if stop else _CORRECTIONS):
        if gap <= tol or time.perf_counter() >= deadline or not run.correct():
            break
        gap = run.certify()


def _finish(
    run: _Run, state: SpectrahedralState | None, tol: float, recorder: Recorder, *, interrupted: bool
) -> Solution:
    certificate, network = run.certificate, run.network
    certificate = replace(certificate, objective=network.objective(run.original))
    outcome = "solved" if state is None else state.outcome
    status = Status.STALLED
    if certificate.gap <= tol:
        status = Status.GLOBAL_OPTIMUM
    elif interrupted:
        status = Status.INTERRUPTED
    elif outcome in ("time_limit", "max_iter"):
        status = Status.TIME_LIMIT if outcome == "time_limit" else Status.MAX_ITER
    steps = 0 if state is None else state.iteration
    with contextlib.suppress(KeyboardInterrupt):
        recorder.record(
            "certify",
            steps,
            objective=certificate.objective,
            lower_bound=certificate.lower_bound,
            estimate=certificate.lower_bound,
            width=network.width,
            violation=max(certificate.dual_norm_attained / run.original.beta - 1.0, 0.0),
        )
    return Solution(network, certificate, status, None, network.matrices(), recorder.history(), max(steps, 1))
