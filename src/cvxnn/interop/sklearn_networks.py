"""Networks of scikit-learn: MLPRegressor and MLPClassifier with one hidden ReLU layer."""

from __future__ import annotations

from typing import Any

from cvxnn.interop.two_layer import NetworkFormatError, TwoLayerWeights
from cvxnn.networks import ReLUNetwork

__all__ = ["from_sklearn", "read_sklearn"]


def from_sklearn(mlp: Any) -> ReLUNetwork:
    r"""Network of a fitted ``MLPRegressor`` or ``MLPClassifier``.

    Of a classifier the network is the logit: its sigmoid is the probability of ``classes_[1]``. With more classes its
    outputs are the arguments of the softmax, with several labels a sample the logit of each.

    Parameters
    ----------
    mlp : MLPRegressor or MLPClassifier
        Fitted, with ``activation="relu"`` and one hidden layer.

    Returns
    -------
    ReLUNetwork
        The hidden biases are its last input weight: the data have a column of ones at the end. The bias of the
        output is its ``output_bias``; those of several outputs are one more neuron on the column of ones.

    Raises
    ------
    NetworkFormatError
        If the estimator is another, not fitted, or has another activation or depth.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> X, y = np.array([[0.0], [1.0], [2.0]]), np.array([0.0, 1.0, 0.0])
    >>> mlp = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", random_state=0).fit(X, y)
    >>> net = from_sklearn(mlp)
    >>> net.width, bool(np.allclose(net(np.column_stack([X, np.ones(3)])), mlp.predict(X)))
    (4, True)
    """
    return read_sklearn(mlp).network


def read_sklearn(mlp: Any) -> TwoLayerWeights:
    """Weights with the biases kept apart (see :func:`from_sklearn`)."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind = type(mlp).__name__
    if not isinstance(mlp, (MLPClassifier, MLPRegressor)):
        hint = "; pass its last step, and the data as that step sees them" if hasattr(mlp, "steps") else ""
        raise NetworkFormatError(f"MLPRegressor and MLPClassifier are accepted; got {kind}{hint}.")
    if not hasattr(mlp, "coefs_"):
        raise NetworkFormatError(f"this {kind} is not fitted; call fit first.")
    if mlp.activation != "relu":
        raise NetworkFormatError(f'this {kind} has activation="{mlp.activation}"; activation="relu" is accepted.')
    if len(mlp.coefs_) != 2:
        raise NetworkFormatError(f"this {kind} has {len(mlp.coefs_) - 1} hidden layers; one is accepted.")
    wanted = ("logistic", "softmax") if isinstance(mlp, MLPClassifier) else ("identity",)
    if mlp.out_activation_ not in wanted:
        accepted = " or ".join(f'"{name}"' for name in wanted)
        raise NetworkFormatError(f'this {kind} ends in "{mlp.out_activation_}"; {accepted} is accepted.')
    return TwoLayerWeights(mlp.coefs_[0].T, mlp.coefs_[1].T, mlp.intercepts_[0], mlp.intercepts_[1])
