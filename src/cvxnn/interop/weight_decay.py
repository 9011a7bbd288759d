"""Training objectives of other libraries, with their conventions of loss and weight decay made explicit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_float_array, as_number
from cvxnn.interop.sklearn_networks import read_sklearn
from cvxnn.interop.two_layer import NetworkFormatError, TwoLayerWeights
from cvxnn.losses import HuberLoss, LogisticLoss, Loss, SoftmaxLoss, SquaredHingeLoss, SquaredLoss

FloatArray = npt.NDArray[np.float64]

__all__ = ["LOSS_WORDS", "TrainingObjective", "sklearn_objective", "torch_objective"]


@dataclass(frozen=True)
class TrainingObjective:
    r"""Objective that a network was trained on, in the units of its own library.

    .. math:: \phi \sum_j \omega_j \ell(f(x_j), y_j) + \tfrac{\lambda}{2} (\|W\|_F^2 + \|a\|^2)
              + \tfrac{\lambda_b}{2} \|b\|^2 + \tfrac{\lambda_c}{2} c^2,
              \qquad f(x) = \sum_i a_i (w_i^\top x + b_i)_+ + c

    Parameters
    ----------
    loss : Loss
        The loss :math:`\ell` of cvxnn, such as ``1/2 (f - y)^2``.
    loss_factor : float
        The factor :math:`\phi > 0`: what the library makes of the sum (``2/n`` for a mean of ``(f - y)^2``).
    weight_decay : float
        :math:`\lambda > 0` on both weight matrices.
    hidden_bias_decay, output_bias_decay : float, default 0.0
        :math:`\lambda_b, \lambda_c \ge 0` on the biases; 0 is a free bias.
    zero_one_labels : bool, default False
        Whether the targets are labels 0 and 1 instead of -1 and +1.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> TrainingObjective(SquaredLoss(), 0.5, weight_decay=0.1).scale
    2.0
    """

    loss: Loss
    loss_factor: float
    weight_decay: float
    hidden_bias_decay: float = 0.0
    output_bias_decay: float = 0.0
    zero_one_labels: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("loss_factor", "weight_decay"):
            object.__setattr__(self, name, as_number(getattr(self, name), name, minimum=0.0, inclusive=False))
        for name in ("hidden_bias_decay", "output_bias_decay"):
            object.__setattr__(self, name, as_number(getattr(self, name), name, minimum=0.0))

    @property
    def scale(self) -> float:
        """Factor that turns this objective into the one of cvxnn, whose loss sums over the samples."""
        return 1.0 / self.loss_factor

    @property
    def beta(self) -> float:
        """Weight decay in the units of the summed loss."""
        return self.weight_decay * self.scale

    def targets(self, y: npt.ArrayLike, n_outputs: int = 1) -> FloatArray:
        """Targets as cvxnn takes them: labels 0 and 1 become -1 and +1, class numbers rows of the unit matrix.

        Raises
        ------
        ValueError
            If labels 0 and 1 are expected and ``y`` holds others, or the columns are not those of the outputs.
        """
        raw = np.asarray(y)
        if raw.ndim == 2 and raw.shape[1] == 1:
            raw = raw[:, 0]
        target = as_float_array(raw, "y", ndim=min(max(raw.ndim, 1), 2))
        if isinstance(self.loss, SoftmaxLoss) and target.ndim == 1:
            return _class_rows(target, n_outputs)
        found = 1 if target.ndim == 1 else target.shape[1]
        if found != n_outputs:
            raise ValueError(f"y has {found} columns but the network has {n_outputs} outputs; they must match.")
        if not self.zero_one_labels:
            return target
        wrong = np.unique(target[(target != 0.0) & (target != 1.0)])
        if wrong.size:
            shown = ", ".join(f"{value:g}" for value in wrong[:3])
            raise ValueError(f'y must hold the labels 0 and 1 for loss="bce_with_logits"; got {shown}.')
        return 2.0 * target - 1.0

    def value(
        self,
        weights: TwoLayerWeights,
        X: npt.ArrayLike,
        y: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
    ) -> float:
        """Value of the objective at some weights, in the units of the library.

        Examples
        --------
        >>> objective = torch_objective(2, weight_decay=0.5)
        >>> objective.value(TwoLayerWeights([[1.0]], [1.0]), [[1.0], [2.0]], [0.0, 2.0])
        1.0
        """
        data = as_float_array(X, "X", ndim=2)
        omega = np.ones(len(data)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        hidden = data @ weights.W.T + (0.0 if weights.hidden_bias is None else weights.hidden_bias)
        # A float keeps the rounding of problems with one output.
        offset = float(weights.offset[0]) if weights.n_outputs == 1 else weights.offset
        fit = np.maximum(hidden, 0.0) @ weights.a.T + offset
        square = float(np.sum(weights.W**2) + np.sum(weights.a**2))
        bias_square = 0.0 if weights.hidden_bias is None else float(np.sum(weights.hidden_bias**2))
        decay = (
            self.weight_decay * square
            + self.hidden_bias_decay * bias_square
            + self.output_bias_decay * float(np.sum(np.square(offset)))
        )
        omega = omega if weights.n_outputs == 1 else np.broadcast_to(omega[:, None], fit.shape)
        return self.loss_factor * self.loss.value(fit, self.targets(y, weights.n_outputs), omega) + 0.5 * decay


def _class_rows(numbers: FloatArray, n_outputs: int) -> FloatArray:
    """Rows of the unit matrix for class numbers below the number of outputs."""
    wrong = np.unique(numbers[(numbers != np.rint(numbers)) | (numbers < 0) | (numbers >= n_outputs)])
    if wrong.size:
        shown = ", ".join(f"{value:g}" for value in wrong[:3])
        raise ValueError(f"y must hold class numbers from 0 to {n_outputs - 1}, one for each output; got {shown}.")
    return np.eye(n_outputs)[numbers.astype(np.int64)]


_Meaning = tuple[Callable[[float], Loss], Callable[[float], float], bool]

LOSS_WORDS: dict[str, _Meaning] = {
    "mse": (lambda delta: SquaredLoss(), lambda delta: 2.0, False),
    "squared": (lambda delta: SquaredLoss(), lambda delta: 1.0, False),
    "huber": (HuberLoss, lambda delta: 1.0, False),
    "smooth_l1": (HuberLoss, lambda delta: 1.0 / delta, False),
    "bce_with_logits": (lambda delta: LogisticLoss(), lambda delta: 1.0, True),
    "soft_margin": (lambda delta: LogisticLoss(), lambda delta: 1.0, False),
    "logistic": (lambda delta: LogisticLoss(), lambda delta: 1.0, False),
    "squared_hinge": (lambda delta: SquaredHingeLoss(), lambda delta: 1.0, False),
    "cross_entropy": (lambda delta: SoftmaxLoss(), lambda delta: 1.0, False),
}
"""For each word: the loss of cvxnn, the factor before it, and whether labels are 0 and 1."""

_CRITERIA = {
    "MSELoss": "mse",
    "HuberLoss": "huber",
    "SmoothL1Loss": "smooth_l1",
    "BCEWithLogitsLoss": "bce_with_logits",
    "SoftMarginLoss": "soft_margin",
    "CrossEntropyLoss": "cross_entropy",
}


def torch_objective(
    n_samples: int,
    *,
    weight_decay: float,
    loss: Any = "mse",
    reduction: str | None = None,
    delta: float | None = None,
    decay_biases: bool = True,
    hidden_bias_decay: float | None = None,
    output_bias_decay: float | None = None,
    n_outputs: int = 1,
) -> TrainingObjective:
    r"""Objective of a PyTorch training loop: a criterion plus the optimiser's ``weight_decay``.

    ``SGD`` and ``Adam`` add ``weight_decay * theta`` to the gradient of every parameter, biases too, which is the
    gradient of ``weight_decay/2 * theta^2``. ``AdamW`` decays outside the gradient: its resting points are not those
    of any such objective.

    Parameters
    ----------
    n_samples : int
        Number n of training samples.
    weight_decay : float
        As given to the optimiser, > 0.
    loss : str or torch.nn criterion, default "mse"
        "mse" ``(f - y)^2``, "squared" ``1/2 (f - y)^2``, "huber", "smooth_l1", "bce_with_logits" (labels 0 and 1),
        "soft_margin" or "logistic" (labels -1 and +1), "squared_hinge", "cross_entropy" (class numbers or
        probabilities, several outputs); or an ``MSELoss``, ``HuberLoss``, ``SmoothL1Loss``, ``BCEWithLogitsLoss``,
        ``SoftMarginLoss`` or ``CrossEntropyLoss`` object, whose reduction and width are used.
    reduction : {"mean", "sum"}, optional
        What the criterion does with the samples; "mean" by default, as in PyTorch.
    delta : float, optional
        Width of the Huber loss (``beta`` of ``SmoothL1Loss``); 1 by default.
    decay_biases : bool, default True
        False if the optimiser's parameter groups leave the biases out.
    hidden_bias_decay, output_bias_decay : float, optional
        Weight decay of the biases where it is another number.
    n_outputs : int, default 1
        Number c of outputs: but for the cross-entropy, PyTorch's mean is over all ``n * c`` entries.

    Raises
    ------
    ValueError
        If the loss or the reduction is unknown, a number is out of range, or the criterion has class weights.

    Examples
    --------
    >>> objective = torch_objective(100, weight_decay=1e-3)  # MSELoss(), Adam(..., weight_decay=1e-3)
    >>> objective.loss_factor, objective.beta, objective.output_bias_decay
    (0.02, 0.05, 0.001)
    """
    word, found_reduction, found_delta = _criterion(loss)
    reduction = _agreed("reduction", reduction, found_reduction) or "mean"
    width = _agreed("delta", delta, found_delta)
    width = as_number(1.0 if width is None else width, "delta", minimum=0.0, inclusive=False)
    if reduction not in ("mean", "sum"):
        raise ValueError(f'reduction must be "mean" or "sum"; got {reduction!r}.')
    make, factor, zero_one = LOSS_WORDS[word]
    if word == "cross_entropy" and n_outputs == 1:
        raise ValueError('loss="cross_entropy" needs a network with several outputs; this one has one.')
    terms = n_samples * (n_outputs if make(width).entrywise else 1)
    bias_decay = weight_decay if decay_biases else 0.0
    return TrainingObjective(
        make(width),
        factor(width) / (terms if reduction == "mean" else 1),
        weight_decay,
        bias_decay if hidden_bias_decay is None else hidden_bias_decay,
        bias_decay if output_bias_decay is None else output_bias_decay,
        zero_one,
    )


def _criterion(loss: Any) -> tuple[str, str | None, float | None]:
    """Word, reduction and width of a loss given as a word or as a criterion of PyTorch."""
    if isinstance(loss, str):
        if loss not in LOSS_WORDS:
            raise ValueError(f"loss must be one of {', '.join(LOSS_WORDS)}, or a torch.nn criterion; got {loss!r}.")
        return loss, None, None
    kind = type(loss).__name__
    if kind not in _CRITERIA or not type(loss).__module__.startswith("torch.nn"):
        raise ValueError(f"loss must be one of {', '.join(_CRITERIA)}, or a word; got {kind}.")
    for name in ("weight", "pos_weight"):
        if getattr(loss, name, None) is not None:
            raise ValueError(f"loss {kind} has {name}; criteria without class weights are accepted.")
    if getattr(loss, "label_smoothing", 0.0):
        raise ValueError(f"loss {kind} has label_smoothing; give the smoothed probabilities as y instead.")
    width = getattr(loss, "delta", getattr(loss, "beta", None))
    return _CRITERIA[kind], loss.reduction, width


def _agreed(name: str, given: Any, found: Any) -> Any:
    if given is not None and found is not None and given != found:
        raise ValueError(f"{name}={given!r} contradicts the criterion, which has {found!r}; leave one of them out.")
    return found if given is None else given


def sklearn_objective(mlp: Any, n_samples: int, *, total_weight: float | None = None) -> TrainingObjective:
    r"""Objective that ``MLPRegressor`` or ``MLPClassifier`` minimises; its biases are free.

    scikit-learn adds ``alpha/2 * (||W||^2 + ||a||^2)``, divided by the number of samples *of the batch*, to the mean
    of ``1/2 (f - y)^2`` or of the log loss. With ``solver="lbfgs"`` the batch is all of them, so that ``beta = alpha``.
    With "sgd" and "adam" it is ``min(200, n)`` or ``batch_size``, so that ``beta = alpha * n / batch``; this is exact
    if the batch divides n.

    Parameters
    ----------
    mlp : MLPRegressor or MLPClassifier
        Fitted.
    n_samples : int
        Number n of samples that it was fitted on (with ``early_stopping``: without the held-out ones).
    total_weight : float, optional
        Sum of the sample weights; ``n_samples`` by default.

    Raises
    ------
    NetworkFormatError
        If :func:`from_sklearn` would refuse the estimator.
    ValueError
        If its ``alpha`` is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> X, y = np.arange(10.0)[:, None], np.arange(10.0)
    >>> mlp = MLPRegressor(hidden_layer_sizes=(2,), solver="lbfgs", alpha=0.5, random_state=0).fit(X, y)
    >>> objective = sklearn_objective(mlp, len(X))
    >>> objective.loss_factor, objective.beta, objective.hidden_bias_decay
    (0.1, 0.5, 0.0)
    """
    if (outputs := read_sklearn(mlp).n_outputs) > 1:
        raise NetworkFormatError(
            f"this {type(mlp).__name__} has {outputs} outputs with free biases; such networks are not judged, "
            "fit one for each output."
        )
    classifier = hasattr(mlp, "classes_")
    total = float(n_samples) if total_weight is None else total_weight
    batch = n_samples
    if mlp.solver != "lbfgs":
        batch = min(200 if mlp.batch_size == "auto" else mlp.batch_size, n_samples)
    return TrainingObjective(
        LogisticLoss() if classifier else SquaredLoss(), 1.0 / total, mlp.alpha * n_samples / (batch * total)
    )
