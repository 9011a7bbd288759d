"""From a network and the objective it was trained on to a problem of cvxnn that bounds that objective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array, as_number
from cvxnn.certificates.certificate import relative_gap
from cvxnn.interop.sklearn_networks import read_sklearn
from cvxnn.interop.torch_networks import read_torch
from cvxnn.interop.two_layer import NetworkFormatError, TwoLayerWeights
from cvxnn.interop.weight_decay import TrainingObjective, sklearn_objective, torch_objective
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["JudgedNetwork", "judge", "judge_sklearn", "judge_torch"]

_ROUNDING = 16.0 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class JudgedNetwork:
    r"""A network trained elsewhere, as a network and a problem of cvxnn.

    For every network, ``scale * (their objective) = (objective of problem)`` if ``exact``. If hidden biases are free
    (not decayed) there may be no best network, and ``exact`` is false: the problem is then one whose optimum is at
    most ``scale`` times their infimum, and above ``1/(1 + slack)`` times it. Biases b of several outputs make ``exact``
    false, too: in the problem they are a neuron on the column of hidden biases, of the value s, which costs
    :math:`\beta \|b\| / s` where their objective has :math:`\tfrac{\kappa}{2} \|b\|^2`. That is more by
    :math:`\beta^2 / (2 \kappa s^2)` at most, the ``excess``. In all cases a lower bound of the problem, less the excess
    and divided by ``scale``, is a lower bound of their objective over all such networks of every width.

    Attributes
    ----------
    problem : Problem
        To hand to ``solve`` and ``landscape``. A hidden bias is its last column, of the value ``column``.
    network : ReLUNetwork
        The network, for the columns of ``problem``.
    scale : float
        Objective of the problem in units of theirs.
    objective : float
        Their objective at this network, in their units.
    exact : bool
        Whether the two objectives differ by the factor ``scale`` alone.
    column : float or None
        Value of the column of hidden biases; None where there is none.
    training : TrainingObjective
        Their objective.
    excess : float
        Most by which the optimum of the problem may exceed ``scale`` times theirs; 0 but for biases of several outputs.

    Examples
    --------
    >>> from cvxnn.interop.two_layer import TwoLayerWeights
    >>> weights = TwoLayerWeights([[1.0]], [1.0], hidden_bias=[0.0], output_bias=0.5)
    >>> judged = judge(weights, [[1.0], [2.0]], [1.0, 2.0], torch_objective(2, weight_decay=0.2))
    >>> judged.problem
    Problem(n_samples=2, n_features=2, beta=0.2, loss='squared', output_bias_decay=0.2)
    >>> round(judged.objective, 9), round(judged.network.objective(judged.problem), 9), judged.scale
    (0.475, 0.475, 1.0)
    """

    problem: Problem
    network: ReLUNetwork
    scale: float
    objective: float
    exact: bool
    column: float | None
    training: TrainingObjective
    excess: float = 0.0

    @property
    def difference(self) -> float:
        """Objective of the problem minus ``scale`` times theirs, at this network: rounding alone if ``exact``."""
        return self.network.objective(self.problem) - self.scale * self.objective

    def training_objective(self, network: ReLUNetwork) -> float:
        """Their objective, in their units, at a network for the columns of ``problem``."""
        if network.n_features != self.problem.n_features:
            raise ValueError(f"network takes {network.n_features} inputs; the problem has {self.problem.n_features}.")
        bias = None if self.column is None else network.W[:, -1] * self.column
        W = network.W if self.column is None else network.W[:, :-1]
        square = float(np.sum(W * W) + np.sum(network.a * network.a))
        decay = self.training.weight_decay * square
        decay += 0.0 if bias is None else self.training.hidden_bias_decay * float(bias @ bias)
        decay += self.training.output_bias_decay * network.output_bias**2
        return self.training.loss_factor * self.problem.loss_value(network(self.problem.X)) + 0.5 * decay

    def training_bound(self, lower_bound: float) -> float:
        """Lower bound of their objective, in their units, from a lower bound of ``problem`` of scope "global"."""
        bound = lower_bound if self.excess == 0.0 else max(lower_bound - self.excess, 0.0)
        # The column, beta and the scale are rounded where they are not the numbers given, and so is the quotient.
        rounded = self.column is not None or self.scale != 1.0 or self.excess > 0.0
        return bound / self.scale * (1.0 - (_ROUNDING if rounded else 0.0))

    def gap(self, lower_bound: float) -> float:
        """Relative gap of this network for their objective, from a lower bound of ``problem``."""
        return relative_gap(self.objective, self.training_bound(lower_bound))

    def with_ones(self, network: ReLUNetwork) -> ReLUNetwork:
        """Turn a network for the columns of ``problem`` into one for the data with a column of ones at the end."""
        if self.column is None:
            return network
        W = network.W.copy()
        W[:, -1] *= self.column
        return ReLUNetwork(W, network.a, output_bias=network.output_bias)


def judge(
    weights: TwoLayerWeights,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    objective: TrainingObjective,
    *,
    sample_weight: npt.ArrayLike | None = None,
    slack: float = 1e-5,
) -> JudgedNetwork:
    r"""Problem and network of cvxnn for plain weights and the objective that they were trained on.

    A hidden bias with decay :math:`\lambda_b > 0` becomes the weight of a column of the value
    :math:`s = \sqrt{\lambda/\lambda_b}`, exactly. With :math:`\lambda_b = 0`, let R be the largest norm of a row of X.
    A neuron with :math:`|b| > R \|w\|` is linear or zero on the data, so that :math:`|b| \le R \|w\|` holds without
    loss once the output bias is free; with :math:`s = R/\sqrt{\mathrm{slack}}` and
    :math:`\beta' = \beta/(1 + \mathrm{slack})` the penalty of the problem is then at most theirs, and less than theirs
    by the factor ``1 + slack`` at most.

    Parameters
    ----------
    weights : TwoLayerWeights
    X : array-like (n, d)
        Data as the network sees them, without a column of ones.
    y : array-like (n,) or (n, c)
        Targets as in the training; class numbers (n,) for the cross-entropy.
    objective : TrainingObjective
        From :func:`torch_objective`, :func:`sklearn_objective`, or made by hand.
    sample_weight : array-like (n,), optional
        Weights of the samples.
    slack : float, default 1e-5
        Relative loss of the bound where hidden biases are free; below 1e-5 the column grows so large that bounds may
        suffer from it.

    Returns
    -------
    JudgedNetwork

    Raises
    ------
    ValueError
        If the data do not fit the network, or as :class:`Problem` does.

    Examples
    --------
    >>> from cvxnn.interop.two_layer import TwoLayerWeights
    >>> objective = torch_objective(2, weight_decay=0.2, decay_biases=False)
    >>> judged = judge(TwoLayerWeights([[1.0]], [1.0], [1.0], 0.0), [[1.0], [2.0]], [1.0, 2.0], objective)
    >>> judged.exact, round(judged.column)
    (False, 632)
    """
    data = as_float_array(_plain(X), "X", ndim=2)
    if data.shape[1] != weights.n_inputs:
        raise NetworkFormatError(f"X has {data.shape[1]} columns; this network takes {weights.n_inputs}.")
    target, scale, beta = objective.targets(_plain(y), weights.n_outputs), objective.scale, objective.beta
    free = weights.hidden_bias is not None and objective.hidden_bias_decay == 0.0
    column: float | None = None
    output_decay = None if weights.output_bias is None else objective.output_bias_decay * scale
    excess = _excess(weights, objective)
    if free:
        slack = as_number(slack, "slack", minimum=0.0, inclusive=False)
        # Rounded up, for the bound relies on |w.x| <= radius * |w|.
        radius = float(np.max(np.linalg.norm(data, axis=1))) * (1.0 + 1e-12)
        column = radius / float(np.sqrt(slack)) if radius > 0 else 1.0
        beta, output_decay = beta / (1.0 + slack) * (1.0 - 1e-15), 0.0
    elif weights.hidden_bias is not None:
        column = float(np.sqrt(objective.weight_decay / objective.hidden_bias_decay))
    if weights.n_outputs > 1:
        output_decay = None
    full = data if column is None else np.column_stack([data, np.full(len(data), column)])
    problem = Problem(full, target, beta, objective.loss, sample_weight=sample_weight, output_bias_decay=output_decay)
    network = weights.network_with_column(1.0 if column is None else column)
    # Where the weights are so large that it overflows, those who prove or draw it say so.
    with np.errstate(over="ignore", invalid="ignore"):
        value = objective.value(weights, data, _plain(y), problem.sample_weight)
    exact = not free and excess == 0.0
    return JudgedNetwork(problem, network, scale, value, exact, column, objective, excess)


def _excess(weights: TwoLayerWeights, objective: TrainingObjective) -> float:
    """Most that biases of several outputs cost in the problem beyond their own objective, in the problem's units."""
    several = weights.n_outputs > 1
    if several and weights.hidden_bias is not None and objective.hidden_bias_decay == 0.0:
        raise ValueError(
            f"the network has {weights.n_outputs} outputs and free hidden biases; with several outputs, hidden biases "
            "must be decayed or absent."
        )
    if not several or weights.output_bias is None:
        return 0.0
    if weights.hidden_bias is None or objective.output_bias_decay == 0.0:
        raise ValueError(
            f"the network has {weights.n_outputs} outputs with biases; to judge it they must be decayed, "
            "and the hidden layer must have biases, too."
        )
    # The largest value over r = |b| of beta r / s - kappa r^2 / 2 with s^2 = lambda / lambda_b, rounded up.
    column_square = objective.weight_decay / objective.hidden_bias_decay
    most = objective.beta**2 / (2.0 * objective.output_bias_decay * objective.scale * column_square)
    return most * (1.0 + 1e-14)


