"""Judging gated, batch-norm and polynomial networks: their programs are convex, and each gives a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._html import card, figure
from cvxnn._validation import as_number, as_seed
from cvxnn.architectures import Architecture, BatchNormReLU, GatedReLU, Polynomial, gate_patterns
from cvxnn.certificates.batch_norm_bound import certify_batch_norm, dual_size
from cvxnn.certificates.certificate import Certificate, Scope, relative_gap
from cvxnn.certificates.gated_bound import certify_gated
from cvxnn.certificates.polynomial_bound import certify_polynomial
from cvxnn.landscape._members import require_finite_objective
from cvxnn.landscape._verdict import Verdict
from cvxnn.problem import Problem, require_no_output_bias, require_one_output, require_problem
from cvxnn.programs.batch_norm import BatchNormReLUNetwork, whiten
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.polynomial import PolynomialNetwork
from cvxnn.solution import Status
from cvxnn.training import solve

FloatArray = npt.NDArray[np.float64]
Relative = GatedReLUNetwork | BatchNormReLUNetwork | PolynomialNetwork

__all__ = ["Relative", "RelativeCertificate", "certify_relative"]

_SHARE_OF_TOL, _ROUNDING = 0.01, 1e-13
_SHARE_OF_SOLVE = 0.1
"""Part of the tolerance to which the program is solved."""


@dataclass(frozen=True, eq=False)
class RelativeCertificate(Verdict):
    """What :func:`cvxnn.landscape.certify` found out about a gated, batch-norm or polynomial network.

    Attributes
    ----------
    problem : Problem
    network : GatedReLUNetwork, BatchNormReLUNetwork or PolynomialNetwork
        The network judged, as it was given.
    objective : float
        Its objective, recomputed from the weights.
    lower_bound : float
        No network of the architecture, of any width, has a lower objective; rounding is subtracted.
    is_optimal : bool or None
        Within :attr:`scope`. True: ``gap <= tol``. False: a better network is at hand (:attr:`better`), by more than
        ``tol / 100``. None: not decided within the limits; the bound holds all the same.
    better : network of the same kind or None
        Best network met on the way, where its objective is lower.
    dual : ndarray (n,)
        Dual vector of the network, minus the gradient of the loss at its fit.
    certificate : Certificate
        Proof of the lower bound, with the dual vector that gives it.
    tol : float
        Relative gap at which the network counts as optimal.
    seconds : float
    interrupted : bool
        Whether a keyboard interrupt cut the work short.
    """

    problem: Problem
    network: Relative
    objective: float
    lower_bound: float
    is_optimal: bool | None
    better: Relative | None
    dual: FloatArray
    certificate: Certificate
    tol: float
    seconds: float
    interrupted: bool

    @property
    def scope(self) -> Scope:
        """Scope of the bound: "global", or for gated networks "patterns", all networks with the same gates."""
        return self.certificate.scope

    @property
    def is_global(self) -> bool | None:
        """:attr:`is_optimal`, but never True where the bound holds among given gates only."""
        return None if self.is_optimal and self.scope != "global" else self.is_optimal

    @property
    def verdict(self) -> str:
        """One sentence for the user."""
        among = "" if self.scope == "global" else " with these gates"
        if self.is_optimal:
            word = "Globally optimal" if self.scope == "global" else "Optimal among the networks with these gates"
            return f"{word}: none of any width is better by more than a relative {self.gap:.1e}."
        if self.is_optimal is False:
            gain = relative_gap(self.objective, self.best_objective)
            return (
                f"Not optimal: a better network was found. It is lower by a relative {gain:.1e}, "
                f"and none{among} is lower by more than {self.gap:.1e}."
            )
        return f"Not decided: no better network was found, and none{among} is better by more than {self.gap:.1e}."

    def __repr__(self) -> str:
        """Key figures on one line."""
        return (
            f"RelativeCertificate(is_optimal={self.is_optimal}, objective={self.objective:.9g}, "
            f"lower_bound={self.lower_bound:.9g}, gap={self.gap:.1e}, scope={self.scope!r})"
        )

    def _repr_html_(self) -> str:
        """Table for notebooks, with the verdict in words."""
        rows = [
            ("optimal", {True: "yes", False: "no", None: "not decided"}[self.is_optimal]),
            ("objective", figure(self.objective)),
            ("best objective met", figure(self.best_objective)),
            ("lower bound", figure(self.lower_bound)),
            ("relative gap", f"{self.gap:.1e}"),
            ("scope", self.scope),
            ("method", self.method),
            ("seconds", f"{self.seconds:.3g}"),
        ]
        return card("Network certificate", rows, note=self.verdict)


@dataclass(frozen=True)
class _Options:
    """Options of the verdict, as checked by :func:`cvxnn.landscape.certify`."""

    tol: float
    time_limit: float | None
    seed: int
    start: float

    def remaining(self) -> float | None:
        return None if self.time_limit is None else max(self.time_limit - (time.perf_counter() - self.start), 0.0)


def certify_relative(
    problem: Problem,
    network: Relative,
    architecture: Architecture | None,
    *,
    method: str,
    tol: float,
    time_limit: float | None,
    random_state: int,
    relu: Callable[..., Any],
) -> RelativeCertificate:
    """Judge a network of another architecture than ReLU against all of the same architecture.

    Parameters
    ----------
    problem, network, architecture, method, tol, time_limit, random_state
        As of :func:`cvxnn.landscape.certify`.
    relu : callable
        That function itself, for the ReLU network that a batch-norm network is on whitened data.

    Raises
    ------
    ValueError
        If network, problem and architecture do not fit, or the loss is not covered.
    """
    start = time.perf_counter()
    name = type(network).__name__
    require_problem(problem)
    if problem.beta == 0.0:
        raise ValueError("beta is 0; without weight decay there is no certificate, certify needs beta > 0.")
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    require_one_output(problem, f"certify of a {name}")
    require_no_output_bias(problem, f"certify of a {name}")
    if network.n_features != problem.n_features:
        raise ValueError(f"network takes {network.n_features} features but the problem has {problem.n_features}.")
    if method != "auto" and not isinstance(network, BatchNormReLUNetwork):
        raise ValueError(f'method must be "auto" for a {name}, whose program is convex; got {method!r}.')
    _require_same(network, architecture)
    options = _Options(tol, limit, as_seed(random_state, "random_state"), start)
    require_finite_objective(problem, network)
    if isinstance(network, GatedReLUNetwork):
        return _gated(problem, network, _gates(network, architecture), options)
    if isinstance(network, PolynomialNetwork):
        return _polynomial(problem, network, options)
    return _batch_norm(problem, network, method, options, relu)


def _require_same(network: Relative, architecture: Architecture | None) -> None:
    own = Polynomial(*network.coefficients) if isinstance(network, PolynomialNetwork) else BatchNormReLU()
    fits = isinstance(architecture, GatedReLU) if isinstance(network, GatedReLUNetwork) else architecture == own
    if architecture is not None and not fits:
        raise ValueError(f"architecture must be that of the {type(network).__name__}; got {architecture!r}.")


def _gates(network: GatedReLUNetwork, architecture: Architecture | None) -> GatedReLU:
    if isinstance(architecture, GatedReLU):
        # Refuses a network with other gates.
        network.vectors(architecture.gates)
        return architecture
    if network.width == 0:
        raise ValueError("network has no neurons, so that its gates are unknown; pass architecture=GatedReLU(gates).")
    return GatedReLU(np.unique(network.gates, axis=0))


def _gated(
    problem: Problem, network: GatedReLUNetwork, architecture: GatedReLU, options: _Options
) -> RelativeCertificate:
    objective, dual = network.objective(problem), problem.dual_vector(network(problem.X))
    own = certify_gated(problem, objective, gate_patterns(problem.X, architecture.gates), dual)
    return _solved(problem, network, architecture, own, options)


def _polynomial(problem: Problem, network: PolynomialNetwork, options: _Options) -> RelativeCertificate:
    objective, dual = network.objective(problem), problem.dual_vector(network(problem.X))
    own, _ = certify_polynomial(problem, network.coefficients, objective, dual)
    return _solved(problem, network, Polynomial(*network.coefficients), own, options)


def _solved(
    problem: Problem, network: Relative, architecture: Architecture, own: Certificate, options: _Options
) -> RelativeCertificate:
    """Verdict from the bound of the network's own dual vector, and from the program where that is not enough."""
    better, interrupted = None, False
    if own.gap > options.tol:
        solution = solve(
            problem,
            architecture=architecture,
            tol=_SHARE_OF_SOLVE * options.tol,
            time_limit=options.remaining(),
            warm_start=network,
        )
        better, interrupted = solution.network, solution.status is Status.INTERRUPTED
        if solution.lower_bound > own.lower_bound:
            own = replace(solution.certificate, objective=own.objective)
    return _report(problem, network, own, better, options, interrupted=interrupted)


