"""ReLUClassifier: labels of all kinds, one against the rest, probabilities, weights."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from cvxnn import Problem, ReLUClassifier, Status
from cvxnn.losses import LogisticLoss
from cvxnn.progress import Progress


def ring(n: int = 18, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points labelled by whether they lie outside a circle: no straight line separates them."""
    X = np.random.default_rng(seed).normal(size=(n, 2))
    return X, (np.sum(X * X, axis=1) > 1.2).astype(int)


def three_classes(n: int = 18) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    centres = np.array([[0.0, 2.0], [-2.0, -1.0], [2.0, -1.0]])
    return centres[y] + rng.normal(size=(n, 2)), y


@pytest.mark.parametrize("loss", ["logistic", "squared_hinge", "squared"])
def test_losses_separate_what_no_line_separates(loss):
    X, y = ring()
    est = ReLUClassifier(alpha=1e-3, loss=loss).fit(X, y)
    assert est.score(X, y) == 1.0
    assert est.dual_gap_ <= est.tol
    assert est.decision_function(X).shape == (len(y),)


@pytest.mark.parametrize(
    "names", [["no", "yes"], [-1, 1], [False, True], [2.0, 7.0], np.array(["a", "b"], dtype=object)], ids=str
)
def test_labels_of_any_type_give_the_same_network(names):
    X, y = ring(n=12)
    labels = np.asarray(names)[y]
    plain, named = ReLUClassifier(alpha=0.01).fit(X, y), ReLUClassifier(alpha=0.01).fit(X, labels)
    np.testing.assert_array_equal(plain.decision_function(X), named.decision_function(X))
    np.testing.assert_array_equal(named.classes_, np.asarray(names))
    np.testing.assert_array_equal(named.predict(X), np.asarray(names)[plain.predict(X)])
    assert named.predict(X).dtype == labels.dtype


def test_objective_is_mean_loss_plus_half_alpha_times_squared_weights():
    X, y = ring()
    weight = np.random.default_rng(1).uniform(0.2, 3.0, size=len(y))
    est = ReLUClassifier(alpha=0.01).fit(X, y, sample_weight=weight)
    losses = np.logaddexp(0.0, -(2 * y - 1) * est.decision_function(X))
    weights = np.sum(est.network_.W**2) + np.sum(est.network_.a**2)
    assert est.objective_ == pytest.approx(np.average(losses, weights=weight) + 0.005 * weights, rel=1e-12)


def test_binary_probabilities_are_sigmoids():
    X, y = ring()
    est = ReLUClassifier(alpha=0.01).fit(X, y)
    probabilities = est.predict_proba(X)
    np.testing.assert_allclose(probabilities[:, 1], expit(est.decision_function(X)), rtol=1e-12)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.exp(est.predict_log_proba(X)), probabilities, rtol=1e-12)


@pytest.mark.parametrize("loss", ["squared_hinge", "squared"])
def test_probabilities_only_for_the_logistic_loss(loss):
    est = ReLUClassifier(loss=loss)
    assert not hasattr(est, "predict_proba")
    assert not hasattr(est, "predict_log_proba")
    with pytest.raises(AttributeError):
        est.predict_proba([[1.0]])


def test_three_classes_one_against_the_rest():
    X, y = three_classes()
    names = np.array(["red", "green", "blue"])[y]
    est = ReLUClassifier(alpha=0.01, multi_class="one_vs_all").fit(X, names)
    scores = est.decision_function(X)
    assert scores.shape == (len(y), 3)
    assert est.network_.a.shape == (est.network_.width, 3)
    assert [len(each) for each in (est.certificate_, est.solution_, est.problem_)] == [3, 3, 3]
    for k, name in enumerate(est.classes_):
        single = ReLUClassifier(alpha=0.01).fit(X, names == name)
        np.testing.assert_allclose(scores[:, k], single.decision_function(X), rtol=1e-12, atol=1e-12)
    sigmoids = expit(scores)
    np.testing.assert_allclose(
        est.predict_proba(X), sigmoids / sigmoids.sum(axis=1, keepdims=True), rtol=1e-10, atol=1e-15
    )
    np.testing.assert_array_equal(est.predict(X), est.classes_[np.argmax(scores, axis=1)])
    assert est.objective_ * len(y) == pytest.approx(sum(s.objective for s in est.solution_), rel=1e-12)
    assert est.dual_gap_ == max(c.gap for c in est.certificate_)


