"""scikit-learn's MLPRegressor and MLPClassifier with one hidden layer.

They do not penalise their intercepts. For the score the hidden intercepts join the weights of the column of ones, and
the intercept of the output becomes a neuron that sees this column only; both then cost what weights cost.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks.record import Job, NetworkTrace, Outcome, TimeUpError


def run(job: Job) -> Outcome:
    """Fit on the rows without their column of ones, recording weights through the estimator's own hooks."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    problem, solver = job.problem, str(job.options["solver"])
    n, batch = problem.n_samples, min(200, problem.n_samples)
    logistic = problem.loss.name == "logistic"
    settings: dict[str, Any] = {
        "hidden_layer_sizes": (int(job.options["width"]),),
        "solver": solver,
        # The penalty is divided by the number of rows of a step: all of them for L-BFGS, a batch for Adam.
        "alpha": problem.beta if solver == "lbfgs" else problem.beta / n * batch,
        "batch_size": batch,
        "max_iter": 10**7,
        "max_fun": 10**8,
        "tol": 0.0,
        "n_iter_no_change": 10**7,
        "random_state": job.seed,
    }
    trace = NetworkTrace(job)
    model = _recording(MLPClassifier if logistic else MLPRegressor, trace)(**settings)
    status = "stopped by its own rule"
    target = (problem.y > 0).astype(int) if logistic else problem.y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            model.fit(problem.X[:, :-1], target)
        except TimeUpError:
            status = "time limit"
    trace.keep(*_network(model))
    return trace.outcome(status)


def _recording(base: type, trace: NetworkTrace) -> type:
    """Subclass whose hooks (one an evaluation of L-BFGS, one an epoch of Adam) keep copies and watch the clock."""

    class Recording(base):
        def _loss_grad_lbfgs(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._loss_grad_lbfgs(*args, **kwargs)
            _record(self)
            return result

        def _update_no_improvement_count(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._update_no_improvement_count(*args, **kwargs)
            _record(self)
            return result

    def _record(model: Any) -> None:
        if trace.due():
            trace.keep(*_network(model))

    return Recording


def _network(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """First layer (m + 1, d) on rows with a last column of ones, second layer (m + 1,)."""
    hidden, output = model.coefs_
    W = np.column_stack([hidden.T, model.intercepts_[0]])
    bias = float(model.intercepts_[1][0])
    constant = np.zeros((1, W.shape[1]))
    constant[0, -1] = np.sqrt(abs(bias))
    return np.vstack([W, constant]), np.append(output[:, 0], np.sign(bias) * np.sqrt(abs(bias)))
