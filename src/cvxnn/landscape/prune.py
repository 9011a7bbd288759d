"""Fewer neurons for the same function: pruning to a network with independent contributions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cvxnn.landscape._masses import contributions, independent_masses, minimize_masses
from cvxnn.landscape._moves import check_network
from cvxnn.networks import ReLUNetwork, merge_vectors
from cvxnn.problem import Problem, require_one_output
from cvxnn.solvers.best_bias import fixed_bias
from cvxnn.solvers.neurons import Neurons

FloatArray = npt.NDArray[np.float64]

__all__ = ["prune"]

_ROUNDING = 1e-13
"""Relative rise of the objective that is read as rounding."""


def prune(problem: Problem, network: ReLUNetwork) -> ReLUNetwork:
    r"""Irreducible network with the same fitted values; the objective is not higher.

    Three steps, none of which changes the fit on the data: neurons are balanced, and those without a contribution are
    left out; neurons of one output sign whose pre-activations never have opposite signs are merged into one; and while
    the contributions :math:`(Xw_i)_+` depend linearly on one another, masses are moved along the dependency, in the
    sense that does not raise their sum, until a neuron is empty. What remains is *irreducible*: the contributions are
    linearly independent, so there are at most :func:`cvxnn.landscape.effective_dimension` neurons, and no more than
    samples. An optimal network stays optimal: it becomes a vertex of the set of optimal masses.

    Parameters
    ----------
    problem : Problem
        Data, loss and beta; samples of zero weight are not looked at.
    network : ReLUNetwork
        Any network with one output.

    Returns
    -------
    ReLUNetwork
        Balanced; its width is the number of its neurons, none of which is zero; an output bias is kept. The objective
        is not higher than that of the input (to rounding, a relative 1e-13).

    Raises
    ------
    ValueError
        If the network does not fit the problem, or its objective is not finite.

    References
    ----------
    Mishkin and Pilanci (2023), "Optimal sets and solution paths of ReLU networks", section 4 (optimal pruning).

    Examples
    --------
    >>> from cvxnn import Problem, ReLUNetwork
    >>> from cvxnn.landscape.prune import prune
    >>> problem = Problem([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1.0, 1.0, 2.0], beta=0.1)
    >>> net = ReLUNetwork([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]], [1.0, 1.0, 0.5, 1.0])
    >>> small = prune(problem, net)
    >>> small.width, net(problem.X), small(problem.X)
    (1, array([1.5, 1.5, 3. ]), array([1.5, 1.5, 3. ]))
    """
    require_one_output(problem, "prune")
    check_network(problem, network, "network")
    if network.output_bias:
        without = prune(fixed_bias(problem, network.output_bias), replace(network, output_bias=0.0))
        return replace(without, output_bias=network.output_bias)
    X = problem.X[problem.sample_weight > 0]
    live = Neurons.from_network(network.without_dead_neurons(X))
    before = live.objective(problem)
    merged = _merged(X, live)
    masses = merged.masses
    directions = merged.vectors / masses[:, None]
    fewer = independent_masses(contributions(X, directions, merged.signs), masses)
    keep = fewer > 0.0
    pruned = Neurons(directions[keep] * fewer[keep, None], merged.signs[keep])
    if pruned.objective(problem) > before * (1.0 + _ROUNDING):
        # Contributions that are only nearly dependent: the fit has moved by rounding; the best masses make up for it.
        columns = contributions(problem.X, directions[keep], pruned.signs)
        best = minimize_masses(problem, columns, fewer[keep])
        pruned = Neurons(directions[keep] * best[:, None], pruned.signs)
    return pruned.network()


def _merged(X: FloatArray, neurons: Neurons) -> Neurons:
    """Merge neurons of one sign without strictly opposite pre-activations; the sum of the masses never rises."""
    merged = [merge_vectors(X, neurons.vectors[neurons.signs == sign]) for sign in (1.0, -1.0)]
    signs = np.concatenate([np.ones(len(merged[0])), -np.ones(len(merged[1]))])
    return Neurons(np.vstack(merged), signs)
