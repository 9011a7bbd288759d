"""PyTorch on the weights: Adam, gradient descent with momentum and L-BFGS, from the usual Gaussian start.

The objective is the same as cvxnn's over n. Adam and gradient descent follow a cosine schedule that ends with the time
limit; single precision, all rows in every step unless ``batch`` is set. Copies of the weights are scored afterwards,
balanced and in double precision.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.record import Job, NetworkTrace, Outcome, TimeUpError


def adam(job: Job) -> Outcome:
    """Adam with betas (0.9, 0.999)."""
    import torch

    return _scheduled(job, lambda parameters: torch.optim.Adam(parameters, lr=job.options["lr"]))


def sgd(job: Job) -> Outcome:
    """Gradient descent with Nesterov momentum 0.9."""
    import torch

    return _scheduled(
        job, lambda parameters: torch.optim.SGD(parameters, lr=job.options["lr"], momentum=0.9, nesterov=True)
    )


def lbfgs(job: Job) -> Outcome:
    """L-BFGS with history 20 and a strong Wolfe line search; restarted where its line search fails."""
    import torch

    network = _Network(job, getattr(torch, job.options.get("dtype", "float32")))
    threads = _choose_threads(network, None)
    trace = NetworkTrace(job)
    best, steps = math.inf, 0

    def closure() -> Any:
        nonlocal best, steps
        loss = network.loss()
        loss.backward()
        steps += 1
        if trace.due() and (value := float(loss.detach())) < best:
            best = value
            trace.keep(*network.weights())
        return loss

    def step() -> float:
        optimiser = torch.optim.LBFGS(
            network.parameters,
            max_iter=10**6,
            max_eval=10**7,
            history_size=20,
            line_search_fn="strong_wolfe",
            tolerance_grad=0.0,
            tolerance_change=0.0,
        )

        def zeroed() -> Any:
            optimiser.zero_grad()
            return closure()

        return float(optimiser.step(zeroed).detach())

    status, before = "time limit", math.inf
    try:
        while (value := step()) < before * (1.0 - 1e-9):
            before = value
        status = "no further descent"
    except TimeUpError:
        pass
    trace.keep(*network.weights())
    return trace.outcome(status, evaluations=steps, threads=threads)


def _scheduled(job: Job, make: Callable[[Any], Any]) -> Outcome:
    """Steps of a first-order method until the time is over, the rate following a cosine of the time."""
    import torch

    network = _Network(job, torch.float32)
    optimiser = make(network.parameters)
    generator, n, size = torch.Generator().manual_seed(job.seed), job.problem.n_samples, job.options.get("batch")
    threads = _choose_threads(network, size)
    trace, steps = NetworkTrace(job), 0
    try:
        while True:
            if trace.due():
                trace.keep(*network.weights())
            share = min(trace.seconds / job.limit, 1.0)
            optimiser.param_groups[0]["lr"] = 0.5 * job.options["lr"] * (1.0 + math.cos(math.pi * share))
            rows = None if size is None or size >= n else torch.randint(n, (size,), generator=generator)
            optimiser.zero_grad()
            network.loss(rows).backward()
            optimiser.step()
            steps += 1
    except TimeUpError:
        trace.keep(*network.weights())
    return trace.outcome("time limit", steps=steps, threads=threads)


def _choose_threads(network: _Network, batch: int | None) -> int:
    """Set the number of threads, one or the default, with which a few gradients are faster; the clock does not run."""
    import torch

    rows = None if batch is None else torch.arange(min(batch, network.n_samples))
    seconds: dict[int, float] = {}
    for threads in (torch.get_num_threads(), 1):
        torch.set_num_threads(threads)
        moments = [time.perf_counter()]
        for _ in range(8):
            network.loss(rows).backward()
            moments.append(time.perf_counter())
        seconds[threads] = float(np.min(np.diff(moments)))
    chosen = min(seconds, key=lambda threads: seconds[threads])
    torch.set_num_threads(chosen)
    for parameter in network.parameters:
        parameter.grad = None
    return chosen


class _Network:
    """Parameters, data and objective / n."""

    def __init__(self, job: Job, dtype: Any) -> None:
        import torch

        rng, (m, d) = np.random.default_rng(job.seed), (job.options["width"], job.problem.n_features)
        self.W = torch.tensor(rng.standard_normal((m, d)) / np.sqrt(d), dtype=dtype, requires_grad=True)
        self.a = torch.tensor(rng.standard_normal(m) / np.sqrt(m), dtype=dtype, requires_grad=True)
        self.b = torch.zeros(1, dtype=dtype, requires_grad=True)
        bias_decay = job.problem.output_bias_decay
        self.parameters = [self.W, self.a] if bias_decay is None else [self.W, self.a, self.b]
        self._bias_decay = 0.5 * (bias_decay or 0.0) / job.problem.n_samples
        self._X, self._y = (torch.tensor(array, dtype=dtype) for array in (job.problem.X, job.problem.y))
        self.n_samples = job.problem.n_samples
        self._decay = 0.5 * job.problem.beta / job.problem.n_samples
        self._loss = _losses()[job.problem.loss.name]
        weight = job.problem.sample_weight
        self._weight = None if (weight == 1.0).all() else torch.tensor(weight, dtype=dtype)

    def loss(self, rows: Any = None) -> Any:
        """Mean loss over the rows (all by default) and half of beta / n times the squared weights; biases likewise."""
        X, y = (self._X, self._y) if rows is None else (self._X[rows], self._y[rows])
        fit = (X @ self.W.T).relu_() @ self.a
        if len(self.parameters) > 2:
            fit = fit + self.b
        weight = self._weight if rows is None or self._weight is None else self._weight[rows]
        decay = self._decay * (self.W.square().sum() + self.a.square().sum())
        if len(self.parameters) > 2:
            decay = decay + self._bias_decay * self.b.square().sum()
        return self._loss(fit, y, weight) + decay

    def weights(self) -> tuple[np.ndarray, np.ndarray, float]:
        """First and second layer in double precision, and the output bias, 0 where the problem has none."""
        return self.W.detach().double().numpy(), self.a.detach().double().numpy(), float(self.b.detach())


def _losses() -> dict[str, Callable[[Any, Any, Any], Any]]:
    """Mean losses of fit and targets, with the weights of the samples or None."""
    from torch.nn import functional

    def mean(values: Any, weight: Any) -> Any:
        return values.mean() if weight is None else (weight * values).mean()

    return {
        "squared": lambda fit, y, weight: 0.5 * mean((fit - y).square(), weight),
        "logistic": lambda fit, y, weight: mean(functional.softplus(-y * fit), weight),
        "huber": lambda fit, y, weight: mean(functional.huber_loss(fit, y, reduction="none", delta=1.0), weight),
        "squared_hinge": lambda fit, y, weight: 0.5 * mean((1.0 - y * fit).relu().square(), weight),
    }
