"""Peak memory of solves with many rows: the data, the masks as bits, and little else."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from cvxnn import GatedReLU, Problem, ReLUClassifier, ReLURegressor, SampledGatedReLU, landscape, solve

N, D, P = 20_000, 20, 200


def data():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.standard_normal((N, D - 1)), np.ones(N)])
    y = np.abs(X @ rng.standard_normal(D)) + 0.3 * rng.standard_normal(N)
    return X, (y - y.mean()) / y.std(), rng.standard_normal((P, D))


def promised(X):
    return 1.5 * X.nbytes + P * N / 8 + 200e6


def peak_of(work):
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("loss", ["squared", "logistic"])
@pytest.mark.parametrize("weighted", [False, True])
def test_gated_networks(loss, weighted):
    X, y, gates = data()
    y = np.where(y > 0, 1.0, -1.0) if loss == "logistic" else y
    weight = np.where(np.arange(N) % 5 > 0, 1.0, 0.0) if weighted else None

    def work():
        problem = Problem(X, y, beta=1e-2 * N, loss=loss, sample_weight=weight)
        return solve(problem, architecture=GatedReLU(gates), tol=1e-3)

    peak, solution = peak_of(work)
    assert solution.gap < 1e-3
    assert peak < promised(X)
    # Less than the data twice and an array of n x P doubles alone would take.
    assert peak < 2.0 * X.nbytes + 8.0 * N * P


def test_gated_path():
    X, y, gates = data()
    betas = N * np.geomspace(0.3, 0.01, 6)
    peak, path = peak_of(
        lambda: landscape.regularization_path(Problem(X, y), betas, architecture=GatedReLU(gates), tol=1e-3)
    )
    assert len(path) == 6
    assert peak < promised(X) - 200e6 + 8.0 * N * P


def test_patterns_free():
    X, y, _ = data()
    peak, solution = peak_of(lambda: solve(Problem(X, y, beta=1e-2 * N), tol=1e-3, time_limit=3.0))
    assert solution.objective < 0.5 * (0.5 * float(y @ y))
    assert peak < promised(X)


def test_estimator_holds_one_copy_of_the_rows():
    X, y, _ = data()
    estimator = ReLURegressor(alpha=1e-2, architecture=SampledGatedReLU(n_gates=P), fit_intercept=False, tol=1e-3)
    peak, fitted = peak_of(lambda: estimator.fit(X, y))
    assert fitted.dual_gap_ < 1e-3
    assert not np.shares_memory(fitted.problem_.X, X) and X.flags.writeable
    assert peak < 2.0 * X.nbytes + 8.0 * N * P


def test_problems_of_the_classes_share_their_data():
    X, y, _ = data()
    labels = np.digitize(y[:60], [-0.5, 0.5])
    fitted = ReLUClassifier(alpha=0.1, multi_class="one_vs_all", tol=1e-2).fit(X[:60, :3], labels)
    first, *others = fitted.problem_
    assert len(others) == 2 and all(np.shares_memory(problem.X, first.X) for problem in others)


def test_kernel_and_factor_of_gated_networks_share_an_array():
    n, d, patterns = 1500, 40, 300
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    y = np.maximum(X @ rng.standard_normal((d, 60)), 0.0) @ rng.standard_normal(60) + rng.standard_normal(n)
    gates = rng.standard_normal((patterns, d))

    def work():
        return solve(Problem(X, (y - y.mean()) / y.std(), beta=1e-2 * n), architecture=GatedReLU(gates), tol=1e-4)

    peak, solution = peak_of(work)
    assert solution.gap < 1e-4 and solution.network.width * d > n
    # A kernel and two factors of their own, in single precision, would alone take as much.
    assert peak < 3.0 * 4.0 * n * n + 8.0 * n * patterns


def left_to_the_collector(work):
    """Objects of cvxnn that the end of some work leaves in cycles, which hold their arrays until they are collected."""
    work()
    gc.collect()
    gc.disable()
    try:
        work()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return sorted({type(left).__name__ for left in gc.garbage if type(left).__module__.startswith("cvxnn")})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize(
    ("n", "loss", "tol", "most"),
    [
        (300, "squared", 1e-4, None),
        (300, "huber", 1e-7, 2),
        (300, "logistic", 1e-4, None),
        (6000, "squared", 1e-3, None),
        (6000, "huber", 1e-3, None),
    ],
)
def test_what_gated_solves_work_with_goes_when_they_end(n, loss, tol, most, monkeypatch):
    if most is not None:
        # The interior-point method takes over.
        monkeypatch.setattr("cvxnn.solvers.group_lasso.kernel.patience_before", lambda problem, n_patterns: most)
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, 8))
    y = np.where(X[:, 0] > 0.3, 1.0, -1.0) if loss == "logistic" else np.abs(X[:, 0])
    problem, gated = Problem(X, y, 1e-2 * n, loss), GatedReLU(rng.standard_normal((30, 8)))
    assert left_to_the_collector(lambda: solve(problem, architecture=gated, tol=tol)) == []
    betas = n * np.geomspace(0.1, 0.01, 3)
    assert (
        left_to_the_collector(lambda: landscape.regularization_path(problem, betas, architecture=gated, tol=1e-3)) == []
    )


def test_what_solves_with_free_patterns_work_with_goes_when_they_end():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((200, 8))
    problem = Problem(X, np.abs(X[:, 0]), 4.0)
    assert left_to_the_collector(lambda: solve(problem, tol=1e-3, time_limit=2.0)) == []