@pytest.mark.parametrize("multi_class", ["softmax", "one_vs_all"])
def test_iris(multi_class):
    X, y = load_iris(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    est = ReLUClassifier(alpha=1e-2, multi_class=multi_class).fit(X, y)
    assert est.score(X, y) > 0.95
    assert est.dual_gap_ <= est.tol
    assert est.status_.converged


def test_three_classes_share_one_network():
    X, y = three_classes(n=12)
    X = X[:, :2]
    names = np.array(["red", "green", "blue"])[y]
    est = ReLUClassifier(alpha=0.02).fit(X, names)
    assert est.network_.a.shape == (est.network_.width, 3)
    problem = est.problem_
    assert isinstance(problem, Problem)
    assert problem.loss.name == "softmax"
    assert est.network_.objective(problem) == pytest.approx(est.solution_.objective, rel=1e-12)
    assert est.certificate_.scope == "global"
    assert est.dual_gap_ <= est.tol
    scores = est.decision_function(X)
    log_p = scores - np.log(np.sum(np.exp(scores), axis=1, keepdims=True))
    np.testing.assert_allclose(est.predict_proba(X), np.exp(log_p), rtol=1e-12)
    np.testing.assert_allclose(est.predict_log_proba(X), log_p, rtol=1e-10, atol=1e-14)
    own = log_p[np.arange(len(y)), np.searchsorted(est.classes_, names)]
    weights = np.sum(est.network_.W**2) + np.sum(est.network_.a**2)
    assert est.objective_ == pytest.approx(-np.mean(own) + 0.5 * est.alpha * weights, rel=1e-12)
    np.testing.assert_array_equal(est.predict(X), est.classes_[np.argmax(scores, axis=1)])


@pytest.mark.parametrize("loss", ["squared", "squared_hinge"])
def test_other_losses_share_one_network_too(loss):
    X, y = three_classes(n=12)
    est = ReLUClassifier(alpha=0.05, loss=loss).fit(X[:, :1], y)
    assert est.network_.a.shape[1] == 3
    np.testing.assert_array_equal(np.unique(est.problem_.y), [-1.0, 1.0])
    np.testing.assert_array_equal(np.argmax(est.problem_.y, axis=1), y[np.argsort(X[:, 0])])
    assert est.dual_gap_ <= est.tol
    assert not hasattr(est, "predict_proba")


def test_bad_multi_class():
    X, y = three_classes(n=12)
    with pytest.raises(ValueError, match='multi_class must be "softmax" or "one_vs_all"; got \'ovr\''):
        ReLUClassifier(multi_class="ovr").fit(X, y)
    with pytest.raises(ValueError, match="has no softmax form"):
        ReLUClassifier(loss=LogisticLoss(offset=1.0)).fit(X, y)


def test_parallel_fit_gives_the_same_network():
    X, y = three_classes(n=12)
    one, two = (
        ReLUClassifier(multi_class="one_vs_all", alpha=0.02).fit(X, y),
        ReLUClassifier(multi_class="one_vs_all", alpha=0.02, n_jobs=2).fit(X, y),
    )
    np.testing.assert_allclose(one.decision_function(X), two.decision_function(X), rtol=1e-9, atol=1e-9)


def test_integer_weights_equal_repeated_rows():
    X, y = three_classes(n=12)
    weight = np.array([0, 1, 2, 3, 1, 1, 0, 2, 1, 1, 0, 3])
    weighted = ReLUClassifier(alpha=0.02, tol=1e-6).fit(X, y, sample_weight=weight)
    repeated = ReLUClassifier(alpha=0.02, tol=1e-6).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_array_equal(weighted.decision_function(X), repeated.decision_function(X))


def test_contradicting_labels_of_one_point_stay_apart():
    est = ReLUClassifier(alpha=1e-4, tol=1e-6).fit([[0.0], [0.0], [0.0], [2.0]], [0, 1, 1, 0])
    # Three samples at 0, two of them positive: the best output there is close to log 2.
    assert est.decision_function([[0.0]])[0] == pytest.approx(np.log(2.0), abs=0.05)


@pytest.mark.parametrize(("y", "weight"), [(["a", "a", "a"], None), (["a", "a", "b"], [1.0, 2.0, 0.0])])
def test_one_class_is_refused(y, weight):
    with pytest.raises(ValueError, match=r"one class .*a.* at least two classes"):
        ReLUClassifier().fit([[0.0], [1.0], [2.0]], y, sample_weight=weight)


def test_class_without_weight_is_never_predicted():
    X, y = three_classes()
    est = ReLUClassifier(alpha=0.01).fit(X, y, sample_weight=(y != 2).astype(float))
    np.testing.assert_array_equal(est.classes_, [0, 1, 2])
    assert not np.any(est.predict(X[y != 2]) == 2)


def test_warm_start_needs_the_same_classes():
    X, y = ring()
    est = ReLUClassifier(alpha=0.01, warm_start=True).fit(X, y)
    iterations, objective = est.n_iter_, est.objective_
    est.fit(X, y)
    assert est.n_iter_ <= iterations
    assert est.objective_ == pytest.approx(objective, rel=2e-4)
    est.fit(X, np.array(["x", "y"])[y])
    fresh = ReLUClassifier(alpha=0.01).fit(X, y)
    np.testing.assert_array_equal(est.decision_function(X), fresh.decision_function(X))


def test_warm_start_with_three_classes():
    X, y = three_classes(n=12)
    est = ReLUClassifier(alpha=0.01, warm_start=True).fit(X, y)
    iterations, objective = est.n_iter_, est.objective_
    est.fit(X, y)
    assert est.n_iter_ <= iterations
    assert est.objective_ == pytest.approx(objective, rel=2e-4)


def test_one_warning_for_all_classes():
    X, y = three_classes()
    with pytest.warns(ConvergenceWarning, match="one-vs-rest problems: relative duality gap") as caught:
        est = ReLUClassifier(multi_class="one_vs_all", tol=1e-9, max_iter=1).fit(X, y)
    assert len(caught) == 1
    assert est.status_ is Status.MAX_ITER


def test_time_limit_is_shared_by_the_classes():
    X, y = three_classes()
    with pytest.warns(ConvergenceWarning, match="time_limit"):
        est = ReLUClassifier(multi_class="one_vs_all", tol=1e-9, time_limit=1e-9).fit(X, y)
    assert est.predict(X).shape == y.shape
    assert est.lower_bound_ <= est.objective_


def test_one_interrupt_stops_the_whole_fit():
    X, y = three_classes()
    calls: list[Progress] = []

    def interrupt(progress: Progress) -> None:
        calls.append(progress)
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="interrupted"):
        est = ReLUClassifier(multi_class="one_vs_all", tol=1e-15, verbose=interrupt).fit(X, y)
    assert est.status_ is Status.INTERRUPTED
    assert [solution.status for solution in est.solution_[1:]] == [Status.TIME_LIMIT] * 2
    assert est.predict_proba(X).shape == (len(y), 3)


