"""Threads of a solve: those of the solver itself, or those of the BLAS."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from threadpoolctl import ThreadpoolController

from cvxnn._workers import workers
from cvxnn.architectures import Architecture, GatedReLU, Polynomial
from cvxnn.problem import Problem
from cvxnn.solvers.group_lasso import ROWS

__all__ = ["blas_threads", "solver_threads"]

_THREADED_ENTRIES = 50_000
_THREADED_SAMPLES = 2_500
_THREADED_SYSTEM = 800
"""Entries of the data, samples of a gated problem, and rows of a semidefinite system from which the BLAS gains."""


@contextmanager
def solver_threads(problem: Problem, architecture: Architecture, *, listed: bool) -> Iterator[None]:
    """Threads of the solver itself where it works by slabs of rows, those of the BLAS where it factorises matrices."""
    by_slabs = not listed
    if isinstance(architecture, Polynomial):
        by_slabs = False
    elif isinstance(architecture, GatedReLU):
        by_slabs = problem.n_samples > ROWS
    if by_slabs or _is_small(problem, architecture):
        count = max((library.num_threads or 1 for library in _blas().lib_controllers), default=1)
        with _blas().limit(limits=1), workers(count):
            yield
    else:
        yield


def blas_threads(problem: Problem, architecture: Architecture | None = None) -> AbstractContextManager[object]:
    """Context with one thread where the matrices are so small that synchronisation costs more than it gains."""
    return _blas().limit(limits=1 if _is_small(problem, architecture) else None)


def _is_small(problem: Problem, architecture: Architecture | None) -> bool:
    if isinstance(architecture, Polynomial):
        p = (problem.n_features + 1) * (problem.n_features + 2) // 2
        return min(problem.n_samples, p) < _THREADED_SYSTEM
    # The matrices that are factorised for a gated problem have the size of the samples.
    if isinstance(architecture, GatedReLU):
        return problem.n_samples < _THREADED_SAMPLES
    return problem.X.size < _THREADED_ENTRIES


@functools.cache
def _blas() -> ThreadpoolController:
    """Handle of the BLAS libraries; finding them takes longer than a small solve."""
    return ThreadpoolController().select(user_api="blas")
