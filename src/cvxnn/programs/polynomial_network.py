"""Networks with a polynomial activation of degree two as frozen values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_features, frozen_weights
from cvxnn.architectures import Polynomial
from cvxnn.networks import HiddenLayer, row_norms
from cvxnn.problem import Problem
from cvxnn.solution import Blocks

FloatArray = npt.NDArray[np.float64]
Coefficients = tuple[float, float, float]

__all__ = ["PolynomialNetwork", "activation"]

_UNIT = 1e-6
"""Largest departure of a row from norm 1 that passes as rounding."""


@dataclass(frozen=True, eq=False, repr=False)
class PolynomialNetwork(HiddenLayer):
    r"""Two-layer network :math:`f(X) = \sum_j \alpha_j\, \sigma(X w_j)` with :math:`\sigma(t) = a t^2 + b t + c`.

    Parameters
    ----------
    W : array-like (m, d)
        First layer, one unit vector a row; rows off by the rounding of single precision are brought to norm 1.
    alpha : array-like (m,)
        Second layer. Width m = 0 is allowed: it is the zero function.
    coefficients : (a, b, c)

    Raises
    ------
    ValueError
        If the shapes do not match, an entry is not finite, or a row of W has another norm than 1.

    Examples
    --------
    >>> net = PolynomialNetwork([[1.0, 0.0]], [2.0], (1.0, 0.0, 3.0))
    >>> net([[2.0, 5.0]])
    array([14.])
    """

    W: FloatArray
    alpha: FloatArray
    coefficients: Coefficients

    def __post_init__(self) -> None:
        """Check and freeze the arrays."""
        checked = Polynomial(*self.coefficients)
        object.__setattr__(self, "coefficients", (checked.a, checked.b, checked.c))
        W, alpha = np.array(self.W, dtype=np.float64), np.array(self.alpha, dtype=np.float64)
        if W.ndim != 2 or W.shape[1] == 0:
            raise ValueError(f"W must have shape (m, d) with d >= 1; got {W.shape}.")
        if alpha.shape != W.shape[:1]:
            raise ValueError(f"alpha must have shape (m,) with m = {W.shape[0]} as in W; got {alpha.shape}.")
        alpha = frozen_weights(alpha, "alpha")
        norms = row_norms(frozen_weights(W, "W"))
        away = np.abs(norms - 1.0)
        if np.max(away, initial=0.0) > _UNIT:
            raise ValueError(f"W must have rows of norm 1; one differs by {np.max(away):.1e}.")
        # A longer row would be a network that no bound covers; rows that are right to the last digits stay as they are.
        off = away > (W.shape[1] + 4) * np.finfo(np.float64).eps
        if np.any(off):
            W = np.where(off[:, None], W / norms[:, None], W)
        object.__setattr__(self, "W", frozen_weights(W, "W"))
        object.__setattr__(self, "alpha", alpha)

    def __call__(self, X: npt.ArrayLike) -> FloatArray:
        """Outputs of the network, ``(n,)``."""
        data = as_features(X, self.n_features)
        return activation(data @ self.W.T, self.coefficients) @ self.alpha

    def __repr__(self) -> str:
        """Short form with the sizes."""
        a, b, c = self.coefficients
        formula = f"{a:g} t^2 + {b:g} t + {c:g}"
        return f"PolynomialNetwork(width={self.width}, n_features={self.n_features}, activation={formula})"

    def penalty(self) -> float:
        r"""Sum :math:`\sum_j |\alpha_j|`, without beta."""
        return float(np.sum(np.abs(self.alpha)))

    def objective(self, problem: Problem) -> float:
        r"""Training objective :math:`\mathrm{loss}(f(X), y) + \beta\,`:meth:`penalty`.

        Examples
        --------
        >>> PolynomialNetwork([[1.0]], [1.5], (1.0, 0.0, 0.0)).objective(Problem([[1.0]], [2.0], beta=0.5))
        0.875
        """
        return problem.loss_value(self(problem.X)) + problem.beta * self.penalty()

    def matrices(self) -> Blocks:
        r"""Matrices :math:`Z_\pm` of the semidefinite program, ``(d + 1, d + 1)`` each."""
        lifted = np.column_stack([self.W, np.ones(self.width)])
        positive, negative = np.maximum(self.alpha, 0.0), np.maximum(-self.alpha, 0.0)
        return Blocks((lifted.T * positive) @ lifted, (lifted.T * negative) @ lifted)


def activation(values: FloatArray, coefficients: Coefficients) -> FloatArray:
    """Activation ``a t^2 + b t + c`` of each entry.

    Examples
    --------
    >>> activation(np.array([2.0]), (1.0, 1.0, 3.0))
    array([9.])
    """
    a, b, c = coefficients
    return (a * values + b) * values + c
