"""Joint Newton-like steps on all neurons with the kinks of the ReLU smoothed and majorised."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn._workers import in_parallel
from cvxnn.problem import Problem
from cvxnn.solvers._pair_products import PairProducts
from cvxnn.solvers.axis_scales import axis_scales
from cvxnn.solvers.best_bias import as_sum, bias_slopes, replaced
from cvxnn.solvers.neurons import Neurons
from cvxnn.solvers.row_slabs import row_pieces

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
AnyFloats = npt.NDArray[np.floating]

__all__ = ["SmoothedKinks"]

_CG_TOL = 0.1
_CG_MAX = 40
_LARGEST_MOVE = 1e30
"""Where the curvature vanishes, the direction grows without limit; single precision ends at 3e38."""

_FLATTEST = 1e-15
"""Least curvature in the preconditioner: the squares of its inverse still fit in single precision."""
_LEAST_ROOT = 1e-36
"""Least square of a smoothed modulus: a normal number in single precision."""
_KEEP_SMOOTHING = 4
_KEEP_BLOCKS = 2
"""Steps for which the widths of the kinks, and the preconditioner, stay as they are."""
_BLOCK_FEATURES = 24
"""Up to this many features a whole block for each neuron preconditions; beyond, a diagonal in the basis of X'X."""
_PRECISE_BELOW = 1e-5
"""Relative decrease of a step below which values and gradients are computed in double precision."""
_FIRST_DAMPING, _LARGEST_START, _LARGEST_DAMPING = 0.1, 1.0, 1e6
"""Damping of the first step, with which a call may begin, and that at which it gives up."""
_LENGTHS = ((1.0, 2.0), (4.0, 8.0))
_SHORT_LENGTHS = ((0.5, 0.25, 0.125), (2.0**-5, 2.0**-7, 2.0**-9))


