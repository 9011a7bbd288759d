"""What the architectures ask of the options and of the data of an estimator."""

from __future__ import annotations

from typing import Any

import numpy as np

from cvxnn.architectures import (
    Architecture,
    BatchNormReLU,
    GatedReLU,
    ParallelReLU,
    Polynomial,
    ReLU,
    SampledGatedReLU,
)
from cvxnn.networks import ReLUNetwork
from cvxnn.parallel_networks import ParallelReLUNetwork
from cvxnn.problem import Problem
from cvxnn.programs.batch_norm import BatchNormReLUNetwork
from cvxnn.programs.dispatch import Network
from cvxnn.programs.gated import GatedReLUNetwork
from cvxnn.programs.polynomial import PolynomialNetwork

__all__ = ["checked_architecture", "is_relu", "require_columns", "start_or_none"]


def is_relu(architecture: Any) -> bool:
    """Whether the option means the two-layer ReLU network, which alone has several outputs."""
    return architecture is None or isinstance(architecture, ReLU)


def checked_architecture(architecture: Any, *, fit_intercept: bool) -> Architecture:
    """Architecture of the option.

    Raises
    ------
    ValueError
        If it is none, or has no form without biases and ``fit_intercept`` is False.
    """
    if architecture is None:
        return ReLU()
    if not isinstance(architecture, Architecture):
        raise ValueError(
            "architecture must be None, ReLU(), GatedReLU(gates), SampledGatedReLU(), BatchNormReLU(), "
            f"Polynomial(a, b, c) or ParallelReLU(); got {architecture!r}."
        )
    if isinstance(architecture, BatchNormReLU) and not fit_intercept:
        raise ValueError(
            "fit_intercept must be True with BatchNormReLU(): batch norm centres the features and has its own shift."
        )
    return architecture


def require_columns(architecture: Architecture, n_features: int, *, fit_intercept: bool) -> None:
    """Refuse gates that do not fit the features with their column of ones."""
    if not isinstance(architecture, GatedReLU):
        return
    columns, expected = architecture.gates.shape[1], n_features + bool(fit_intercept)
    if columns != expected:
        ones = " and the column of ones (fit_intercept=True)" if fit_intercept else ""
        raise ValueError(
            f"gates has {columns} columns but must have {expected}, for the {n_features} features{ones}; got "
            f"{architecture!r} (SampledGatedReLU(n_gates) draws gates that fit)."
        )


def start_or_none(network: Network, architecture: Architecture, problem: Problem) -> Network | None:
    """Network of the previous fit, if the next one may start from it."""
    if network.n_features != problem.n_features:
        return None
    if isinstance(architecture, ReLU):
        fits = isinstance(network, ReLUNetwork) and network.n_outputs == problem.n_outputs
    elif isinstance(architecture, GatedReLU):
        fits = isinstance(network, GatedReLUNetwork) and _are_listed(network, architecture)
    elif isinstance(architecture, SampledGatedReLU):
        fits = isinstance(network, GatedReLUNetwork)
    elif isinstance(architecture, BatchNormReLU):
        fits = isinstance(network, BatchNormReLUNetwork)
    elif isinstance(architecture, Polynomial):
        activation = (architecture.a, architecture.b, architecture.c)
        fits = isinstance(network, PolynomialNetwork) and network.coefficients == activation
    else:
        fits = isinstance(network, ParallelReLUNetwork) and _is_of(network, architecture)
    return network if fits else None


def _are_listed(network: GatedReLUNetwork, architecture: GatedReLU) -> bool:
    listed = {gate.tobytes() for gate in architecture.gates + 0.0}
    return all(gate.tobytes() in listed for gate in np.asarray(network.gates + 0.0))


def _is_of(network: ParallelReLUNetwork, architecture: ParallelReLU) -> bool:
    width = architecture.width if architecture.depth > 2 else 1
    sizes = (architecture.depth, width, architecture.penalty)
    return (network.depth, network.branching, network.norm) == sizes
