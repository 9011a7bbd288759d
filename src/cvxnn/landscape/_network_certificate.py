"""What judging a network found out: bounds, verdict, and better networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._html import card, figure
from cvxnn.certificates.certificate import Certificate, relative_gap
from cvxnn.landscape._verdict import Verdict
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["NetworkCertificate"]


@dataclass(frozen=True, eq=False)
class NetworkCertificate(Verdict):
    r"""What :func:`cvxnn.landscape.certify` found out about a network.

    Attributes
    ----------
    problem : Problem
    network : ReLUNetwork or ParallelReLUNetwork
        The network judged, as it was given.
    objective : float
        Its objective, recomputed from the weights.
    lower_bound : float
        No network of any width (a parallel one: with any number of sub-networks) has a lower objective; rounding is
        subtracted.
    is_global : bool or None
        True: ``gap <= tol``. False: a better network is at hand (:attr:`better`), by more than ``tol / 100``. None: not
        decided within the limits; the bounds hold all the same.
    escape : (w, a), ParallelReLUNetwork or None
        A neuron whose addition lowers the objective: ``w (d,)`` and ``a`` (``(c,)`` for c outputs), balanced, with the
        best mass. Scaled down it lowers it, too. None where none was found: certainly so where the network is optimal.
        Of a parallel network: a sub-network, as a network of its own.
    better : ReLUNetwork, ParallelReLUNetwork or None
        Best network met on the way, where its objective is lower.
    dual : ndarray (n,)
        Dual vector of the network, minus the gradient of the loss at its fit.
    certificate : Certificate
        Proof of the lower bound, with the dual vector that gives it.
    balance_residual : float
        Largest :math:`|\,\|w_i\| - |a_i|\,| / \max(\|w_i\|, |a_i|)` over the neurons; 0 at an optimum, and
        for parallel networks, whose penalty does not depend on the balance.
    stationarity_residual : float
        Largest :math:`|s_i \nu^T (X u_i)_+ / \beta - 1|` over the nonzero neurons (with several outputs
        :math:`\|N^T (X u_i)_+ / \beta - a_i / \|a_i\|\|`; in parallel networks over the
        sub-networks, divided by their norms); 0 at an optimum.
    tol : float
        Relative gap at which the network counts as globally optimal.
    seconds : float
    interrupted : bool
        Whether a keyboard interrupt cut the work short.
    """

    problem: Problem
    network: Any
    objective: float
    lower_bound: float
    is_global: bool | None
    escape: Any
    better: Any
    dual: FloatArray
    certificate: Certificate
    balance_residual: float
    stationarity_residual: float
    tol: float
    seconds: float
    interrupted: bool

    @property
    def scope(self) -> str:
        """Always "global": the lower bound holds for networks of every width."""
        return "global"

    @property
    def verdict(self) -> str:
        """One sentence for the user."""
        if self.is_global:
            return f"Globally optimal: no network of any width is better by more than a relative {self.gap:.1e}."
        if self.is_global is False:
            gain = relative_gap(self.objective, self.best_objective)
            kind = "sub-network" if isinstance(self.escape, ParallelReLUNetwork) else "neuron"
            how = "a better network was found" if self.escape is None else f"adding one {kind} lowers the objective"
            return (
                f"Not optimal: {how}. The best network met is lower by a relative {gain:.1e}, "
                f"and none is lower by more than {self.gap:.1e}."
            )
        return f"Not decided: no better network was found, and none is better by more than a relative {self.gap:.1e}."

    def __repr__(self) -> str:
        """Key figures on one line."""
        return (
            f"NetworkCertificate(is_global={self.is_global}, objective={self.objective:.9g}, "
            f"lower_bound={self.lower_bound:.9g}, gap={self.gap:.1e}, method={self.method!r})"
        )

    def _repr_html_(self) -> str:
        """Table for notebooks, with the verdict in words."""
        rows = [
            ("globally optimal", {True: "yes", False: "no", None: "not decided"}[self.is_global]),
            ("objective", figure(self.objective)),
            ("best objective met", figure(self.best_objective)),
            ("lower bound for every network", figure(self.lower_bound)),
            ("relative gap", f"{self.gap:.1e}"),
            ("method", self.method),
            ("seconds", f"{self.seconds:.3g}"),
        ]
        return card("Network certificate", rows, note=self.verdict)
