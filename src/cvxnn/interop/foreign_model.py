"""A network of another program together with the columns that it sees and the objective that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cvxnn.architectures import Architecture, ReLU
from cvxnn.interop.judging import JudgedNetwork
from cvxnn.interop.preprocessing import Feature, Preprocessing
from cvxnn.interop.targets import Target
from cvxnn.losses import HuberLoss
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["ForeignModel"]


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """A network of another program, with what :class:`cvxnn.interop.model.Model` says of one of cvxnn.

    Attributes
    ----------
    judged : JudgedNetwork
        Its problem, and its objective in the units of the training.
    columns : tuple of str
        Columns that it sees, in order, as they stand in the table.
    target : Target
        Encoded as it stands in the table: numbers, or the positions of the classes.
    tol : float
        Relative gap that counts as proved.
    loss_word, reduction : str
        The loss of the training and how it was summed up, as the other program calls them.
    """

    judged: JudgedNetwork
    columns: tuple[str, ...]
    target: Target
    tol: float
    loss_word: str
    reduction: str
    architecture: Architecture = field(default_factory=ReLU)

    @property
    def network(self) -> ReLUNetwork:
        """Network for the inputs of :meth:`inputs`: a hidden bias is the last input weight."""
        return self.judged.with_ones(self.judged.network)

    @property
    def preprocessing(self) -> Preprocessing:
        """Encoding of the columns: as they stand, with a column of ones where there are hidden biases."""
        zeros = np.zeros(len(self.columns))
        features = tuple(Feature(name) for name in self.columns)
        return Preprocessing(features, zeros, zeros + 1.0, self.judged.column is not None, standardized=False)

    @property
    def loss(self) -> str:
        """Name of the loss in cvxnn."""
        return self.judged.problem.loss.name

    @property
    def huber_delta(self) -> float | None:
        """Width of the Huber loss; None for others."""
        loss = self.judged.problem.loss
        return loss.delta if isinstance(loss, HuberLoss) else None

    def inputs(self) -> FloatArray:
        """Rows of the table as :attr:`network` takes them."""
        X = self.judged.problem.X
        return X if self.judged.column is None else np.column_stack([X[:, :-1], np.ones(len(X))])

    def problems(self, X: FloatArray, encoded: FloatArray, *, beta: float | None = None) -> list[Problem]:
        """The one problem that bounds the objective of the training; rows and decay are its own."""
        return [self.judged.problem]

    def networks(self) -> list[ReLUNetwork]:
        """Network of the problem."""
        return [self.judged.network]

    def score(self, outputs: FloatArray, encoded: FloatArray) -> float | None:
        """R² or accuracy, as :meth:`cvxnn.interop.targets.Target.score` has it."""
        return self.target.score(outputs, encoded)
