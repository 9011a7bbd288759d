"""Convex losses: value, gradient, curvature and convex conjugate, summed over weighted samples."""

from __future__ import annotations

from cvxnn.losses._base import Loss as Loss
from cvxnn.losses._entrywise import HuberLoss as HuberLoss
from cvxnn.losses._entrywise import LogisticLoss as LogisticLoss
from cvxnn.losses._entrywise import SquaredHingeLoss as SquaredHingeLoss
from cvxnn.losses._entrywise import SquaredLoss as SquaredLoss
from cvxnn.losses._softmax import SoftmaxLoss as SoftmaxLoss

__all__ = ["HuberLoss", "LogisticLoss", "Loss", "SoftmaxLoss", "SquaredHingeLoss", "SquaredLoss", "get_loss"]

_LOSSES: dict[str, type[Loss]] = {
    cls.name: cls for cls in (SquaredLoss, LogisticLoss, HuberLoss, SquaredHingeLoss, SoftmaxLoss)
}


def get_loss(loss: str | Loss) -> Loss:
    """Return the loss named by a word, or the given loss object itself.

    Parameters
    ----------
    loss : str or Loss
        "squared", "logistic", "huber", "squared_hinge", "softmax", or an instance such as ``HuberLoss(delta=0.5)``.

    Raises
    ------
    ValueError
        If the word is unknown.

    Examples
    --------
    >>> get_loss("huber")
    HuberLoss(delta=1.0)
    """
    if isinstance(loss, Loss):
        return loss
    key = loss.lower().replace(" ", "_").replace("-", "_") if isinstance(loss, str) else None
    if key not in _LOSSES:
        known = ", ".join(f'"{name}"' for name in _LOSSES)
        raise ValueError(f"loss must be one of {known} or a Loss object; got {loss!r}.")
    return _LOSSES[key]()
