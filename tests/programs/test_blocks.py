"""Neurons as blocks of the program over patterns."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from cvxnn.patterns import ActivationPatterns
from cvxnn.programs.blocks import cone_blocks
from cvxnn.solvers.neurons import Neurons


@pytest.mark.parametrize("n", [5, 64, 203])
def test_each_neuron_goes_to_a_cone_that_contains_it(n, monkeypatch):
    rng = np.random.default_rng(n)
    X = rng.standard_normal((n, 3))
    neurons = Neurons(rng.standard_normal((12, 3)), rng.choice([-1.0, 1.0], 12))
    gates = np.vstack([rng.standard_normal((20, 3)), neurons.vectors])
    patterns = ActivationPatterns.from_gates(X, gates).unique()
    # Slabs of the fewest rows: several of them, the last one not of whole bytes.
    monkeypatch.setattr(sys.modules[cone_blocks.__module__], "_SLAB_ENTRIES", 1)
    blocks = cone_blocks(X, neurons, patterns)
    side = np.where(patterns.masks, 1.0, -1.0)
    for part in (blocks.u, blocks.v):
        assert np.all(side * (part @ X.T) >= -1e-12)
    fit = np.einsum("kn,kn->n", patterns.masks.astype(float), (blocks.u - blocks.v) @ X.T)
    np.testing.assert_allclose(fit, neurons.fit(X), atol=1e-12)


def test_a_neuron_outside_all_cones_goes_to_the_one_that_it_violates_least():
    X = np.eye(3)
    patterns = ActivationPatterns.from_masks([[True, True, True], [False, False, True]], np.eye(3)[:2])
    blocks = cone_blocks(X, Neurons(np.array([[-0.1, 1.0, 1.0], [-1.0, 0.1, 1.0]]), np.ones(2)), patterns)
    np.testing.assert_array_equal(blocks.u, [[-0.1, 1.0, 1.0], [-1.0, 0.1, 1.0]])
    assert not np.any(blocks.v)
