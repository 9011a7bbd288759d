"""The staircase against stored tables, linear programs over all faces, and the statements about critical widths."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cvxnn import Problem
from cvxnn.landscape.optimal_set import optimal_set
from cvxnn.landscape.staircase import staircase
from tests.landscape._instances import fixture, grid, polygon, random_problem, triple
from tests.oracles.mass_polytope import components_by_linear_programs

TABLE = [
    (triple(), {1: (1, 1), 2: (2, 3), 3: (1, 1)}),
    (polygon(4), {2: (2, 4), 3: (2, 2), 4: (1, 1)}),
    (polygon(6), {3: (2, 12), 4: (2, 2), 5: (2, 2), 6: (1, 1)}),
    (polygon(8), {4: (2, 48), 5: (10, 962), 6: (1, 1)}),
    (polygon(5), {4: (10, 240), 5: (22, 1450), 6: (1, 1)}),
]


@pytest.mark.parametrize(("problem", "expected"), TABLE, ids=["triple", "4", "6", "8", "5"])
def test_known_tables(problem: Problem, expected: dict[int, tuple[int, int]]) -> None:
    steps = staircase(problem)
    found = {row.width: (row.components, row.labelled_components) for row in steps if row.components}
    assert found == expected | {width: (1, 1) for width in found if width > max(expected)}
    assert max(found) > max(expected)
    assert steps.connected_from == max(expected)
    for row in staircase(problem, widths=range(20, 22)):
        assert (row.components, row.labelled_components, row.isolated_points) == (1, 1, False)


@pytest.mark.parametrize(
    "name",
    ["01_sqrt3_staircase", "03_polygon6", "04_polygon8", "06_random_sq_n6_d3", "07_random_logistic_n6_d2"],
)
def test_stored_tables(name: str) -> None:
    problem, stored = fixture(name)
    expected = stored["components_by_width"]
    steps = staircase(problem, widths=[int(width) for width in expected])
    for row in steps:
        answer = expected[str(row.width)]
        assert (row.components, row.labelled_components) == (answer["up_to_permutation"], answer["labelled"])


@pytest.mark.parametrize(
    "problem",
    [*(polygon(corners) for corners in (4, 5, 6, 7, 8, 10)), grid(3), random_problem(12, 2, 4, beta=0.02)],
    ids=["4", "5", "6", "7", "8", "10", "grid", "gauss"],
)
def test_components_and_critical_widths(problem: Problem) -> None:
    o = optimal_set(problem)
    steps = staircase(o, widths=range(o.connected_width + 2))
    low, high = o.min_width, o.max_irreducible_width
    if len(o.signs) <= 10:
        for row in steps:
            assert row.components == components_by_linear_programs(o.columns, o.fit, row.width)
    assert all(steps.at(width).components == 0 for width in range(low))
    first = steps.at(low)
    assert first.isolated_points
    assert not first.continuum
    assert first.labelled_components == first.components * math.factorial(low)
    assert all(row.continuum for row in steps if row.width > low)
    assert steps.at(high).isolated_points
    assert not any(row.isolated_points for row in steps if row.width > high)
    assert all(row.labelled_components == 1 for row in steps if row.width >= o.connected_width)
    assert low <= high <= o.rank <= o.spurious_free_width - 1 <= problem.n_samples
    assert steps.connected_from <= o.connected_width


def test_many_labelled_components_are_exact() -> None:
    steps = staircase(polygon(11), widths=[10, 11, 12])
    assert [row.components for row in steps] == [44, 6272, 1]
    # The 44 vertices of width 10 have a neuron to spare; the others are alone.
    assert steps.at(11).labelled_components == 6228 * math.factorial(11) + 44


def test_connection_may_be_lost_again() -> None:
    steps = staircase(polygon(12))
    assert [row.components for row in steps] == [0, 0, 4, 4, 4, 1, 13, 1, 1, 1, 1]
    assert steps.at(6).phase == "connected"
    assert steps.at(7).phase == "isolated points and continua"
    assert steps.connected_from == 8


def test_the_zero_network_is_one_point_at_every_width() -> None:
    steps = staircase(Problem(np.eye(2), [1.0, 1.0], beta=5.0), widths=[0, 1, 7])
    assert [(row.components, row.labelled_components, row.isolated_points, row.continuum) for row in steps] == [
        (1, 1, True, False)
    ] * 3
    assert steps.connected_from == 0


def test_one_neuron_is_one_network() -> None:
    steps = staircase(Problem([[2.0]], [3.0], beta=0.5))
    assert [(row.width, row.labelled_components, row.phase) for row in steps] == [
        (1, 1, "one network"),
        (2, 1, "connected"),
        (3, 1, "connected"),
    ]


def test_table_in_words() -> None:
    steps = staircase(triple())
    text = str(steps)
    assert text.splitlines()[0].split() == ["width", "components", "labelled", "isolated", "continuum", "phase"]
    assert "isolated points and continua" in text
    assert "M* + 1 = 3" in text
    assert {t.name: t.width for t in steps.transitions} == {
        "m*": 1,
        "m* + 1": 2,
        "M*": 2,
        "M* + 1": 3,
        "first connected width": 3,
        "min(m* + M*, rank + 1)": 3,
        "r_eff + 1": 3,
    }
    assert (len(steps), steps[0].width, steps[-1].phase) == (4, 1, "connected")
    with pytest.raises(KeyError, match="no row for width 9"):
        steps.at(9)
    for widths in ([-1], 3, "34", [True], [1.5]):
        with pytest.raises(ValueError, match="non-negative integers"):
            staircase(triple(), widths=widths)  # type: ignore[arg-type]


@pytest.mark.parametrize("problem", [triple(), polygon(5), polygon(7), polygon(8), grid(3)])
def test_default_rows_go_beyond_the_sum_of_the_critical_widths(problem: Problem) -> None:
    o = optimal_set(problem)
    widths = [row.width for row in staircase(o)]
    assert widths == list(range(1, o.min_width + o.max_irreducible_width + 2))
    assert staircase(problem, widths=iter([3, 2, 3]))[0].width == 2
