"""All optimal networks of a problem: a polytope of masses on finitely many directions."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cvxnn._html import card, figure
from cvxnn._validation import as_count, as_float_array, as_number
from cvxnn.landscape._members import (
    move_to_boundary,
    padded_network,
    random_corners,
    random_masses,
    read_masses,
    require_fitting_network,
    split_at_random,
)
from cvxnn.landscape._optimal_neurons import flattened
from cvxnn.landscape._optimum import OptimalSetError
from cvxnn.landscape._polytope import MassPolytope
from cvxnn.landscape._vertices import ArithmeticLimitError, VertexLimitError
from cvxnn.landscape._widths import CriticalWidths
from cvxnn.landscape.effective_dimension import effective_dimension
from cvxnn.networks import ReLUNetwork
from cvxnn.problem import Problem
from cvxnn.solution import Solution

FloatArray = npt.NDArray[np.float64]

__all__ = ["OptimalSet", "UncertainVerticesError", "as_generator"]

_MAX_VERTICES = 50_000
_CLEAR = 1e3
_MEMBER = 1e-5


class UncertainVerticesError(OptimalSetError):
    """Rounding hides which masses of the vertices are zero."""


@dataclass(frozen=True, eq=False, repr=False)
class OptimalSet:
    r"""All optimal networks of a problem, of every width.

    The optimal fit :math:`y^*` is unique, and a balanced network is optimal exactly when each nonzero neuron has one of
    finitely many directions :math:`u_i` with its sign :math:`s_i`, and the masses :math:`c_i \ge 0` on them lie in

    .. math:: \mathcal{P} = \{c \ge 0 : \textstyle\sum_i c_i s_i (X u_i)_+ = y^*\} .

    With several outputs, unit vectors :math:`v_i = N^T (X u_i)_+ / \beta` take the place of the signs, and
    :math:`(X u_i)_+ v_i^T` that of the contributions. All points of the polytope have the same total mass. Made by
    :func:`optimal_set`.

    Attributes
    ----------
    problem : Problem
    solution : Solution
        Solution that the search started from.
    fit : ndarray (n,) or (n, c)
        The optimal fit; NaN at samples of zero weight, whose fit is not determined.
    dual : ndarray (n,) or (n, c)
        The dual vector, minus the gradient of the loss at the fit.
    directions : ndarray (k, d)
        Unit vectors u of the optimal neurons, in lexicographic order, positive signs first.
    outputs : ndarray (k,) or (k, c)
        Their output weights divided by the norm: signs +1.0 or -1.0 for one output, unit vectors v for several. A
        direction occurs with one only.
    columns : ndarray (n, k) or (n, c, k)
        Contributions ``s (X u)_+`` or ``(X u)_+ v^T``.
    gap : float
        Relative duality gap left by rounding.
    error : float
        Largest relative violation of ``s dual^T (X u)_+ = beta`` (of ``||dual^T (X u)_+|| = beta`` for several outputs)
        over the directions, of the same as an upper bound over all directions, and of the fit by the columns; or the
        relative error of the fit that it explains, where that is larger because the optimal network nearly vanishes or
        columns are nearly dependent.
    margin : float
        Relative distance to beta of the largest local maximum that is not optimal; capped at 1e-3.
    n_patterns : int
        Activation patterns searched.

    References
    ----------
    Kim, Mishkin and Pilanci (2024), "Exploring the loss landscape of regularized neural networks via convex duality":
    the optimal polytope and its critical widths.
    """

    problem: Problem
    solution: Solution
    fit: FloatArray
    dual: FloatArray
    directions: FloatArray
    outputs: FloatArray
    columns: FloatArray
    gap: float
    error: float
    margin: float
    n_patterns: int
    _kept: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def polytope(self) -> MassPolytope:
        """The polytope of masses, without samples of zero weight."""
        counted = self.problem.sample_weight > 0
        return MassPolytope(flattened(self.columns[counted]), self.fit[counted].ravel(), self.error)

    @property
    def signs(self) -> FloatArray:
        """Signs of the output weights of problems of one output, ``(k,)``, +1.0 or -1.0.

        Raises
        ------
        ValueError
            For problems of several outputs, whose unit output vectors are ``outputs``.
        """
        if self.problem.n_outputs > 1:
            raise ValueError(
                f"signs belong to problems of one output; this one has {self.problem.n_outputs}, "
                "use outputs, the unit output vectors."
            )
        return self.outputs

    def __repr__(self) -> str:
        """The set in words."""
        k = len(self.directions)
        if self.polytope.is_trivial:
            return f"OptimalSet(the zero network is the only optimum; objective {self.objective:.6g})"
        kind = "one set of masses" if self.is_unique else f"a polytope of masses of dimension {self.dimension}"
        return f"OptimalSet({k} optimal directions of rank {self.rank}, {kind}; objective {self.objective:.6g})"

    def _repr_html_(self) -> str:
        """Table for notebooks; critical widths are left out, since they may take long."""
        rows = [
            ("objective", figure(self.objective)),
            ("optimal directions", len(self.directions)),
            ("dimension of the masses", self.dimension),
            ("unique up to splits and order", "yes" if self.is_unique else "no"),
            ("relative gap left by rounding", f"{self.gap:.1e}"),
            ("activation patterns searched", self.n_patterns),
        ]
        return card("Optimal set", rows, note=repr(self))

    @property
    def objective(self) -> float:
        """Optimal objective over networks of every width."""
        fit = np.where(np.isnan(self.fit), 0.0, self.fit)
        return self.problem.loss_value(fit) + self.problem.beta * self.total_mass

    @cached_property
    def total_mass(self) -> float:
        """Sum of the masses, the same for every optimal network: its weight decay term without beta."""
        return float(np.sum(self.polytope.interior))

    @property
    def rank(self) -> int:
        """Rank of the columns."""
        return self.polytope.rank

    @property
    def dimension(self) -> int:
        """Dimension of the polytope."""
        return self.polytope.dimension

    @property
    def is_unique(self) -> bool:
        """Whether the optimal network is unique up to splits, permutations and zero neurons."""
        return self.dimension == 0

    @property
    def is_clear(self) -> bool:
        """Whether the optimal directions stand out: the margin exceeds the error by three orders of magnitude."""
        return self.margin >= _CLEAR * max(self.error, 1e-12)

    def mass_range(self) -> FloatArray:
        """Smallest and largest mass of each direction over all optimal networks, ``(k, 2)``, by linear programs."""
        return self.polytope.ranges.copy()

    def vertices(self, *, max_vertices: int = _MAX_VERTICES) -> FloatArray:
        """Vertices of the polytope, ``(V, k)``: the masses of the irreducible optimal networks.

        Zeros are exact, rows are in lexicographic order. Each vertex is solved on its own support and checked.

        Parameters
        ----------
        max_vertices : int, default 50_000
            Most vertices accepted, also on the way.

        Raises
        ------
        OptimalSetError
            When there are more, or when rounding hides which masses are zero: the same supports have to come out
            wherever the level below which a mass is zero is set, and the masses have to be well above the noise.
        """
        as_count(max_vertices, "max_vertices")
        if "vertices" not in self._kept:
            try:
                found = self.polytope.vertices(max_vertices=max_vertices, check=lambda: None)
            except VertexLimitError as limit:
                raise OptimalSetError(
                    f"The optimal polytope of {len(self.directions)} directions and dimension {self.dimension} was not "
                    f"listed, since {limit} occur; raise max_vertices, or use mass_range, sparsest and sample, "
                    "which do without the list."
                ) from limit
            except ArithmeticLimitError as limit:
                raise UncertainVerticesError(
                    f"The vertices of the optimal polytope are not certain in floating point: {limit}."
                ) from limit
            found.flags.writeable = False
            self._kept["vertices"] = found
        return self._kept["vertices"]

    @cached_property
    def _listed(self) -> FloatArray | None:
        """Vertices, None where they are too many; where rounding hides them there are no certain widths, either."""
        try:
            return self.vertices()
        except UncertainVerticesError:
            raise
        except OptimalSetError:
            return None

    @cached_property
    def _widths(self) -> CriticalWidths:
        return CriticalWidths.of(self.polytope, self._listed)

    @property
    def min_width_bounds(self) -> tuple[int, int]:
        """Proved bounds of :attr:`min_width`; equal where it is known."""
        return self._widths.smallest.lower, self._widths.smallest.upper

    @property
    def min_width_status(self) -> str:
        """How :attr:`min_width` is known: "enumerated", "proved by MILP", or the bounds within the time limit."""
        return self._widths.status

    @property
    def min_width(self) -> int:
        """Smallest width m* of an optimal network: no narrower network attains the optimum.

        Raises
        ------
        OptimalSetError
            When there are too many vertices to list and mixed-integer programming left a gap.
        """
        return self._widths.min_width()

    @property
    def max_irreducible_width_bounds(self) -> tuple[int, int]:
        """Proved bounds of :attr:`max_irreducible_width`; equal where it is known."""
        return self._widths.largest.lower, self._widths.largest.upper

    @property
    def max_irreducible_width(self) -> int:
        """Largest width M* of an irreducible optimal network: one whose contributions are linearly independent.

        Raises
        ------
        OptimalSetError
            When there are too many vertices to list and none was found whose support reaches the rank.
        """
        return self._widths.max_irreducible_width()

    @property
    def connected_width(self) -> int:
        """Width ``min(m* + M*, rank + 1)`` from which on the optimal networks of one width are connected.

        It is sufficient; :func:`cvxnn.landscape.staircase` tells the components at each width.
        """
        return self._widths.connected_width()

    @property
    def spurious_free_width(self) -> int:
        """Width from which on every network has a path to an optimum along which the objective never rises.

        It is one more than the dimension of the span of all contributions, which for c outputs is c times that for one.
        """
        hidden = effective_dimension(self.problem.X[self.problem.sample_weight > 0])
        return hidden * self.problem.n_outputs + 1

    def masses_of(self, net: ReLUNetwork, *, tol: float = _MEMBER) -> FloatArray:
        """Masses of an optimal network on the optimal directions, ``(k,)``.

        Parameters
        ----------
        net : ReLUNetwork
        tol : float, default 1e-5
            Accepted relative error of balance, directions and fit. A network whose objective is optimal to a fraction
            ``eps`` may have directions that are off by the square root of it.

        Raises
        ------
        OptimalSetError
            When the network is not optimal; the message says what is wrong with it.
        """
        require_fitting_network(self.problem, net, "net must be", "got")
        tol = as_number(tol, "tol", minimum=0.0, inclusive=False)
        if net.output_bias != 0.0:
            raise OptimalSetError(f"The network has an output bias of {net.output_bias:g}; this problem has none.")
        scale = self.total_mass or self.objective / self.problem.beta
        masses = read_masses(net, self.directions, self.outputs, scale=scale, tol=tol)
        misfit = self._misfit(masses)
        if misfit > tol:
            raise OptimalSetError(f"The fit differs from the optimal one by {misfit:.1e} relative to its norm.")
        return masses

    def contains(self, net: ReLUNetwork, *, tol: float = _MEMBER) -> bool:
        """Whether a network is optimal: balanced, on the optimal directions, with the optimal fit, up to ``tol``."""
        try:
            self.masses_of(net, tol=tol)
        except OptimalSetError:
            return False
        return True

    def _misfit(self, masses: FloatArray) -> float:
        size = float(np.linalg.norm(self.polytope.fit))
        missed = float(np.linalg.norm(self.polytope.columns @ masses - self.polytope.fit))
        return missed / size if size > 0.0 else (0.0 if missed == 0.0 else np.inf)

    def _checked(self, masses: npt.ArrayLike, tol: float = 1e-6) -> FloatArray:
        k = len(self.directions)
        values = as_float_array(masses, "masses", ndim=1) if k else np.zeros(0)
        if values.shape != (k,):
            raise ValueError(f"masses must have one entry for each of the {k} directions; got shape {values.shape}.")
        if np.any(values < 0.0):
            raise ValueError(f"masses must not be negative; the smallest is {np.min(values):g}.")
        if self._misfit(values) > tol:
            raise OptimalSetError(
                f"masses give a fit that differs from the optimal one by {self._misfit(values):.1e} relative to its "
                "norm; convex combinations of vertices() are accepted."
            )
        return values

    def network(self, masses: npt.ArrayLike, width: int | None = None, *, split: bool = False) -> ReLUNetwork:
        """Optimal network with the given masses.

        Parameters
        ----------
        masses : array-like (k,)
            Point of the polytope, for instance a convex combination of the vertices.
        width : int, optional
            Number of neurons, at least that of the positive masses (the default).
        split : bool, default False
            Reach the width by splitting the heaviest neurons in half; otherwise by zero neurons.
        """
        values = self._checked(masses)
        index = np.flatnonzero(values > 0.0)
        m = _width(width, len(index))
        if m < len(index):
            raise ValueError(f"width must be at least {len(index)}, the number of positive masses; got {m}.")
        return padded_network(self.directions, self.outputs, values, m, split=split)

    def sample(self, random_state: int | np.random.Generator | None = 0, width: int | None = None) -> ReLUNetwork:
        """Random optimal network: a random point of the polytope or of a face, with random splits, in random order.

        Parameters
        ----------
        random_state : int, Generator or None, default 0
            Seed; None stands for 0.
        width : int, optional
            Number of neurons, at least :attr:`min_width`; by default the positive masses and up to two more.
        """
        rng = as_generator(random_state)
        if self.polytope.is_trivial:
            return self.network(np.zeros(len(self.directions)), _width(width, 0))
        points = self._starting_points(rng)
        smallest = int(np.min(np.sum(points > 0.0, axis=1)))
        if width is not None and _width(width, 0) < smallest:
            raise ValueError(f"width must be at least {smallest}, the smallest optimal width known; got {width}.")
        masses = random_masses(rng, points, width)
        m = _width(width, int(np.sum(masses > 0.0) + rng.integers(0, 3)))
        return split_at_random(rng, self.directions, self.outputs, masses, m)

    def _starting_points(self, rng: np.random.Generator) -> FloatArray:
        """Vertices, or some of them where they cannot be listed."""
        try:
            points = self._listed
        except UncertainVerticesError:
            return np.vstack([self.polytope.corners, random_corners(rng, self.polytope)])
        if points is None:
            return np.vstack([self._widths.smallest.masses, random_corners(rng, self.polytope)])
        return points

    def sparsest(self) -> FloatArray:
        """Masses ``(k,)`` of a network with the fewest neurons known, m* where :attr:`min_width` is proved."""
        return self._widths.smallest.masses.copy()

    def densest(self) -> FloatArray:
        """Masses ``(k,)`` inside the polytope: every direction that some optimal network uses is used."""
        return self.polytope.interior.copy()

    def min_l2(self) -> FloatArray:
        """Masses ``(k,)`` of least Euclidean norm; they are unique and shared evenly between symmetric directions."""
        return self.polytope.nearest_to_zero()

    def move_mass(self, masses: npt.ArrayLike, direction: npt.ArrayLike, *, share: float = 1.0) -> FloatArray:
        """Move masses in a direction, projected to keep the fit, by a share of the way to the boundary.

        Every point on the way is optimal. Where the projected direction vanishes nothing moves.

        Parameters
        ----------
        masses : array-like (k,)
        direction : array-like (k,)
            Wanted change of the masses.
        share : float, default 1.0
            Between 0 (stay) and 1 (until a mass is zero).
        """
        values = self._checked(masses)
        share = as_number(share, "share", minimum=0.0)
        if share > 1.0:
            raise ValueError(f"share must lie in [0, 1]; got {share:g}.")
        move = self.polytope.project_to_moves(as_float_array(direction, "direction", ndim=1))
        return move_to_boundary(values, move, share)


def as_generator(random_state: int | np.random.Generator | None) -> np.random.Generator:
    """Return the generator itself, or one of a seed."""
    if isinstance(random_state, np.random.Generator):
        return random_state
    seed = 0 if random_state is None else random_state
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0:
        raise ValueError(f"random_state must be a non-negative integer, a Generator or None; got {random_state!r}.")
    return np.random.default_rng(seed)


def _width(width: int | None, default: int) -> int:
    return default if width is None else as_count(width, "width", minimum=0)
