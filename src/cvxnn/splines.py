r"""One-dimensional data: two-layer ReLU networks as linear splines.

A network of one input is a linear spline, each neuron a hinge. Where biases cost nothing, the best network is the
solution of a lasso over hinges with their knots at the samples, found and proved by :func:`fit_spline`. Where the
hidden bias has weight decay (a column of ones in the data of :class:`cvxnn.Problem`), the best knots lie between the
samples: :func:`cvxnn.solve` finds them, and :func:`network_spline` shows the network as a spline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_float_array, as_number
from cvxnn.certificates.certificate import Certificate
from cvxnn.losses import Loss
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.programs.spline_lasso import SplineState, solve_spline_lasso
from cvxnn.progress import Progress, Recorder
from cvxnn.solution import Certified, History, Status

FloatArray = npt.NDArray[np.float64]

__all__ = ["LinearSpline", "SplineSolution", "fit_spline", "network_spline"]


_SLAB = 1 << 20
"""Entries of a slab of distances between points and knots."""


@dataclass(frozen=True, eq=False)
class LinearSpline:
    r"""Continuous piecewise linear function :math:`f(x) = c + \sum_i p_i (x - t_i)_+ + \sum_i q_i (t_i - x)_+`.

    Attributes
    ----------
    constant : float
        The constant c.
    knots : ndarray (k,)
        Knots t in increasing order, in the units of x.
    right, left : ndarray (k,)
        Coefficients p and q of the hinges that open to the right and to the left, in units of y over units of x.

    Examples
    --------
    >>> spline = LinearSpline(1.0, [0.0, 2.0], [1.0, 0.0], [0.0, -3.0])
    >>> spline([-1.0, 0.0, 1.0, 3.0])
    array([-8., -5., -1.,  4.])
    >>> spline.slopes, spline.norm
    (array([3., 4., 1.]), 4.0)
    """

    constant: float
    knots: FloatArray
    right: FloatArray
    left: FloatArray

    def __post_init__(self) -> None:
        """Freeze the arrays."""
        for name in ("knots", "right", "left"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if not self.knots.shape == self.right.shape == self.left.shape or self.knots.ndim != 1:
            raise ValueError(
                f"knots, right and left must be vectors of one length; got shapes {self.knots.shape}, "
                f"{self.right.shape} and {self.left.shape}."
            )
        if np.any(np.diff(self.knots) <= 0):
            raise ValueError("knots must be in increasing order.")

    def __call__(self, x: npt.ArrayLike) -> FloatArray:
        """Values at points of any shape."""
        points = np.asarray(x, dtype=np.float64)
        flat = points.ravel()
        out = np.full(flat.shape, self.constant)
        # Hinge by hinge, not piece by piece: a knot far away would take the digits of the others.
        step = max(_SLAB // max(len(self.knots), 1), 1)
        for first in range(0, len(flat), step):
            distance = flat[first : first + step, None] - self.knots
            out[first : first + step] += np.maximum(distance, 0.0) @ self.right + np.maximum(-distance, 0.0) @ self.left
        return out.reshape(points.shape)

    @property
    def slopes(self) -> FloatArray:
        """Slopes of the ``k + 1`` pieces, from left to right."""
        return np.insert(np.cumsum(self.right + self.left), 0, 0.0) - float(np.sum(self.left))

    @property
    def slope_changes(self) -> FloatArray:
        """Change of the slope at each knot, ``(k,)``."""
        return self.right + self.left

    @property
    def norm(self) -> float:
        r"""Sum :math:`\sum_i |p_i| + |q_i|`, the weight decay of the balanced network whose biases are free."""
        return float(np.sum(np.abs(self.right)) + np.sum(np.abs(self.left)))

    def network(self) -> ReLUNetwork:
        """Balanced network on the columns ``[x, 1]``; its output bias is the constant.

        Examples
        --------
        >>> LinearSpline(0.5, [1.0], [4.0], [0.0]).network()([[1.0, 1.0], [2.0, 1.0]])
        array([0.5, 4.5])
        """
        knots = np.concatenate([self.knots, self.knots])
        coefficients = np.concatenate([self.right, self.left])
        sides = np.concatenate([np.ones_like(self.right), -np.ones_like(self.left)])
        used = coefficients != 0
        root = np.sqrt(np.abs(coefficients[used]))
        w = sides[used] * root
        W = np.column_stack([w, -w * knots[used]])
        return ReLUNetwork(W, np.sign(coefficients[used]) * root, self.constant)


@dataclass(frozen=True, eq=False)
class SplineSolution(Certified):
    """Spline found by :func:`fit_spline`, with its certificate.

    Attributes
    ----------
    spline : LinearSpline
        Best spline found.
    certificate : Certificate
        Objective, which is the loss plus beta times the norm of the spline, lower bound over networks of every width
        whose biases are free, and gap; ``certificate.dual`` is in the order of the samples.
    status : Status
    history : History
    n_iter : int
        Extensions of the working set.
    """

    spline: LinearSpline
    certificate: Certificate
    status: Status
    history: History
    n_iter: int

    def __repr__(self) -> str:
        """Key figures on one line."""
        return (
            f"SplineSolution(status={self.status.value!r}, objective={self.objective:.9g}, "
            f"lower_bound={self.lower_bound:.9g}, gap={self.gap:.1e}, knots={len(self.spline.knots)})"
        )


def fit_spline(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    beta: float = 0.1,
    loss: str | Loss = "squared",
    *,
    sample_weight: npt.ArrayLike | None = None,
    tol: float = 1e-6,
    max_iter: int = 200,
    time_limit: float | None = None,
    verbose: bool | Callable[[Progress], None] = False,
) -> SplineSolution:
    r"""Best two-layer ReLU network of one input whose biases cost nothing, as a linear spline with a proof.

    .. math:: \min_{w, b, a, c}\ \sum_j \omega_j\, \ell\Big(c + \sum_i a_i (w_i x_j + b_i)_+,\ y_j\Big)
              + \tfrac\beta2 \sum_i (w_i^2 + a_i^2)

    equals a lasso over hinges at the samples with a free constant; its lower bound holds for networks of every width.
    Memory and time grow linearly with the samples. Without the output bias c the same value is the infimum, which is
    then in general not attained: a neuron ``w = 0``, ``a -> 0``, ``b -> infinity`` makes the constant for nothing.

    Parameters
    ----------
    x : array-like (n,) or (n, 1)
        Inputs.
    y : array-like (n,)
        Targets; -1 and +1 for the logistic and squared hinge losses.
    beta : float, default 0.1
        Weight decay, > 0, in the units of the summed loss.
    loss : {"squared", "logistic", "huber", "squared_hinge"} or Loss, default "squared"
    sample_weight : array-like (n,), optional
    tol : float, default 1e-6
        Relative duality gap.
    max_iter : int, default 200
        Most extensions of the working set of hinges.
    time_limit : float, optional
        Seconds; the best spline so far is returned when they run out.
    verbose : bool or callable, default False
        As in :func:`cvxnn.solve`.

    Returns
    -------
    SplineSolution

    Raises
    ------
    ValueError
        On inputs that are not finite or do not match, unknown losses, or ``beta`` not positive.

    References
    ----------
    Ergen and Pilanci (2021), "Convex geometry and duality of over-parameterized neural networks", on one-dimensional
    data; Savarese, Evron, Soudry and Srebro (2019), "How do infinite width bounded norm networks look in function
    space?".

    Examples
    --------
    >>> solution = fit_spline([-2.0, -1.0, 0.0, 1.0, 2.0], [2.0, 1.0, 0.0, 1.0, 2.0], beta=0.1)
    >>> solution.status.name, solution.spline.knots, solution.spline.slopes.round(3)
    ('GLOBAL_OPTIMUM', array([0.]), array([-0.929,  0.929]))
    """
    inputs = np.asarray(x)
    if inputs.ndim == 2 and inputs.shape[1] == 1:
        inputs = inputs[:, 0]
    inputs = as_float_array(inputs, "x", ndim=1)
    beta = as_number(beta, "beta", minimum=0.0, inclusive=False)
    tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
    limit = None if time_limit is None else as_number(time_limit, "time_limit", minimum=0.0)
    given = Problem(inputs[:, None], y, beta, loss, sample_weight=sample_weight, output_bias_decay=0.0)
    # Samples without weight carry no knot.
    used = np.flatnonzero(given.sample_weight > 0)
    order = used[np.argsort(inputs[used], kind="stable")]
    problem = Problem(
        given.X[order],
        given.y[order],
        beta,
        given.loss,
        sample_weight=given.sample_weight[order],
        output_bias_decay=0.0,
    )
    recorder = Recorder(verbose)

    def report(state: SplineState) -> None:
        recorder.record(
            "hinges",
            state.n_iter,
            objective=state.certificate.objective,
            lower_bound=state.certificate.lower_bound,
            estimate=state.certificate.lower_bound,
            width=len(state.hinges),
            violation=max(0.0, state.certificate.dual_norm_attained / beta - 1.0),
        )

    state = solve_spline_lasso(
        problem, tol=tol, max_iter=as_count(max_iter, "max_iter"), time_limit=limit, report=report
    )
    return SplineSolution(
        spline=_hinge_spline(problem.X[:, 0], state),
        certificate=_in_order(state.certificate, order, len(inputs)),
        status=state.status,
        history=recorder.history(),
        n_iter=state.n_iter,
    )


def network_spline(network: ReLUNetwork) -> LinearSpline:
    r"""Spline of a network on the columns ``[x, 1]``, or ``[x]`` without hidden biases.

    The neuron ``a (w x + b)_+`` is the hinge ``a w (x + b/w)_+`` for ``w > 0``, ``a |w| (-b/w - x)_+`` for ``w < 0``,
    and a constant for ``w = 0``.

    Parameters
    ----------
    network : ReLUNetwork
        One or two features, one output.

    Raises
    ------
    ValueError
        For other networks.

    Examples
    --------
    >>> spline = network_spline(ReLUNetwork([[2.0, -2.0], [0.0, 1.0]], [1.0, 3.0]))
    >>> spline.constant, spline.knots, spline.right
    (3.0, array([1.]), array([2.]))
    """
    if not isinstance(network, ReLUNetwork) or network.n_features > 2 or network.a.ndim != 1:
        raise ValueError(f"network must be a ReLUNetwork on [x, 1] or [x] with one output; got {network!r}.")
    w = network.W[:, 0]
    b = network.W[:, 1] if network.n_features == 2 else np.zeros_like(w)
    flat = w == 0
    constant = network.output_bias + float(network.a[flat] @ np.maximum(b[flat], 0.0))
    w, b, a = w[~flat], b[~flat], network.a[~flat]
    # + 0.0 turns a knot at -0.0 into one at 0.0.
    return _merged(constant, -b / w + 0.0, a * np.abs(w), w > 0)


def _in_order(certificate: Certificate, order: npt.NDArray[np.int64], n: int) -> Certificate:
    """Certificate whose dual vector is in the order of the samples, 0 where they have no weight."""
    dual = np.zeros(n)
    dual[order] = certificate.dual
    return replace(certificate, dual=dual)


def _hinge_spline(x: FloatArray, state: SplineState) -> LinearSpline:
    hinges = state.hinges.used()
    return _merged(hinges.constant, x[hinges.index], hinges.sign * hinges.mass, hinges.side > 0)


def _merged(
    constant: float, knots: FloatArray, coefficients: FloatArray, opens_right: npt.NDArray[np.bool_]
) -> LinearSpline:
    """Spline of hinges, those of one knot and one side added up."""
    distinct, where = np.unique(knots, return_inverse=True)
    right = np.bincount(where, np.where(opens_right, coefficients, 0.0), len(distinct))
    left = np.bincount(where, np.where(opens_right, 0.0, coefficients), len(distinct))
    return LinearSpline(constant, distinct, np.asarray(right, np.float64), np.asarray(left, np.float64))
