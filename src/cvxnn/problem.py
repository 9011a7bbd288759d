"""The training problem: data, loss and weight decay, validated once."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array, as_number, checked_weights
from cvxnn.losses import Loss, get_loss

FloatArray = npt.NDArray[np.float64]

__all__ = ["Problem", "require_no_output_bias", "require_one_output", "require_problem"]


class Problem:
    r"""Training of a two-layer ReLU network with weight decay on given data.

    .. math:: \min_{W, a}\ \sum_j \omega_j\, \ell(f(x_j), y_j) + \tfrac{\beta}{2} (\|W\|_F^2 + \|a\|^2),
              \qquad f(X) = (X W^T)_+ a

    The loss sums over samples and outputs (it is not a mean); the squared loss is ``1/2 (f - y)^2``. With c outputs,
    ``a`` has the shape (m, c) and costs :math:`\|a\|_F^2`.

    Parameters
    ----------
    X : array-like (n, d)
        Data, one sample a row. A bias is a column of ones.
    y : array-like (n,) or (n, c)
        Targets, a column for each output; -1 and +1 for the logistic and squared hinge losses. For the softmax loss,
        class numbers ``0, ..., c - 1`` of shape (n,), or probabilities (n, c) whose rows sum to 1. One column, (n, 1),
        is the same as (n,).
    beta : float, default 0.1
        Weight decay, >= 0, in the units of the summed loss.
    loss : {"squared", "logistic", "huber", "squared_hinge", "softmax"} or Loss, default "squared"
        Convex loss. With c outputs all but the softmax add up over the outputs.
    sample_weight : array-like (n,), optional
        Non-negative weights omega of the samples; an integer weight equals repeated rows.
    output_bias_decay : float, optional
        With a number kappa >= 0 the networks have an output bias b, :math:`f(X) = (X W^T)_+ a + b`, that costs
        :math:`\tfrac{\kappa}{2} b^2` (nothing for 0). Without one, the default, they have none. One output only.

    Raises
    ------
    ValueError
        On NaN or infinity, wrong shapes, negative beta or weights, an unknown loss, or labels other than -1 and +1.

    Examples
    --------
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0], beta=0.5)
    >>> problem.n_samples, problem.n_features, problem.loss.name
    (2, 2, 'squared')
    >>> Problem([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [0, 2, 1], loss="softmax").y
    array([[1., 0., 0.],
           [0., 0., 1.],
           [0., 1., 0.]])
    """

    X: FloatArray
    y: FloatArray
    beta: float
    loss: Loss
    sample_weight: FloatArray
    output_bias_decay: float | None

    def __init__(
        self,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        beta: float = 0.1,
        loss: str | Loss = "squared",
        *,
        sample_weight: npt.ArrayLike | None = None,
        output_bias_decay: float | None = None,
    ) -> None:
        self._fill(as_float_array(X, "X", ndim=2), y, beta, loss, sample_weight, output_bias_decay)

    def _fill(
        self,
        data: FloatArray,
        y: npt.ArrayLike,
        beta: float,
        loss: str | Loss,
        sample_weight: npt.ArrayLike | None,
        output_bias_decay: float | None,
    ) -> None:
        """Set the attributes once; the checked ``data`` become read-only."""
        n = data.shape[0]
        object.__setattr__(self, "X", data)
        object.__setattr__(self, "beta", as_number(beta, "beta", minimum=0.0))
        object.__setattr__(self, "loss", get_loss(loss))
        object.__setattr__(self, "y", self.loss.checked_targets(_targets(y, n)))
        object.__setattr__(self, "sample_weight", checked_weights(sample_weight, n))
        decay = None if output_bias_decay is None else as_number(output_bias_decay, "output_bias_decay", minimum=0.0)
        object.__setattr__(self, "output_bias_decay", decay)
        if decay is not None and self.n_outputs > 1:
            raise ValueError(
                f"output_bias_decay needs one output; y has {self.n_outputs} (leave output_bias_decay out)."
            )
        for array in (self.X, self.y, self.sample_weight):
            array.flags.writeable = False

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse changes: results of a problem would no longer belong to it."""
        raise AttributeError(f"Problem is immutable; make a new one instead of setting {name!r}.")

    def __getstate__(self) -> dict[str, Any]:
        """State for pickle and copy."""
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled problem."""
        self.__dict__.update(state)

    def __repr__(self) -> str:
        """Short form with the sizes."""
        bias = "" if self.output_bias_decay is None else f", output_bias_decay={self.output_bias_decay:g}"
        outputs = "" if self.n_outputs == 1 else f"n_outputs={self.n_outputs}, "
        return (
            f"Problem(n_samples={self.n_samples}, n_features={self.n_features}, {outputs}"
            f"beta={self.beta:g}, loss={self.loss.name!r}{bias})"
        )

    @property
    def n_samples(self) -> int:
        """Number of samples n."""
        return self.X.shape[0]

    @property
    def n_features(self) -> int:
        """Number of features d."""
        return self.X.shape[1]

    @property
    def n_outputs(self) -> int:
        """Number of outputs c; fits and dual vectors have the shape ``(n,)`` for one output, else ``(n, c)``."""
        return 1 if self.y.ndim == 1 else self.y.shape[1]

    @property
    def entry_weight(self) -> FloatArray:
        """Sample weights in the shape of ``y``, each repeated for all outputs, as losses take them (a view)."""
        return self.sample_weight if self.y.ndim == 1 else np.broadcast_to(self.sample_weight[:, None], self.y.shape)

    def loss_value(self, fit: FloatArray) -> float:
        """Loss of the fitted values, of the shape of ``y``, summed with the sample weights."""
        return self.loss.value(fit, self.y, self.entry_weight)

    def loss_gradient(self, fit: FloatArray) -> FloatArray:
        """Gradient of the loss in the fitted values, of their shape."""
        return self.loss.gradient(fit, self.y, self.entry_weight)

    def loss_hessian(self, fit: FloatArray) -> FloatArray:
        """Diagonal of the (generalised) Hessian of the loss in the fitted values, of their shape."""
        return self.loss.hessian(fit, self.y, self.entry_weight)

    def hessian_product(self, fit: FloatArray, direction: FloatArray) -> FloatArray:
        """Product of the (generalised) Hessian of the loss in the fitted values with a direction of their shape."""
        return self.loss.hessian_product(fit, self.y, self.entry_weight, direction)

    def dual_vector(self, fit: FloatArray) -> FloatArray:
        """Dual vector ``nu = -gradient of the loss`` at the fitted values, of their shape."""
        return -self.loss_gradient(fit)

    def project_dual(self, nu: FloatArray) -> FloatArray:
        """Move a dual vector to the domain of the conjugate where only rounding keeps it outside."""
        return self.loss.project_dual(nu, self.y, self.entry_weight)

    def dual_value(self, nu: FloatArray) -> float:
        """Dual objective ``-l*(-nu)``: a lower bound of the optimum wherever ``nu`` is dual feasible."""
        return self.loss.dual_value(nu, self.y, self.entry_weight)


def require_problem(problem: Any) -> None:
    """Refuse what is not a problem."""
    if not isinstance(problem, Problem):
        raise ValueError(f"problem must be a cvxnn.Problem; got {type(problem).__name__}.")


def require_no_output_bias(problem: Problem, what: str) -> None:
    """Refuse what is no problem, or one whose networks have an output bias, in the name of the function ``what``."""
    require_problem(problem)
    if problem.output_bias_decay is not None:
        raise ValueError(
            f"{what} does not take an output bias; the problem has output_bias_decay={problem.output_bias_decay:g}, "
            "make one without it (landscape.certify and landscape.stationarity do take it)."
        )


def require_one_output(problem: Problem, what: str) -> None:
    """Refuse what is no problem, or one with several outputs, in the name of the function ``what``."""
    require_problem(problem)
    if problem.n_outputs > 1:
        raise ValueError(
            f"{what} takes problems with one output; this one has {problem.n_outputs}, "
            "make a problem for each column of y (solve, landscape.certify and landscape.optimal_set do take several)."
        )


def problem_of(
    X: FloatArray, y: npt.ArrayLike, beta: float, loss: str | Loss, *, sample_weight: npt.ArrayLike | None = None
) -> Problem:
    """Make a problem of data that nobody else holds: they are checked, but not copied."""
    here = Problem.__new__(Problem)
    here._fill(as_float_array(X, "X", ndim=2, copy=False), y, beta, loss, sample_weight, None)
    return here


def problem_at(problem: Problem, beta: float) -> Problem:
    """Return the problem with another weight decay; its data are not checked again."""
    here = copy.copy(problem)
    object.__setattr__(here, "beta", as_number(beta, "beta", minimum=0.0))
    return here


def _targets(y: npt.ArrayLike, n: int) -> FloatArray:
    raw = np.asarray(y)
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.ndim > 2:
        raise ValueError(f"y must have shape (n,) for one output or (n, c) for c outputs; got shape {raw.shape}.")
    targets = as_float_array(raw, "y", ndim=2 if raw.ndim == 2 else 1)
    if targets.shape[0] != n:
        unit = "entries" if targets.ndim == 1 else "rows"
        raise ValueError(f"X has {n} rows but y has {targets.shape[0]} {unit}; they must match.")
    return targets
