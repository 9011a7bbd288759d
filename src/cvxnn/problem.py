"""The training problem: data, loss and weight decay, validated once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array, as_number
from cvxnn.losses import Loss, get_loss

FloatArray = npt.NDArray[np.float64]

__all__ = ["Problem", "require_no_output_bias", "require_problem"]


class Problem:
    r"""Training of a two-layer ReLU network with weight decay on given data.

    .. math:: \min_{W, a}\ \sum_j \omega_j\, \ell(f(x_j), y_j) + \tfrac{\beta}{2} (\|W\|_F^2 + \|a\|^2),
              \qquad f(X) = (X W^T)_+ a

    The loss sums over the samples (it is not a mean); the squared loss is ``1/2 (f - y)^2``.

    Parameters
    ----------
    X : array-like (n, d)
        Data, one sample a row. A bias is a column of ones.
    y : array-like (n,) or (n, 1)
        Targets; -1 and +1 for the logistic and squared hinge losses.
    beta : float, default 0.1
        Weight decay, >= 0, in the units of the summed loss.
    loss : {"squared", "logistic", "huber", "squared_hinge"} or Loss, default "squared"
        Convex loss.
    sample_weight : array-like (n,), optional
        Non-negative weights omega of the samples; an integer weight equals repeated rows.
    output_bias_decay : float, optional
        With a number kappa >= 0 the networks have an output bias b, :math:`f(X) = (X W^T)_+ a + b`, that costs
        :math:`\tfrac{\kappa}{2} b^2` (nothing for 0). Without one, the default, they have none.

    Raises
    ------
    ValueError
        On NaN or infinity, wrong shapes, negative beta or weights, an unknown loss, or labels other than -1 and +1.

    Examples
    --------
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0]], [1.0, -1.0], beta=0.5)
    >>> problem.n_samples, problem.n_features, problem.loss.name
    (2, 2, 'squared')
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
        data = as_float_array(X, "X", ndim=2)
        n = data.shape[0]
        object.__setattr__(self, "X", data)
        object.__setattr__(self, "y", _targets(y, n))
        object.__setattr__(self, "beta", as_number(beta, "beta", minimum=0.0))
        object.__setattr__(self, "loss", get_loss(loss))
        object.__setattr__(self, "sample_weight", _weights(sample_weight, n))
        decay = None if output_bias_decay is None else as_number(output_bias_decay, "output_bias_decay", minimum=0.0)
        object.__setattr__(self, "output_bias_decay", decay)
        if self.loss.labels:
            _check_labels(self.y, self.loss.name)
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
        return (
            f"Problem(n_samples={self.n_samples}, n_features={self.n_features}, "
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

    def loss_value(self, fit: FloatArray) -> float:
        """Loss of the fitted values ``(n,)``, summed with the sample weights."""
        return self.loss.value(fit, self.y, self.sample_weight)

    def loss_gradient(self, fit: FloatArray) -> FloatArray:
        """Gradient of the loss in the fitted values, ``(n,)``."""
        return self.loss.gradient(fit, self.y, self.sample_weight)

    def loss_hessian(self, fit: FloatArray) -> FloatArray:
        """Diagonal of the (generalised) Hessian of the loss in the fitted values, ``(n,)``."""
        return self.loss.hessian(fit, self.y, self.sample_weight)

    def dual_vector(self, fit: FloatArray) -> FloatArray:
        """Dual vector ``nu = -gradient of the loss`` at the fitted values, ``(n,)``."""
        return -self.loss_gradient(fit)

    def dual_value(self, nu: FloatArray) -> float:
        """Dual objective ``-l*(-nu)``: a lower bound of the optimum wherever ``nu`` is dual feasible."""
        return self.loss.dual_value(nu, self.y, self.sample_weight)


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


def _targets(y: npt.ArrayLike, n: int) -> FloatArray:
    raw = np.asarray(y)
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.ndim == 2:
        raise ValueError(f"y must have one output, shape (n,) or (n, 1); got shape {raw.shape}.")
    targets = as_float_array(raw, "y", ndim=1)
    if targets.shape[0] != n:
        raise ValueError(f"X has {n} rows but y has {targets.shape[0]} entries; they must match.")
    return targets


def _weights(sample_weight: npt.ArrayLike | None, n: int) -> FloatArray:
    if sample_weight is None:
        return np.ones(n)
    weights = as_float_array(sample_weight, "sample_weight", ndim=1)
    if weights.shape[0] != n:
        raise ValueError(f"X has {n} rows but sample_weight has {weights.shape[0]} entries; they must match.")
    if np.any(weights < 0):
        raise ValueError(f"sample_weight must be non-negative; got a smallest value of {weights.min():g}.")
    if not np.any(weights > 0):
        raise ValueError("sample_weight is zero for every sample; at least one must be positive.")
    return weights


def _check_labels(y: FloatArray, loss: str) -> None:
    wrong = np.unique(y[(y != 1.0) & (y != -1.0)])
    if wrong.size:
        shown = ", ".join(f"{value:g}" for value in wrong[:3])
        raise ValueError(
            f'y must hold the labels -1 and +1 for loss="{loss}"; got {shown} (ReLUClassifier accepts any labels).'
        )
