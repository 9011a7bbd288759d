"""Directions that differ, beside a plain greedy choice."""

from __future__ import annotations

import numpy as np
import pytest

from cvxnn.networks import unit_rows
from cvxnn.patterns._distinct import distinct


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("count", "spread", "similarity"), [(900, 1.0, 0.998), (400, 0.05, 0.98), (97, 1.0, 1.0)])
def test_it_is_the_plain_greedy_choice(seed, count, spread, similarity):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((60, 3))
    directions = unit_rows(centres[rng.integers(60, size=count)] + spread * rng.standard_normal((count, 3)))
    signs, order = rng.choice([-1.0, 1.0], count), rng.permutation(count)[: count - count // 9]
    chosen: list[int] = []
    for i in order:
        same = signs[chosen] == signs[i]
        if not np.any(same & (directions[chosen] @ directions[i] > similarity)):
            chosen.append(int(i))
    values = np.full(count, -np.inf)
    values[order] = -np.arange(len(order), dtype=float)
    assert similarity == 1.0 or 20 < len(chosen) < len(order)
    np.testing.assert_array_equal(distinct(directions, signs, values, similarity=similarity), chosen)


def test_one_that_is_ruled_out_rules_out_nothing():
    """Three directions in a row, each close to the next only, across all borders of blocks."""
    angles = np.repeat(np.arange(150) * 0.4, 3) + np.tile([0.0, 0.05, 0.1], 150)
    directions = np.stack([np.cos(angles / 30), np.sin(angles / 30), np.zeros(450)], axis=1)
    order = np.arange(450)
    similarity = float(np.cos(0.06 / 30))
    chosen = distinct(directions, np.ones(450), -order, similarity=similarity)
    np.testing.assert_array_equal(chosen, np.flatnonzero(order % 3 != 1))


def test_no_directions_are_distinct():
    assert distinct(np.zeros((0, 3)), np.zeros(0), np.zeros(0)).shape == (0,)