def judge_torch(
    module_or_state_dict: Any,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    weight_decay: float,
    loss: Any = "mse",
    reduction: str | None = None,
    delta: float | None = None,
    decay_biases: bool = True,
    hidden_bias_decay: float | None = None,
    output_bias_decay: float | None = None,
    slack: float = 1e-5,
) -> JudgedNetwork:
    r"""Problem and network of cvxnn for a PyTorch network, its data and its training objective.

    Parameters
    ----------
    module_or_state_dict : torch.nn.Module or mapping of str to tensor
        As :func:`from_torch` takes it.
    X, y : array-like or tensor
        Data (n, d) and targets (n,) or (n, c) as in the training.
    weight_decay, loss, reduction, delta, decay_biases, hidden_bias_decay, output_bias_decay
        As :func:`torch_objective` takes them.
    slack : float, default 1e-5
        As :func:`judge` takes it; used only if the module has hidden biases that are not decayed.

    Returns
    -------
    JudgedNetwork

    Raises
    ------
    NetworkFormatError
        If the module is no such network, or takes another number of columns.
    ValueError
        If an option or the data are not acceptable.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    >>> X, y = torch.eye(2), torch.tensor([1.0, -1.0])
    >>> judge_torch(module, X, y, weight_decay=1e-2, loss=torch.nn.MSELoss()).problem
    Problem(n_samples=2, n_features=3, beta=0.01, loss='squared', output_bias_decay=0.01)
    """
    weights = read_torch(module_or_state_dict)
    objective = torch_objective(
        len(_plain(X)),
        weight_decay=weight_decay,
        loss=loss,
        reduction=reduction,
        delta=delta,
        decay_biases=decay_biases,
        hidden_bias_decay=hidden_bias_decay,
        output_bias_decay=output_bias_decay,
        n_outputs=weights.n_outputs,
    )
    return judge(weights, X, y, objective, slack=slack)


