r"""Primal-dual Newton steps on all neurons jointly, with the kinks smoothed: from a good point to a local optimum."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._workers import in_parallel
from cvxnn.problem import Problem
from cvxnn.solvers._mass_coupling import MassCoupling
from cvxnn.solvers._pair_products import PairProducts
from cvxnn.solvers.axis_scales import axis_scales
from cvxnn.solvers.best_bias import as_sum, bias_slopes, replaced
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.row_slabs import row_pieces

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

__all__ = ["KinkNewton"]

_CG_TOL, _CG_MOST = 0.1, 40
_CG_FINE_MOST = 80
"""Residual at which conjugate gradients end, relative to the first one in the norm of the preconditioner, and most of
their steps: in single precision, and where the smoothing is fine."""

_CG_GAIN = 0.2
"""The steps of conjugate gradients end, too, when one lowers the model by less than this share of the mean one."""

_FINE_SMOOTHING = 5e-6
"""Smoothing below which single precision no longer tells the stiff directions from the others."""

_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-6, 1e6
_LARGEST_START = 1.0
"""Damping with which a smoothing may begin."""

_STIFFEST = 1e25
"""Largest curvature of a kink."""

_MOST_ENTRIES, _MOST_DATA = 1 << 23, 1 << 24
"""Entries of the hidden layer, and of the data, up to which the steps fit in memory."""

_BLOCK_FEATURES = 32
"""Up to so many features a whole block for each neuron preconditions; beyond, a diagonal in the basis of X'X."""

_FLATTEST = 1e-15
"""Least curvature in a preconditioner."""


class KinkNewton:
    r"""Lowers :math:`\mathrm{loss}(\sum_i s_i (t_i + R_i)/2) + \beta \sum_i \|z_i\|`, :math:`t_i = X z_i`.

    Here :math:`R_{ji} = \sqrt{t_{ji}^2 + E_{ji}^2}` with :math:`E_{ji} = \epsilon \|x_j\| \|z_i\|`. The slope
    :math:`w = t/R` of a kink is a variable of its own, with the equation :math:`w R = t` instead of :math:`w = t/R`:
    a convex kink then has the curvature :math:`(1 - w t/R)/(2R)`, which lies between that of the smoothed kink and that
    of a majorising parabola, and Newton's method converges from afar and fast at the end, however small the smoothing.
    Concave kinks are linearised. Conjugate gradients solve the systems, preconditioned with the block of each neuron,
    or, with many features, with the diagonal of that block in the eigenvectors of :math:`X^\top X`, and with the
    system of all masses (:class:`MassCoupling`); they end when the model gains little.

    Parameters
    ----------
    problem : Problem
        Reduced problem.
    products : PairProducts, optional
        Those of X in single precision; formed otherwise.

    References
    ----------
    Chan, Golub and Mulet (1999), "A nonlinear primal-dual method for total variation-based image restoration".
    Nash and Sofer (1990), "Assessing a search direction within a truncated-Newton method".

    Examples
    --------
    >>> import numpy as np
    >>> problem = Problem([[1.0], [-1.0]], [2.0, 0.0], beta=0.1)
    >>> newton = KinkNewton(problem)
    >>> round(newton.minimize(Neurons(np.array([[1.0]]), np.ones(1)), [(1e-4, 8)]).objective(problem), 6)
    0.195
    """

    def __init__(self, problem: Problem, products: PairProducts | None = None) -> None:
        # Vectors are basis @ q with the variables q; the penalty sees the norm (sum_k costs_k q_k^2)^(1/2).
        self.basis: FloatArray | None = None
        self.inverse: FloatArray | None = None
        self.diagonal = problem.n_features > _BLOCK_FEATURES
        scales = axis_scales(problem)
        self.costs = scales**2
        if np.any(scales != 1.0):
            self.basis, self.inverse = np.diag(scales), np.diag(1.0 / scales)
        elif self.diagonal:
            self.basis = np.linalg.eigh(problem.X.T @ problem.X)[1]
            self.inverse = self.basis.T
            products = None
        if self.basis is not None:
            problem = replaced(problem, X=problem.X @ self.basis)
        self.problem = problem
        self.single: SingleArray = problem.X.astype(np.float32)
        self.row_norms = np.linalg.norm(problem.X, axis=1)
        self.products = products or PairProducts(self.single)

    @staticmethod
    def affords(problem: Problem, width: int) -> bool:
        """Whether the steps for so many neurons fit in memory."""
        n, d = problem.X.shape
        return n * width <= _MOST_ENTRIES and n * d <= _MOST_DATA

    def minimize(
        self, neurons: Neurons, schedule: Sequence[tuple[float, int]], *, tol: float = 1e-9, deadline: float = math.inf
    ) -> Neurons:
        """Take steps; return the best neurons met by the true objective, the start among them.

        Parameters
        ----------
        neurons : Neurons
        schedule : sequence of (float, int)
            Smoothings, decreasing, and the most steps at each.
        tol : float
            A smoothing is left when a step promises less than this share of the objective.
        deadline : float
            Time of ``time.perf_counter``.
        """
        best = start = neurons.take(neurons.masses > 0)
        if len(best) == 0:
            return best
        if self.inverse is not None:
            best = Neurons(best.vectors @ self.inverse.T, best.signs)
        run = _Run(self, best)
        first_value = best_value = run.true_value()
        best, best_value = self._descend(run, best, best_value, schedule, tol, deadline)
        if best_value >= first_value:
            return start
        return best if self.basis is None else Neurons(best.vectors @ self.basis.T, best.signs)

    @staticmethod
    def _descend(
        run: _Run, best: Neurons, best_value: float, schedule: Sequence[tuple[float, int]], tol: float, deadline: float
    ) -> tuple[Neurons, float]:
        for eps, steps in schedule:
            run.begin(eps)
            for _ in range(steps):
                if time.perf_counter() >= deadline:
                    return best, best_value
                promised = run.step(deadline)
                value = run.true_value()
                if value < best_value:
                    best, best_value = run.neurons(), value
                if promised <= tol * abs(best_value) or run.damping > _MOST_DAMPING:
                    break
        return best, best_value