class SmoothedKinks:
    r"""Steps that lower :math:`\mathrm{loss}(\sum_i s_i (t_i + R_i)/2) + \beta \sum_i \|z_i\|`, :math:`t_i = X z_i`.

    Each ReLU of a preactivation t becomes :math:`(t + R)/2` with :math:`R = \sqrt{t^2 + E^2}` and
    :math:`E_{ji} = \epsilon \|x_j\| \|z_i\|`. A step solves a Newton system in which a convex kink has the curvature
    :math:`1/(2R)` of a majorising parabola and a concave kink none, with the Gauss-Newton term of the loss that couples
    the neurons; conjugate gradients apply it through X. The preconditioner is the diagonal block of each neuron, or,
    with many features, the diagonal of that block in the eigenvectors of :math:`X^\top X`.

    All passes go over slabs of rows that fit in a core's cache. Two arrays of the size of the hidden layer are kept,
    in single precision; values and gradients are computed in double precision as soon as steps gain little.

    Parameters
    ----------
    problem : Problem
        Data, loss and beta.
    products : PairProducts, optional
        Those of X in single precision; formed otherwise where there are few features.

    References
    ----------
    Hunter and Lange (2004), "A tutorial on MM algorithms"; Nocedal and Wright (2006), section 7.1.

    Examples
    --------
    >>> import numpy as np
    >>> problem = Problem([[1.0], [-1.0]], [2.0, 0.0], beta=0.1)
    >>> steps = SmoothedKinks(problem)
    >>> best = steps.minimize(Neurons(np.array([[1.0]]), np.ones(1)), eps=1e-4, max_steps=8)
    >>> round(best.objective(problem), 4)
    0.195
    """

    def __init__(self, problem: Problem, products: PairProducts | None = None) -> None:
        # Vectors are scales * q with the variables q; the penalty sees the norm (sum_k costs_k q_k^2)^(1/2).
        self.scales = axis_scales(problem)
        self.costs = self.scales**2
        self.damped = np.maximum(self.costs, 1.0)
        even = bool(np.all(self.scales == 1.0))
        if not even:
            problem = replaced(problem, X=problem.X * self.scales)
        self.problem = problem
        self.row_squares = np.einsum("ij,ij->i", problem.X, problem.X)
        self.single: SingleArray = problem.X.astype(np.float32)
        self.diagonal = problem.n_features > _BLOCK_FEATURES
        self.rotation: FloatArray | None = None
        self._work: tuple[SingleArray, SingleArray] | None = None
        if self.diagonal and even:
            self.rotation = np.linalg.eigh(problem.X.T @ problem.X)[1]
            self.single = self.single @ self.rotation.astype(np.float32)
            products = None
        self.products = products or PairProducts(self.single)
        if not self.diagonal:
            self.products.prepare()
        self.restart()

    def restart(self) -> None:
        """Begin with the damping and the precision of a first call."""
        self.damping = _FIRST_DAMPING
        self.precise = False

    def minimize(self, neurons: Neurons, *, eps: float, max_steps: int, deadline: float = np.inf) -> Neurons:
        """Take steps at smoothing ``eps``; return the best neurons met by the true objective.

        The start counts as met, so the objective never rises. ``deadline`` is a time of ``time.perf_counter``.
        """
        start = neurons.take(neurons.masses > 0)
        if len(start) == 0:
            return start
        # Neurons of one sign lie together: the curvature of a kink depends on the sign.
        start = start.take(np.argsort(-start.signs, kind="stable"))
        vectors, signs = start.vectors / self.scales, start.signs
        best, best_value = vectors, np.inf
        start_value = self._value(vectors, signs)
        state, inverse, spread = None, None, np.zeros(len(signs))
        self.damping = min(self.damping, _LARGEST_START)
        for step in range(max_steps):
            if time.perf_counter() >= deadline:
                break
            if state is None or step % _KEEP_SMOOTHING == 0:
                spread = (eps * np.maximum(np.linalg.norm(vectors, axis=1), 1e-150)) ** 2
                state = self._state(vectors, signs, spread)
            if state.true_value < best_value:
                best, best_value = vectors, state.true_value
            if inverse is None or step % _KEEP_BLOCKS == 0:
                inverse = self._preconditioner(state)
            move = self._solve(state, inverse, deadline)
            length, value = self._line_search(state, move)
            if length == 0.0:
                inverse = None
                if self.damping > _LARGEST_DAMPING:
                    break
                continue
            self.precise = not state.value - value > _PRECISE_BELOW * abs(value)
            vectors = vectors + length * move
            state = self._state(vectors, signs, spread)
        if state is not None and state.true_value < best_value:
            best = vectors
        self._work = None
        return Neurons(best * self.scales, signs) if self._value(best, signs) < start_value else start

    def _value(self, vectors: FloatArray, signs: FloatArray) -> float:
        """True objective."""
        fit = Neurons(vectors, signs).fit(self.problem.X)
        return self.problem.loss_value(fit) + self.problem.beta * float(self._norms(vectors).sum())

    def _norms(self, vectors: FloatArray) -> FloatArray:
        return np.sqrt((vectors * vectors) @ self.costs)

    def _shifts(self) -> SingleArray:
        """Damped curvature of the penalty along each axis, for a pull of one."""
        return (self.costs + self.damping * self.damped).astype(np.float32)

    def _rotated(self, vectors: FloatArray) -> FloatArray:
        return vectors if self.rotation is None else vectors @ self.rotation

    def _arrays(self, single: bool, vectors: FloatArray) -> tuple[AnyFloats, AnyFloats, AnyFloats]:
        """Rows, row norms squared and vectors, in single precision in the basis of the products or in double."""
        if single:
            return self.single, self.row_squares.astype(np.float32), self._rotated(vectors).astype(np.float32)
        return self.problem.X, self.row_squares, vectors

    def _work_arrays(self, shape: tuple[int, int]) -> tuple[SingleArray, SingleArray]:
        """Slopes and curvatures of the kinks; those of the last state, which is dead, are written over."""
        if self._work is None or self._work[0].shape != shape:
            self._work = np.empty(shape, np.float32), np.empty(shape, np.float32)
        return self._work

    def _state(self, vectors: FloatArray, signs: FloatArray, spread: FloatArray) -> _State:
        """Compute the derivatives of the smoothed objective at ``vectors``, in one sweep over the rows."""
        X, squares, at = self._arrays(not self.precise, vectors)
        dtype = at.dtype
        n, k = len(X), len(signs)
        weights, sign, widths = np.ascontiguousarray(at.T), signs.astype(dtype), spread.astype(dtype)
        problem, constant = as_sum(self.problem, lambda: _smoothed_fit(X, squares, weights, widths, sign))
        positive = int(np.sum(signs > 0))
        slopes, convex = self._work_arrays((n, k))
        curvature = np.empty(n, np.float32)

        def sweep(slabs: Sequence[slice]) -> tuple[float, float, AnyFloats]:
            value, true_value, gradient = 0.0, 0.0, np.zeros(at.shape, dtype)
            for rows in slabs:
                y, weight = problem.y[rows], problem.sample_weight[rows]
                products = X[rows] @ weights
                root = _roots(products, squares[rows], widths)
                linear = products @ sign
                fit = 0.5 * (linear + root @ sign).astype(np.float64)
                true_fit = 0.5 * (linear + np.abs(products) @ sign).astype(np.float64)
                value += problem.loss.value(fit, y, weight)
                true_value += problem.loss.value(true_fit, y, weight)
                curvature[rows] = problem.loss.hessian(fit, y, weight)
                pull = problem.loss.gradient(fit, y, weight).astype(dtype)[:, None]
                slope = np.divide(products, root, out=products)
                slope += 1.0
                slope *= 0.5
                slopes[rows] = slope
                slope *= pull
                gradient += slope.T @ X[rows]
                up, down = np.maximum(0.5 * pull, 0.0), np.maximum(-0.5 * pull, 0.0)
                np.divide(up, root[:, :positive], out=convex[rows, :positive], casting="same_kind")
                np.divide(down, root[:, positive:], out=convex[rows, positive:], casting="same_kind")
            return value, true_value, gradient

        values, true_values, gradients = zip(*in_parallel(sweep, row_pieces(n, k)), strict=True)
        value, true_value, gradient = sum(values), sum(true_values), np.sum(gradients, axis=0)
        norms = np.maximum(self._norms(vectors), 1e-150)
        signed = self._rotated(signs[:, None] * (self.costs * vectors))
        slope_of_loss = gradient.astype(np.float64)
        if self.precise:
            slope_of_loss = self._rotated(slope_of_loss)
        mass = problem.beta * float(norms.sum())
        return _State(
            vectors=vectors,
            signs=signs,
            spread=spread,
            single=dtype == np.float32,
            value=value + constant + mass,
            true_value=true_value + constant + mass,
            gradient=slope_of_loss + (problem.beta / norms)[:, None] * signed,
            slopes=slopes,
            convex=convex,
            curvature=curvature,
            pull=(problem.beta / norms).astype(np.float32),
            directions=(signed / norms[:, None]).astype(np.float32),
            shared=bias_slopes(self.problem, curvature, slopes, self.single),
        )

    def _apply(self, state: _State, p: SingleArray) -> SingleArray:
        """Product of the Newton matrix with one signed vector per neuron, ``(k, d)``."""
        radial = np.einsum("ij,ij->i", state.directions, p)
        out = state.pull[:, None] * (self._shifts() * p - radial[:, None] * state.directions)

        def sweep(slabs: Sequence[slice]) -> SingleArray:
            total = np.zeros_like(out)
            for rows in slabs:
                change = self.single[rows] @ p.T
                slopes = state.slopes[rows]
                coupled = state.curvature[rows] * np.einsum("ij,ij->i", slopes, change)
                change *= state.convex[rows]
                change += slopes * coupled[:, None]
                total += change.T @ self.single[rows]
            return total

        if state.shared is not None:
            out -= state.shared * np.float32(np.vdot(state.shared, p))
        return sum(in_parallel(sweep, row_pieces(len(self.single), len(p))), out)

    def _preconditioner(self, state: _State) -> SingleArray:
        """Inverse blocks ``(k, d, d)``, or the inverse of their diagonals ``(k, d)``."""
        k, d = state.directions.shape
        size = d if self.diagonal else self.products.count

        def sweep(slabs: Sequence[slice]) -> SingleArray:
            total = np.zeros((k, size), dtype=np.float32)
            for rows in slabs:
                weight = state.slopes[rows] ** 2
                weight *= state.curvature[rows, None]
                weight += state.convex[rows]
                pairs = self.single[rows] ** 2 if self.diagonal else self.products.of(rows)
                total += weight.T @ pairs
            return total

        packed = np.sum(in_parallel(sweep, row_pieces(len(self.single), max(k, size // 4))), axis=0)
        shifts = self._shifts()
        if self.diagonal:
            packed += state.pull[:, None] * (shifts - state.directions**2)
            shift = np.float32(1e-6) * np.maximum(packed.sum(axis=1), 0.0)
            return 1.0 / np.maximum(packed + shift[:, None], np.float32(_FLATTEST))
        blocks = self.products.matrices(packed)
        blocks -= state.pull[:, None, None] * state.directions[:, :, None] * state.directions[:, None, :]
        diagonal = np.arange(d)
        trace = blocks[:, diagonal, diagonal].sum(axis=1) + d * state.pull
        shift = state.pull[:, None] * shifts + np.float32(1e-6) * np.maximum(trace, 0.0)[:, None]
        blocks[:, diagonal, diagonal] += np.maximum(shift, np.float32(_FLATTEST))
        return np.linalg.inv(blocks)

    def _solve(self, state: _State, inverse: SingleArray, deadline: float) -> FloatArray:
        """Inexact Newton direction by preconditioned conjugate gradients in single precision."""
        scale = float(np.max(np.abs(state.gradient)))
        if scale == 0.0:
            return np.zeros_like(state.vectors)
        residual = (-state.gradient / scale).astype(np.float32)
        move = np.zeros_like(residual)
        goal = _CG_TOL * float(np.linalg.norm(residual))
        p, last = None, 1.0
        for _ in range(_CG_MAX):
            z = inverse * residual if inverse.ndim == 2 else np.matmul(inverse, residual[:, :, None])[:, :, 0]
            now = float(np.vdot(residual, z))
            p = z if p is None else z + np.float32(now / last) * p
            product = self._apply(state, p)
            bend = float(np.vdot(p, product))
            if not (np.isfinite(bend) and bend > 0.0 and now > 0.0):
                break
            if now / bend * float(np.max(np.abs(p))) > _LARGEST_MOVE:
                break
            share = np.float32(now / bend)
            move += share * p
            residual -= share * product
            last = now
            if np.linalg.norm(residual) <= goal or time.perf_counter() >= deadline:
                break
        found = move.astype(np.float64) * (scale * state.signs[:, None])
        return found if self.rotation is None else found @ self.rotation.T

    def _line_search(self, state: _State, move: FloatArray) -> tuple[float, float]:
        """Length and value: doubled while the smoothed objective falls, or cut until it does; adapts the damping."""
        slope = float(np.vdot(state.gradient, self._rotated(state.signs[:, None] * move)))
        length, value = 0.0, state.value
        for lengths in _LENGTHS:
            for trial, trial_value in zip(lengths, self._smoothed_values(state, move, lengths), strict=True):
                least = value + (1e-4 * trial * slope if length == 0.0 else 0.0)
                if not trial_value < least:
                    break
                length, value = trial, trial_value
            if length < lengths[-1]:
                break
        if length == 0.0:
            for lengths in _SHORT_LENGTHS:
                values = np.nan_to_num(self._smoothed_values(state, move, lengths), nan=np.inf)
                i = int(np.argmin(values))
                if values[i] < state.value + 1e-4 * lengths[i] * slope:
                    length, value = lengths[i], float(values[i])
                    break
        if length == 0.0:
            self.damping = max(10.0 * self.damping, 1e-3)
        elif length >= 1.0:
            self.damping = max(0.5 * self.damping, 1e-3)
        elif length < 0.5:
            self.damping *= 3.0
        return length, value

    def _smoothed_values(self, state: _State, move: FloatArray, lengths: tuple[float, ...]) -> list[float]:
        """Smoothed objective at several lengths along a move, in one sweep and the precision of the state."""
        problem = self.problem
        X, squares, at = self._arrays(state.single, state.vectors)
        by = np.ascontiguousarray(self._arrays(state.single, move)[2].T)
        weights, sign, widths = np.ascontiguousarray(at.T), state.signs.astype(at.dtype), state.spread.astype(at.dtype)
        fits = np.empty((len(lengths), problem.n_samples))

        def sweep(slabs: Sequence[slice]) -> None:
            for rows in slabs:
                products, change = X[rows] @ weights, X[rows] @ by
                # Too long a move overflows to values that no comparison accepts.
                with np.errstate(over="ignore", invalid="ignore"):
                    for fit, length in zip(fits, lengths, strict=True):
                        trial = at.dtype.type(length) * change
                        trial += products
                        fit[rows] = 0.5 * (trial @ sign + _roots(trial, squares[rows], widths) @ sign)

        in_parallel(sweep, row_pieces(len(X), len(sign)))
        masses = [float(self._norms(state.vectors + length * move).sum()) for length in lengths]
        with np.errstate(over="ignore", invalid="ignore"):
            return [problem.loss_value(fit) + problem.beta * mass for fit, mass in zip(fits, masses, strict=True)]


def _smoothed_fit(
    X: AnyFloats, squares: AnyFloats, weights: AnyFloats, widths: AnyFloats, sign: AnyFloats
) -> FloatArray:
    """Sum of the smoothed ReLUs of all neurons, ``(n,)``."""
    fit = np.empty(len(X))

    def sweep(slabs: Sequence[slice]) -> None:
        for rows in slabs:
            products = X[rows] @ weights
            fit[rows] = 0.5 * (products @ sign + _roots(products, squares[rows], widths) @ sign)

    in_parallel(sweep, row_pieces(len(X), len(sign)))
    return fit


def _roots(products: AnyFloats, squares: AnyFloats, widths: AnyFloats) -> AnyFloats:
    """Smoothed moduli ``sqrt(t^2 + E^2)`` of a slab, with ``E^2`` the outer product of two factors."""
    root = np.multiply.outer(squares, widths)
    root += root.dtype.type(_LEAST_ROOT)
    root += products * products
    return np.sqrt(root, out=root)


@dataclass(frozen=True, eq=False)
class _State:
    """One iterate and the derivatives there, those for the solve in single precision.

    Gradient and directions are in terms of the signed vectors ``s_i z_i`` and in the basis of the solve.
    """

    vectors: FloatArray
    signs: FloatArray
    spread: FloatArray
    single: bool
    value: float
    true_value: float
    gradient: FloatArray
    slopes: SingleArray
    convex: SingleArray
    curvature: SingleArray
    pull: SingleArray
    directions: SingleArray
    shared: SingleArray | None