def judge_sklearn(
    mlp: Any,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    sample_weight: npt.ArrayLike | None = None,
    slack: float = 1e-5,
) -> JudgedNetwork:
    r"""Problem and network of cvxnn for a fitted MLP of scikit-learn and the data that it was fitted on.

    Parameters
    ----------
    mlp : MLPRegressor or MLPClassifier
        As :func:`from_sklearn` takes it; its ``alpha`` is converted as :func:`sklearn_objective` says.
    X, y : array-like
        As given to ``fit``; for a classifier y holds its labels.
    sample_weight : array-like (n,), optional
        As given to ``fit``.
    slack : float, default 1e-5
        As :func:`judge` takes it: scikit-learn does not decay biases.

    Returns
    -------
    JudgedNetwork

    Raises
    ------
    NetworkFormatError
        If the estimator is no such network, or takes another number of columns.
    ValueError
        If its ``alpha`` is 0, or y holds a label that it does not know.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> X, y = np.array([[0.0], [1.0], [2.0]]), np.array([0.0, 1.0, 0.0])
    >>> mlp = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", alpha=0.1, random_state=0).fit(X, y)
    >>> judged = judge_sklearn(mlp, X, y)
    >>> judged.exact, judged.problem.output_bias_decay, bool(np.isclose(judged.objective, mlp.loss_))
    (False, 0.0, True)
    """
    weights = read_sklearn(mlp)
    target = np.asarray(y)
    target = target[:, 0] if target.ndim == 2 and target.shape[1] == 1 else target
    total = None if sample_weight is None else float(np.sum(np.asarray(sample_weight, dtype=np.float64)))
    objective = sklearn_objective(mlp, len(target), total_weight=total)
    if hasattr(mlp, "classes_"):
        unknown = sorted(set(target.tolist()) - set(mlp.classes_.tolist()), key=str)
        if unknown:
            raise ValueError(f"y holds the label {unknown[0]!r}; this classifier knows {mlp.classes_.tolist()}.")
        target = np.where(target == mlp.classes_[1], 1.0, -1.0)
    return judge(weights, X, target, objective, sample_weight=sample_weight, slack=slack)


def _plain(values: Any) -> Any:
    """NumPy array of a tensor, on any device and with any gradient; other values as they are."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values
