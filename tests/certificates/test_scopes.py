"""Scopes and figures of certificates: what is proved among patterns is never said of all networks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.certificates._relaxation_result import BestBound
from cvxnn.certificates.certificate import certify_confined, certify_norm, certify_patterns, relative_gap

PROBLEM = Problem([[1.0]], [2.0], beta=0.5)
OPTIMUM = 0.875


def test_a_bound_over_all_directions_is_global_unless_patterns_are_named():
    dual = np.array([0.5])
    everywhere = certify_norm(PROBLEM, 1.0, dual, 0.5, 0.5, method="by hand")
    among = certify_norm(PROBLEM, 1.0, dual, 0.5, 0.5, method="by hand", n_patterns=3)
    assert (everywhere.scope, everywhere.n_patterns) == ("global", None)
    assert (among.scope, among.n_patterns) == ("patterns", 3)
    for certificate in (everywhere, among):
        assert certificate.lower_bound == certificate.global_lower_bound == pytest.approx(OPTIMUM)


def test_a_bound_among_patterns_says_nothing_of_others():
    dual = np.array([0.5])
    among = certify_confined(PROBLEM, 1.0, dual, 0.5, 0.5, n_patterns=1, method="by hand", global_lower_bound=0.25)
    assert (among.scope, among.global_lower_bound) == ("patterns", 0.25)
    assert among.lower_bound == pytest.approx(OPTIMUM)
    assert among.global_gap == pytest.approx(0.75) and among.gap == pytest.approx(0.125)
    # What holds for every network holds among those of the patterns, too.
    unknown = certify_confined(PROBLEM, 1.0, dual, math.inf, 0.5, n_patterns=1, method="x", global_lower_bound=0.25)
    assert unknown.lower_bound == 0.25


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_neurons_of_either_output_sign_bound_a_pattern(sign):
    problem = Problem([[1.0]], [2.0 * sign], beta=0.5)
    for fit in (0.0, 1.0, 1.5, 3.0):
        certificate = certify_patterns(problem, np.array([sign * fit]), 9.0, np.array([[True]]))
        assert certificate.lower_bound <= OPTIMUM
    tight = certify_patterns(problem, np.array([sign * 1.5]), OPTIMUM, np.array([[True]]))
    assert tight.lower_bound == pytest.approx(OPTIMUM, rel=1e-12)


def test_relative_gaps_are_never_negative():
    assert relative_gap(1.0, 1.0 + 1e-15) == 0.0
    assert relative_gap(4.0, 3.0) == 0.25
    assert relative_gap(0.0, 0.0) == 0.0


def test_the_best_bound_stays():
    best = BestBound(PROBLEM, "zero")
    assert best.result().lower_bound == 0.0 and best.result().method == "zero"
    assert best.offer(np.array([0.5]), 0.5, "first")
    assert not best.offer(np.array([0.5]), 1.0, "worse")
    assert not best.offer(np.array([0.5]), math.nan, "none")
    kept = best.result()
    assert kept.method == "first" and kept.lower_bound == pytest.approx(OPTIMUM) and kept.dual_norm_bound == 0.5
