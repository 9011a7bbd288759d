"""The examples run as they are, and print what their text says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PRINTED = {
    "plot_arrangement": ["6 patterns of 8", "44 cells, 4 optimal directions"],
    "plot_optimal_set": [
        "8 optimal directions of rank 5, a polytope of masses of dimension 3",
        "4           2        48",
        "first connected width = 6",
    ],
    "plot_spline": ["status='global optimum'", "farthest kink from a sample: 0.0"],
}


@pytest.mark.parametrize("name", PRINTED)
def test_example(name):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "agg"},
    )
    for text in PRINTED[name]:
        assert text in done.stdout