def _batch_norm(
    problem: Problem, network: BatchNormReLUNetwork, method: str, options: _Options, relu: Callable[..., Any]
) -> RelativeCertificate:
    """Judge the ReLU network on the whitened data that has the same outputs and the same penalty."""
    # Refuses a loss that the bound does not cover before any work is done.
    dual_size(problem)
    whitened = whiten(problem.X)
    judged = relu(
        whitened.problem_of(problem),
        whitened.to_relu(network.on_batch(problem.X), problem.X),
        method=method,
        tol=_SHARE_OF_SOLVE * options.tol,
        time_limit=options.remaining(),
        random_state=options.seed,
    )
    certificate = certify_batch_norm(
        problem, network.objective(problem), judged.certificate, whitened.epsilon, whitened.kappa
    )
    better = None if judged.better is None else whitened.from_relu(judged.better, problem.X)
    return _report(problem, network, certificate, better, options, interrupted=judged.interrupted)


def _report(
    problem: Problem,
    network: Relative,
    certificate: Certificate,
    better: Relative | None,
    options: _Options,
    *,
    interrupted: bool,
) -> RelativeCertificate:
    objective, tol = certificate.objective, options.tol
    optimal = certificate.gap <= tol
    least = objective - max(_SHARE_OF_TOL * tol, _ROUNDING) * abs(objective)
    beaten = not optimal and better is not None and better.objective(problem) < least
    batch = network.on_batch(problem.X) if isinstance(network, BatchNormReLUNetwork) else network
    return RelativeCertificate(
        problem=problem,
        network=network,
        objective=objective,
        lower_bound=certificate.lower_bound,
        is_optimal=True if optimal else (False if beaten else None),
        better=better if beaten else None,
        dual=problem.dual_vector(batch(problem.X)),
        certificate=certificate,
        tol=tol,
        seconds=time.perf_counter() - options.start,
        interrupted=interrupted,
    )
