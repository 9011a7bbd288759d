"""Objective against CPU seconds: the local search beside PyTorch's Adam and L-BFGS on both layers of a network.

Run ``OMP_NUM_THREADS=1 python -m benchmarks.local_search --budget 5``. All run in one process, one after the other, are
warmed up, and are charged CPU seconds, so that other work on the machine counts little. The rivals are those of the
main benchmark (``peers/torch_networks.py``), with 400 neurons, their settings the best of the grid on the first seed.
Each row gives the best objective / n at parts of the budget (Adam's schedule ends with the budget: what it has before
then is half-way); with ``--longer 5`` the rivals also get five times the budget.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from typing import Any

from benchmarks.cases import Case, Method, methods
from benchmarks.record import Job, Point, TimeUpError
from benchmarks.worker import function_of, make_job
from cvxnn.solvers.local_search import local_search
from cvxnn.solvers.neurons import Neurons

CASES = [
    ("diabetes", 1e-2, "squared"),
    ("diabetes", 1e-3, "squared"),
    ("cancer", 1e-2, "logistic"),
    ("keel-pima", 1e-3, "squared"),
    ("keel-sonar", 1e-3, "squared"),
    ("keel-german", 1e-2, "squared"),
    ("keel-vehicle", 1e-3, "logistic"),
    ("keel-segment", 1e-3, "squared_hinge"),
    ("keel-contraceptive", 1e-3, "huber"),
    ("digits", 1e-2, "squared"),
    ("digits", 1e-3, "squared"),
    ("keel-spambase", 1e-3, "squared"),
    ("mnist", 1e-2, "squared"),
]
SHARES = (0.125, 0.25, 0.5, 1.0)
RIVALS = ["Adam 400", "L-BFGS 400"]


def search(job: Job) -> list[Point]:
    """CPU seconds and best objective of the local search."""
    course: list[Point] = []
    begin = job.clock()

    def callback(neurons: Neurons, value: float) -> None:
        course.append(Point(job.clock() - begin, value))
        if course[-1].seconds > job.limit:
            raise TimeUpError

    try:
        best = local_search(job.problem, random_state=job.seed, time_limit=job.limit, callback=callback, tol=1e-7)
        course.append(Point(job.clock() - begin, best.objective(job.problem)))
    except TimeUpError:
        pass
    return course


def rival(job: Job, method: Method, settings: dict[str, Any]) -> list[Point]:
    """CPU seconds and best objective of a method of the main benchmark."""
    options = {**dict(method.options), **settings}
    return function_of(method)(dataclasses.replace(job, options=options)).trace


def tuned(job: Job, method: Method) -> dict[str, Any]:
    """Settings of the method's grid that end best."""
    return min((dict(entry) for entry in method.grid), key=lambda entry: best_at(rival(job, method, entry), job.limit))


def best_at(course: list[Point], limit: float) -> float:
    """Best objective within a time."""
    return min((point.objective for point in course if point.seconds <= 1.02 * limit), default=math.inf)


def compare(case: Case, options: argparse.Namespace, times: list[float]) -> None:
    """Print the rows of one case."""
    job = dataclasses.replace(make_job(case, options.budget, 0, {}), clock=time.process_time)
    rivals = methods("free", RIVALS, case.loss)
    settings = [tuned(job, method) for method in rivals]
    for seed in range(options.seeds):
        seeded = dataclasses.replace(job, seed=seed)
        courses = {"local search": search(seeded)}
        for method, chosen in zip(rivals, settings, strict=True):
            course = rival(seeded, method, chosen)
            if options.longer > 1.0:
                longer = rival(dataclasses.replace(seeded, limit=options.longer * job.limit), method, chosen)
                course += [point for point in longer if point.seconds > 1.02 * job.limit]
            label = ", ".join(f"{name} {value}" for name, value in chosen.items())
            courses[f"{method.name}, {label}"] = course
        for name, course in courses.items():
            row = " | ".join(f"{best_at(course, moment) / job.problem.n_samples:.7f}" for moment in times)
            print(f"| {case.key} | {name} | {seed} | {row} |", flush=True)


def main() -> None:
    """Print one table row for each case, method and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=5.0, help="CPU seconds for each run")
    parser.add_argument("--longer", type=float, default=1.0, help="how many times the budget the rivals get as well")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--cases", nargs="*", help="substrings that select cases, such as diabetes or logistic")
    parser.add_argument("--table", nargs=3, metavar=("NAME", "LAM", "LOSS"), help="one case of any table instead")
    options = parser.parse_args()
    listed = CASES if options.table is None else [(options.table[0], float(options.table[1]), options.table[2])]
    times = [options.budget * share for share in SHARES]
    times += [options.budget * options.longer] if options.longer > 1.0 else []
    tiny = make_job(Case("free", "planted-relu-24x6", 0.0), 0.2, 0, {})
    search(tiny)
    for method in methods("free", RIVALS, "squared"):
        rival(tiny, method, dict(method.grid[0]))
    print("| case | method | seed | " + " | ".join(f"{t:.3g} s" for t in times) + " |")
    print("|---|---|---|" + "---|" * len(times))
    for name, lam, loss in listed:
        case = Case("free", name, lam, loss=loss)
        if not options.cases or any(word in case.key for word in options.cases):
            compare(case, options, times)


if __name__ == "__main__":
    main()
