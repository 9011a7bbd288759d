"""A trained network with its preprocessing: everything that is needed to use it on a table and to judge it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import Architecture, ReLU
from cvxnn.certificates.certificate import relative_gap
from cvxnn.interop.preprocessing import Preprocessing
from cvxnn.interop.tables import Table, TableError
from cvxnn.interop.targets import Target, TextArray
from cvxnn.losses import HuberLoss, Loss, get_loss
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.programs.dispatch import Network

FloatArray = npt.NDArray[np.float64]

__all__ = ["Course", "Model", "StoredCertificate", "array_hash"]


@dataclass(frozen=True)
class StoredCertificate:
    """What was proved about the network on its training rows, summed over the outputs.

    Attributes
    ----------
    objective, lower_bound : float
    scope : {"global", "patterns"}
        See :class:`cvxnn.certificates.Certificate`.
    global_lower_bound : float
    status : str
        How the solve ended.
    n_iter : int
    """

    objective: float
    lower_bound: float
    scope: Literal["global", "patterns"]
    global_lower_bound: float
    status: str
    n_iter: int

    @property
    def gap(self) -> float:
        """Relative gap within the scope."""
        return relative_gap(self.objective, self.lower_bound)

    @property
    def global_gap(self) -> float:
        """Relative gap to the bound that holds for every network."""
        return relative_gap(self.objective, self.global_lower_bound)


@dataclass(frozen=True)
class Course:
    """Course of the training, one entry an outer iteration, summed over the problems.

    It counts iterations and not seconds, so that the same data and settings give the same file.

    Attributes
    ----------
    iterations : tuple of int
    objective : tuple of float
        Best objective so far.
    lower_bound : tuple of (float or None)
        Best bound so far, of the scope that the solve works in; None where there is none yet.
    """

    iterations: tuple[int, ...]
    objective: tuple[float, ...]
    lower_bound: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network with all that is needed to use it on a table and to prove again how good it is.

    Attributes
    ----------
    network : ReLUNetwork or a relative
        Weights; relatives have one output. The ``a`` of a ReLU network is (m,), or (m, c) for c columns to predict and
        from three classes on. With a loss other than softmax each neuron then serves one class.
    preprocessing : Preprocessing
    target : Target
    loss : str
    huber_delta : float or None
        Width of the Huber loss, in standard deviations of the target if that is standardised.
    alpha : float
        Weight decay in the units of the mean loss.
    beta : float
        Weight decay in the units of the summed loss: ``alpha * n_train``.
    tol : float
        Relative gap that was asked for.
    seed : int
    test_size : float
        Fraction of the rows that were held out.
    n_rows, n_train : int
    certificate : StoredCertificate
    table_hash : str
        SHA-256 of the used columns of the table.
    training_hash : str
        SHA-256 of X and y of the training rows.
    version : str
        Version of cvxnn that made the model.
    architecture : Architecture
        What was trained; that of a gated network lists all its gates.
    course : Course or None
        How the training went; None in files of earlier versions.
    """

    network: Network
    preprocessing: Preprocessing
    target: Target
    loss: str
    huber_delta: float | None
    alpha: float
    beta: float
    tol: float
    seed: int
    test_size: float
    n_rows: int
    n_train: int
    certificate: StoredCertificate
    table_hash: str
    training_hash: str
    version: str
    architecture: Architecture = field(default_factory=ReLU)
    course: Course | None = None

    def outputs(self, table: Table) -> FloatArray:
        """Return the outputs of the network, ``(n,)`` or ``(n, c)``."""
        return self.network(self.preprocessing.transform(table))

    @property
    def is_joint(self) -> bool:
        """Whether the outputs share their neurons, and make one problem."""
        return self.loss == "softmax" or len(self.target.parts) > 1

    def predict(self, table: Table) -> FloatArray | TextArray:
        """Predictions ``(n,)``: numbers in the units of the target, or labels as written in the training data.

        Several columns to predict make ``(n, t)``.
        """
        return self.target.decode(self.outputs(table))

    def predict_proba(self, table: Table) -> FloatArray:
        """Probability of each class, ``(n, c)``; one-vs-rest probabilities are divided by their sum.

        Raises
        ------
        TableError
            Unless the loss is logistic or softmax: other losses define no probabilities.
        """
        from scipy.special import expit, softmax

        if self.loss == "softmax":
            return softmax(self.outputs(table), axis=1)
        if self.loss != "logistic":
            raise TableError(
                f'probabilities need a model with the loss "logistic" or "softmax"; this one has "{self.loss}".'
            )
        probability = expit(self.outputs(table))
        if self.target.kind == "binary":
            return np.column_stack([1.0 - probability, probability])
        # At least one term is positive unless every output is below -745; all classes are then equally likely.
        total = probability.sum(axis=1, keepdims=True)
        return np.where(total > 0, probability / np.where(total > 0, total, 1.0), 1.0 / probability.shape[1])

    def score(self, outputs: FloatArray, encoded: FloatArray) -> float | None:
        """R² for regression or accuracy for classes; None where R² is not defined (fewer than two distinct values).

        For several columns it is the mean of theirs.
        """
        return self.target.score(outputs, encoded)

    @property
    def score_name(self) -> str:
        """Name of :meth:`score`."""
        return "R2" if self.target.kind == "regression" else "accuracy"

    def loss_object(self) -> Loss:
        """Loss of the problems."""
        return get_loss(self.loss) if self.huber_delta is None else HuberLoss(self.huber_delta)

    def problems(self, X: FloatArray, encoded: FloatArray, *, beta: float | None = None) -> list[Problem]:
        """Training problems: one for all outputs that share neurons, else one for each output."""
        if not self.is_joint:
            return [self.problem(X, encoded, output, beta=beta) for output in range(self.target.n_outputs)]
        beta = self.beta if beta is None else beta
        return [Problem(X, self.target.joint_targets(encoded), beta, self.loss_object())]

    def networks(self) -> list[Network]:
        """Networks of the training problems."""
        return [self.network] if self.is_joint else [self.network_of(k) for k in range(self.target.n_outputs)]

    def problem(self, X: FloatArray, encoded: FloatArray, output: int, *, beta: float | None = None) -> Problem:
        """Training problem of one output."""
        beta = self.beta if beta is None else beta
        return Problem(X, self.target.targets(encoded, output), beta, self.loss_object())

    def network_of(self, output: int) -> Network:
        """Network of one output: the neurons that serve it."""
        if not isinstance(self.network, ReLUNetwork) or self.network.a.ndim == 1:
            return self.network
        serves = self.network.a[:, output] != 0
        return ReLUNetwork(self.network.W[serves], self.network.a[serves, output])


def array_hash(*arrays: FloatArray) -> str:
    """SHA-256 of shapes and contents of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()
