"""Objective against CPU seconds: the local search beside PyTorch's Adam and L-BFGS on both layers of a network.

Run ``OMP_NUM_THREADS=1 python -m benchmarks.local_search --budget 5``. All run in one process, one after the other, are
warmed up, and are charged CPU seconds, so that other work on the machine counts little. The rivals have 400 neurons;
Adam runs in single precision with a cosine schedule that ends with the budget, its learning rate the best of three on
the first seed; L-BFGS has a history of 20 and a strong Wolfe line search. Networks are balanced before they are scored.
Each row gives objective / n at parts of the budget (Adam only at its end: its schedule belongs to that time); with
``--longer 5`` the rivals also get five times the budget.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.data import load
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.solvers.local_search import local_search
from cvxnn.solvers.neurons import Neurons

CASES = [
    ("diabetes", 1e-2, "squared"),
    ("diabetes", 1e-3, "squared"),
    ("cancer", 1e-2, "logistic"),
    ("keel-pima", 1e-3, "squared"),
    ("keel-sonar", 1e-3, "squared"),
    ("keel-german", 1e-2, "squared"),
    ("keel-vehicle", 1e-3, "logistic"),
    ("keel-segment", 1e-3, "squared_hinge"),
    ("keel-contraceptive", 1e-3, "huber"),
    ("digits", 1e-2, "squared"),
    ("digits", 1e-3, "squared"),
    ("keel-spambase", 1e-3, "squared"),
    ("mnist", 1e-2, "squared"),
]
SHARES = (0.125, 0.25, 0.5, 1.0)
RATES = (3e-3, 1e-2, 3e-2)
WIDTH = 400

History = list[tuple[float, float]]


class _TimeUpError(Exception):
    """Raised inside a callback when the budget is spent."""


def record_local_search(problem: Problem, budget: float, seed: int) -> History:
    """Pairs of CPU seconds and best objective of the local search."""
    history: History = []
    begin = time.process_time()

    def callback(neurons: Neurons, value: float) -> None:
        history.append((time.process_time() - begin, value))
        if history[-1][0] > budget:
            raise _TimeUpError

    try:
        best = local_search(problem, random_state=seed, time_limit=budget, callback=callback, tol=1e-7)
        history.append((time.process_time() - begin, best.objective(problem)))
    except _TimeUpError:
        pass
    return history


class _Weights:
    """Both layers of a network in PyTorch, from the usual Gaussian start."""

    def __init__(self, problem: Problem, seed: int, dtype: Any) -> None:
        import torch

        torch.manual_seed(seed)
        self.problem = problem
        self.torch = torch
        self.X, self.y = torch.tensor(problem.X, dtype=dtype), torch.tensor(problem.y, dtype=dtype)
        d = problem.n_features
        self.W = (torch.randn(WIDTH, d, dtype=dtype) / d**0.5).requires_grad_()
        self.a = (torch.randn(WIDTH, dtype=dtype) / WIDTH**0.5).requires_grad_()

    def loss(self) -> Any:
        """Objective over n as a tensor."""
        fit = self.torch.relu(self.X @ self.W.T) @ self.a
        decay = 0.5 * self.problem.beta * ((self.W**2).sum() + (self.a**2).sum())
        return (self._data_loss(fit) + decay) / len(self.y)

    def _data_loss(self, fit: Any) -> Any:
        functional = self.torch.nn.functional
        if self.problem.loss.name == "logistic":
            return functional.softplus(-self.y * fit).sum()
        if self.problem.loss.name == "huber":
            return functional.huber_loss(fit, self.y, reduction="sum")
        if self.problem.loss.name == "squared_hinge":
            return 0.5 * (self.torch.relu(1.0 - self.y * fit) ** 2).sum()
        return 0.5 * ((fit - self.y) ** 2).sum()

    def objective(self) -> float:
        """Objective of the balanced network in double precision."""
        W, a = (layer.detach().double().numpy() for layer in (self.W, self.a))
        return ReLUNetwork(W, a).balanced().objective(self.problem)


def record_adam(problem: Problem, budget: float, seed: int, *, rate: float) -> History:
    """Objective at the end of the budget."""
    import torch

    weights = _Weights(problem, seed, torch.float32)
    optimiser = torch.optim.Adam([weights.W, weights.a], lr=rate)
    begin = time.process_time()
    while (elapsed := (time.process_time() - begin) / budget) < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = 0.5 * rate * (1.0 + np.cos(np.pi * elapsed))
        optimiser.zero_grad()
        weights.loss().backward()
        optimiser.step()
    return [(budget, weights.objective())]


def record_lbfgs(problem: Problem, budget: float, seed: int) -> History:
    """Pairs of CPU seconds and best objective of L-BFGS in double precision."""
    import torch

    weights = _Weights(problem, seed, torch.float64)
    optimiser = torch.optim.LBFGS(
        [weights.W, weights.a],
        max_iter=10,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=0.0,
        tolerance_change=0.0,
    )

    def closure() -> float:
        optimiser.zero_grad()
        value = weights.loss()
        value.backward()
        return value

    history: History = []
    begin, scoring = time.process_time(), 0.0
    while not history or history[-1][0] < budget:
        optimiser.step(closure)
        now = time.process_time()
        history.append((now - begin - scoring, weights.objective()))
        scoring += time.process_time() - now
    return history


def best_at(history: History, limit: float) -> float:
    """Best objective within a time."""
    return min((value for seconds, value in history if seconds <= 1.02 * limit), default=np.nan)


def _warm_up() -> None:
    rng = np.random.default_rng(0)
    problem = Problem(rng.standard_normal((20, 3)), rng.standard_normal(20), beta=0.1)
    local_search(problem, max_rounds=2)
    record_adam(problem, 0.1, 0, rate=1e-2)
    record_lbfgs(problem, 0.1, 0)


def main() -> None:
    """Print one table row for each case, method and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=5.0, help="CPU seconds for each run")
    parser.add_argument("--longer", type=float, default=1.0, help="how many times the budget the rivals get as well")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--cases", nargs="*", help="substrings that select cases, such as diabetes or logistic")
    parser.add_argument("--table", nargs=3, metavar=("NAME", "LAM", "LOSS"), help="one case of any table instead")
    options = parser.parse_args()
    cases = CASES if options.table is None else [(options.table[0], float(options.table[1]), options.table[2])]
    times = [options.budget * share for share in SHARES]
    times += [options.budget * options.longer] if options.longer > 1.0 else []
    _warm_up()
    print("| case | method | seed | " + " | ".join(f"{t:.3g} s" for t in times) + " |")
    print("|---|---|---|" + "---|" * len(times))
    for name, lam, loss in cases:
        case = f"{name} {loss} {lam:g}"
        if options.cases and not any(word in case for word in options.cases):
            continue
        table = load(name)
        problem = Problem(table.X, table.y, beta=lam * len(table.y), loss=loss)
        rates = {rate: record_adam(problem, options.budget, 0, rate=rate)[-1][1] for rate in RATES}
        rate = min(rates, key=lambda r: rates[r])

        def adam(problem: Problem, budget: float, seed: int, rate: float = rate) -> History:
            history = record_adam(problem, options.budget, seed, rate=rate)
            return history if budget == options.budget else history + record_adam(problem, budget, seed, rate=rate)

        methods: dict[str, tuple[Callable[[Problem, float, int], History], float]] = {
            "local_search": (record_local_search, 1.0),
            f"Adam {rate:g}": (adam, options.longer),
            "L-BFGS": (record_lbfgs, options.longer),
        }
        for seed in range(options.seeds):
            for method, (record, factor) in methods.items():
                history = record(problem, factor * options.budget, seed)
                row = " | ".join(f"{best_at(history, t) / problem.n_samples:.7f}" for t in times)
                print(f"| {case} | {method} | {seed} | {row} |", flush=True)


if __name__ == "__main__":
    main()
