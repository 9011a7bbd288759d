"""What the verdicts on networks of all architectures share."""

from __future__ import annotations

from typing import Any

from cvxnn.certificates.certificate import Certificate, relative_gap
from cvxnn.problem import Problem

__all__ = ["Verdict"]


class Verdict:
    """Figures that follow from the objective, the bound and the better network of a verdict."""

    problem: Problem
    objective: float
    lower_bound: float
    better: Any
    certificate: Certificate

    @property
    def gap(self) -> float:
        """Relative gap ``(objective - lower_bound) / max(|objective|, tiny)``: none in the scope is better by more."""
        return relative_gap(self.objective, self.lower_bound)

    @property
    def method(self) -> str:
        """How the lower bound was had, such as branch and bound, a relaxation, or a bound without search."""
        return self.certificate.method

    @property
    def best_objective(self) -> float:
        """Lowest objective met: that of the better network, or of the network itself."""
        return self.objective if self.better is None else self.better.objective(self.problem)
