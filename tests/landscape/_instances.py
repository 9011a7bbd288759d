"""Small problems with symmetric data, whose optimal networks are often not unique."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cvxnn import Problem

DATA = Path(__file__).parents[1] / "data"


def polygon(corners: int, beta: float = 0.1, loss: str = "squared") -> Problem:
    """Corners of a regular polygon, all with target 1."""
    angles = 2.0 * np.pi * np.arange(corners) / corners
    return Problem(np.column_stack([np.cos(angles), np.sin(angles)]), np.ones(corners), beta=beta, loss=loss)


def triple() -> Problem:
    """Two samples with one continuum of optimal networks, in closed form."""
    root = np.sqrt(3.0)
    return Problem([[-root, 1.0], [root, 1.0]], [1.1, 1.1], beta=0.2)


def grid(size: int, beta: float = 0.1) -> Problem:
    """Squared radius on a square grid, with a bias column."""
    ticks = np.arange(size) - (size - 1) / 2.0
    a, b = (axis.ravel() for axis in np.meshgrid(ticks, ticks))
    return Problem(np.column_stack([a, b, np.ones(size * size)]), a**2 + b**2, beta=beta)


def random_problem(n: int, d: int, seed: int, beta: float = 0.1, loss: str = "squared") -> Problem:
    """Gaussian data; labels for the losses that need them."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = rng.standard_normal(n)
    return Problem(X, np.sign(y) if loss in ("logistic", "squared_hinge") else y, beta=beta, loss=loss)


def fixture(name: str) -> tuple[Problem, dict[str, Any]]:
    """Problem and answers of a data file."""
    stored = json.loads((DATA / f"{name}.json").read_text())
    loss = {"sq": "squared", "logistic": "logistic", "log": "logistic"}[stored["kind"]]
    return Problem(stored["X"], stored["y"], beta=stored["beta"], loss=loss), stored
