"""All optimal parallel networks of a problem: a polytope of masses on finitely many sub-networks."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_number
from cvxnn.architectures import ParallelReLU
from cvxnn.landscape._members import random_masses
from cvxnn.landscape._optimum import OptimalSetError
from cvxnn.landscape.optimal_networks import OptimalSet, as_generator
from cvxnn.parallel_networks import ParallelReLUNetwork, block_norms

FloatArray = npt.NDArray[np.float64]

__all__ = ["ParallelOptimalSet"]

_MEMBER = 1e-5
_SAME = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class ParallelOptimalSet(OptimalSet):
    r"""All optimal parallel networks with the path norm, of every number of sub-networks.

    The optimal fit :math:`y^*` is unique, and a network is optimal exactly when each sub-network is, up to the balance
    of its weights and the order of its neurons, a non-negative multiple of one of finitely many sub-networks
    :math:`V_i` of norm one with :math:`s_i \nu^\top g_{V_i}(X) = \beta`, and the masses on them lie in

    .. math:: \mathcal{P} = \{c \ge 0 : \textstyle\sum_i c_i s_i g_{V_i}(X) = y^*\} .

    Width stands for the number of sub-networks everywhere. Made by :func:`optimal_set`. What differs from
    :class:`OptimalSet`:

    Attributes
    ----------
    directions : ndarray (k, m, ..., d)
        Vectors V of the optimal sub-networks, of norm one, with the shape of the weights of a network.
    inner_signs : tuple of ndarrays (k, m, ...)
        Signs of the layers between, from the first on.
    outputs : ndarray (k,)
        Signs s of the output weights.
    architecture : ParallelReLU

    References
    ----------
    Ergen and Pilanci (2021), "Global optimality beyond two layers: training deep ReLU networks via convex programs",
    for the convex program.
    """

    inner_signs: tuple[FloatArray, ...] = field(kw_only=True)
    architecture: ParallelReLU = field(kw_only=True)

    def __repr__(self) -> str:
        """The set in words."""
        return super().__repr__().replace("OptimalSet(", "ParallelOptimalSet(").replace("directions", "sub-networks")

    @property
    def arrangements(self) -> list[int]:
        """Number of different orders of the neurons of each optimal sub-network."""
        counts = []
        for k in range(len(self.signs)):
            neurons = [_rounded(neuron) for neuron in self._neurons(k)]
            repeats = math.prod(math.factorial(neurons.count(neuron)) for neuron in set(neurons))
            counts.append(math.factorial(len(neurons)) // repeats)
        return counts

    def _neurons(self, k: int) -> list[tuple[FloatArray, float]]:
        """Vectors and signs of the neurons of a sub-network of three layers; a chain has one."""
        vectors = self.directions[k].reshape(-1, self.problem.n_features)
        signs = self.inner_signs[0][k].ravel() if self.inner_signs else np.ones(len(vectors))
        return [(v, float(s)) for v, s in zip(vectors, signs, strict=True)]

    @property
    def spurious_free_width(self) -> int:
        """Not known for parallel networks.

        Raises
        ------
        OptimalSetError
            Always.
        """
        raise OptimalSetError("A width without spurious minima is known for two-layer networks only.")

    def masses_of(self, net: Any, *, tol: float = _MEMBER) -> FloatArray:
        """Masses of an optimal network on the optimal sub-networks, ``(k,)``.

        Parameters
        ----------
        net : ParallelReLUNetwork
        tol : float, default 1e-5
            Accepted relative error of sub-networks and fit.

        Raises
        ------
        OptimalSetError
            When the network is not optimal; the message says what is wrong with it.
        """
        shape = (self.architecture.depth, self.directions.shape[1:], self.architecture.penalty)
        if not isinstance(net, ParallelReLUNetwork) or (net.depth, net.W.shape[1:], net.norm) != shape:
            found = repr(net) if isinstance(net, ParallelReLUNetwork) else type(net).__name__
            raise ValueError(
                f"net must be a ParallelReLUNetwork of {self.architecture!r} with {self.problem.n_features} features; "
                f"got {found}."
            )
        tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
        vectors, levels, outputs = net.vectors()
        sizes = block_norms(vectors, net.norm)
        masses, wrong = np.zeros(len(self.signs)), np.zeros(net.width)
        scale = self.total_mass or self.objective / self.problem.beta
        for i in np.flatnonzero(sizes > 0.0):
            distances = self._distances(vectors[i] / sizes[i], [level[i] for level in levels], float(outputs[i]))
            if np.min(distances, initial=math.inf) <= tol:
                masses[int(np.argmin(distances))] += sizes[i]
            else:
                wrong[i] = sizes[i]
        if float(wrong.sum()) > tol * scale:
            raise OptimalSetError(f"Sub-network {int(np.argmax(wrong))} is one that no optimal network uses.")
        misfit = self._misfit(masses)
        if misfit > tol:
            raise OptimalSetError(f"The fit differs from the optimal one by {misfit:.1e} relative to its norm.")
        return masses

    def _distances(self, vectors: FloatArray, levels: list[FloatArray], output: float) -> FloatArray:
        """Distance of a sub-network of norm one to each optimal one, over the orders of its neurons."""
        flat = vectors.reshape(-1, self.problem.n_features)
        # The sign of a neuron of no weight means nothing; of a chain, all signs have to be positive.
        alive = np.linalg.norm(flat, axis=1) > _SAME
        signs = levels[0].ravel() if levels else np.ones(len(flat))
        chain_on = len(flat) > 1 or all(np.all(level > 0) for level in levels)
        found = np.full(len(self.signs), math.inf)
        for k in np.flatnonzero((self.signs == output) & chain_on):
            own = self._neurons(int(k))
            for order in map(list, itertools.permutations(range(len(flat)))):
                fits = all(not alive[j] or signs[j] == s for j, (_, s) in zip(order, own, strict=True))
                if fits:
                    away = float(np.linalg.norm(flat[order] - np.array([v for v, _ in own])))
                    found[k] = min(found[k], away)
        return found

    def network(self, masses: npt.ArrayLike, width: int | None = None, *, split: bool = False) -> Any:
        """Optimal network with the given masses.

        Parameters
        ----------
        masses : array-like (k,)
            Point of the polytope, for instance a convex combination of the vertices.
        width : int, optional
            Number of sub-networks, at least that of the positive masses (the default).
        split : bool, default False
            Reach the width by splitting the heaviest sub-networks in half; otherwise by zero ones.

        Returns
        -------
        ParallelReLUNetwork
        """
        values = self._checked(masses)
        index = np.flatnonzero(values > 0.0)
        shares = values[index]
        m = len(index) if width is None else as_count(width, "width", minimum=0)
        if m < len(index):
            raise ValueError(f"width must be at least {len(index)}, the number of positive masses; got {m}.")
        while split and 0 < len(index) < m:
            heaviest = int(np.argmax(shares))
            shares[heaviest] *= 0.5
            shares, index = np.append(shares, shares[heaviest]), np.append(index, index[heaviest])
        return self._assembled(index, shares, m)

    def _assembled(self, index: npt.NDArray[np.intp], shares: FloatArray, width: int) -> ParallelReLUNetwork:
        """Network of chosen sub-networks, with zero ones up to the width."""
        shaped = shares.reshape(-1, *[1] * (self.directions.ndim - 1))
        net = ParallelReLUNetwork.from_vectors(
            shaped * self.directions[index],
            [level[index] for level in self.inner_signs],
            self.signs[index],
            self.architecture.penalty,
        )
        extra = width - net.width
        grown = [np.concatenate([array, np.zeros((extra, *array.shape[1:]))]) for array in (net.W, *net.b, net.a)]
        return ParallelReLUNetwork(grown[0], tuple(grown[1:-1]), grown[-1], net.norm)

    def sample(self, random_state: int | np.random.Generator | None = 0, width: int | None = None) -> Any:
        """Random optimal network: a random point of the polytope or of a face, with random splits, in random order.

        Parameters
        ----------
        random_state : int, Generator or None, default 0
            Seed; None stands for 0.
        width : int, optional
            Number of sub-networks, at least :attr:`min_width`; by default the positive masses and up to two more.

        Returns
        -------
        ParallelReLUNetwork
        """
        rng = as_generator(random_state)
        chosen = None if width is None else as_count(width, "width", minimum=0)
        if self.polytope.is_trivial:
            return self._assembled(np.zeros(0, dtype=np.intp), np.zeros(0), chosen or 0)
        points = self._starting_points(rng)
        smallest = int(np.min(np.sum(points > 0.0, axis=1)))
        if chosen is not None and chosen < smallest:
            raise ValueError(f"width must be at least {smallest}, the smallest optimal width known; got {chosen}.")
        masses = random_masses(rng, points, chosen)
        index = np.flatnonzero(masses > 0.0)
        shares, m = masses[index], int(len(index) + rng.integers(0, 3)) if chosen is None else chosen
        for _ in range(int(rng.integers(0, m - len(index) + 1))):
            at = int(rng.integers(len(index)))
            share = rng.uniform(0.05, 0.95)
            index, shares = np.append(index, index[at]), np.append(shares, (1.0 - share) * shares[at])
            shares[at] *= share
        net = self._assembled(index, shares, m)
        order = rng.permutation(m)
        return ParallelReLUNetwork(net.W[order], tuple(layer[order] for layer in net.b), net.a[order], net.norm)


def _rounded(neuron: tuple[FloatArray, float]) -> tuple[float, ...]:
    """Key of a neuron up to rounding; the sign of one of no weight means nothing."""
    vector, sign = neuron
    return (*np.round(vector / _SAME).tolist(), sign if np.linalg.norm(vector) > _SAME else 0.0)
