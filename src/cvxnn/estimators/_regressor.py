"""Regression face."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.utils.validation import column_or_1d

from cvxnn._validation import as_float_array
from cvxnn.architectures import Architecture, ReLU
from cvxnn.certificates.certificate import Certificate
from cvxnn.estimators._architectures import is_relu
from cvxnn.estimators._base import BaseReLUEstimator
from cvxnn.estimators._rows import validated
from cvxnn.losses import Loss
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, problem_of
from cvxnn.progress import Progress
from cvxnn.solution import Solution

__all__ = ["ReLURegressor"]


class ReLURegressor(RegressorMixin, BaseReLUEstimator):
    r"""Regression by a two-layer ReLU network, trained to a proved optimum.

    With weights :math:`\omega_j` of the samples and :math:`f(x) = \sum_k a_k (w_k^T x + b_k)_+`, it minimises
    over networks of every width

    .. math:: \frac{1}{\sum_j \omega_j} \sum_j \omega_j\, \ell(f(x_j), y_j)
              + \frac{\alpha}{2} (\|W\|_F^2 + \|b\|^2 + \|a\|^2)

    through the equivalent convex program (Pilanci and Ergen, 2020, Theorem 1). There is no learning rate and
    no restart: the same data give the same network, and the result carries a lower bound that proves how good
    it is. Several targets share the neurons of one network, ``a`` of shape (m, t) and penalised by
    :math:`\|a\|_F^2`; the loss adds up over the targets.

    The output has no offset of its own, so that a strong ``alpha`` shrinks the prediction to 0, not to the
    mean: standardise ``X``, and standardise ``y`` or wrap the estimator in
    :class:`sklearn.compose.TransformedTargetRegressor`.

    Parameters
    ----------
    architecture : ReLU, GatedReLU, SampledGatedReLU, BatchNormReLU, Polynomial or ParallelReLU, optional
        Network to train, as in :func:`cvxnn.solve`; the ReLU network by default. The others have one target and
        penalties of their own. Gates of
        ``GatedReLU`` have a last column for the column of ones; ``SampledGatedReLU(n_gates)`` draws them for the
        data. With ``BatchNormReLU`` the shift of batch norm takes the part of the biases, and weights of samples
        do not enter the batch statistics.
    alpha : float, default 0.01
        Weight decay, > 0, in the units of the mean loss: ``beta = alpha * sum(sample_weight)``.
    loss : {"squared", "huber"} or Loss, default "squared"
        ``1/2 (f - y)^2``, or the Huber loss with ``delta = 1`` (``cvxnn.HuberLoss(delta)`` for another one).
    fit_intercept : bool, default True
        Give each hidden neuron a bias: a column of ones is appended to ``X``, and its weights are penalised
        like the others.
    tol : float, default 1e-4
        Relative duality gap at which the solve stops.
    max_iter : int or None, default 100
        Limit of outer iterations of the solver.
    time_limit : float, optional
        Seconds for the whole fit; the best network so far is kept when they run out.
    max_width : int, optional
        Largest number of neurons; networks of every width are searched without it. The lower bound
        holds for every width all the same.
    patterns : "auto", int or ActivationPatterns, default "auto"
        Activation patterns of the convex program, as in :func:`cvxnn.solve`. An ``ActivationPatterns`` must
        belong to the rows of ``X`` as passed to ``fit``, with the column of ones.
    certify : bool, default False
        Spend time on a lower bound that holds for every network where the solve alone gives one among its
        patterns.
    warm_start : bool, default False
        Start from the network of the previous ``fit`` if it has the same number of inputs.
    one_vs_all : bool, default False
        With several targets, penalise the outputs of a neuron by :math:`\|a\|_1^2` instead: each neuron then
        serves one target, and the problem separates into one for each of them.
    random_state : int, RandomState or None, default 0
        Seed of sampled patterns and searches.
    verbose : bool or callable, default False
        Report the progress; a callable receives a :class:`cvxnn.Progress` after each outer iteration.

    Attributes
    ----------
    network_ : ReLUNetwork or a relative
        The network, ``W (m, d + 1)`` with the biases in the last column (``(m, d)`` without intercept), ``a
        (m,)``, or ``(m, t)`` with several targets; of the class that belongs to ``architecture``.
    certificate_ : Certificate
        Objective, lower bound, gap and their scope, in the units of the summed loss.
    solution_ : Solution
        Full result of :func:`cvxnn.solve`, with status, patterns and history.
    problem_ : Problem
        The problem that was solved: rows sorted, equal rows merged, those of weight zero dropped, the column
        of ones appended. The dual vector of the certificate belongs to these rows.
    objective_ : float
        Mean loss plus ``alpha`` times the penalty, half the squared weights of a ReLU network.
    lower_bound_ : float
        Proved lower bound of ``objective_`` within the scope of the certificate.
    dual_gap_ : float
        Relative duality gap, within the same scope.
    status_ : Status
        How the solve ended; ``status_.advice`` says what to do.
    n_iter_ : int
        Outer iterations, at least 1.
    n_features_in_ : int
        Features d seen in ``fit``.
    feature_names_in_ : ndarray (d,)
        Their names, if ``X`` has string column names.

    See Also
    --------
    ReLUClassifier : The same for labels.
    cvxnn.solve : The solver behind it.

    Notes
    -----
    Equal rows are merged and sorted before the solve, so that the network depends neither on the order of the
    samples nor on whether a sample is repeated or given an integer weight. Ctrl-C stops the solve; the best
    network so far is kept, with a warning.

    References
    ----------
    M. Pilanci and T. Ergen (2020), "Neural Networks are Convex Regularizers: Exact Polynomial-time Convex
    Optimization Formulations for Two-layer Networks", ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import ReLURegressor
    >>> X = np.linspace(-1.0, 1.0, 9)[:, None]
    >>> est = ReLURegressor(alpha=1e-3).fit(X, np.abs(X[:, 0]))
    >>> est.network_.width, est.certificate_.scope
    (3, 'global')
    >>> est.predict([[-0.5], [0.5]]).round(2)
    array([0.5, 0.5])
    >>> bool(est.dual_gap_ <= est.tol)
    True
    >>> est.fit(X, np.column_stack([np.abs(X[:, 0]), X[:, 0]])).predict([[-0.5], [0.5]]).round(1)
    array([[ 0.5, -0.5],
           [ 0.5,  0.5]])

    Another architecture:

    >>> from cvxnn import Polynomial
    >>> ReLURegressor(architecture=Polynomial(1, 0, 0), alpha=1e-4).fit(X, X[:, 0] ** 2).predict([[0.5]]).round(2)
    array([0.25])
    """

    _LOSSES = ("squared", "huber")

    problem_: Problem
    solution_: Solution
    certificate_: Certificate

    def __init__(
        self,
        *,
        architecture: Architecture | None = None,
        alpha: float = 0.01,
        loss: str | Loss = "squared",
        fit_intercept: bool = True,
        tol: float = 1e-4,
        max_iter: int | None = 100,
        time_limit: float | None = None,
        max_width: int | None = None,
        patterns: str | int | ActivationPatterns = "auto",
        certify: bool = False,
        warm_start: bool = False,
        one_vs_all: bool = False,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool | Callable[[Progress], None] = False,
    ) -> None:
        self.architecture = architecture
        self.alpha = alpha
        self.loss = loss
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.max_width = max_width
        self.patterns = patterns
        self.certify = certify
        self.warm_start = warm_start
        self.one_vs_all = one_vs_all
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ReLURegressor:
        """Train the network.

        Parameters
        ----------
        X : array-like (n, d)
            Samples.
        y : array-like (n,) or (n, t)
            Targets, a column for each of several.
        sample_weight : array-like (n,), optional
            Non-negative weights; an integer weight equals repeated rows.

        Returns
        -------
        self : ReLURegressor

        Raises
        ------
        ValueError
            On bad input or options.

        Warns
        -----
        ConvergenceWarning
            If the solve ended before the relative duality gap reached ``tol``.
        """
        X, y = validated(self, X, y, y_numeric=True, multi_output=True)
        y = as_float_array(y, "y", ndim=min(max(np.ndim(y), 1), 2))
        loss, architecture = self._checked_loss(), self._checked_architecture(X)
        if isinstance(architecture, ReLU):
            architecture = ReLU(one_vs_all=self.one_vs_all or architecture.one_vs_all)
        else:
            y = _one_target(y, architecture)
        rows = self._rows(X, y, sample_weight)
        problem = problem_of(rows.X, rows.y, self._beta(rows.weight), loss, sample_weight=rows.weight)
        self._store([problem], self._solve([problem], self._starts([problem], architecture), architecture))
        self._target_shape = y.shape[1:]
        return self

    def __sklearn_tags__(self) -> Any:
        """Tags of scikit-learn: the ReLU network takes several targets."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = is_relu(self.architecture)
        return tags

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """Predicted targets ``(n,)`` or ``(n, t)`` of the samples ``X (n, d)``.

        Parameters
        ----------
        X : array-like (n, d)
            Samples.

        Returns
        -------
        y : ndarray (n,) or (n, t)
            Of the shape of the targets in ``fit``.
        """
        outputs = self._outputs(X)
        return outputs.reshape(len(outputs), *self._target_shape)


def _one_target(y: npt.NDArray[np.float64], architecture: Architecture) -> npt.NDArray[np.float64]:
    """Targets ``(n,)`` of an architecture with one output."""
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(
            f"{type(architecture).__name__} takes one target; y has {y.shape[1]} columns "
            "(sklearn.multioutput.MultiOutputRegressor trains one network for each)."
        )
    return column_or_1d(y, warn=True)
