"""The command as a process of its own: exit codes, pipes, the terminal, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cvxnn.cli._progress import done_fraction
from cvxnn.interop.model_file import load_model
from tests.cli.conftest import write_table


def test_fit_predict_certify_info(process, cancer, tmp_path):
    out = tmp_path / "mödel.safetensors"
    fit = process("fit", cancer, "--target", "diagnosis", "--alpha", 0.05, "--out", out, "--json")
    assert (fit.returncode, fit.stderr) == (0, "")
    assert json.loads(fit.stdout)["certified_global"] is True
    predictions = process("predict", out, cancer)
    assert (predictions.returncode, predictions.stderr) == (0, "")
    assert len(predictions.stdout.splitlines()) == 81
    certify = process("certify", out, cancer, "--json")
    assert (certify.returncode, certify.stderr) == (0, "")
    assert json.loads(certify.stdout)["training_data"] is True
    assert process("info", out).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "DATA"),
        (["fit", "nowhere.csv", "--target", "y"], "Error: nowhere.csv does not exist."),
        (["fit", "nowhere.csv", "--taget", "y"], "--taget"),
        (["predict", "nowhere", "nowhere.csv"], "Error: nowhere does not exist."),
        (["dance"], "dance"),
    ],
)
def test_wrong_usage(process, arguments, message):
    result = process(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_help(process):
    result = process("fit", "--help")
    assert result.returncode == 0
    assert "--certify" in result.stdout


def test_closed_pipe(environment, process, tmp_path):
    """``cvxnn predict ... | head -1`` ends without a traceback."""
    data = write_table(tmp_path / "t.csv", {"x": range(40_000), "y": [k % 7 for k in range(40_000)]})
    small = write_table(tmp_path / "s.csv", {"x": range(40), "y": [k % 7 for k in range(40)]})
    process("fit", small, "--target", "y", "--alpha", 0.1, "--out", tmp_path / "m")
    command = [sys.executable, "-m", "cvxnn", "predict", str(tmp_path / "m"), str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == b"prediction\n"
        child.stdout.close()
        errors = child.stderr.read()
        child.wait()
    assert b"Traceback" not in errors


@pytest.fixture(scope="module")
def long_table(tmp_path_factory):
    """A table whose fit to a tiny tolerance takes minutes."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("long") / "long.npz"
    np.savez(path, X=rng.normal(size=(1500, 25)), y=rng.normal(size=1500))
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT of another process is a POSIX notion")
def test_ctrl_c_writes_the_best_network_so_far(environment, process, long_table, tmp_path):
    out = tmp_path / "m.safetensors"
    command = [sys.executable, "-m", "cvxnn", "fit", str(long_table), "--alpha", "1e-4", "--tol", "1e-9"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, "--out", str(out)], stdout=pipe, stderr=pipe, env=environment) as child:
        assert child.stdout is not None and child.stderr is not None
        # The data are reported right before the solve begins.
        while not child.stdout.readline().startswith(b"Loss"):
            assert child.poll() is None
        time.sleep(1.5)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        report, errors = child.communicate(timeout=120)
    assert child.returncode == 1
    assert b"interrupted: " in report
    assert errors == b""
    model = load_model(out)
    assert model.certificate.status == "interrupted"
    assert 0.0 <= model.certificate.lower_bound <= model.certificate.objective
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    proof = process("certify", out, long_table, "--json", "--time-limit", 1)
    assert proof.returncode == 1
    assert json.loads(proof.stdout)["objective"] == pytest.approx(model.certificate.objective, rel=1e-9)


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a POSIX notion")
def test_progress_is_drawn_on_a_terminal_only(environment, process, diabetes, tmp_path):
    arguments = ["fit", str(diabetes), "--target", "progression", "--alpha", "0.02", "--out", str(tmp_path / "m")]
    assert process(*arguments).stderr == ""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "cvxnn", *arguments]
    terminal = environment | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=terminal) as child:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux reports the end of a pseudo-terminal as an error
                break
            if not piece:
                break
            drawn += piece
        report, _ = child.communicate()
    os.close(ours)
    assert child.returncode == 0
    assert b"gap " in drawn
    assert b"neurons" in drawn
    assert b"\x1b" not in report


def test_done_fraction():
    assert [done_fraction(gap, 1e-4) for gap in (np.inf, 1.0, 1e-2, 1e-4, 0.0)] == pytest.approx([0, 0, 0.5, 1, 1])
