"""Classification face."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_expit, log_softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from cvxnn.architectures import Architecture
from cvxnn.estimators._architectures import is_relu
from cvxnn.estimators._base import BaseReLUEstimator
from cvxnn.estimators._rows import validated
from cvxnn.losses import LogisticLoss, Loss
from cvxnn.patterns import ActivationPatterns
from cvxnn.problem import Problem, problem_of
from cvxnn.progress import Progress

FloatArray = npt.NDArray[np.float64]

__all__ = ["ReLUClassifier"]


def _has_probabilities(estimator: ReLUClassifier) -> bool:
    """Only the logistic loss models probabilities."""
    name = estimator.loss.name if isinstance(estimator.loss, Loss) else estimator.loss
    if name != "logistic":
        raise AttributeError(f'probabilities need loss="logistic"; got loss={estimator.loss!r}.')
    return True


class ReLUClassifier(ClassifierMixin, BaseReLUEstimator):
    r"""Classification by a two-layer ReLU network, trained to a proved optimum.

    With labels :math:`y_j = \pm 1`, weights :math:`\omega_j` of the samples and
    :math:`f(x) = \sum_k a_k (w_k^T x + b_k)_+`, it minimises over networks of every width

    .. math:: \frac{1}{\sum_j \omega_j} \sum_j \omega_j\, \ell(f(x_j), y_j)
              + \frac{\alpha}{2} (\|W\|_F^2 + \|b\|^2 + \|a\|^2)

    through the equivalent convex program (Pilanci and Ergen, 2020, Theorem 1). There is no learning rate and
    no restart: the same data give the same network, and the result carries a lower bound that proves how good
    it is. From three classes on, the network has one output for each class, ``a`` of shape (m, c), and the
    loss is the softmax (cross-entropy) loss of the outputs; see ``multi_class``.

    The output has no offset of its own, so that a strong ``alpha`` shrinks the decision function to 0.
    Standardise ``X``.

    Parameters
    ----------
    architecture : ReLU, GatedReLU, SampledGatedReLU, BatchNormReLU, Polynomial or ParallelReLU, optional
        Network to train, as in :func:`cvxnn.solve`; the ReLU network by default. The others have one
        output, penalties of their own, and need ``multi_class="one_vs_all"`` from three classes on. Gates of
        ``GatedReLU`` have a last column for the column of ones; ``SampledGatedReLU(n_gates)`` draws them for the
        data. With ``BatchNormReLU`` the shift of batch norm takes the part of the biases, and weights of samples
        do not enter the batch statistics.
    alpha : float, default 0.01
        Weight decay, > 0, in the units of the mean loss: ``beta = alpha * sum(sample_weight)``.
    loss : {"logistic", "squared_hinge", "squared"} or Loss, default "logistic"
        Loss of the output against the labels -1 and +1. Only "logistic" gives probabilities.
    multi_class : {"softmax", "one_vs_all"}, default "softmax"
        What more than two classes mean. "softmax": one problem whose outputs share the neurons; its loss is
        the softmax loss, of which ``loss="logistic"`` is the case of two classes (the other losses add up over
        the outputs, with the label +1 for the class of the sample and -1 for the others). "one_vs_all": one
        problem for each class against the rest, each with its own network and certificate.
    fit_intercept : bool, default True
        Give each hidden neuron a bias: a column of ones is appended to ``X``, and its weights are penalised
        like the others.
    tol : float, default 1e-4
        Relative duality gap at which the solve stops.
    max_iter : int or None, default 100
        Limit of outer iterations of the solver, for each problem.
    time_limit : float, optional
        Seconds for the whole fit, shared by its problems; the best networks so far are kept when they run
        out.
    max_width : int, optional
        Largest number of neurons, of each network with ``multi_class="one_vs_all"``; networks of every width
        are searched without it. The lower bound holds for every width all the same.
    patterns : "auto", int or ActivationPatterns, default "auto"
        Activation patterns of the convex program, as in :func:`cvxnn.solve`. An ``ActivationPatterns`` must
        belong to the rows of ``X`` as passed to ``fit``, with the column of ones.
    certify : bool, default False
        Spend time on a lower bound that holds for every network where the solve alone gives one among its
        patterns.
    warm_start : bool, default False
        Start from the network of the previous ``fit`` if it has the same number of inputs and the same
        classes.
    n_jobs : int or None, default None
        Processes for the problems of ``multi_class="one_vs_all"``, as in joblib. None means 1 outside a joblib
        context.
    random_state : int, RandomState or None, default 0
        Seed of sampled patterns and searches.
    verbose : bool or callable, default False
        Report the progress; a callable receives a :class:`cvxnn.Progress` after each outer iteration.

    Attributes
    ----------
    classes_ : ndarray (c,)
        Labels in sorted order.
    network_ : ReLUNetwork, a relative, or a list of relatives
        The network, ``W (m, d + 1)`` with the biases in the last column (``(m, d)`` without intercept); ``a
        (m,)`` with two classes, ``(m, c)`` with more; the networks of the classes side by side if they were
        trained one against the rest (a list of them with another architecture).
    certificate_ : Certificate or list of Certificate
        Objective, lower bound, gap and their scope, in the units of the summed loss; a list, one a class,
        with more than two classes and ``multi_class="one_vs_all"``. The same holds for ``solution_`` and
        ``problem_``.
    solution_ : Solution or list of Solution
        Full result of :func:`cvxnn.solve`, with status, patterns and history.
    problem_ : Problem or list of Problem
        What was solved: rows sorted, equal rows merged, those of weight zero dropped, the column of ones
        appended. The dual vector of the certificate belongs to these rows.
    objective_ : float
        Mean loss plus ``alpha`` times the penalty (half the squared weights of a ReLU network), summed over the
        problems.
    lower_bound_ : float
        Proved lower bound of ``objective_`` within the scope of the certificates.
    dual_gap_ : float
        Largest relative duality gap of the problems, each within the scope of its certificate.
    status_ : Status
        How the solve ended, the worst of its problems; ``status_.advice`` says what to do.
    n_iter_ : int
        Most outer iterations of a problem, at least 1.
    n_features_in_ : int
        Features d seen in ``fit``.
    feature_names_in_ : ndarray (d,)
        Their names, if ``X`` has string column names.

    See Also
    --------
    ReLURegressor : The same for numbers.
    cvxnn.solve : The solver behind it.

    Notes
    -----
    Equal rows are merged and sorted before the solve, so that the network depends neither on the order of the
    samples nor on whether a sample is repeated or given an integer weight. Ctrl-C stops the solve; the best
    networks so far are kept, with a warning.

    References
    ----------
    M. Pilanci and T. Ergen (2020), "Neural Networks are Convex Regularizers: Exact Polynomial-time Convex
    Optimization Formulations for Two-layer Networks", ICML.

    Examples
    --------
    >>> import numpy as np
    >>> from cvxnn import ReLUClassifier
    >>> X = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    >>> y = ["equal", "equal", "different", "different"]
    >>> est = ReLUClassifier(alpha=1e-3).fit(X, y)
    >>> est.predict(X).tolist()
    ['equal', 'equal', 'different', 'different']
    >>> est.certificate_.scope, bool(est.dual_gap_ <= est.tol)
    ('global', True)
    """

    _LOSSES = ("logistic", "squared_hinge", "squared")

    classes_: npt.NDArray[Any]

    def __init__(
        self,
        *,
        architecture: Architecture | None = None,
        alpha: float = 0.01,
        loss: str | Loss = "logistic",
        multi_class: str = "softmax",
        fit_intercept: bool = True,
        tol: float = 1e-4,
        max_iter: int | None = 100,
        time_limit: float | None = None,
        max_width: int | None = None,
        patterns: str | int | ActivationPatterns = "auto",
        certify: bool = False,
        warm_start: bool = False,
        n_jobs: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool | Callable[[Progress], None] = False,
    ) -> None:
        self.architecture = architecture
        self.alpha = alpha
        self.loss = loss
        self.multi_class = multi_class
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.max_width = max_width
        self.patterns = patterns
        self.certify = certify
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> ReLUClassifier:
        """Train the network.

        Parameters
        ----------
        X : array-like (n, d)
            Samples.
        y : array-like (n,)
            Labels of any type, at least two of them with samples of positive weight.
        sample_weight : array-like (n,), optional
            Non-negative weights; an integer weight equals repeated rows.

        Returns
        -------
        self : ReLUClassifier

        Raises
        ------
        ValueError
            On bad input or options, and if only one class is left.

        Warns
        -----
        ConvergenceWarning
            If a solve ended before its relative duality gap reached ``tol``.
        """
        X, y = validated(self, X, y)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        architecture = self._checked_architecture(X)
        problems = self._problems(X, codes, classes, sample_weight)
        same_classes = hasattr(self, "classes_") and np.array_equal(self.classes_, classes)
        starts = self._starts(problems, architecture) if same_classes else [None] * len(problems)
        solutions = self._solve(problems, starts, architecture, self.n_jobs)
        self.classes_ = classes
        self._store(problems, solutions)
        return self

    def _problems(
        self, X: FloatArray, codes: npt.NDArray[np.intp], classes: npt.NDArray[Any], sample_weight: Any
    ) -> list[Problem]:
        """One problem, or one for each of more than two classes against the rest."""
        loss = self._checked_loss()
        if self.multi_class not in ("softmax", "one_vs_all"):
            raise ValueError(f'multi_class must be "softmax" or "one_vs_all"; got {self.multi_class!r}.')
        rows = self._rows(X, codes.astype(np.float64), sample_weight)
        present = np.unique(rows.y[rows.weight > 0]).astype(np.intp)
        if present.size < 2:
            raise ValueError(
                f"y has one class ({classes[present[0]]}) among the samples of positive weight; "
                "a classifier needs samples of at least two classes."
            )
        beta = self._beta(rows.weight)
        if len(classes) > 2 and self.multi_class == "softmax":
            if not is_relu(self.architecture):
                raise ValueError(
                    "Only binary classification is supported. "
                    f'With {len(classes)} classes {type(self.architecture).__name__} needs multi_class="one_vs_all", '
                    "since it has one output."
                )
            # A class whose samples have no weight keeps its column.
            own = rows.y[:, None] == np.arange(len(classes))
            if loss.name == "logistic":
                if loss != LogisticLoss():
                    raise ValueError(f'loss={loss!r} has no softmax form; use "logistic" or multi_class="one_vs_all".')
                return [problem_of(rows.X, own, beta, "softmax", sample_weight=rows.weight)]
            return [problem_of(rows.X, np.where(own, 1.0, -1.0), beta, loss, sample_weight=rows.weight)]
        positive = [1] if len(classes) == 2 else range(len(classes))
        return [
            problem_of(rows.X, np.where(rows.y == code, 1.0, -1.0), beta, loss, sample_weight=rows.weight)
            for code in positive
        ]

    def __sklearn_tags__(self) -> Any:
        """Tags of scikit-learn: only the ReLU network has an output for each of more than two classes."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = is_relu(self.architecture) or self.multi_class == "one_vs_all"
        return tags

    def decision_function(self, X: Any) -> FloatArray:
        """Compute the outputs of the network: ``(n,)``, or ``(n, c)`` with more than two classes.

        With two classes, a positive output stands for ``classes_[1]``.

        Parameters
        ----------
        X : array-like (n, d)
            Samples.

        Returns
        -------
        scores : ndarray (n,) or (n, c)
        """
        return self._outputs(X)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predicted labels ``(n,)`` of the samples ``X (n, d)``.

        Parameters
        ----------
        X : array-like (n, d)
            Samples.

        Returns
        -------
        y : ndarray (n,)
        """
        scores = self._outputs(X)
        codes = (scores > 0).astype(np.intp) if scores.ndim == 1 else np.argmax(scores, axis=1)
        return self.classes_[codes]

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> FloatArray:
        """Logarithms of :meth:`predict_proba`, accurate where the probabilities underflow.

        Parameters
        ----------
        X : array-like (n, d)
            Samples.

        Returns
        -------
        log_probabilities : ndarray (n, c)
        """
        scores = self._outputs(X)
        if scores.ndim == 1:
            return log_expit(np.column_stack([-scores, scores]))
        return log_softmax(log_expit(scores) if isinstance(self.solution_, list) else scores, axis=1)

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities ``(n, c)`` of the classes in the order of ``classes_``; needs ``loss="logistic"``.

        The sigmoid of the output for two classes; with more, the softmax of the outputs, or the sigmoids of
        classes that were trained one against the rest, divided by their sum.

        Parameters
        ----------
        X : array-like (n, d)
            Samples.

        Returns
        -------
        probabilities : ndarray (n, c)
        """
        return np.exp(self.predict_log_proba(X))
