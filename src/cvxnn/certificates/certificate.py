"""Certificate of a network: objective from its weights, proved lower bound, gap, and the scope of the proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from cvxnn._html import card, figure
from cvxnn.certificates.cone_bounds import cone_bounds
from cvxnn.certificates.dual import scaled_dual_bound
from cvxnn.certificates.output_bias import admissible_dual
from cvxnn.certificates.pricing import PricingBound, pricing_bound
from cvxnn.certificates.relaxation import RelaxationBound, relaxation_bound
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem, require_one_output

FloatArray = npt.NDArray[np.float64]
Scope = Literal["global", "patterns"]

__all__ = [
    "Certificate",
    "Scope",
    "certify_confined",
    "certify_global",
    "certify_norm",
    "certify_patterns",
    "certify_relaxation",
    "relative_gap",
]

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""Proof of how far a network is from the best one.

    Attributes
    ----------
    objective : float
        Objective recomputed from the weights.
    lower_bound : float
        No network within :attr:`scope` has a lower objective; floating-point rounding is subtracted.
    scope : {"global", "patterns"}
        "global": every network of every width. "patterns": networks whose neurons stay in the cones of the listed
        patterns; such a gap says nothing about other networks.
    global_lower_bound : float
        Bound that holds for every network, whatever the scope.
    dual : ndarray (n,)
        Dual vector ``nu``; ``scale * dual`` is the feasible point that proves ``lower_bound``.
    scale : float
    dual_norm_bound : float
        Proved upper bound of :math:`\max |\nu^T(Xu)_+|` over unit vectors u of the scope.
    dual_norm_attained : float
        Largest value of it that was met, over all unit vectors; above ``beta`` it disproves global optimality.
    n_patterns : int or None
        Number of patterns of a "patterns" scope.
    method : str
        How the pricing problem was bounded.
    """

    objective: float
    lower_bound: float
    scope: Scope
    global_lower_bound: float
    dual: FloatArray
    scale: float
    dual_norm_bound: float
    dual_norm_attained: float
    n_patterns: int | None
    method: str

    @property
    def gap(self) -> float:
        """Relative duality gap ``(objective - lower_bound) / max(|objective|, tiny)``, never negative."""
        return relative_gap(self.objective, self.lower_bound)

    @property
    def global_gap(self) -> float:
        """Relative gap to the bound that holds for every network."""
        return relative_gap(self.objective, self.global_lower_bound)

    def __repr__(self) -> str:
        """Key figures on one line."""
        return (
            f"Certificate(objective={self.objective:.9g}, lower_bound={self.lower_bound:.9g}, gap={self.gap:.1e}, "
            f"scope={self.scope!r}, method={self.method!r})"
        )

    def _repr_html_(self) -> str:
        """Table for notebooks, with what is proved in words."""
        rows = [
            ("objective", figure(self.objective)),
            ("lower bound", figure(self.lower_bound)),
            ("relative gap", f"{self.gap:.1e}"),
            ("scope", self.scope),
            ("method", self.method),
        ]
        if self.scope == "global":
            proved = f"Proved: no network of any width has an objective below {figure(self.lower_bound)}."
        else:
            rows.append(("bound for every network", figure(self.global_lower_bound)))
            proved = (
                f"Proved among networks confined to {self.n_patterns} activation patterns: none has an objective below "
                f"{figure(self.lower_bound)}. Of other networks only the bound for every network is known."
            )
        return card("Certificate", rows, note=proved)


def relative_gap(objective: float, lower_bound: float) -> float:
    """Relative gap ``(objective - lower_bound) / max(|objective|, tiny)``; 0 where the bound meets the objective."""
    difference = objective - lower_bound
    return 0.0 if difference <= 0.0 else difference / max(abs(objective), _TINY)


def certify_global(
    problem: Problem,
    fit: FloatArray,
    objective: float,
    *,
    nu: FloatArray | None = None,
    tol: float = 1e-6,
    time_limit: float | None = None,
    starts: FloatArray | None = None,
    max_nodes: int | None = None,
    stop_at_violation: bool = False,
    method: str = "auto",
) -> tuple[Certificate, PricingBound]:
    """Certificate of scope "global" for a network with the given fit and objective.

    Parameters
    ----------
    problem : Problem
    fit : ndarray (n,)
        Outputs of the network on the data.
    objective : float
        Its objective.
    nu : ndarray (n,), optional
        Dual vector; minus the gradient of the loss at ``fit`` by default.
    tol : float
        Relative gap at which bounding may stop.
    time_limit : float, optional
        Seconds for bounding the pricing problem; the bound stays valid when they run out.
    starts : ndarray (k, d), optional
        Directions that seed the search for the maximum.
    max_nodes : int, optional
        Limit of the branch and bound.
    stop_at_violation : bool
        Stop once a direction disproves optimality; the bound is then valid but loose.
    method : str
        How the pricing problem is bounded, see :func:`cvxnn.certificates.pricing.pricing_bound`.

    Returns
    -------
    certificate : Certificate
    pricing : PricingBound
        Bounds and violating directions of the pricing problem.
    """
    require_one_output(problem, "certify_global")
    dual = admissible_dual(problem, fit, nu)
    # The gap grows like tau/beta - 1 times the objective or more; two orders below tol leave room for it.
    target = problem.beta * (1.0 + min(1e-3 * tol, 1e-7))
    pricing = pricing_bound(
        problem.X,
        dual,
        target=target,
        time_limit=time_limit,
        starts=starts,
        max_nodes=max_nodes,
        stop_at_violation=stop_at_violation,
        method=method,
    )
    certificate = certify_norm(problem, objective, dual, pricing.upper, pricing.lower, method=pricing.method)
    return certificate, pricing


