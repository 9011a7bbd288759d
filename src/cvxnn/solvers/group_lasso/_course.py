"""What solutions at one penalty after another share, whatever finds them: the last two, and the units of the data."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from cvxnn.patterns import ActivationPatterns
from cvxnn.patterns._bits import first_occurrences
from cvxnn.problem import Problem
from cvxnn.solvers.group_lasso._common import Deadline, exponent_of

FloatArray = npt.NDArray[np.float64]

__all__ = ["LEAST_GROWTH", "MOST_GROWTH", "Course"]

# Factor between two penalties beyond which they have little in common.
_FAR = 4.0
LEAST_GROWTH, MOST_GROWTH = 0.1, 3.0
"""Bounds of the factor by which an extrapolation changes the length of a block."""


class Course(ABC):
    """Solutions of the group lasso with the same data and patterns at one penalty after another.

    Parameters
    ----------
    problem : Problem
        Data and loss; its ``beta`` plays no part.
    patterns : ActivationPatterns
        One block for each pattern; equal ones are solved for once.
    """

    def __init__(self, problem: Problem, patterns: ActivationPatterns) -> None:
        self.problem, self.n_patterns = problem, len(patterns)
        self.origin = first_occurrences(patterns.packed)
        # A power of two brings X to order one exactly; u and beta change by the inverse.
        self.exponent = exponent_of(problem.X)
        self.deadline, self.n_steps = Deadline(math.inf), 0
        self.past: list[tuple[float, FloatArray]] = []

    @abstractmethod
    def largest_penalty(self) -> float:
        """Penalty from which on the zero network is optimal, for the scaled data."""

    def is_far(self, beta: float) -> bool:
        """Whether the last solution, at first the zero network, has little in common with that at a penalty."""
        return (self.past[-1][0] if self.past else self.largest_penalty()) > _FAR * beta

    def remember(self, beta: float, solution: FloatArray) -> None:
        """Keep the solutions at the last two penalties."""
        self.past = [*[entry for entry in self.past if entry[0] != beta][-1:], (beta, solution)]

    def stride(self, beta: float) -> float:
        """Step to a penalty from the last one, in units of the step before, in the logarithm of the penalty."""
        (before, _), (last, _) = self.past
        return math.log(beta / last) / math.log(last / before)
