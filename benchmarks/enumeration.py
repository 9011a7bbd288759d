"""Seconds and memory of exact enumeration of activation patterns, gates included.

Run ``python -m benchmarks.enumeration``. The count is compared with Cover's number for data in general position; the
last columns compare packed masks with one byte per bit.
"""

from __future__ import annotations

import time

import numpy as np

from cvxnn.patterns import count_patterns, enumerate_patterns


def main() -> None:
    """Print one line per size."""
    print(f"{'n':>5} {'rank':>4} {'patterns':>9} {'Cover':>9} {'seconds':>8} {'packed MB':>10} {'bool MB':>8}")
    for n, rank in [(500, 2), (2000, 2), (100, 3), (300, 3), (400, 3), (50, 4), (80, 4), (20, 5), (30, 5), (40, 5)]:
        X = np.random.default_rng(0).standard_normal((n, rank))
        seconds = np.inf
        for _ in range(3):
            begin = time.perf_counter()
            found = enumerate_patterns(X)
            seconds = min(seconds, time.perf_counter() - begin)
        print(
            f"{n:5d} {rank:4d} {len(found):9d} {count_patterns(n, rank):9d} {seconds:8.3f} "
            f"{found.nbytes / 1e6:10.2f} {n * len(found) / 1e6:8.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
