"""Paths over weight decays beside the hardest of their points alone, all to a relative gap of 1e-4.

Run ``python -m benchmarks.beta_paths``: gated networks of 500 gates on diabetes, cancer and digits, 20 values of beta
down to 1e-2 and 1e-3 of the largest. ``--rows`` adds 20,000 synthetic rows with 100 and 500 gates, ``--relu`` ReLU
networks on diabetes, beta from 200 to 4.42, with five seeds: how long a search takes to end is a matter of luck.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.data import load
from cvxnn import Problem, solve
from cvxnn.architectures import GatedReLU, ReLU
from cvxnn.landscape import regularization_path

_TOL = 1e-4
_LARGE = "synthetic-20000x30"
_HARD = (14, 16, 17, 18, 19)
"""Points among which the hardest is looked for."""


def shortest(run: Callable[[], object], repeats: int) -> float:
    """Least wall-clock seconds of so many runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def report(
    name: str,
    problem: Problem,
    architecture: ReLU | GatedReLU,
    betas: np.ndarray,
    repeats: int,
    seeds: Sequence[int] = (0,),
) -> None:
    """Print the seconds of a path, of the hardest point among the last ones, and their ratio, for each seed."""
    ratios = []
    for seed in seeds:
        options = {"architecture": architecture, "tol": _TOL, "random_state": seed}
        whole = shortest(lambda options=options: regularization_path(problem, betas, **options), repeats)
        alone = {
            k: shortest(lambda k=k, options=options: solve(Problem(problem.X, problem.y, betas[k]), **options), repeats)
            for k in _HARD
        }
        hardest = max(alone, key=alone.__getitem__)
        ratios.append(whole / alone[hardest])
        print(
            f"{name:<36} path {whole:8.3f} s  hardest point {hardest + 1:2d} {alone[hardest]:7.3f} s  "
            f"ratio {ratios[-1]:.2f}",
            flush=True,
        )
    if len(ratios) > 1:
        print(f"{name:<36} median ratio of {len(ratios)} seeds {np.median(ratios):.2f}", flush=True)


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", action="store_true", help="add gated networks on 20,000 rows")
    parser.add_argument("--relu", action="store_true", help="add ReLU networks on diabetes")
    options = parser.parse_args()
    cases = [(name, 500, share) for name in ("diabetes", "cancer", "digits") for share in (1e-2, 1e-3)]
    if options.rows:
        cases += [(_LARGE, count, 1e-2) for count in (100, 500)]
    for name, count, share in cases:
        table = load(name)
        gates = np.random.default_rng(0).standard_normal((count, table.X.shape[1]))
        problem = Problem(table.X, table.y)
        architecture = GatedReLU(gates)
        betas = regularization_path(problem, architecture=architecture, ratio=share, tol=_TOL).betas
        report(f"gated {name} {count} {share:g}", problem, architecture, betas, options.repeats)
    if options.relu:
        table = load("diabetes")
        report("relu diabetes", Problem(table.X, table.y), ReLU(), np.geomspace(200.0, 4.42, 20), 1, range(5))


if __name__ == "__main__":
    main()
