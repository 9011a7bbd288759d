"""Paths as objects: ends, continuity, sampling, errors."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn import Problem, ReLUNetwork
from cvxnn.landscape._pieces import BalancePiece, MassPiece, TurnPiece, piece_length
from cvxnn.landscape.network_path import NetworkPath, PathError, assemble_path

RNG = np.random.default_rng(0)
W, A = RNG.standard_normal((4, 3)), RNG.standard_normal(4)
PROBLEM = Problem(RNG.standard_normal((6, 3)), RNG.standard_normal(6), beta=0.1)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1)[:, None]


def two_pieces() -> NetworkPath:
    """Balance, then halve two masses and double a third."""
    masses = np.linalg.norm(W, axis=1) * np.abs(A)
    end = masses * [0.5, 0.0, 2.0, 1.0]
    pieces = [BalancePiece(W, A), MassPiece(unit(W), np.sign(A), masses, end, "move masses")]
    roots = np.sqrt(end)
    return assemble_path(PROBLEM, ReLUNetwork(W, A), ReLUNetwork(roots[:, None] * unit(W), roots * np.sign(A)), pieces)


def test_ends_are_exact_and_the_width_is_constant():
    path = two_pieces()
    assert np.array_equal(path(0.0).W, W)
    assert np.array_equal(path(0).a, A)
    assert np.array_equal(path(1.0).W, path.end.W)
    assert path.breakpoints[0] == 0.0
    assert path.breakpoints[-1] == 1.0
    assert np.all(np.diff(path.breakpoints) > 0)
    assert {path(t).width for t in np.linspace(0, 1, 20)} == {4}
    assert path.stages == ("balance", "move masses")
    assert repr(path) == "NetworkPath(width=4, pieces=2, stages=['balance', 'move masses'])"


def test_objectives_are_those_of_the_networks():
    path = two_pieces()
    times = np.linspace(0.0, 1.0, 37)
    expected = [path(t).objective(PROBLEM) for t in times]
    np.testing.assert_allclose(path.objectives(37), expected, rtol=1e-14)
    np.testing.assert_allclose(path.objectives_at(times[::-1]), expected[::-1], rtol=1e-14)
    assert path.objectives_at([0.0])[0] == pytest.approx(ReLUNetwork(W, A).objective(PROBLEM), rel=1e-15)


def test_large_samples_are_cut_into_blocks(monkeypatch):
    path = two_pieces()
    whole = path.objectives(101)
    monkeypatch.setattr("cvxnn.landscape.network_path._BLOCK_ENTRIES", 50)
    np.testing.assert_allclose(path.objectives(101), whole, rtol=1e-14)


def test_weights_are_continuous_at_breakpoints():
    path = two_pieces()
    for t in path.breakpoints[1:-1]:
        left, here = path.weights([np.nextafter(t, 0.0), t])[0]
        np.testing.assert_allclose(left, here, atol=1e-14)
    left, end = path.weights([1.0 - 1e-15, 1.0])[0]
    np.testing.assert_allclose(left, end, atol=1e-14)
    start, right = path.weights([0.0, 1e-15])[0]
    np.testing.assert_allclose(start, right, atol=1e-13)


def test_balancing_keeps_the_function_and_lowers_the_penalty():
    scale = np.array([1e6, 1e-6, 1.0, 1e3])
    piece = BalancePiece(W * scale[:, None], A / scale)
    weights, outputs = piece.weights(np.linspace(0, 1, 50))
    np.testing.assert_allclose(
        weights * np.abs(outputs)[:, :, None], np.broadcast_to(W * np.abs(A)[:, None], (50, 4, 3))
    )
    penalties = np.sum(weights**2, axis=(1, 2)) + np.sum(outputs**2, axis=1)
    assert np.all(np.diff(penalties) <= 1e-15 * penalties[:-1])
    np.testing.assert_allclose(np.linalg.norm(weights[-1], axis=1), np.abs(outputs[-1]), rtol=1e-14)


def test_balancing_shrinks_neurons_without_mass():
    piece = BalancePiece(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]), np.array([2.0, 0.0, 0.0]))
    weights, outputs = piece.weights(np.array([0.0, 0.5, 1.0]))
    assert piece.active.tolist() == [0, 1]
    np.testing.assert_array_equal(weights[:, 1], [[3.0, 4.0], [1.5, 2.0], [0.0, 0.0]])
    np.testing.assert_array_equal(outputs[:, 0], [2.0, 1.0, 0.0])


@pytest.mark.parametrize(
    "piece",
    [
        BalancePiece(W, A),
        MassPiece(unit(W), np.sign(A), np.array([1.0, 0.0, 2.0, 0.0]), np.array([0.0, 3.0, 1.0, 0.0]), "masses"),
        TurnPiece(W, W[::-1] * [1.0, 2.0, 0.0], np.sign(A), "turn"),
    ],
    ids=["balance", "masses", "turn"],
)
def test_a_reversed_piece_runs_backwards(piece):
    theta = np.linspace(0, 1, 11)
    forward, backward = piece.weights(theta), piece.reversed().weights(1.0 - theta)
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-14)
    assert piece.width == 4
    assert piece_length(piece) > 0.0


def test_masses_leave_zero_at_bounded_speed():
    piece = MassPiece(unit(W), np.ones(4), np.zeros(4), np.ones(4), "masses")
    speeds = [np.max(np.abs(piece.weights(np.array([0.0, h]))[1][1])) / h for h in (1e-3, 1e-6, 1e-9)]
    np.testing.assert_allclose(speeds, np.pi / 2, rtol=1e-5)


@pytest.mark.parametrize("t", [-0.1, 1.1, np.nan, np.inf])
def test_times_outside_are_refused(t):
    with pytest.raises(ValueError, match=r"^t "):
        two_pieces()(t)


def test_path_errors_are_value_errors():
    with pytest.raises(ValueError, match="stuck") as caught:
        raise PathError("stuck", ReLUNetwork(W, A))
    assert isinstance(caught.value, PathError)
    assert caught.value.network.width == 4