def test_huge_alpha_gives_even_odds():
    X, y = ring()
    est = ReLUClassifier(alpha=1e6).fit(X, y)
    assert est.network_.width == 0
    np.testing.assert_array_equal(est.predict_proba(X), 0.5)
    rest = ReLUClassifier(alpha=1e6).fit(*three_classes())
    np.testing.assert_allclose(rest.predict_proba(X), 1.0 / 3.0, rtol=1e-12)


def test_pickle_clone_and_params():
    X, y = three_classes(n=12)
    est = ReLUClassifier(alpha=0.02, loss="squared_hinge").fit(X, y)
    again = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(again.decision_function(X), est.decision_function(X))
    copy: Any = clone(est)
    assert copy.get_params() == est.get_params()
    assert not hasattr(copy, "network_")
    assert est.set_params(alpha=0.5).alpha == 0.5


def test_problem_holds_labels_of_the_second_class():
    X, y = ring(n=10)
    est = ReLUClassifier(alpha=0.05).fit(X, np.array(["in", "out"])[y])
    assert isinstance(est.problem_, Problem)
    order = np.lexsort((X[:, 1], X[:, 0]))
    np.testing.assert_array_equal(est.problem_.y, 2.0 * y[order] - 1.0)


def test_regression_loss_and_targets_are_refused():
    X, y = ring()
    with pytest.raises(ValueError, match="loss must be one of"):
        ReLUClassifier(loss="huber").fit(X, y)
    with pytest.raises(ValueError, match="Unknown label type"):
        ReLUClassifier().fit(X, X[:, 0])
