"""Independent pieces of work on several cores, in threads: NumPy holds no lock while it computes.

Slabs of rows are too small for the threads of a BLAS, which wait for each other after every product; here a thread
waits once a sweep. The pieces do not depend on the number of threads, so that results do not either. The BLAS must be
limited to one thread meanwhile, or the cores are asked for twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from itertools import pairwise
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")

__all__ = ["in_parallel", "pieces_of", "workers"]

_PIECES = 8
"""Pieces of a sweep: a multiple of the usual numbers of cores, few enough for a sum of their results."""

_workers: ContextVar[int] = ContextVar("workers", default=1)


@contextmanager
def workers(count: int) -> Iterator[None]:
    """Context within which :func:`in_parallel` uses so many threads; one outside."""
    token = _workers.set(max(1, count))
    try:
        yield
    finally:
        _workers.reset(token)


def pieces_of(parts: Sequence[Piece]) -> list[Sequence[Piece]]:
    """At most eight runs of consecutive parts.

    Examples
    --------
    >>> pieces_of("abc")
    ['a', 'b', 'c']
    """
    count = min(_PIECES, len(parts))
    bounds = [len(parts) * i // count for i in range(count + 1)] if count else [0]
    return [parts[low:high] for low, high in pairwise(bounds)]


def in_parallel(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """Results of ``work`` for each piece, in their order; an exception ends the others and is raised here.

    Examples
    --------
    >>> with workers(2):
    ...     in_parallel(lambda x: x * x, [1, 2, 3])
    [1, 4, 9]
    """
    count = min(_workers.get(), len(pieces))
    if count <= 1:
        return [work(piece) for piece in pieces]
    results: dict[int, Result] = {}
    errors: list[BaseException] = []
    queue = iter(range(len(pieces)))
    lock = threading.Lock()

    def run() -> None:
        # Work that starts threads of its own would only crowd the cores.
        with workers(1):
            while not errors:
                with lock:
                    i = next(queue, None)
                if i is None:
                    return
                try:
                    results[i] = work(pieces[i])
                except BaseException as error:
                    errors.append(error)

    # The copied context carries the handling of floating-point errors into the thread.
    threads = [threading.Thread(target=copy_context().run, args=(run,)) for _ in range(count - 1)]
    started: list[threading.Thread] = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
        run()
    except BaseException as error:
        errors.append(error)
    for thread in started:
        thread.join()
    if errors:
        raise errors[0]
    return [results[i] for i in range(len(pieces))]
