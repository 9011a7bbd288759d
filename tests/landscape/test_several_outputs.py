"""Functions of one output refuse several in one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import GatedReLU, Problem, ReLUNetwork, landscape, patterns, solve
from cvxnn.certificates.certificate import certify_global, certify_patterns, certify_relaxation
from cvxnn.certificates.gated_bound import certify_gated
from cvxnn.certificates.relaxation import relaxation_bound
from cvxnn.certificates.relaxation_interior_point import interior_point_bound

X = np.array([[1.0, 0.5], [-1.0, 1.0], [0.3, 2.0]])
PROBLEM = Problem(X, np.ones((3, 2)))
NET = ReLUNetwork([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.5, 1.0]])
GATES = np.eye(2)
FIT = NET(X)
MASKS = patterns.enumerate_patterns(X)

CALLS = {
    "stationarity": lambda: landscape.stationarity(PROBLEM, NET),
    "descent_path": lambda: landscape.descent_path(PROBLEM, NET),
    "connect": lambda: landscape.connect(PROBLEM, NET, NET),
    "prune": lambda: landscape.prune(PROBLEM, NET),
    "regularization_path": lambda: landscape.regularization_path(PROBLEM, [0.1]),
    "beta_max": lambda: landscape.beta_max(PROBLEM),
    "trajectory_optima": lambda: landscape.trajectory_optima(PROBLEM, [NET]),
    "nonunique_interpolators": lambda: landscape.nonunique_interpolators(X, np.ones((3, 2))),
    "solve with GatedReLU": lambda: solve(PROBLEM, architecture=GatedReLU(GATES)),
    "certify_global": lambda: certify_global(PROBLEM, FIT, 1.0),
    "certify_patterns": lambda: certify_patterns(PROBLEM, FIT, 1.0, MASKS.masks),
    "relaxation_bound": lambda: certify_relaxation(PROBLEM, NET),
    "relaxation_bound itself": lambda: relaxation_bound(PROBLEM),
    "interior_point_bound": lambda: interior_point_bound(PROBLEM),
    "certify_gated": lambda: certify_gated(PROBLEM, 1.0, MASKS, FIT),
}


@pytest.mark.parametrize("name", CALLS)
def test_several_outputs_are_refused(name):
    what = name.removesuffix(" itself")
    message = f"^{what} takes problems with one output; this one has 2, make a problem for each column of y"
    with pytest.raises(ValueError, match=message) as caught:
        CALLS[name]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda problem: landscape.stationarity(problem, NET),
        lambda problem: landscape.prune(problem, NET),
        lambda problem: landscape.descent_path(problem, NET),
        lambda problem: landscape.trajectory_optima(problem, [NET]),
    ],
)
def test_a_network_of_several_outputs_does_not_fit_one(call):
    with pytest.raises(ValueError, match="one output"):
        call(Problem(X, np.ones(3)))
