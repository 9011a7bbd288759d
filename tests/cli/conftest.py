"""Small tables on disk, and the command in this process or in one of its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from typer.testing import CliRunner

import cvxnn
from cvxnn.cli import app


def write_table(path: Path, columns: dict[str, list], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="session")
def diabetes_columns() -> dict[str, list]:
    bunch = load_diabetes()
    return {
        "bmi": bunch.data[:60, 2].tolist(),
        "sex": ["f" if v > 0 else "m" for v in bunch.data[:60, 1]],
        "progression": bunch.target[:60].tolist(),
    }


@pytest.fixture(scope="session")
def diabetes(folder, diabetes_columns) -> Path:
    return write_table(folder / "diabetes.csv", diabetes_columns)


@pytest.fixture(scope="session")
def cancer(folder) -> Path:
    bunch = load_breast_cancer()
    columns = {"radius, mean": bunch.data[:80, 0].tolist(), "texture": bunch.data[:80, 1].tolist()}
    return write_table(folder / "cancer.csv", columns | {"diagnosis": bunch.target_names[bunch.target[:80]].tolist()})


@pytest.fixture(scope="session")
def iris(folder) -> Path:
    bunch = load_iris()
    rows = np.arange(0, 150, 3)
    columns = {name: bunch.data[rows, k].tolist() for k, name in ((2, "length"), (3, "width"))}
    return write_table(folder / "iris.csv", columns | {"kind": bunch.target_names[bunch.target[rows]].tolist()})


@pytest.fixture
def cvxnn_here() -> Callable:
    """Run the command in this process: result with ``exit_code``, ``stdout``, ``stderr``."""

    def run(*arguments: object):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(cvxnn.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def process(environment) -> Callable[..., subprocess.CompletedProcess]:
    """Run ``python -m cvxnn`` as a process of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "cvxnn", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=200)

    return run


@pytest.fixture(scope="session")
def fitted(folder, diabetes, cancer, iris) -> dict[str, tuple[Path, Path, dict]]:
    """Model file, table and JSON record of one fit of each kind."""
    made = {}
    for kind, table, target in (
        ("regression", diabetes, "progression"),
        ("binary", cancer, "diagnosis"),
        ("multiclass", iris, "kind"),
    ):
        out = folder / f"{kind}.safetensors"
        arguments = ["fit", str(table), "--target", target, "--alpha", "0.02", "--out", str(out), "--json"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        made[kind] = (out, table, json.loads(result.stdout))
    return made
