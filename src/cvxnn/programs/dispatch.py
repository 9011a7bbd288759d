"""From an architecture to the program that trains it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count
from cvxnn.architectures import (
    Architecture,
    BatchNormReLU,
    GatedReLU,
    ParallelReLU,
    Polynomial,
    ReLU,
    SampledGatedReLU,
)
from cvxnn.networks import ReLUNetwork
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.patterns import ActivationPatterns, sample_patterns
from cvxnn.problem import Problem, require_no_output_bias, require_one_output
from cvxnn.programs.batch_norm import BatchNormReLUNetwork, WhitenedData, solve_batch_norm, whiten
from cvxnn.programs.gated import GatedReLUNetwork, solve_gated
from cvxnn.programs.listed_output_bias import solve_listed_output_bias
from cvxnn.programs.one_vs_all import solve_one_vs_all
from cvxnn.programs.parallel_relu import ParallelOptions, solve_parallel
from cvxnn.programs.polynomial import PolynomialNetwork, solve_polynomial
from cvxnn.programs.relu import ReLUOptions, solve_relu
from cvxnn.programs.vector_output import solve_vector_output
from cvxnn.progress import Recorder
from cvxnn.solution import Solution

FloatArray = npt.NDArray[np.float64]
Network = ReLUNetwork | GatedReLUNetwork | BatchNormReLUNetwork | PolynomialNetwork | ParallelReLUNetwork

__all__ = ["Network", "SolveOptions", "solve_architecture", "with_gates"]

_MAX_ITER = 200


@dataclass(frozen=True)
class SolveOptions:
    """Options of :func:`cvxnn.solve`, those that need no architecture to be checked."""

    patterns: Any
    tol: float
    certify: bool
    time_limit: float | None
    max_iter: int | None
    max_width: int | None
    warm_start: Any
    seed: int

    @property
    def iterations(self) -> int:
        """Most outer iterations."""
        return _MAX_ITER if self.max_iter is None else self.max_iter

    def relu(self, listed: ActivationPatterns | None, start: ReLUNetwork | None) -> ReLUOptions:
        """Options of a ReLU program."""
        return ReLUOptions(
            listed, self.tol, self.certify, self.time_limit, self.iterations, start, self.seed, self.max_width
        )


def with_gates(problem: Problem, architecture: Architecture, options: SolveOptions) -> Architecture:
    """Draw the gates that are given by number; those of the network to start from stay among them."""
    if not isinstance(architecture, SampledGatedReLU):
        return architecture
    drawn = architecture.drawn(problem.X, random_state=options.seed)
    start = options.warm_start
    if not isinstance(start, GatedReLUNetwork) or start.n_features != problem.n_features:
        return drawn
    missing = [gate for gate in np.unique(start.gates, axis=0) if not np.any(np.all(drawn.gates == gate, axis=1))]
    return GatedReLU(np.vstack([drawn.gates, *missing]))


def solve_architecture(
    problem: Problem, architecture: Architecture, options: SolveOptions, recorder: Recorder
) -> Solution:
    """Train a network of the architecture by its program.

    Raises
    ------
    ValueError
        On an unknown architecture, or a problem or option that its theorem does not cover.
    """
    if isinstance(architecture, ReLU):
        return _relu(problem, architecture, options, recorder)
    for kind, run in _RELATIVES.items():
        if isinstance(architecture, kind):
            require_one_output(problem, f"solve with {kind.__name__}")
            require_no_output_bias(problem, f"solve with {kind.__name__}")
            return run(problem, architecture, options, recorder)
    raise ValueError(
        "architecture must be ReLU(), GatedReLU(gates), SampledGatedReLU(), BatchNormReLU(), Polynomial(a, b, c) or "
        "ParallelReLU(); "
        f"got {architecture!r}."
    )


def _relu(problem: Problem, architecture: ReLU, options: SolveOptions, recorder: Recorder) -> Solution:
    chosen = options.relu(
        _listed_patterns(options.patterns, problem.X, options.seed), _relu_start(options.warm_start, problem)
    )
    if problem.n_outputs > 1:
        return (solve_one_vs_all if architecture.one_vs_all else solve_vector_output)(problem, chosen, recorder)
    if problem.output_bias_decay is None or chosen.listed is None:
        return solve_relu(problem, chosen, recorder)
    return solve_listed_output_bias(problem, chosen, recorder)


def _gated(problem: Problem, architecture: GatedReLU, options: SolveOptions, recorder: Recorder) -> Solution:
    if not isinstance(options.patterns, str):
        raise ValueError("patterns belong to ReLU networks; the patterns of a gated network are those of its gates.")
    return solve_gated(
        problem,
        architecture,
        tol=options.tol,
        time_limit=options.time_limit,
        max_iter=options.iterations,
        recorder=recorder,
        warm_start=_gated_start(options.warm_start, architecture),
    )


def _batch_norm(problem: Problem, architecture: BatchNormReLU, options: SolveOptions, recorder: Recorder) -> Solution:
    del architecture
    whitened = whiten(problem.X)
    listed = _listed_patterns(options.patterns, whitened.data, options.seed)
    start = _batch_norm_start(options.warm_start, problem, whitened)
    return solve_batch_norm(problem, whitened, options.relu(listed, start), recorder)


def _polynomial(problem: Problem, architecture: Polynomial, options: SolveOptions, recorder: Recorder) -> Solution:
    if not isinstance(options.patterns, str):
        raise ValueError("patterns belong to ReLU networks; a polynomial activation has none.")
    return solve_polynomial(
        problem,
        architecture,
        tol=options.tol,
        time_limit=options.time_limit,
        max_iter=options.max_iter,
        warm_start=_polynomial_start(options.warm_start, problem, architecture),
        recorder=recorder,
    )


def _parallel(problem: Problem, architecture: ParallelReLU, options: SolveOptions, recorder: Recorder) -> Solution:
    if not isinstance(options.patterns, str):
        raise ValueError('ParallelReLU takes patterns="auto" only: its patterns come in layers.')
    chosen = ParallelOptions(
        options.tol, options.certify, options.time_limit, options.iterations, options.warm_start, options.seed
    )
    return solve_parallel(problem, architecture, chosen, recorder)


_RELATIVES: dict[type, Any] = {
    GatedReLU: _gated,
    BatchNormReLU: _batch_norm,
    Polynomial: _polynomial,
    ParallelReLU: _parallel,
}


def _listed_patterns(patterns: Any, X: FloatArray, seed: int) -> ActivationPatterns | None:
    if isinstance(patterns, str) and patterns == "auto":
        return None
    if isinstance(patterns, ActivationPatterns):
        if (patterns.n_samples, patterns.gates.shape[1]) != X.shape:
            raise ValueError(
                f"patterns belong to data of shape ({patterns.n_samples}, {patterns.gates.shape[1]}); "
                f"the problem has X of shape {X.shape}."
            )
        if len(patterns) == 0:
            raise ValueError("patterns is empty; at least one activation pattern is needed.")
        return patterns
    if isinstance(patterns, (str, bool)) or not hasattr(patterns, "__index__"):
        raise ValueError(f'patterns must be "auto", a positive number or ActivationPatterns; got {patterns!r}.')
    return sample_patterns(X, as_count(patterns, "patterns"), random_state=seed)


def _relu_start(network: Any, problem: Problem) -> ReLUNetwork | None:
    if network is None:
        return None
    sizes = problem.n_features, problem.n_outputs
    if not isinstance(network, ReLUNetwork) or (network.n_features, network.n_outputs) != sizes:
        outputs = "one output" if sizes[1] == 1 else f"{sizes[1]} outputs"
        raise ValueError(
            f"warm_start must be a ReLUNetwork with {problem.n_features} features and {outputs}; got {network!r}."
        )
    return replace(network, a=network.a.reshape(network.width, *problem.y.shape[1:]))


def _gated_start(network: Any, architecture: GatedReLU) -> GatedReLUNetwork | None:
    if network is not None and not isinstance(network, GatedReLUNetwork):
        raise ValueError(f"warm_start must be a GatedReLUNetwork for {architecture!r}; got {network!r}.")
    return network


def _batch_norm_start(network: Any, problem: Problem, whitened: WhitenedData) -> ReLUNetwork | None:
    if network is None:
        return None
    if not isinstance(network, BatchNormReLUNetwork) or network.n_features != problem.n_features:
        raise ValueError(
            f"warm_start must be a BatchNormReLUNetwork with {problem.n_features} features; got {network!r}."
        )
    return whitened.to_relu(network.on_batch(problem.X), problem.X)


def _polynomial_start(network: Any, problem: Problem, architecture: Polynomial) -> PolynomialNetwork | None:
    if network is None:
        return None
    activation = (architecture.a, architecture.b, architecture.c)
    if not isinstance(network, PolynomialNetwork) or network.n_features != problem.n_features:
        raise ValueError(f"warm_start must be a PolynomialNetwork with {problem.n_features} features; got {network!r}.")
    if network.coefficients != activation:
        raise ValueError(f"warm_start must have the coefficients {activation}; got {network.coefficients}.")
    return network