def certify_norm(
    problem: Problem,
    objective: float,
    dual: FloatArray,
    upper: float,
    attained: float,
    *,
    method: str,
    n_patterns: int | None = None,
) -> Certificate:
    """Certificate of scope "global" from a proved bound of the dual norm over all directions.

    Parameters
    ----------
    problem : Problem
    objective : float
    dual : ndarray (n,)
        Dual vector, in the domain of the conjugate.
    upper : float
        Bound of ``max_{||u|| <= 1} |dual^T (X u)_+|``.
    attained : float
        Largest value met.
    method : str
        How the bound was found.
    n_patterns : int, optional
        Where given, the bound is reported in scope "patterns", in which it holds the more.
    """
    bound, scale = scaled_dual_bound(problem, dual, upper)
    return Certificate(
        objective=objective,
        lower_bound=bound,
        scope="global" if n_patterns is None else "patterns",
        global_lower_bound=bound,
        dual=dual,
        scale=scale,
        dual_norm_bound=upper,
        dual_norm_attained=attained,
        n_patterns=n_patterns,
        method=method,
    )


def certify_relaxation(
    problem: Problem,
    network: ReLUNetwork,
    *,
    tol: float = 1e-6,
    time_limit: float | None = None,
) -> tuple[Certificate, RelaxationBound]:
    """Certificate of scope "global" for a network from the doubly non-negative relaxation, without any patterns.

    Parameters
    ----------
    problem : Problem
    network : ReLUNetwork
        The better it is, the sooner the relaxation gets tight.
    tol : float
        Relative gap at which to stop.
    time_limit : float, optional
        Seconds; without one the relaxation runs until it stalls.
    """
    objective = network.objective(problem)
    relaxed = relaxation_bound(problem, time_limit=time_limit, target_gap=tol, upper=objective, warm_start=network)
    values = relaxed.signs * (np.maximum(relaxed.directions @ problem.X.T, 0.0) @ relaxed.dual)
    certificate = Certificate(
        objective=objective,
        lower_bound=relaxed.lower_bound,
        scope="global",
        global_lower_bound=relaxed.lower_bound,
        dual=relaxed.dual,
        scale=relaxed.scale,
        dual_norm_bound=relaxed.dual_norm_bound,
        dual_norm_attained=float(np.max(values, initial=0.0)),
        n_patterns=None,
        method=f"relaxation by {relaxed.method}",
    )
    return certificate, relaxed


def certify_patterns(
    problem: Problem,
    fit: FloatArray,
    objective: float,
    masks: npt.NDArray[np.bool_],
    *,
    nu: FloatArray | None = None,
    global_lower_bound: float = 0.0,
    dual_norm_attained: float = 0.0,
    time_limit: float | None = None,
) -> Certificate:
    """Certificate of scope "patterns": the bound holds for networks confined to the cones of ``masks (P, n)``.

    Both output signs are allowed in every cone. ``global_lower_bound`` and ``dual_norm_attained`` are passed through
    to the certificate (see :class:`Certificate`).
    """
    require_one_output(problem, "certify_patterns")
    dual = admissible_dual(problem, fit, nu)
    both = np.concatenate([masks, masks])
    signs = np.repeat([1.0, -1.0], len(masks))
    upper, _ = cone_bounds(problem.X, dual, both, signs, target=problem.beta, time_limit=time_limit)
    return certify_confined(
        problem,
        objective,
        dual,
        float(np.max(upper, initial=0.0)),
        dual_norm_attained,
        n_patterns=len(masks),
        method="cone bounds",
        global_lower_bound=global_lower_bound,
    )


def certify_confined(
    problem: Problem,
    objective: float,
    dual: FloatArray,
    upper: float,
    attained: float,
    *,
    n_patterns: int,
    method: str,
    global_lower_bound: float = 0.0,
) -> Certificate:
    """Certificate of scope "patterns" from a proved bound of the dual norm over the listed patterns.

    Parameters
    ----------
    problem : Problem
    objective : float
    dual : ndarray (n,) or (n, c)
        Dual vector, in the domain of the conjugate.
    upper : float
        Bound of the dual norm over the listed patterns.
    attained : float
        Largest value met.
    n_patterns : int
        Number of listed patterns.
    method : str
        How the bound was found.
    global_lower_bound : float
        Bound over all networks, where one is known; 0 is the bound that every non-negative loss has.
    """
    bound, scale = scaled_dual_bound(problem, dual, upper)
    return Certificate(
        objective=objective,
        lower_bound=max(bound, global_lower_bound),
        scope="patterns",
        global_lower_bound=global_lower_bound,
        dual=dual,
        scale=scale,
        dual_norm_bound=upper,
        dual_norm_attained=attained,
        n_patterns=n_patterns,
        method=method,
    )
