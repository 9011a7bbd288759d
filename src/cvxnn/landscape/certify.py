r"""Judge any network: is it globally optimal, how far is it from the best one, and which neuron would improve it.

A network whose nonzero neurons are balanced with :math:`s_i\, \nu^T (X u_i)_+ = \beta`, and whose dual vector satisfies
:math:`\max_{\|u\| \le 1} |\nu^T (X u)_+| \le \beta`, is globally optimal: these are the optimality conditions of the
convex program over all activation patterns (Pilanci and Ergen, 2020, Theorem 1). Floating point cannot test equalities;
the verdict rests on a lower bound that holds for networks of every width, and on better networks that were found.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._html import card, figure
from cvxnn._threads import blas_threads
from cvxnn._validation import as_number
from cvxnn.certificates.certificate import Certificate, certify_global, certify_relaxation, relative_gap
from cvxnn.landscape._certify_outputs import OutputsJudge, require_outputs_method
from cvxnn.landscape._escape import best_escape
from cvxnn.landscape._judging import Judge
from cvxnn.networks import ReLUNetwork
from cvxnn.patterns import search
from cvxnn.problem import Problem, require_problem
from cvxnn.programs.relu import is_exact
from cvxnn.training import solve

FloatArray = npt.NDArray[np.float64]

__all__ = ["NetworkCertificate", "certify"]

_METHODS = ("auto", "enumeration", "relaxation", "dual")
_DEFAULT_SECONDS = 60.0
_SEARCH_SECONDS = 2.0
_SHARE_OF_SEARCH = 0.3
_SHARE_OF_SOLVE = 0.25
_SHARE_OF_EXACT_SOLVE = 0.6
_MOST_SOLVE_SECONDS = 8.0
"""A relaxation that starts late has little to show when the work is cut short."""
_FAR = 1e-3
_SHARE_OF_TOL = 0.01
"""A network counts as beaten when another one is better by this fraction of the tolerance: more than rounding."""


@dataclass(frozen=True, eq=False)
class NetworkCertificate:
    r"""What :func:`certify` found out about a network.

    Attributes
    ----------
    problem : Problem
    network : ReLUNetwork
        The network judged, as it was given.
    objective : float
        Its objective, recomputed from the weights.
    lower_bound : float
        No network of any width has a lower objective; rounding is subtracted.
    is_global : bool or None
        True: ``gap <= tol``. False: a better network is at hand (:attr:`better`), by more than ``tol / 100``. None: not
        decided within the limits; the bounds hold all the same.
    escape : (w, a) or None
        A neuron whose addition lowers the objective: ``w (d,)`` and ``a`` (``(c,)`` for c outputs), balanced, with the
        best mass. Scaled down it lowers it, too. None where none was found: certainly so where the network is optimal.
    better : ReLUNetwork or None
        Best network met on the way, where its objective is lower.
    dual : ndarray (n,)
        Dual vector of the network, minus the gradient of the loss at its fit.
    certificate : Certificate
        Proof of the lower bound, with the dual vector that gives it.
    balance_residual : float
        Largest :math:`|\,\|w_i\| - |a_i|\,| / \max(\|w_i\|, |a_i|)` over the neurons; 0 at an optimum.
    stationarity_residual : float
        Largest :math:`|s_i \nu^T (X u_i)_+ / \beta - 1|` over the nonzero neurons (with several outputs
        :math:`\|N^T (X u_i)_+ / \beta - a_i / \|a_i\|\|`); 0 at an optimum.
    tol : float
        Relative gap at which the network counts as globally optimal.
    seconds : float
    interrupted : bool
        Whether a keyboard interrupt cut the work short.
    """

    problem: Problem
    network: ReLUNetwork
    objective: float
    lower_bound: float
    is_global: bool | None
    escape: tuple[FloatArray, float | FloatArray] | None
    better: ReLUNetwork | None
    dual: FloatArray
    certificate: Certificate
    balance_residual: float
    stationarity_residual: float
    tol: float
    seconds: float
    interrupted: bool

    @property
    def gap(self) -> float:
        """Relative gap ``(objective - lower_bound) / max(|objective|, tiny)``: no network is better by more."""
        return relative_gap(self.objective, self.lower_bound)

    @property
    def scope(self) -> str:
        """Always "global": the lower bound holds for networks of every width."""
        return "global"

    @property
    def method(self) -> str:
        """How the lower bound was had: cone or sign branch and bound, a relaxation, or a bound without search."""
        return self.certificate.method

    @property
    def best_objective(self) -> float:
        """Lowest objective met: that of :attr:`better`, or of the network itself."""
        return self.objective if self.better is None else self.better.objective(self.problem)

    @property
    def verdict(self) -> str:
        """One sentence for the user."""
        if self.is_global:
            return f"Globally optimal: no network of any width is better by more than a relative {self.gap:.1e}."
        if self.is_global is False:
            gain = relative_gap(self.objective, self.best_objective)
            how = "adding one neuron lowers the objective" if self.escape else "a better network was found"
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


def certify(
    problem: Problem,
    network: ReLUNetwork,
    *,
    method: str = "auto",
    tol: float = 1e-9,
    time_limit: float | None = None,
    random_state: int = 0,
) -> NetworkCertificate:
    r"""Judge a network against all networks of all widths.

    The lower bound comes from a dual vector that is scaled by a proved bound of its norm,

    .. math:: p^* \ge \max_{0 \le t \le \beta / \bar\tau} -\ell^*(-t \nu), \qquad
              \bar\tau \ge \max_{\|u\| \le 1} |\nu^T (X u)_+| ,

    where :math:`\nu` is that of the network, of the best network found on the way, or of a relaxation.

    Parameters
    ----------
    problem : Problem
        Data, loss and weight decay ``beta > 0``; with ``output_bias_decay`` for networks with an output bias.
    network : ReLUNetwork
        Any network with the outputs of the problem, trained by whatever means.
    method : {"auto", "enumeration", "relaxation", "dual"}
        How the bound is had. "enumeration" searches all activation patterns by branch and bound, which ends for data of
        rank up to 5 or some tens of samples; "relaxation" bounds the optimum by a semidefinite program without any
        patterns; "dual" bounds the norm of the network's own dual vector only, in a moment. "auto" enumerates where
        that ends and relaxes elsewhere. With several outputs "enumeration" searches the arrangement of data of rank up
        to 3, there is no relaxation, and "auto" has a loose bound beyond rank 3.
    tol : float, default 1e-9
        Relative gap up to which the network counts as globally optimal. A network that was trained to a tolerance, such
        as the 1e-6 of :func:`cvxnn.solve`, is to be judged with that one.
    time_limit : float, optional
        Seconds. Without one, enumeration runs to its end and everything else stops after 60 seconds.
    random_state : int, default 0
        Seed of the search for better networks.

    Returns
    -------
    NetworkCertificate
        An interrupt (Ctrl-C) is not raised: the result so far is returned, with ``interrupted`` set.

    Raises
    ------
    ValueError
        If the network does not fit the problem, ``beta`` is 0, or an option is out of range.

    References
    ----------
    Pilanci and Ergen (2020), "Neural networks are convex regularizers", Theorem 1.

    Examples
    --------
    >>> from cvxnn import Problem, ReLUNetwork
    >>> problem = Problem([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 0.0, 1.0], beta=0.1)
    >>> judged = certify(problem, ReLUNetwork([[0.0, 1.0]], [0.5]))
    >>> judged.is_global, judged.escape is not None, round(judged.lower_bound, 6)
    (False, True, 0.185)
    >>> certify(problem, judged.better).is_global
    True
    """
    start = time.perf_counter()
    _validate(problem, network, method)
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    with blas_threads(problem):
        kind = _Judge if problem.n_outputs == 1 else OutputsJudge
        judge = kind(problem, network, tol, start, limit, random_state)
        judge.run(method)
    return _report(judge)


def _validate(problem: Problem, network: ReLUNetwork, method: str) -> None:
    require_problem(problem)
    if not isinstance(network, ReLUNetwork):
        raise ValueError(
            f"network must be a cvxnn.ReLUNetwork; got {type(network).__name__} "
            "(cvxnn.interop reads PyTorch, scikit-learn and ONNX networks)."
        )
    if network.n_features != problem.n_features:
        hint = "; a hidden bias needs a column of ones in X" if network.n_features == problem.n_features + 1 else ""
        raise ValueError(f"network takes {network.n_features} features but the problem has {problem.n_features}{hint}.")
    if network.n_outputs != problem.n_outputs:
        raise ValueError(f"network has {network.n_outputs} outputs but the problem has {problem.n_outputs}.")
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, _METHODS))}; got {method!r}.")
    if problem.beta == 0.0:
        raise ValueError("beta is 0; without weight decay there is no certificate, certify needs beta > 0.")
    if problem.n_outputs > 1:
        require_outputs_method(problem, method)


class _Judge(Judge):
    """Judgement of networks with one output."""

    def __init__(
        self, problem: Problem, network: ReLUNetwork, tol: float, start: float, limit: float | None, seed: int
    ) -> None:
        super().__init__(problem, network, tol, start, limit, seed)
        self.certificate, _ = certify_global(problem, self.fit, self.objective, tol=tol, method="cheap")

    def run(self, method: str) -> None:
        """Look for an escape, then for better networks and bounds by the chosen method."""
        exact = is_exact(self.problem, certify=True)
        try:
            self._search()
            if method == "enumeration" or (method == "auto" and exact):
                self._enumerate()
            elif method != "dual":
                self.limit = _DEFAULT_SECONDS if self.limit is None else self.limit
                self._relax()
        except KeyboardInterrupt:
            self.interrupted = True

    def _remaining(self, share: float = 1.0) -> float | None:
        if self.limit is None:
            return None
        return max(share * (self.limit - (time.perf_counter() - self.start)), 0.0)

    def _search(self) -> None:
        """Look for an escape among the ascents from many directions, those of the neurons included."""
        seconds = self._remaining(_SHARE_OF_SEARCH)
        if seconds == 0.0:
            return
        found = search(
            self.problem.X,
            self.dual,
            starts=self.network.W[np.any(self.network.W != 0, axis=1)],
            threshold=self.problem.beta,
            random_state=self.seed,
            time_limit=_SEARCH_SECONDS if seconds is None else min(seconds, _SEARCH_SECONDS),
        )
        self._try_escapes(found.directions, found.signs)

    def _try_escapes(self, directions: FloatArray, signs: npt.NDArray[np.floating | np.integer]) -> None:
        self._found(best_escape(self.problem, self.network, directions, signs))

    def _enumerate(self) -> None:
        """Bound over all patterns, at the dual vector of the best network and at the network's own."""
        solution = solve(
            self.problem,
            tol=0.1 * self.tol,
            certify=True,
            time_limit=self._remaining(_SHARE_OF_EXACT_SOLVE),
            warm_start=self.network,
            random_state=self.seed,
        )
        self._take(solution)
        # A solve that misses the last digits gives a bound for its patterns only, or none worth the name.
        if self.better is not None and self._is_open(self.best):
            self._price(self.better)
        if self.escape is None and self._is_open(self.objective):
            self._price(self.network)

    def _price(self, network: ReLUNetwork) -> None:
        """Branch and bound at the dual vector of a network: it bounds the optimum, or finds a neuron to add."""
        certificate, pricing = certify_global(
            self.problem,
            network(self.problem.X),
            network.objective(self.problem),
            tol=self.tol,
            time_limit=self._remaining(),
            starts=network.W if network.width else None,
        )
        self._keep(certificate)
        self._try_escapes(pricing.directions, pricing.signs)
        self.interrupted = self.interrupted or pricing.interrupted

    def _relax(self) -> None:
        """Look for a better network for a part of the time, then relax for the rest of it."""
        # A network that one neuron improves by much is further from the best one than what a fresh search finds.
        far = self.escape is not None and relative_gap(self.objective, self.escape.objective) > _FAR
        solution = solve(
            self.problem,
            time_limit=min(self._remaining(_SHARE_OF_SOLVE) or 0.0, _MOST_SOLVE_SECONDS),
            warm_start=None if far else self.network,
            random_state=self.seed,
        )
        self._take(solution)
        remaining = self._remaining()
        if self.interrupted or remaining == 0.0:
            return
        best = self.network if self.better is None else self.better
        certificate, relaxed = certify_relaxation(self.problem, best, tol=self.tol, time_limit=remaining)
        self._keep(certificate)
        self._try_escapes(relaxed.directions, relaxed.signs)
        self.interrupted = relaxed.interrupted


