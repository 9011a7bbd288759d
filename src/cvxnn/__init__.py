"""Certified global optimisation of two-layer ReLU networks with weight decay.

``Problem`` holds data, loss and weight decay; ``solve`` finds the best network and a bound that proves how good it is;
``ReLURegressor`` and ``ReLUClassifier`` are the scikit-learn faces; ``patterns`` enumerates and samples activation
patterns; ``landscape`` judges any network and reads the loss landscape; ``splines`` is the view of one-dimensional
data; ``kernels`` that of gated networks as kernel learning; ``gan`` finds generators that no two-layer discriminator
tells from data; ``GatedReLU``, ``BatchNormReLU``, ``Polynomial`` and ``ParallelReLU`` are
architectures that the same verb trains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cvxnn import gan as gan
from cvxnn import kernels as kernels
from cvxnn import landscape as landscape
from cvxnn import patterns as patterns
from cvxnn import splines as splines
from cvxnn.architectures import BatchNormReLU as BatchNormReLU
from cvxnn.architectures import GatedReLU as GatedReLU
from cvxnn.architectures import ParallelReLU as ParallelReLU
from cvxnn.architectures import Polynomial as Polynomial
from cvxnn.architectures import ReLU as ReLU
from cvxnn.architectures import SampledGatedReLU as SampledGatedReLU
from cvxnn.losses import HuberLoss as HuberLoss
from cvxnn.losses import SoftmaxLoss as SoftmaxLoss
from cvxnn.networks import ReLUNetwork as ReLUNetwork
from cvxnn.parallel_networks import ParallelReLUNetwork as ParallelReLUNetwork
from cvxnn.problem import Problem as Problem
from cvxnn.progress import Progress as Progress
from cvxnn.solution import Solution as Solution
from cvxnn.solution import SolveError as SolveError
from cvxnn.solution import Status as Status
from cvxnn.training import solve as solve

if TYPE_CHECKING:
    from cvxnn.estimators import ReLUClassifier as ReLUClassifier
    from cvxnn.estimators import ReLURegressor as ReLURegressor

__version__ = "0.1.0"

__all__ = [
    "BatchNormReLU",
    "GatedReLU",
    "HuberLoss",
    "ParallelReLU",
    "ParallelReLUNetwork",
    "Polynomial",
    "Problem",
    "Progress",
    "ReLU",
    "ReLUClassifier",
    "ReLUNetwork",
    "ReLURegressor",
    "SampledGatedReLU",
    "SoftmaxLoss",
    "Solution",
    "SolveError",
    "Status",
    "gan",
    "kernels",
    "landscape",
    "patterns",
    "solve",
    "splines",
]

_LAZY = {"ReLUClassifier": "cvxnn.estimators", "ReLURegressor": "cvxnn.estimators"}


def __getattr__(name: str) -> Any:
    """Import the scikit-learn faces on first use: scikit-learn takes most of the import time."""
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'cvxnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, lazy ones included."""
    return __all__
