"""Real tables, where patterns cannot be listed: the bounds are honest, limits and interrupts lose nothing."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.preprocessing import StandardScaler

from cvxnn import Problem, Status, solve
from cvxnn.certificates import certify_patterns


def diabetes(rows=None, lam=0.1):
    X, y = load_diabetes(return_X_y=True)
    X, y = np.c_[StandardScaler().fit_transform(X), np.ones(len(y))][:rows], ((y - y.mean()) / y.std())[:rows]
    return Problem(X, y, lam * len(y))


def cancer(rows=None, lam=0.1):
    X, y = load_breast_cancer(return_X_y=True)
    X = np.c_[StandardScaler().fit_transform(X), np.ones(len(y))][:rows]
    return Problem(X, (2.0 * y - 1.0)[:rows], lam * len(X), "logistic")


def ascents(problem, nu, starts, seed):
    """Independent attack: the largest dual value that plain diminishing-step ascents reach, both signs."""
    rng = np.random.default_rng(seed)
    best = 0.0
    for sign in (1.0, -1.0):
        U = rng.standard_normal((starts, problem.n_features))
        U /= np.linalg.norm(U, axis=1, keepdims=True)
        for step in np.geomspace(1.0, 1e-3, 80):
            Z = U @ problem.X.T
            value = sign * (np.maximum(Z, 0) @ nu)
            best = max(best, float(value.max()))
            gradient = sign * ((Z > 0) * nu) @ problem.X
            size = np.linalg.norm(gradient, axis=1, keepdims=True)
            U = U + step * gradient / np.where(size > 0, size, 1.0)
            U /= np.linalg.norm(U, axis=1, keepdims=True)
    return best


@pytest.mark.parametrize("make", [diabetes, cancer])
def test_real_table(make):
    problem = make()
    s = solve(problem, tol=1e-4)
    assert s.status is Status.PATTERNS_OPTIMUM
    assert s.scope == "patterns" and s.gap <= 1e-4
    assert 0.0 <= s.global_lower_bound <= s.lower_bound <= s.objective
    assert s.objective == s.network.objective(problem)
    # The claim "no violating neuron was found" withstands an attack of another kind.
    assert ascents(problem, s.dual, 1000, seed=5) <= problem.beta * (1 + 1e-3)
    # The listed patterns prove the bound again, independently of the solve.
    again = certify_patterns(problem, s.network(problem.X), s.objective, s.patterns.masks)
    assert again.lower_bound == pytest.approx(s.lower_bound, rel=1e-9)


def test_time_limit_returns_the_best_so_far():
    problem = diabetes(lam=1e-3)
    begin = time.perf_counter()
    s = solve(problem, time_limit=2.0)
    assert s.status is Status.TIME_LIMIT
    assert s.objective < problem.loss_value(np.zeros(442))
    assert s.lower_bound <= s.objective
    assert time.perf_counter() - begin < 60.0


def test_no_time_at_all_still_gives_a_certificate():
    problem = diabetes()
    s = solve(problem, time_limit=0.0)
    assert s.status is Status.TIME_LIMIT
    assert 0.0 <= s.lower_bound <= s.objective


def test_interrupt_returns_the_best_so_far():
    problem = diabetes(lam=1e-3)
    timer = threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        s = solve(problem)
    finally:
        timer.cancel()
    assert s.status is Status.INTERRUPTED
    assert 0.0 <= s.lower_bound <= s.objective == s.network.objective(problem)
    assert "interrupted" in s.status.advice


def test_interrupt_from_a_callback():
    def stop(progress):
        raise KeyboardInterrupt

    s = solve(diabetes(100), verbose=stop)
    assert s.status is Status.INTERRUPTED


def test_callback_sees_a_falling_objective():
    seen = []
    s = solve(diabetes(100), tol=1e-5, verbose=seen.append)
    objectives = [p.objective for p in seen]
    assert objectives == sorted(objectives, reverse=True)
    assert seen[-1].phase == "certify"
    assert seen[-1].objective == s.objective
    assert seen[-1].lower_bound == pytest.approx(s.lower_bound)


def test_certify_spends_time_on_a_global_bound():
    problem = diabetes(60, lam=0.3)
    cheap = solve(problem, tol=1e-4)
    better = solve(problem, tol=1e-4, certify=True, time_limit=20.0)
    assert better.global_lower_bound >= cheap.global_lower_bound
    assert better.global_lower_bound <= better.objective


def test_scope_is_patterns_however_small_the_gap():
    s = solve(diabetes(80), tol=1e-4)
    assert s.gap <= 1e-4
    assert s.scope == "patterns"
    assert "does not prove" in s.status.advice
