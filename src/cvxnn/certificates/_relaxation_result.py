"""Result of the relaxations, and the best of the bounds that a search meets."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["BestBound", "RelaxationBound"]


@dataclass(frozen=True, eq=False)
class RelaxationBound:
    """Lower bound over the networks of every width, from a relaxation, and the dual vector that proves it.

    Attributes
    ----------
    lower_bound : float
        No network has a lower objective; rounding is subtracted.
    dual : ndarray (n,)
        Dual vector ``nu``; ``scale * dual`` is the feasible point.
    scale : float
    dual_norm_bound : float
        Proved upper bound of ``max |nu^T (X u)_+|`` over unit vectors.
    directions : ndarray (k, d)
        Unit vectors, candidates for neurons.
    signs : ndarray (k,)
        Signs of their output weights.
    iterations : int
    method : str
    seconds : float
    interrupted : bool
        Whether a keyboard interrupt ended the search; the bound holds all the same.
    """

    lower_bound: float
    dual: FloatArray
    scale: float
    dual_norm_bound: float
    directions: FloatArray
    signs: npt.NDArray[np.int64]
    iterations: int
    method: str
    seconds: float
    interrupted: bool


class BestBound:
    """Best bound that a search has met; it begins with zero, the bound that every non-negative loss has."""

    def __init__(self, problem: Problem, method: str) -> None:
        self.start = time.monotonic()
        self.problem, self.method = problem, method
        self.bound, self.scale, self.norm = 0.0, 0.0, 0.0
        self.dual = np.zeros(problem.n_samples)
        self.directions, self.signs = np.zeros((0, problem.n_features)), np.zeros(0, dtype=np.int64)
        self.iterations, self.interrupted = 0, False

    def offer(self, nu: FloatArray, tau: float, method: str) -> bool:
        """Keep the bound of a dual vector and a proved bound of its norm if it is better."""
        bound, scale = scaled_dual_bound(self.problem, nu, tau)
        if not bound > self.bound:
            return False
        self.bound, self.scale, self.dual, self.norm, self.method = bound, scale, nu, tau, method
        return True

    def result(self) -> RelaxationBound:
        """Frozen copy."""
        return RelaxationBound(
            lower_bound=self.bound,
            dual=self.dual,
            scale=self.scale,
            dual_norm_bound=self.norm,
            directions=self.directions,
            signs=self.signs,
            iterations=self.iterations,
            method=self.method,
            seconds=time.monotonic() - self.start,
            interrupted=self.interrupted,
        )
