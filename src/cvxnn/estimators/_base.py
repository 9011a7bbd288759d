"""What the two estimators share: options, the call of the solver, fitted attributes, outputs."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from cvxnn._validation import as_number, checked_weights
from cvxnn.architectures import Architecture, BatchNormReLU
from cvxnn.estimators._architectures import checked_architecture, is_relu, require_columns, start_or_none
from cvxnn.estimators._fitting import solve_all, warn_unless_converged
from cvxnn.estimators._rows import TrainingRows, merged_rows, sorted_rows, validated, with_ones
from cvxnn.losses import Loss, get_loss
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem
from cvxnn.programs.dispatch import Network
from cvxnn.programs.one_vs_all import stacked_network, worst_status
from cvxnn.progress import Progress
from cvxnn.solution import Solution, Status

FloatArray = npt.NDArray[np.float64]


class BaseReLUEstimator(BaseEstimator):
    """Base of the estimators; a subclass stores the options and makes the problems in ``fit``."""

    _LOSSES: tuple[str, ...] = ()

    architecture: Architecture | None
    alpha: float
    loss: str | Loss
    fit_intercept: bool
    tol: float
    max_iter: int | None
    time_limit: float | None
    max_width: int | None
    patterns: str | int | ActivationPatterns
    certify: bool
    warm_start: bool
    random_state: int | np.random.RandomState | None
    verbose: bool | Callable[[Progress], None]

    network_: Any
    problem_: Any
    solution_: Any
    certificate_: Any
    status_: Status
    objective_: float
    lower_bound_: float
    dual_gap_: float
    n_iter_: int
    n_features_in_: int
    feature_names_in_: npt.NDArray[np.object_]

    def _checked_loss(self) -> Loss:
        """Loss object, if the estimator offers it."""
        accepted = ", ".join(f'"{name}"' for name in self._LOSSES)
        name = self.loss.name if isinstance(self.loss, Loss) else self.loss
        if name not in self._LOSSES:
            raise ValueError(f"loss must be one of {accepted} or such a Loss object; got {self.loss!r}.")
        return get_loss(self.loss)

    def _checked_architecture(self, X: FloatArray) -> Architecture:
        """Architecture of the option, once it fits the features."""
        architecture = checked_architecture(self.architecture, fit_intercept=self.fit_intercept)
        require_columns(architecture, X.shape[1], fit_intercept=self.fit_intercept)
        return architecture

    def _rows(self, X: FloatArray, y: FloatArray, sample_weight: Any) -> TrainingRows:
        """Rows of the problem with the column of ones; equal rows are merged unless patterns fix the rows.

        Batch norm needs no column of ones, and all rows for its statistics.
        """
        weight = checked_weights(sample_weight, len(X))
        if isinstance(self.architecture, BatchNormReLU):
            if isinstance(self.patterns, ActivationPatterns):
                return TrainingRows(X.copy(), y, weight)
            return sorted_rows(TrainingRows(X, y, weight))
        if isinstance(self.patterns, ActivationPatterns):
            return TrainingRows(with_ones(X) if self.fit_intercept else X.copy(), y, weight)
        return merged_rows(X, y, weight, ones=bool(self.fit_intercept))

    def _beta(self, weight: FloatArray) -> float:
        """Weight decay in the units of the summed loss."""
        return as_number(self.alpha, "alpha", minimum=0.0, inclusive=False) * float(np.sum(weight))

    def _seed(self) -> int:
        """Integer seed of the solver."""
        if isinstance(self.random_state, numbers.Integral):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _starts(self, problems: Sequence[Problem], architecture: Architecture) -> list[Network | None]:
        """Networks of the previous fit if ``warm_start`` asks for them and they fit, else None."""
        cold: list[Network | None] = [None] * len(problems)
        if not self.warm_start or not hasattr(self, "solution_"):
            return cold
        last = self.solution_ if isinstance(self.solution_, list) else [self.solution_]
        if len(last) != len(problems):
            return cold
        starts = [
            start_or_none(solution.network, architecture, problem)
            for solution, problem in zip(last, problems, strict=True)
        ]
        return cold if None in starts else starts

    def _solve(
        self,
        problems: list[Problem],
        starts: Sequence[Network | None],
        architecture: Architecture,
        n_jobs: int | None = None,
    ) -> list[Solution]:
        """Solve the problems with the options of the estimator."""
        limit = None if self.time_limit is None else as_number(self.time_limit, "time_limit", minimum=0.0)
        return solve_all(
            problems,
            starts,
            n_jobs=n_jobs,
            time_limit=limit,
            architecture=architecture,
            patterns=self.patterns,
            tol=self.tol,
            certify=self.certify,
            max_iter=self.max_iter,
            max_width=self.max_width,
            random_state=self._seed(),
            verbose=self.verbose,
        )

    def _store(self, problems: list[Problem], solutions: list[Solution]) -> None:
        """Set the fitted attributes, and warn if the tolerance was missed."""
        if len(solutions) == 1:
            self.problem_, self.solution_ = problems[0], solutions[0]
            self.certificate_, self.network_ = solutions[0].certificate, solutions[0].network
        else:
            self.problem_, self.solution_ = problems, solutions
            self.certificate_ = [solution.certificate for solution in solutions]
            networks = [solution.network for solution in solutions]
            self.network_ = stacked_network(networks) if is_relu(self.architecture) else networks
        total = float(np.sum(problems[0].sample_weight))
        self.objective_ = sum(solution.objective for solution in solutions) / total
        self.lower_bound_ = sum(solution.lower_bound for solution in solutions) / total
        self.dual_gap_ = max(solution.gap for solution in solutions)
        self.n_iter_ = max(1, *(solution.n_iter for solution in solutions))
        self.status_ = worst_status(solutions)
        warn_unless_converged(type(self).__name__, solutions, self.tol)

    def _outputs(self, X: Any) -> FloatArray:
        """Compute the outputs of the network or networks, ``(n,)`` or ``(n, c)``."""
        check_is_fitted(self)
        data: Any = validated(self, X, reset=False)
        # The fitted network decides, not the option: the option may have been changed since.
        networks = self.network_ if isinstance(self.network_, list) else [self.network_]
        has_bias = networks[0].n_features > self.n_features_in_
        rows = with_ones(data) if has_bias else data
        outputs = [network(rows) for network in networks]
        return np.column_stack(outputs) if len(outputs) > 1 else outputs[0]
