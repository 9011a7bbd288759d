"""``cvxnn landscape`` on tables with known optimal sets."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cvxnn.cli import app

runner = CliRunner()


@pytest.fixture
def two_points(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("x,y\n-1.7320508075688772,1.1\n1.7320508075688772,1.1\n")
    return str(path)


def test_known_staircase(two_points):
    command = ["landscape", two_points, "--target", "y", "--beta", "0.2", "--no-standardize"]
    done = runner.invoke(app, [*command, "--json"])
    assert done.exit_code == 0
    record = json.loads(done.stdout)
    assert record["objective"] == pytest.approx(0.21, rel=1e-12)
    assert (record["min_width"], record["max_irreducible_width"], record["connected_width"]) == (1, 2, 3)
    assert record["unique"] is False and record["spurious_free_width"] == 3
    rows = {row["width"]: row for row in record["staircase"]}
    assert [rows[m]["components"] for m in (1, 2, 3)] == [1, 2, 1]
    assert [rows[m]["labelled_components"] for m in (1, 2, 3)] == [1, 3, 1]
    assert rows[2]["isolated_points"] and rows[2]["continuum"] and not rows[3]["isolated_points"]
    assert np.sum(record["vertices"], axis=1) == pytest.approx(record["total_mass"])
    shown = runner.invoke(app, command)
    assert shown.exit_code == 0
    assert (
        "not unique; 3 optimal directions, 2 vertices" in shown.stdout
        and "isolated points and continua" in shown.stdout
    )


def test_alpha_is_beta_over_the_rows(two_points):
    command = ["landscape", two_points, "--target", "y", "--no-standardize", "--json"]
    first = json.loads(runner.invoke(app, [*command, "--alpha", "0.1"]).stdout)
    assert first["beta"] == pytest.approx(0.2) and first["objective"] == pytest.approx(0.21)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "y"], "either --beta"),
        (["--target", "y", "--beta", "0.1", "--alpha", "0.1"], "either --beta"),
        (["--target", "y", "--beta", "-1"], "--beta must be a positive number"),
        (["--target", "y", "--beta", "0.2"], "--no-standardize"),
        (["--beta", "0.2"], "--target COLUMN is needed"),
    ],
)
def test_wrong_usage_is_one_sentence(two_points, options, message):
    done = runner.invoke(app, ["landscape", two_points, *options])
    assert done.exit_code == 2
    assert message in done.stderr and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


def test_too_many_patterns_are_refused_with_the_count(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "wide.npz"
    np.savez(path, X=rng.standard_normal((200, 9)), y=rng.standard_normal(200))
    done = runner.invoke(app, ["landscape", str(path), "--alpha", "0.05"])
    assert done.exit_code == 2
    assert "activation patterns" in done.stderr and "200 samples" in done.stderr