@dataclass(eq=False)
class _System:
    """Newton system at one iterate; ``slopes`` and ``convex`` are ``(n, k)`` in the precision of the solve.

    ``shared`` is what the vectors do to an output bias that follows them: a part of rank one that is subtracted.
    """

    value: float
    gradient: FloatArray
    slopes: npt.NDArray
    convex: npt.NDArray
    curvature: npt.NDArray
    pull: npt.NDArray
    directions: npt.NDArray
    blocks: npt.NDArray
    coupling: MassCoupling
    shared: npt.NDArray | None

    def precondition(self, residual: npt.NDArray) -> npt.NDArray:
        """Approximate solution by the blocks of the neurons and by the system of their masses."""
        blocks = self.blocks
        own = blocks * residual if blocks.ndim == 2 else np.matmul(blocks, residual[:, :, None])[:, :, 0]
        return own + self.coupling.apply(residual)


class _Run:
    """Iterate of :class:`KinkNewton`: vectors, their pre-activations and the slopes of the kinks."""

    def __init__(self, owner: KinkNewton, neurons: Neurons) -> None:
        self.owner, self.problem = owner, owner.problem
        self.vectors, self.signs = neurons.vectors.copy(), neurons.signs
        self.z = self.problem.X @ self.vectors.T
        self.slopes: SingleArray = np.zeros(self.z.shape, dtype=np.float32)
        self.damping = _FIRST_DAMPING
        self.damped = np.maximum(owner.costs, 1.0)
        self.sizes = np.zeros(len(neurons))
        self.fine = False

    def begin(self, eps: float) -> None:
        """Set the smoothing; the damping at which the last one gave up says little about it."""
        self.damping = min(self.damping, _LARGEST_START)
        self.sizes = eps * np.maximum(np.linalg.norm(self.vectors, axis=1), 1e-150)
        self.fine = eps < _FINE_SMOOTHING

    def neurons(self) -> Neurons:
        """Neurons of the iterate."""
        keep = np.any(self.vectors != 0.0, axis=1)
        return Neurons(self.vectors[keep].copy(), self.signs[keep])

    def true_value(self) -> float:
        """Objective with the kinks as they are."""
        fit = np.empty(len(self.z))

        def sweep(slabs: Sequence[slice]) -> None:
            for rows in slabs:
                fit[rows] = np.maximum(self.z[rows], 0.0) @ self.signs

        in_parallel(sweep, self._pieces())
        return self.problem.loss_value(fit) + self._penalty(self.vectors)

    def step(self, deadline: float) -> float:
        """Take one step; return the decrease that its model promised."""
        system = self._system()
        move = self._solve(system, deadline)
        promised = -float(np.vdot(system.gradient, move))
        change = self.problem.X @ move.T
        length = self._line_search(system.value, move, change, -promised)
        if length == 0.0:
            self.damping = max(10.0 * self.damping, 1e-3)
            self.slopes[:] = 0.0
            return math.inf
        self._update_slopes(change, length)
        self.vectors = self.vectors + length * move
        self.z += length * change
        if length >= 1.0:
            self.damping = max(0.5 * self.damping, _LEAST_DAMPING)
        elif length < 0.5:
            self.damping *= 3.0
        return promised

    def _penalty(self, vectors: FloatArray) -> float:
        return self.problem.beta * float(self._norms(vectors).sum())

    def _norms(self, vectors: FloatArray) -> FloatArray:
        return np.sqrt((vectors * vectors) @ self.owner.costs)

    def _pieces(self) -> list[Sequence[slice]]:
        return row_pieces(*self.z.shape)

    def _root(self, rows: slice, z: FloatArray) -> FloatArray:
        smooth = self.owner.row_norms[rows, None] * self.sizes
        smooth *= smooth
        smooth += z * z
        smooth += 1e-300
        return np.sqrt(smooth, out=smooth)

    def _smoothed_value(self, move: FloatArray, change: FloatArray | None, length: float) -> tuple[float, FloatArray]:
        fit = np.empty(len(self.z))

        def sweep(slabs: Sequence[slice]) -> None:
            for rows in slabs:
                z = self.z[rows] if change is None else self.z[rows] + length * change[rows]
                root = self._root(rows, z)
                root += z
                fit[rows] = 0.5 * (root @ self.signs)

        in_parallel(sweep, self._pieces())
        vectors = self.vectors if change is None else self.vectors + length * move
        return self.problem.loss_value(fit) + self._penalty(vectors), fit

    def _system(self) -> _System:
        kind = np.float64 if self.fine else np.float32
        value, fit = self._smoothed_value(self.vectors, None, 0.0)
        plain, _ = as_sum(self.problem, lambda: fit)
        nu, hessian = plain.dual_vector(fit), plain.loss_hessian(fit)
        norms = np.maximum(self._norms(self.vectors), 1e-150)
        units = self.vectors / norms[:, None]
        curvature = hessian.astype(kind)
        slopes, convex = np.empty(self.z.shape, dtype=kind), np.empty(self.z.shape, dtype=kind)

        def sweep(slabs: Sequence[slice]) -> tuple[FloatArray, npt.NDArray]:
            pull, gram = np.zeros_like(self.vectors), np.zeros((len(norms), len(norms)), dtype=kind)
            for rows in slabs:
                root = self._root(rows, self.z[rows])
                ratio = self.z[rows] / root
                bend = np.maximum(-nu[rows, None] * self.signs, 0.0)
                bend *= 1.0 - self.slopes[rows] * ratio
                bend /= 2.0 * root
                # Zero rows have no kink, and beyond the largest stiffness single precision would overflow.
                bend[self.owner.row_norms[rows] == 0.0] = 0.0
                convex[rows] = np.minimum(bend, _STIFFEST)
                ratio += 1.0
                ratio *= 0.5 * self.signs
                slopes[rows] = ratio
                ratio *= nu[rows, None]
                pull -= ratio.T @ self.problem.X[rows]
                along = (self.z[rows] / norms).astype(kind)
                gram[diagonal, diagonal] += np.einsum("ij,ij,ij->j", convex[rows], along, along)
                along *= slopes[rows]
                gram += along.T @ (curvature[rows, None] * along)
            return pull, gram

        diagonal = np.arange(len(norms))
        parts = in_parallel(sweep, self._pieces())
        slope_of_norms = self.owner.costs * units
        gradient = sum((part for part, _ in parts), self.problem.beta * slope_of_norms)
        gram = sum((part for _, part in parts), np.zeros((len(norms), len(norms))))
        gram[diagonal, diagonal] += self.damping * (self.problem.beta / norms) * ((units * units) @ self.damped)
        pull = (self.problem.beta / norms).astype(kind)
        directions = slope_of_norms.astype(kind)
        blocks = self._inverse_blocks(slopes, convex, curvature, pull, directions)
        coupling = MassCoupling(gram, units.astype(kind))
        shared = bias_slopes(self.problem, hessian, slopes, self.problem.X if self.fine else self.owner.single)
        return _System(value, gradient, slopes, convex, curvature, pull, directions, blocks, coupling, shared)

    def _inverse_blocks(
        self,
        slopes: npt.NDArray,
        convex: npt.NDArray,
        curvature: npt.NDArray,
        pull: npt.NDArray,
        directions: npt.NDArray,
    ) -> npt.NDArray:
        """Inverse of the diagonal block of each neuron ``(k, d, d)``, or of the diagonal of that block ``(k, d)``."""
        weight = slopes * slopes
        weight *= curvature[:, None]
        weight += convex
        d = directions.shape[1]
        if self.owner.diagonal:
            X = self.problem.X if self.fine else self.owner.single
            diagonals = weight.T @ (X * X)
            diagonals += pull[:, None] * (self._shifts() - directions * directions)
            return 1.0 / np.maximum(diagonals, _FLATTEST).astype(weight.dtype)
        if self.fine:
            X = self.problem.X
            blocks = np.stack(in_parallel(lambda column: (X.T * column) @ X, list(weight.T)))
        else:
            blocks = self.owner.products.sums(weight.T)
        blocks -= pull[:, None, None] * directions[:, :, None] * directions[:, None, :]
        diagonal = np.arange(d)
        trace = np.maximum(blocks[:, diagonal, diagonal].sum(axis=1) + d * pull, 0.0)[:, None]
        rounding = 1e-14 if self.fine else 1e-7
        shift = pull[:, None] * self._shifts() + rounding * trace
        blocks[:, diagonal, diagonal] += np.maximum(shift, 1e-15).astype(blocks.dtype)
        return np.linalg.inv(blocks)

    def _apply(self, system: _System, X: npt.NDArray, p: npt.NDArray) -> npt.NDArray:
        radial = np.einsum("ij,ij->i", system.directions, p)
        out = system.pull[:, None] * self._shifts().astype(p.dtype) * p
        out -= (system.pull * radial)[:, None] * system.directions

        def sweep(slabs: Sequence[slice]) -> npt.NDArray:
            total = np.zeros_like(out)
            for rows in slabs:
                change = X[rows] @ p.T
                slopes = system.slopes[rows]
                coupled = system.curvature[rows] * np.einsum("ij,ij->i", slopes, change)
                change *= system.convex[rows]
                change += slopes * coupled[:, None]
                total += change.T @ X[rows]
            return total

        if system.shared is not None:
            out -= system.shared * p.dtype.type(np.vdot(system.shared, p))
        return sum(in_parallel(sweep, self._pieces()), out)

    def _shifts(self) -> FloatArray:
        """Damped curvature of the penalty along each axis, for a pull of one."""
        return self.owner.costs + self.damping * self.damped

    def _solve(self, system: _System, deadline: float) -> FloatArray:
        """Inexact Newton direction by preconditioned conjugate gradients."""
        X = self.problem.X if self.fine else self.owner.single
        scale = max(float(np.max(np.abs(system.gradient))), 1e-300)
        residual = (-system.gradient / scale).astype(X.dtype)
        move, p, last, first, model = np.zeros_like(residual), np.zeros_like(residual), 1.0, 0.0, 0.0
        for k in range(_CG_FINE_MOST if self.fine else _CG_MOST):
            z = system.precondition(residual)
            now = float(np.vdot(residual, z))
            first = now if k == 0 else first
            if not now > _CG_TOL**2 * first or time.perf_counter() >= deadline:
                break
            p = z + X.dtype.type(now / last if k else 0.0) * p
            product = self._apply(system, X, p)
            bend = float(np.vdot(p, product))
            if not (math.isfinite(bend) and bend > 0.0):
                break
            share = X.dtype.type(now / bend)
            move += share * p
            residual -= share * product
            last = now
            gain = 0.5 * now * (now / bend)
            model += gain
            if (k + 1) * gain <= _CG_GAIN * model:
                break
        move = move.astype(np.float64) * scale
        return move if np.any(move) and np.all(np.isfinite(move)) else -system.gradient / (1.0 + self.damping)

    def _line_search(self, value: float, move: FloatArray, change: FloatArray, slope: float) -> float:
        """Double the step while the smoothed objective falls, or halve it until it does; 0 where it never does."""
        length, best, found = 1.0, value, 0.0
        for _ in range(10):
            trial, _ = self._smoothed_value(move, change, length)
            if found > 0.0 and trial >= best:
                break
            if trial < value + 1e-4 * length * slope:
                best, found = trial, length
                if length < 1.0 or length >= 8.0:
                    break
                length *= 2.0
            else:
                length *= 0.5
        return found

    def _update_slopes(self, change: FloatArray, length: float) -> None:
        """Linearisation of ``w R = t`` along the step, kept within [-1, 1]."""

        def sweep(slabs: Sequence[slice]) -> None:
            for rows in slabs:
                root = self._root(rows, self.z[rows])
                ratio = self.z[rows] / root
                bend = 1.0 - self.slopes[rows] * ratio
                bend /= root
                bend *= length * change[rows]
                bend += ratio
                np.clip(bend, -1.0, 1.0, out=bend)
                self.slopes[rows] = bend

        in_parallel(sweep, self._pieces())
