"""Results of a solve: frozen, with a status that says what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cvxnn._html import card, curve, figure

if TYPE_CHECKING:
    from cvxnn.certificates.certificate import Certificate, Scope

FloatArray = npt.NDArray[np.float64]

__all__ = ["Blocks", "Certified", "History", "Solution", "SolveError", "Status"]


class Status(Enum):
    """How a solve ended. The value is the word; :attr:`advice` says what it means and what to do."""

    GLOBAL_OPTIMUM = "global optimum"
    PATTERNS_OPTIMUM = "patterns optimum"
    MAX_ITER = "max_iter reached"
    TIME_LIMIT = "time_limit reached"
    WIDTH_LIMIT = "width limit"
    INTERRUPTED = "interrupted"
    STALLED = "stalled"
    UNPROVED = "optimality not proved"

    @property
    def advice(self) -> str:
        """One sentence for the user."""
        return _ADVICE[self]

    @property
    def converged(self) -> bool:
        """Whether the tolerance was met within the scope of the bound, and the search for better networks had ended."""
        return self in (Status.GLOBAL_OPTIMUM, Status.PATTERNS_OPTIMUM)


_ADVICE = {
    Status.GLOBAL_OPTIMUM: "The duality gap is closed for networks of every width: no network has a lower objective.",
    Status.PATTERNS_OPTIMUM: (
        "The duality gap is closed among the listed activation patterns, and the search found no neuron outside that "
        "violates the dual by more than the tolerance; "
        "this does not prove that no better network exists (see global_lower_bound, or solve with certify=True)."
    ),
    Status.MAX_ITER: "Raise max_iter, loosen tol or increase beta; the network is the best found and its bound holds.",
    Status.TIME_LIMIT: (
        "Raise time_limit, loosen tol or increase beta; the network is the best found and its bound holds."
    ),
    Status.WIDTH_LIMIT: (
        "max_width binds: the network is the best found of that width, and its bound holds for every width; "
        "raise max_width to come closer to it."
    ),
    Status.INTERRUPTED: "The solve was interrupted; the network is the best found and its bound holds.",
    Status.STALLED: (
        "No further progress in floating point before tol was met; the network is the best found and its bound holds: "
        "loosen tol, standardise X, or increase beta."
    ),
    Status.UNPROVED: (
        "The search ended without a neuron that lowers the objective, but no bound within reach closes the gap: with "
        "several outputs that is to be expected beyond rank 3 of X; the network is the best found and its bound holds."
    ),
}


class SolveError(RuntimeError):
    """Raised by ``solve(..., throw=True)`` when the tolerance was not met; carries the solution."""

    def __init__(self, solution: Solution) -> None:
        self.solution = solution
        super().__init__(f"{solution.status.value} at relative gap {solution.gap:.1e}: {solution.status.advice}")


class Blocks(NamedTuple):
    """Variables of the convex program, row i for pattern i: ``u (P, d)`` enter with +, ``v (P, d)`` with -.

    With c outputs they are matrices, ``(P, d, c)``; the fit is the sum of ``D_i X (u_i - v_i)``.
    """

    u: FloatArray
    v: FloatArray


@dataclass(frozen=True, eq=False)
class History:
    """Course of a solve, one entry an outer iteration.

    Attributes
    ----------
    iterations : ndarray (k,) of int
    seconds : ndarray (k,)
        Wall-clock time since the start of the solve.
    objective : ndarray (k,)
        Best objective so far.
    lower_bound : ndarray (k,)
        Best lower bound so far, of the scope that the solve works in.
    """

    iterations: npt.NDArray[np.int64]
    seconds: FloatArray
    objective: FloatArray
    lower_bound: FloatArray

    def __len__(self) -> int:
        """Number of recorded iterations."""
        return len(self.iterations)


class Certified:
    """Figures that a result has from its certificate."""

    certificate: Certificate

    @property
    def objective(self) -> float:
        """Objective of what was found, recomputed from it."""
        return self.certificate.objective

    @property
    def lower_bound(self) -> float:
        """Proved lower bound of the objective within the scope of the certificate."""
        return self.certificate.lower_bound

    @property
    def gap(self) -> float:
        """Relative duality gap ``(objective - lower_bound) / max(|objective|, eps)``."""
        return self.certificate.gap


@dataclass(frozen=True, eq=False)
class Solution(Certified):
    """Network found by :func:`cvxnn.solve`, with its certificate.

    Attributes
    ----------
    network : ReLUNetwork or a relative
        Best network found, balanced.
    certificate : Certificate
        Objective, bound, gap, scope and the dual vector that proves the bound.
    status : Status
        How the solve ended; ``status.advice`` says what to do.
    patterns : ActivationPatterns or None
        Activation patterns used by the convex program, row by row with ``blocks``; None for a polynomial activation,
        which has none.
    blocks : Blocks
        Variables ``(u, v)`` of the convex program; two matrices of size d + 1 for a polynomial activation.
    history : History
        Objective and bound over iterations and seconds.
    n_iter : int
        Outer iterations.
    """

    network: Any
    certificate: Certificate
    status: Status
    patterns: Any
    blocks: Blocks
    history: History
    n_iter: int

    @property
    def scope(self) -> Scope:
        """``"global"`` (every network of every width) or ``"patterns"`` (networks confined to the patterns)."""
        return self.certificate.scope

    @property
    def global_lower_bound(self) -> float:
        """Proved lower bound over networks of every width, whatever the scope."""
        return self.certificate.global_lower_bound

    @property
    def dual(self) -> FloatArray:
        """Dual vector ``nu``, ``(n,)`` or ``(n, c)``, behind the bound: minus the gradient of the loss at a fit."""
        return self.certificate.dual

    def __repr__(self) -> str:
        """Key figures on one line."""
        width = getattr(self.network, "width", "?")
        return (
            f"Solution(status={self.status.value!r}, objective={self.objective:.9g}, "
            f"lower_bound={self.lower_bound:.9g}, gap={self.gap:.1e}, scope={self.scope!r}, width={width})"
        )

    def _repr_html_(self) -> str:
        """Table for notebooks, with the status in words and the course of the objective."""
        course = self.history
        rows = [
            ("status", self.status.value),
            ("objective", figure(self.objective)),
            ("lower bound", figure(self.lower_bound)),
            ("relative gap", f"{self.gap:.1e}"),
            ("scope", self.scope),
            ("width", getattr(self.network, "width", "?")),
            ("iterations", self.n_iter),
        ]
        if len(course):
            rows.append(("seconds", f"{course.seconds[-1]:.3g}"))
        drawn = curve(course.objective, "objective over the iterations")
        return card("Solution", rows, note=self.status.advice, picture=drawn)
