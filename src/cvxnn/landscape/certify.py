r"""Judge any network: is it globally optimal, how far is it from the best one, and which neuron would improve it.

A network whose nonzero neurons are balanced with :math:`s_i\, \nu^T (X u_i)_+ = \beta`, and whose dual vector satisfies
:math:`\max_{\|u\| \le 1} |\nu^T (X u)_+| \le \beta`, is globally optimal: these are the optimality conditions of the
convex program over all activation patterns (Pilanci and Ergen, 2020, Theorem 1). Floating point cannot test equalities;
the verdict rests on a lower bound that holds for networks of every width, and on better networks that were found.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import overload

import numpy as np
import numpy.typing as npt

from cvxnn._threads import blas_threads
from cvxnn._validation import as_number, as_seed
from cvxnn.architectures import Architecture, ReLU
from cvxnn.certificates.certificate import certify_global, certify_relaxation, relative_gap
from cvxnn.landscape._certify_outputs import OutputsJudge, require_outputs_method
from cvxnn.landscape._certify_parallel import (
    ParallelJudge,
    as_architecture,
    parallel_residual,
    require_parallel_method,
)
from cvxnn.landscape._certify_relatives import Relative, RelativeCertificate, certify_relative
from cvxnn.landscape._escape import Escape, best_escape
from cvxnn.landscape._judging import Judge
from cvxnn.landscape._members import require_finite_objective
from cvxnn.landscape._network_certificate import NetworkCertificate
from cvxnn.networks import ReLUNetwork
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.patterns import search
from cvxnn.problem import Problem, require_no_output_bias, require_problem
from cvxnn.programs.relu import is_exact
from cvxnn.training import solve

FloatArray = npt.NDArray[np.float64]

__all__ = ["NetworkCertificate", "certify"]

_METHODS = ("auto", "enumeration", "relaxation", "dual")
_DEFAULT_SECONDS = 60.0
_SEARCH_SECONDS = 2.0
_SHARE_OF_FIRST = 0.2
_SHARE_OF_SEARCH = 0.3
_SHARE_OF_SOLVE = 0.25
_SHARE_OF_EXACT_SOLVE = 0.6
_MOST_SOLVE_SECONDS = 8.0
"""A relaxation that starts late has little to show when the work is cut short."""
_FAR = 1e-3
_SHARE_OF_TOL = 0.01
"""A network counts as beaten when another one is better by this fraction of the tolerance: more than rounding."""


@overload
def certify(
    problem: Problem,
    network: ReLUNetwork | ParallelReLUNetwork,
    *,
    architecture: Architecture | None = None,
    method: str = "auto",
    tol: float = 1e-9,
    time_limit: float | None = None,
    random_state: int = 0,
) -> NetworkCertificate: ...


@overload
def certify(
    problem: Problem,
    network: Relative,
    *,
    architecture: Architecture | None = None,
    method: str = "auto",
    tol: float = 1e-9,
    time_limit: float | None = None,
    random_state: int = 0,
) -> RelativeCertificate: ...


def certify(
    problem: Problem,
    network: ReLUNetwork | ParallelReLUNetwork | Relative,
    *,
    architecture: Architecture | None = None,
    method: str = "auto",
    tol: float = 1e-9,
    time_limit: float | None = None,
    random_state: int = 0,
) -> NetworkCertificate | RelativeCertificate:
    r"""Judge a network against all networks of all widths.

    The lower bound comes from a dual vector that is scaled by a proved bound of its norm,

    .. math:: p^* \ge \max_{0 \le t \le \beta / \bar\tau} -\ell^*(-t \nu), \qquad
              \bar\tau \ge \max_{\|u\| \le 1} |\nu^T (X u)_+| ,

    where :math:`\nu` is that of the network, of the best network found on the way, or of a relaxation.

    Parameters
    ----------
    problem : Problem
        Data, loss and weight decay ``beta > 0``; with ``output_bias_decay`` for networks with an output bias.
    network : ReLUNetwork or a relative
        Any network with the outputs of the problem, trained by whatever means. Gated, batch-norm and polynomial
        networks are judged by their own programs.
    architecture : Architecture, optional
        Networks to judge against. A parallel network is judged against those of its depth, neurons in each layer and
        norm; ``ParallelReLU(depth, width, penalty)`` with another penalty overrides the norm.
        A gated network is judged against those with the gates of ``GatedReLU(gates)``, by default its own.
    method : {"auto", "enumeration", "relaxation", "dual"}
        How the bound is had. "enumeration" searches all activation patterns by branch and bound, which ends for data of
        rank up to 5 or some tens of samples; "relaxation" bounds the optimum by a semidefinite program without any
        patterns; "dual" bounds the norm of the network's own dual vector only, in a moment. "auto" enumerates where
        that ends and relaxes elsewhere. With several outputs "enumeration" searches the arrangement of data of rank up
        to 3, there is no relaxation, and "auto" has a loose bound beyond rank 3. For parallel networks of three layers
        "enumeration" is a branch and bound over the signs of both layers; beyond three layers the bound is loose.
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
        A :class:`RelativeCertificate` for gated, batch-norm and polynomial networks. An interrupt (Ctrl-C) is not
        raised: the result so far is returned, with ``interrupted`` set.

    Raises
    ------
    ValueError
        If the network does not fit the problem or its objective overflows, ``beta`` is 0, or an option is out of range.

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
    if isinstance(network, Relative):
        return certify_relative(
            problem,
            network,
            architecture,
            method=method,
            tol=tol,
            time_limit=time_limit,
            random_state=random_state,
            relu=certify,
        )
    start = time.perf_counter()
    _validate(problem, network, architecture, method)
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    seed = as_seed(random_state, "random_state")
    require_finite_objective(problem, network)
    with blas_threads(problem):
        if isinstance(network, ParallelReLUNetwork):
            return _certify_parallel(problem, network, architecture, method, tol, start, limit, seed)
        kind = _Judge if problem.n_outputs == 1 else OutputsJudge
        judge = kind(problem, network, tol, start, limit, seed)
        judge.run(method)
    return _report(judge, *_residuals(judge.problem, judge.network, judge.dual))


