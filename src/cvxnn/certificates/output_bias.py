r"""Dual vectors of problems with an output bias b that costs :math:`\kappa b^2/2`.

The bias adds :math:`-(\sum_j \nu_j)^2 / (2\kappa)` to the dual objective; a free bias (:math:`\kappa = 0`) demands
:math:`\sum_j \nu_j = 0` exactly, which a sum in floating point cannot promise. :func:`zero_sum` therefore moves the
entries to a common grid on which their sum is exact.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from cvxnn.certificates._rounding import gamma, norm_up
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["admissible_dual", "best_dual", "best_shift", "bias_penalty", "zero_sum", "zero_sum_dual"]

_EPS = float(np.finfo(np.float64).eps)
_GRID_BITS = 50
_MOST_STEPS, _PLAIN_STEPS = 400, 8


def bias_penalty(problem: Problem, nu: FloatArray) -> float:
    r"""Upper bound of :math:`(\sum_j \nu_j)^2 / (2\kappa)`, what an output bias takes from the dual objective.

    It is 0 for problems without an output bias, and infinite for a free bias unless the entries sum to zero exactly.
    """
    decay = problem.output_bias_decay
    if decay is None:
        return 0.0
    total = math.fsum(nu)
    if total == 0.0:
        return 0.0
    return math.inf if decay == 0.0 else 0.5 * total * total / decay * (1.0 + 8.0 * _EPS)


def admissible_dual(problem: Problem, fit: FloatArray, nu: FloatArray | None = None) -> FloatArray:
    """Dual vector at a fit, or the given one, moved into the domain of the dual problem before its norm is bounded."""
    free_bias = problem.output_bias_decay == 0.0
    if nu is None:
        dual = problem.dual_vector(fit + best_shift(problem, fit) if free_bias else fit)
    else:
        dual = np.asarray(nu, dtype=np.float64)
    dual = problem.loss.project_dual(dual, problem.y, problem.sample_weight)
    return zero_sum(problem, dual) if free_bias else dual


def best_dual(problem: Problem, outputs: FloatArray) -> FloatArray:
    """Admissible dual vector at outputs without an output bias, after the best one is added."""
    bias = 0.0 if problem.output_bias_decay is None else best_shift(problem, outputs)
    return admissible_dual(problem, outputs + bias)


def best_shift(problem: Problem, fit: FloatArray) -> float:
    r"""Constant that, with its decay, lowers the loss most when added to the fit; 0 where no finite one is best.

    Newton's method on the slope :math:`\sum_j \ell_j'(f_j + b) + \kappa b`, which increases with b; the bracket of the
    root is halved where a step leaves it.
    """
    decay = problem.output_bias_decay or 0.0
    size = float(np.max(np.abs(fit), initial=0.0))
    low, high, reach = -math.inf, math.inf, max(1.0, size)
    shift = 0.0
    for k in range(_MOST_STEPS):
        slope = float(np.sum(problem.loss_gradient(fit + shift))) + decay * shift
        if slope == 0.0:
            return shift
        low, high = (shift, high) if slope < 0.0 else (low, shift)
        curvature = float(np.sum(problem.loss_hessian(fit + shift))) + decay
        step = abs(slope) / curvature if curvature > 0.0 else math.inf
        if step <= _EPS * max(abs(shift), size) or high - low <= _EPS * max(abs(shift), size):
            return shift
        # Where the slope is flat a step says little, and there may be no root: the steps grow until it is passed.
        if math.isinf(high - low) and (step > reach or k >= _PLAIN_STEPS):
            step, reach = reach, 2.0 * reach
        trial = shift - math.copysign(step, slope)
        shift = trial if low < trial < high else 0.5 * (low + high)
    return 0.0


def zero_sum_dual(
    problem: Problem, dual: FloatArray, norm_bound: float, opposite: tuple[FloatArray, float] | None = None
) -> tuple[FloatArray, float]:
    """Vector whose entries sum to zero exactly, next to a dual vector, with a proved bound of its dual norm.

    Parameters
    ----------
    problem : Problem
    dual : ndarray (n,)
    norm_bound : float
        Proved bound of its dual norm.
    opposite : (ndarray (n,), float), optional
        Another one with its bound, whose entries sum to a number of the other sign. The dual norm is convex, so the
        larger bound holds for the mean of both whose entries sum to zero but for rounding.
    """
    mean, spread = dual, np.zeros_like(dual)
    if opposite is not None:
        other, other_bound = opposite
        total = float(np.sum(dual))
        share = min(max(total / (total - float(np.sum(other))), 0.0), 1.0)
        mean = (1.0 - share) * dual + share * other
        # The mean is rounded in units of its parts, which may cancel.
        spread, norm_bound = 4.0 * _EPS * (np.abs(dual) + np.abs(other)), max(norm_bound, other_bound)
    exact = zero_sum(problem, mean)
    moved = (np.abs(exact - mean) * (1.0 + 4.0 * _EPS) + spread) @ norm_up(problem.X)
    growth = float(moved) * (1.0 + 2.0 * gamma(problem.n_samples + 4))
    return exact, (norm_bound + growth) * (1.0 + 4.0 * _EPS)


def zero_sum(problem: Problem, nu: FloatArray) -> FloatArray:
    """Nearest vectors to ``nu`` whose entries sum to zero without any rounding, in the domain of the conjugate.

    Returns zeros, which are always admissible, where none is found close by.

    Examples
    --------
    >>> import math
    >>> import numpy as np
    >>> nu = zero_sum(Problem(np.eye(3), np.zeros(3), output_bias_decay=0.0), np.array([0.1, 0.2, -0.3]))
    >>> math.fsum([0.1, 0.2, -0.3]) == 0.0, math.fsum(nu) == 0.0
    (False, True)
    """
    used = problem.sample_weight > 0
    count = int(np.count_nonzero(used))
    zeros = np.zeros_like(nu)
    bits = min(_GRID_BITS, 61 - count.bit_length())
    size = float(np.max(np.abs(nu[used])))
    if size == 0.0 or not math.isfinite(size):
        return zeros
    centred = np.where(used, nu - np.sum(nu[used]) / count, 0.0)
    centred = problem.loss.project_dual(centred, problem.y, problem.sample_weight)
    grid = math.ldexp(1.0, math.frexp(size)[1] - bits)
    steps = np.trunc(centred / grid).astype(np.int64)
    excess = int(steps.sum())
    # Truncation keeps every entry in the domain; what is left over is taken from entries towards zero.
    side = int(np.sign(excess))
    givers = np.flatnonzero(np.sign(steps) == side)
    givers = givers[np.argsort(np.abs(steps[givers]), kind="stable")]
    taken = _even_shares(np.abs(steps[givers]), abs(excess))
    if taken is None:
        return zeros
    steps[givers] -= side * taken
    return np.asarray(steps * grid, dtype=np.float64)


def _even_shares(sizes: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.int64] | None:
    """Shares that sum to ``total``, as even as the increasing sizes allow; None where these sum to less."""
    count = len(sizes)
    before = np.cumsum(sizes) - sizes
    # With a level of sizes[k], the entries below give all that they have.
    enough = before + np.arange(count, 0, -1) * sizes >= total
    if total == 0 or not np.any(enough):
        return np.zeros(count, dtype=np.int64) if total == 0 else None
    first = int(np.argmax(enough))
    level, rest = divmod(total - int(before[first]), count - first)
    shares = np.minimum(sizes, level)
    shares[count - rest :] += 1
    return shares
