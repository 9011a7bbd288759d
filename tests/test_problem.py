"""Validation of the problem: each failure is one sentence that names the argument."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse

from cvxnn import Problem
from cvxnn.problem import require_one_output

X = [[1.0, 2.0], [3.0, 4.0]]
BAD = [
    (dict(X=[[np.nan, 1.0], [1.0, 2.0]]), "X contains 1 NaN"),
    (dict(X=[[np.inf, 1.0], [1.0, 2.0]]), "X contains 1 infinite"),
    (dict(X=[1.0, 2.0]), "X must have 2 dimension"),
    (dict(X=np.zeros((0, 2)), y=[]), "X is empty"),
    (dict(X=np.zeros((2, 0))), "X is empty"),
    (dict(X=[["a", "b"], ["c", "d"]]), "X holds values that are not numbers"),
    (dict(X=[[1.0], [1.0, 2.0]]), "X cannot be read as a rectangular"),
    (dict(X=np.array([[1j, 1], [1, 1]])), "X holds complex"),
    (dict(X=scipy.sparse.eye_array(2)), "X is a sparse matrix"),
    (dict(X=[[1e200, 1.0], [1.0, 1.0]]), "X has an entry of size 1.0e\\+200"),
    (dict(y=[1.0]), "X has 2 rows but y has 1"),
    (dict(y=[np.nan, 1.0]), "y contains 1 NaN"),
    (dict(y=np.ones((2, 2, 1))), "y must have shape \\(n,\\) for one output or"),
    (dict(y=np.ones((3, 2))), "X has 2 rows but y has 3 rows"),
    (dict(y=np.zeros((2, 0))), "y is empty"),
    (dict(y=np.ones((2, 3)), output_bias_decay=0.0), "output_bias_decay needs one output; y has 3"),
    (dict(loss="logistic", y=[[1.0, -1.0], [0.0, 1.0]]), "y must hold the labels -1 and \\+1"),
    (dict(loss="softmax", y=[0.5, 1.0]), "y must hold class numbers .*; got 0.5"),
    (dict(loss="softmax", y=[-1.0, 1.0]), "y must hold class numbers .*; got -1"),
    (dict(loss="softmax", y=[0.0, 0.0]), "at least two classes .*; every entry is 0"),
    (dict(loss="softmax", y=[0.0, 1e6]), "class numbers below 1000 .*; got 1000000"),
    (dict(loss="softmax", y=[[0.5, 0.4], [1.0, 0.0]]), "rows that sum to 1; row 0 sums to 0.9"),
    (dict(loss="softmax", y=[[1.5, -0.5], [1.0, 0.0]]), "probabilities .*; got a smallest entry of -0.5"),
    (dict(y=["a", "b"]), "y holds values that are not numbers"),
    (dict(beta=-1.0), "beta must be a finite number >= 0; got -1.0"),
    (dict(beta=np.nan), "beta must be"),
    (dict(beta="big"), "beta must be"),
    (dict(beta=None), "beta must be"),
    (dict(loss="hinge"), "loss must be one of"),
    (dict(loss=3), "loss must be one of"),
    (dict(loss="logistic", y=[0.0, 1.0]), "y must hold the labels -1 and \\+1"),
    (dict(sample_weight=[1.0]), "sample_weight has 1 entries"),
    (dict(sample_weight=[1.0, -1.0]), "sample_weight must be non-negative"),
    (dict(sample_weight=[0.0, 0.0]), "sample_weight is zero for every sample"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[m[:28] for _, m in BAD])
def test_bad_input_is_one_sentence(change, message):
    arguments = dict(X=X, y=[1.0, -1.0]) | change
    with pytest.raises(ValueError, match=message) as caught:
        Problem(**arguments)
    assert "\n" not in str(caught.value)


def test_integers_lists_float32_and_columns_are_accepted():
    for data in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], dtype=np.int8), np.float32(X)):
        problem = Problem(data, np.array([[1], [-1]]))
        assert problem.X.dtype == np.float64
        assert problem.y.shape == (2,)


def test_pandas_is_accepted():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [0, 1]})
    assert Problem(frame, pandas.Series([1, 2])).X.tolist() == [[1.0, 0.0], [2.0, 1.0]]


def test_problem_is_immutable_and_owns_its_data():
    data = np.array(X)
    problem = Problem(data, [1.0, -1.0])
    data[0, 0] = 99.0
    assert problem.X[0, 0] == 1.0
    with pytest.raises(AttributeError, match="immutable"):
        problem.beta = 3.0
    with pytest.raises(ValueError, match="read-only"):
        problem.X[0, 0] = 0.0


def test_pickle_and_copy():
    problem = Problem(X, [1.0, -1.0], beta=0.3, loss="logistic", sample_weight=[1.0, 2.0])
    for other in (pickle.loads(pickle.dumps(problem)), copy.deepcopy(problem)):
        assert repr(other) == repr(problem)
        np.testing.assert_array_equal(other.sample_weight, problem.sample_weight)


def test_several_outputs_keep_their_columns():
    problem = Problem(X, [[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]], sample_weight=[2.0, 0.5])
    assert problem.n_outputs == 3
    assert "n_outputs=3" in repr(problem)
    assert problem.entry_weight.tolist() == [[2.0] * 3, [0.5] * 3]
    columns = [Problem(X, column, sample_weight=[2.0, 0.5]) for column in problem.y.T]
    fit = np.arange(6.0).reshape(2, 3)
    for name in ("loss_value", "dual_value"):
        parts = [getattr(part, name)(fit[:, k]) for k, part in enumerate(columns)]
        assert getattr(problem, name)(fit) == pytest.approx(sum(parts))
    for name in ("loss_gradient", "loss_hessian", "dual_vector", "project_dual"):
        parts = [getattr(part, name)(fit[:, k]) for k, part in enumerate(columns)]
        np.testing.assert_allclose(getattr(problem, name)(fit), np.column_stack(parts))
    assert columns[0].n_outputs == 1
    assert columns[0].entry_weight is columns[0].sample_weight


def test_class_numbers_become_rows_of_the_unit_matrix():
    labels = Problem(X, [2, 0], loss="softmax")
    rows = Problem(X, [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], loss="softmax")
    assert labels.n_outputs == 3
    np.testing.assert_array_equal(labels.y, rows.y)
    with pytest.raises(ValueError, match="read-only"):
        labels.y[0, 0] = 1.0


def test_one_output_is_asked_for_in_one_sentence():
    require_one_output(Problem(X, [1.0, 2.0]), "connect")
    with pytest.raises(ValueError, match="connect takes problems with one output; this one has 2, make a problem"):
        require_one_output(Problem(X, np.ones((2, 2))), "connect")