def _report(judge: Judge) -> NetworkCertificate:
    """Verdict from what was collected."""
    gap = relative_gap(judge.objective, judge.certificate.lower_bound)
    optimal = gap <= judge.tol
    beaten = judge.best < judge.objective - max(_SHARE_OF_TOL * judge.tol, 1e-13) * abs(judge.objective)
    verdict = True if optimal else (False if beaten else None)
    balance, own = _residuals(judge.problem, judge.network, judge.dual)
    escape = None if optimal or judge.escape is None else (judge.escape.w, judge.escape.a)
    return NetworkCertificate(
        problem=judge.problem,
        network=judge.network,
        objective=judge.objective,
        lower_bound=judge.certificate.lower_bound,
        is_global=verdict,
        escape=escape,
        better=judge.better if beaten and not optimal else None,
        dual=judge.dual,
        certificate=judge.certificate,
        balance_residual=balance,
        stationarity_residual=own,
        tol=judge.tol,
        seconds=time.perf_counter() - judge.start,
        interrupted=judge.interrupted,
    )


def _residuals(problem: Problem, network: ReLUNetwork, dual: FloatArray) -> tuple[float, float]:
    """Balance and own stationarity of the neurons, relative."""
    rows, dual = network.a.reshape(network.width, problem.n_outputs), dual.reshape(len(dual), -1)
    size_w, size_a = np.linalg.norm(network.W, axis=1), np.linalg.norm(rows, axis=1)
    larger = np.maximum(size_w, size_a)
    balance = np.divide(np.abs(size_w - size_a), larger, out=np.zeros_like(larger), where=larger > 0)
    live = (size_w > 0) & (size_a > 0)
    directions = network.W[live] / size_w[live, None]
    pulls = np.maximum(directions @ problem.X.T, 0.0) @ dual
    own = np.linalg.norm(pulls / problem.beta - rows[live] / size_a[live, None], axis=1)
    return float(np.max(balance, initial=0.0)), float(np.max(own, initial=0.0))
