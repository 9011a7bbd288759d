"""Train on three real tables with certificates; judge networks trained by gradients and walk from them to better ones.

Run with ``make demo``. Tables and models are written to ``demo_output/``.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from cvxnn import Problem, ReLUNetwork, landscape
from cvxnn.interop.preprocessing import split_rows

OUT = Path(__file__).resolve().parent.parent / "demo_output"
TEST_SIZE = 0.25
JUDGE_SECONDS = 6.0


@dataclass(frozen=True)
class Job:
    """One table to train on."""

    name: str
    title: str
    columns: list[str]
    X: np.ndarray
    y: np.ndarray
    alpha: float
    classifier: bool


def jobs() -> list[Job]:
    """Breast cancer, diabetes, and diabetes with two features, whose certificate is global."""
    cancer, diabetes = load_breast_cancer(), load_diabetes(scaled=False)
    labels = np.asarray(cancer.target_names)[cancer.target]
    columns = list(diabetes.feature_names)
    two = [columns.index("bmi"), columns.index("s5")]
    return [
        Job(
            "two_features",
            "diabetes, two features (442 x 2)",
            [columns[i] for i in two],
            diabetes.data[:, two],
            diabetes.target,
            0.02,
            classifier=False,
        ),
        Job(
            "breast_cancer",
            "breast cancer (569 x 30)",
            [str(c).replace(" ", "_") for c in cancer.feature_names],
            cancer.data,
            labels,
            0.02,
            classifier=True,
        ),
        Job(
            "diabetes",
            "diabetes (442 x 10)",
            columns,
            diabetes.data,
            diabetes.target,
            0.05,
            classifier=False,
        ),
    ]


def write_table(job: Job) -> Path:
    """Write the data as a CSV file with the target in the last column."""
    path = OUT / f"{job.name}.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*job.columns, "target"])
        writer.writerows([*row, value] for row, value in zip(job.X.tolist(), job.y.tolist(), strict=True))
    return path


def fit(job: Job, table: Path) -> dict:
    """Run ``cvxnn fit`` and return what it reports."""
    command = [
        sys.executable,
        "-m",
        "cvxnn",
        "fit",
        str(table),
        "--target",
        "target",
        "--alpha",
        str(job.alpha),
        "--test-size",
        str(TEST_SIZE),
        "--out",
        str(OUT / f"{job.name}.safetensors"),
        "--json",
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode == 2:
        raise SystemExit(2)
    return json.loads(done.stdout)


def mlp_score(job: Job, width: int) -> tuple[float, float]:
    """Test score and seconds of scikit-learn's MLP with the same width and weight decay on the same rows."""
    train, test = split_rows(len(job.y), TEST_SIZE, 0, job.y if job.classifier else None)
    scaler = StandardScaler().fit(job.X[train])
    options = {"hidden_layer_sizes": (max(width, 1),), "max_iter": 2000, "random_state": 0}
    # Its weight decay is divided by the samples of a batch, 200 by default.
    model = (MLPClassifier if job.classifier else MLPRegressor)(alpha=job.alpha * min(200, len(train)), **options)
    y = job.y
    if not job.classifier:
        y = (y - y[train].mean()) / y[train].std()
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaler.transform(job.X[train]), y[train])
    return float(model.score(scaler.transform(job.X[test]), y[test])), time.perf_counter() - begin


def gradient_trained(problem: Problem, width: int) -> ReLUNetwork:
    """Network from one run of L-BFGS on all weights."""
    d = problem.n_features

    def network(theta: np.ndarray) -> ReLUNetwork:
        return ReLUNetwork(theta[: width * d].reshape(width, d), theta[width * d :])

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        W, a = theta[: width * d].reshape(width, d), theta[width * d :]
        hidden = np.maximum(problem.X @ W.T, 0.0)
        slope = problem.loss_gradient(hidden @ a)
        grad_W = ((slope[:, None] * a) * (hidden > 0)).T @ problem.X + problem.beta * W
        gradient = np.concatenate([grad_W.ravel(), hidden.T @ slope + problem.beta * a])
        return network(theta).objective(problem), gradient

    start = 0.3 * np.random.default_rng(0).standard_normal(width * (d + 1))
    return network(minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 50}).x)


def judge_and_walk(job: Job) -> None:
    """Judge a network trained by gradients on all rows of a table, prune it, and lead it down to the best one known."""
    X = np.column_stack([StandardScaler().fit_transform(job.X), np.ones(len(job.X))])
    y = np.where(job.y == job.y[0], 1.0, -1.0) if job.classifier else (job.y - job.y.mean()) / job.y.std()
    problem = Problem(X, y, beta=job.alpha * len(y), loss="logistic" if job.classifier else "squared")
    network = gradient_trained(problem, len(X) + 8)
    verdict = landscape.certify(problem, network, time_limit=JUDGE_SECONDS)
    print(f"\n{job.title}, alpha {job.alpha:g}, a network of width {network.width} trained by L-BFGS")
    print(f"  judged        {verdict.verdict}")
    print(f"  objective     {verdict.objective:.9g} >= best network of any width >= {verdict.lower_bound:.9g}")
    print(f"  pruned        {landscape.prune(problem, network).width} neurons, no worse")
    path = landscape.descent_path(problem, network, optimum=verdict.better, time_limit=1.0)
    first, last, rise = path(0.0).objective(problem), path(1.0).objective(problem), path.max_rise(500)
    print(f"  descent path  {first:.9g} -> {last:.9g} at width {path.width}, largest rise {rise:.1e}")


def main() -> None:
    """Fit every table and print what was found and proved."""
    OUT.mkdir(exist_ok=True)
    for job in jobs():
        print(f"\n{job.title}, alpha {job.alpha:g}")
        result = fit(job, write_table(job))
        score, seconds = mlp_score(job, result["width"])
        kind = "accuracy" if job.classifier else "R^2"
        print(f"  objective     {result['objective']:.9g}")
        print(f"  lower bound   {result['lower_bound']:.9g}, relative gap {result['gap']:.1e}, scope {result['scope']}")
        print(f"  global bound  {result['global_lower_bound']:.9g}, relative gap {result['global_gap']:.1e}")
        print(f"  width         {result['width']} neurons in {result['seconds']:.2f} s ({result['status']})")
        print(f"  held-out      {kind} {result['test_score']:.3f}")
        print(f"  MLP           {kind} {score:.3f}, scikit-learn, same width and weight decay, {seconds:.2f} s")
        print(f"  model         {Path(result['file']).relative_to(OUT.parent)}")
    for job in jobs():
        judge_and_walk(job)
    print('\nScope "global": no network of any width is better.')
    print('Scope "patterns": none among the networks with the listed activation patterns.')


if __name__ == "__main__":
    main()
