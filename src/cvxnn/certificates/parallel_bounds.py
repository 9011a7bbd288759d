r"""Rigorous bounds of the pricing problem of parallel networks of three layers.

Write :math:`g = P - N` for the sum of a sub-network's first layer, with the neurons of positive and of negative sign.
Numbers p, q, t, k of a sample that satisfy

.. math:: c\,(P - N)_+ \le p P + q N, \qquad e_j (z)_+ \le t_j z + k_j \|x\| \|v_j\|, \qquad e_j \in \{p, q\}

for all P, N >= 0 and all :math:`|z| \le \|x\| \|v_j\|` of the signs in question bound the pricing function by
:math:`\sum_j (\|X^T t_j\| + \sum k_j \|x\|) \|v_j\|`. Where all signs are fixed and k = 0, this is the Lagrangian
dual of the program on the cones of the patterns, hence exact at its optimum.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import FloatArray, combination_norm_up, gamma, norm_up
from cvxnn.certificates.norm_bound import norm_bound
from cvxnn.certificates.parallel_multipliers import MultiplierProgram, Multipliers
from cvxnn.certificates.pricing import pricing_bound
from cvxnn.patterns import enumerate_patterns
from cvxnn.patterns.counting import count_patterns

SignArray = npt.NDArray[np.int8]

__all__ = ["ParallelPricing", "parallel_pricing", "part_bound", "positive_part_bound", "subnetwork_values"]

_UP = 1.0 + 1e-14
_LEAST_POWER = -1022
_CELLS = 30_000
"""Combinations of first-layer patterns up to which the first split of a neuron is the one into its patterns."""


@dataclass(frozen=True, eq=False)
class ParallelPricing:
    """Bounds of ``max |nu^T (g_V)_+|`` over sub-networks V of norm one, and sub-networks found on the way.

    Attributes
    ----------
    upper : float
        Proved upper bound, rounding included; it holds whenever the work stops.
    lower : float
        Largest value met.
    vectors : ndarray (k, m, d)
        Sub-networks met, of norm one, in falling order of their values.
    signs : ndarray (k, m)
        Their inner signs.
    outputs : ndarray (k,)
        Signs of the dual vector under which they were met.
    values : ndarray (k,)
    nodes : int
        Parts of the sign patterns that were bounded.
    closed : bool
        Whether the target was reached.
    interrupted : bool
        Whether an interrupt (Ctrl-C) ended the work.
    """

    upper: float
    lower: float
    vectors: FloatArray
    signs: FloatArray
    outputs: FloatArray
    values: FloatArray
    nodes: int
    closed: bool
    interrupted: bool


def part_bound(
    X: FloatArray, c: FloatArray, signs: SignArray, inner: SignArray, outer: SignArray, hint: Multipliers, norm: str
) -> float:
    r"""Proved bound of ``c^T (sum_j I_j (X v_j)_+)_+`` over vectors of norm one whose signs fit, from any multipliers.

    The multipliers are moved to where the inequalities of the module hold exactly, entry by entry in floating point.

    Parameters
    ----------
    X : ndarray (n, d)
    c : ndarray (n,)
    signs : ndarray (m,)
        Signs I_j, 1 or -1.
    inner : ndarray (m, n)
        Signs of ``X v_j``: 1 for >= 0, -1 for <= 0, 0 where open.
    outer : ndarray (n,)
        Signs of the sum, likewise.
    hint : Multipliers
    norm : {"path", "l21"}

    Examples
    --------
    >>> one, open_ = np.ones(1), np.zeros((1, 1), dtype=np.int8)
    >>> hint = Multipliers(one, one, one[None], one[None])
    >>> bound = part_bound(one[:, None], one, np.array([1], dtype=np.int8), open_ + 1, open_[0], hint, "path")
    >>> 1.0 <= bound < 1.0 + 1e-12
    True
    """
    p = np.where(outer >= 0, np.maximum(hint.p, c), hint.p)
    q = np.where(outer <= 0, np.maximum(hint.q, 0.0), hint.q)
    # Negation is exact, so that p + q >= 0 holds exactly, too.
    q = np.maximum(q, -p)
    e = np.where(signs[:, None] > 0, p, q)
    t = np.where(inner > 0, np.maximum(hint.t, e), np.where(inner < 0, np.minimum(hint.t, 0.0), hint.t))
    k = np.where(inner == 0, np.maximum(np.maximum(t, (e - t) * np.where(e > t, _UP, 1.0)), 0.0), 0.0)
    lengths = norm_up(X)
    rest = (k @ lengths) * (1.0 + 2.0 * gamma(len(c) + 2))
    parts = (combination_norm_up(X, t) + rest) * _UP
    return float(np.max(parts)) if norm == "l21" else float(norm_up(parts))


def positive_part_bound(X: FloatArray, nu: FloatArray, leaves: int, norm: str) -> float:
    """Bound of the pricing function of sub-networks with ``leaves`` first-layer neurons, without branching.

    A tree is at most the sum of the neurons that reach its root with positive signs, and at least zero.

    Examples
    --------
    >>> 5.0 <= positive_part_bound(np.eye(2), np.array([3.0, 4.0]), 2, "l21") < 6.0
    True
    """
    upper = max(norm_bound(X, np.maximum(sign * nu, 0.0))[0] for sign in (1.0, -1.0))
    factor = 1.0 if norm == "l21" else float(np.sqrt(leaves)) * (1.0 + 1e-15)
    return upper * factor * (1.0 + 1e-15)


def subnetwork_values(X: FloatArray, nu: FloatArray, vectors: FloatArray, signs: FloatArray) -> FloatArray:
    """Values ``nu^T (sum_j I_j (X v_j)_+)_+`` of sub-networks ``(k, m, d)`` with signs ``(k, m)``, as computed."""
    hidden = np.maximum(np.einsum("nd,kmd->knm", X, vectors), 0.0)
    return np.maximum(np.einsum("knm,km->kn", hidden, signs), 0.0) @ nu


def parallel_pricing(
    X: FloatArray,
    nu: FloatArray,
    m: int,
    norm: str,
    *,
    target: float,
    time_limit: float | None = None,
    max_nodes: int | None = None,
    stop_above: float = np.inf,
) -> ParallelPricing:
    r"""Bound ``max |nu^T (sum_j I_j (X v_j)_+)_+|`` over all signs and all vectors of norm one, by branch and bound.

    Parts of the sign patterns of both layers are split at the sign that costs the bound most; the patterns of the first
    layer are listed where they are few. Neurons that all have a positive sign are the
    pricing problem of two layers.

    Parameters
    ----------
    X : ndarray (n, d)
    nu : ndarray (n,)
    m : int
        Neurons in the first layer of a sub-network.
    norm : {"path", "l21"}
    target : float
        Bound at which to stop.
    time_limit : float, optional
    max_nodes : int, optional
    stop_above : float
        Stop once a sub-network of a larger value was met.

    Examples
    --------
    >>> found = parallel_pricing(np.eye(2), np.array([3.0, 4.0]), 2, "l21", target=5.0 + 1e-6)
    >>> found.closed, round(found.lower, 6)
    (True, 5.0)
    """
    deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
    search = _Search(X, nu, m, norm, deadline, max_nodes, stop_above)
    interrupted = False
    upper = search.root
    try:
        upper = search.run(target)
    except KeyboardInterrupt:
        interrupted = True
        upper = search.bound()
    order = np.argsort(-np.array(search.found_values), kind="stable")
    pick = [search.found[i] for i in order]
    return ParallelPricing(
        upper=float(upper),
        lower=float(np.max(search.found_values, initial=0.0)),
        vectors=np.array([v for v, _, _ in pick]).reshape(len(pick), m, X.shape[1]),
        signs=np.array([s for _, s, _ in pick], dtype=np.float64).reshape(len(pick), m),
        outputs=np.array([o for _, _, o in pick], dtype=np.float64),
        values=np.array(search.found_values)[order],
        nodes=search.nodes,
        closed=upper <= target,
        interrupted=interrupted,
    )


@dataclass(frozen=True, eq=False)
class _Part:
    """Part of the sign patterns of one sub-network: output sign, program, inner and outer signs."""

    output: float
    program: MultiplierProgram
    inner: SignArray
    outer: SignArray


class _Search:
    """State of the branch and bound: open parts in ``heap``, the bound of those done in ``closed``.

    ``rest`` bounds what is in neither of them.
    """

    def __init__(
        self, X: FloatArray, nu: FloatArray, m: int, norm: str, deadline: float, max_nodes: int | None, stop: float
    ) -> None:
        power_x = np.frexp(np.max(np.abs(X), initial=0.0))[1]
        power_nu = np.frexp(np.max(np.abs(nu), initial=0.0))[1]
        self.X, self.nu = np.ldexp(X, -power_x), np.ldexp(nu, -power_nu)
        # Rounded up where it underflows: bounds stay bounds.
        self.unit = float(np.ldexp(1.0, max(int(power_x + power_nu), _LEAST_POWER)))
        self.short, self.basis = self.X, np.eye(X.shape[1])
        if X.shape[1] > len(X):
            self.basis, triangle = np.linalg.qr(self.X.T)
            self.short = triangle.T
        self.m, self.norm, self.deadline, self.stop = m, norm, deadline, stop / self.unit
        self.max_nodes = np.inf if max_nodes is None else max_nodes
        self.nodes, self.count = 0, 0
        self.found: list[tuple[FloatArray, FloatArray, float]] = []
        self.found_values: list[float] = []
        self.heap: list[tuple[float, int, _Part, Multipliers | None]] = []
        self.cells = _cells(self.X, m)
        # Without any sign fixed: a sub-network is at most the sum of its neurons.
        total = float(np.sum(np.abs(self.nu) * norm_up(self.X))) * (1.0 + 2.0 * gamma(len(nu) + 2))
        self.closed = 0.0
        self.rest = total * (1.0 if norm == "l21" else float(np.sqrt(m)) * _UP)
        self.root = self._scaled(self.rest)

    def bound(self) -> float:
        """Bound over everything, in the units of the caller."""
        top = max(self.closed, self.rest, -self.heap[0][0] if self.heap else 0.0)
        return self._scaled(top)

    def _scaled(self, value: float) -> float:
        """Bound in the units of the caller, rounded up; a product rounds below the normal numbers, too."""
        return float(np.nextafter(value * self.unit * _UP, np.inf)) if value > 0.0 else 0.0

    def run(self, target: float) -> float:
        """Branch until the bound reaches the target or a limit is met."""
        if not (np.any(self.X) and np.any(self.nu)):
            self.rest = 0.0
            return 0.0
        goal = target / self.unit * (1.0 - 1e-14)
        everything = self.rest
        self.closed = self._all_positive(goal)
        for output in (1.0, -1.0):
            for plus in range(1, self.m):
                signs = np.array([1] * plus + [-1] * (self.m - plus), dtype=np.int8)
                program = MultiplierProgram(self.short, signs, self.norm)
                open_ = np.zeros((self.m, len(self.nu)), dtype=np.int8)
                self._push(_Part(output, program, open_, open_[0]), everything, goal)
        self.rest = 0.0
        while self.heap and -self.heap[0][0] > goal and not self._over():
            value, _, part, hint = self.heap[0]
            halves = self._split(part, hint)
            if not halves:
                self.closed = max(self.closed, -value)
                heapq.heappop(self.heap)
                continue
            done = [(half, *self._bounded(half, -value)) for half in halves]
            # An interrupt may come between any two of these lines: meanwhile the part stands for its halves.
            self.rest = -value
            heapq.heappop(self.heap)
            for half, upper, multipliers in done:
                self._file(half, upper, multipliers, goal)
            self.rest = 0.0
        return self.bound()

    def _all_positive(self, goal: float) -> float:
        """Bound of sub-networks without a negative sign, by that of two layers."""
        factor = 1.0 if self.norm == "l21" else float(np.sqrt(self.m)) * _UP
        left = None if np.isinf(self.deadline) else max(self.deadline - time.perf_counter(), 0.0)
        pricing = pricing_bound(self.X, self.nu, target=goal / factor, time_limit=left)
        share = 1.0 if self.norm == "path" else 0.0
        for u, s in zip(pricing.directions, pricing.signs, strict=True):
            vectors = np.zeros((self.m, len(u)))
            vectors[0] = u
            if share:
                vectors[:] = u / np.sqrt(self.m)
            self._meet(vectors, np.ones(self.m), float(s))
        if pricing.interrupted:
            raise KeyboardInterrupt
        return min(self.rest, pricing.upper * factor * _UP)

    def _over(self) -> bool:
        met = np.max(self.found_values, initial=0.0) / self.unit
        return time.perf_counter() > self.deadline or self.nodes >= self.max_nodes or met > self.stop

    def _push(self, part: _Part, above: float, goal: float) -> None:
        upper, hint = self._bounded(part, above)
        self._file(part, upper, hint, goal)

    def _file(self, part: _Part, upper: float, hint: Multipliers | None, goal: float) -> None:
        if upper <= goal:
            self.closed = max(self.closed, upper)
            return
        self.count += 1
        heapq.heappush(self.heap, (-upper, self.count, part, hint))

    def _bounded(self, part: _Part, above: float) -> tuple[float, Multipliers | None]:
        """Bound of a part, never above that of the part it comes from."""
        self.nodes += 1
        c = part.output * self.nu
        hint = part.program.solve(c, part.inner, part.outer)
        if hint is None:
            return above, None
        upper = part_bound(self.X, c, part.program.signs, part.inner, part.outer, hint, self.norm)
        self._meet(hint.point @ self.basis.T, part.program.signs.astype(np.float64), part.output)
        return min(above, upper), hint

    def _meet(self, vectors: FloatArray, signs: FloatArray, output: float) -> None:
        lengths = np.linalg.norm(vectors, axis=1)
        size = float(lengths.sum()) if self.norm == "l21" else float(np.linalg.norm(lengths))
        if not size > 0.0:
            return
        value = float(subnetwork_values(self.X, output * self.nu, vectors[None] / size, signs[None])[0])
        # Only those that may disprove optimality are of use: keep the best few hundred.
        if value * self.unit > 0.5 * max(self.found_values, default=0.0) and len(self.found) < 1000:
            self.found.append((vectors / size, signs, output))
            self.found_values.append(value * self.unit)

    def _split(self, part: _Part, hint: Multipliers | None) -> list[_Part]:
        """Parts that cover this one; none where it is tight.

        A neuron without any fixed sign is split into its patterns where these are few, and else at the open sign with
        the largest slack.
        """
        inner, outer = part.inner, part.outer
        whole = np.flatnonzero(~np.any(inner, axis=1))
        if self.cells is not None and whole.size:
            copies = np.repeat(inner[None], len(self.cells), axis=0)
            copies[:, whole[0]] = self.cells
            return [_Part(part.output, part.program, copy, outer) for copy in copies]
        c = part.output * self.nu
        slack_inner, slack_outer = self._slacks(c, part, hint)
        i, j = int(np.argmax(slack_outer)), np.unravel_index(int(np.argmax(slack_inner)), slack_inner.shape)
        if max(slack_outer[i], slack_inner[j]) <= 0.0:
            return []
        parts = []
        for side in (1, -1):
            new_inner, new_outer = inner.copy(), outer.copy()
            if slack_outer[i] > slack_inner[j]:
                new_outer[i] = side
            else:
                new_inner[j] = side
            parts.append(_Part(part.output, part.program, new_inner, new_outer))
        return parts

    def _slacks(self, c: FloatArray, part: _Part, hint: Multipliers | None) -> tuple[FloatArray, FloatArray]:
        """What each open sign adds to the bound at the point of the relaxation; minus one where the sign is fixed."""
        inner, outer, signs = part.inner, part.outer, part.program.signs
        active = self.nu != 0
        if hint is None:
            return np.where((inner == 0) & active, 1.0, -1.0), np.where((outer == 0) & active, 0.5, -1.0)
        z = hint.point @ self.short.T
        hidden = np.maximum(z, 0.0)
        e = np.where(signs[:, None] > 0, hint.p, hint.q)
        k = np.maximum(np.maximum(hint.t, e - hint.t), 0.0)
        reach = np.linalg.norm(hint.point, axis=1)[:, None] * np.linalg.norm(self.short, axis=1)
        slack_inner = hint.t * z + k * reach - e * hidden
        plus, minus = hidden[signs > 0].sum(axis=0), hidden[signs < 0].sum(axis=0)
        slack_outer = hint.p * plus + hint.q * minus - c * np.maximum(plus - minus, 0.0)
        floor = 1e-13
        return (
            np.where((inner == 0) & (slack_inner > floor), slack_inner, -1.0),
            np.where((outer == 0) & (slack_outer > floor), slack_outer, -1.0),
        )


def _cells(X: FloatArray, m: int) -> SignArray | None:
    """Signs of all activation patterns of the data, ``(P, n)``, where their combinations are few."""
    n, d = X.shape
    if not np.any(X) or float(count_patterns(n, min(n, d))) ** m > _CELLS:
        return None
    return np.where(enumerate_patterns(X).masks, 1, -1).astype(np.int8)