def _certify_parallel(
    problem: Problem,
    network: ParallelReLUNetwork,
    architecture: Architecture | None,
    method: str,
    tol: float,
    start: float,
    limit: float | None,
    seed: int,
) -> NetworkCertificate:
    """Judge a parallel network; chains of single neurons as the two-layer networks that they are."""
    against = as_architecture(network, architecture)
    if network.branching > 1:
        require_parallel_method(problem, against, method)
        judge = ParallelJudge(problem, network, against, tol, start, limit, seed)
        judge.run(method)
        return _report(judge, 0.0, parallel_residual(problem, judge.network, judge.dual))
    two = network.to_two_layers()
    judge = _Judge(problem, two, tol, start, limit, seed)
    # Chains that are constantly zero cost something, so that the network without them may be better.
    judge.objective = judge.best = replace(network, norm=against.penalty).objective(problem)
    judge.offer(two)
    judge.run(method)
    found = _report(judge, *_residuals(problem, two, judge.dual))

    def chain(net: ReLUNetwork) -> ParallelReLUNetwork:
        return ParallelReLUNetwork.from_two_layers(net, network.depth, against.penalty)

    escape = None if judge.escape is None else ReLUNetwork(judge.escape.w[None], np.atleast_1d(judge.escape.a))
    return replace(
        found,
        network=network,
        escape=None if found.escape is None or escape is None else chain(escape),
        better=chain(found.better) if isinstance(found.better, ReLUNetwork) else None,
    )


def _validate(
    problem: Problem, network: ReLUNetwork | ParallelReLUNetwork, architecture: Architecture | None, method: str
) -> None:
    require_problem(problem)
    if not isinstance(network, (ReLUNetwork, ParallelReLUNetwork)):
        raise ValueError(
            f"network must be a cvxnn.ReLUNetwork or a relative of it; got {type(network).__name__} "
            "(cvxnn.interop reads PyTorch, scikit-learn and ONNX networks)."
        )
    if network.n_features != problem.n_features:
        hint = "; a hidden bias needs a column of ones in X" if network.n_features == problem.n_features + 1 else ""
        raise ValueError(f"network takes {network.n_features} features but the problem has {problem.n_features}{hint}.")
    outputs = 1 if isinstance(network, ParallelReLUNetwork) else network.n_outputs
    if outputs != problem.n_outputs:
        raise ValueError(f"network has {outputs} outputs but the problem has {problem.n_outputs}.")
    if method not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, _METHODS))}; got {method!r}.")
    if problem.beta == 0.0:
        raise ValueError("beta is 0; without weight decay there is no certificate, certify needs beta > 0.")
    if isinstance(network, ParallelReLUNetwork):
        require_no_output_bias(problem, "certify of a ParallelReLUNetwork")
    elif not (architecture is None or architecture == ReLU()):
        raise ValueError(f"architecture must be ReLU() for a ReLUNetwork; got {architecture!r}.")
    if problem.n_outputs > 1:
        require_outputs_method(problem, method)


class _Judge(Judge):
    """Judgement of networks with one output."""

    def __init__(
        self, problem: Problem, network: ReLUNetwork, tol: float, start: float, limit: float | None, seed: int
    ) -> None:
        super().__init__(problem, network, tol, start, limit, seed)
        # With many samples the ascents that this begins with take long.
        seconds = None if limit is None else _SHARE_OF_FIRST * limit
        self.certificate, _ = certify_global(
            problem, self.fit, self.objective, tol=tol, time_limit=seconds, method="cheap"
        )

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


def _report(judge: Judge, balance: float, own: float) -> NetworkCertificate:
    """Verdict from what was collected."""
    gap = relative_gap(judge.objective, judge.certificate.lower_bound)
    optimal = gap <= judge.tol
    beaten = judge.best < judge.objective - max(_SHARE_OF_TOL * judge.tol, 1e-13) * abs(judge.objective)
    verdict = True if optimal else (False if beaten else None)
    escape = None if optimal else judge.escape
    return NetworkCertificate(
        problem=judge.problem,
        network=judge.network,
        objective=judge.objective,
        lower_bound=judge.certificate.lower_bound,
        is_global=verdict,
        escape=(escape.w, escape.a) if isinstance(escape, Escape) else escape,
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
