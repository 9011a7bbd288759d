r"""Proximal Newton method for the ReLU program on listed cones, with exact projections on the cones.

The step from z to z' minimises the quadratic model of the loss plus the penalty plus :math:`\|z' - z\|^2 / 2\sigma`,
within the cones. Its dual has the n samples as only variables: the blocks follow from

.. math:: z_i' = \Big(1 - \frac{\sigma\beta}{\|p_i\|}\Big)_+ p_i, \qquad p_i = P_{K_i}(z_i + \sigma s_i X^T D_i \nu),

the projection on the cone shrunk towards zero. The equation for the fit is piecewise smooth, and Newton's method solves
it in a few steps; each costs a system of the size of the faces on which the blocks in use lie, most of them rays.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.cone_projection import ConeProjector
from cvxnn.problem import Problem
from cvxnn.solvers._face_system import FaceSystem

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

__all__ = ["ConeProximal"]

_INNER_STEPS = 8
"""Newton steps for one proximal step; where they do not suffice, sigma is too large."""

_INNER_TOL = 0.2
"""Error of the fit at which a proximal step counts as solved, as a share of the change of the fit."""

_GROWTH = 5.0
"""Factor of sigma after a proximal step that was easy."""

_LARGEST = 1e7
"""Bound of sigma times beta over the largest block; beyond it rounding spoils what the next digit would need."""

_IDLE = 4
"""Proximal steps without progress of the objective that end the descent."""

_SLAB = 4_000_000
"""Entries of masks that are weighted at a time."""

_OUTSIDE = 1e-10
"""Distance from the cone, as a share of the point projected, that counts as rounding."""

_BELOW = 1.0 - 1e-12
"""Share of the threshold at which work on a projection that is shrunk to zero ends."""


@dataclass(frozen=True)
class _Model:
    """Quadratic model of the loss at the current fit, for the blocks in use."""

    which: IntArray
    weights: FloatArray
    start: FloatArray
    fit: FloatArray
    gradient: FloatArray
    curvature: FloatArray
    sigma: float
    beta: float


@dataclass(frozen=True)
class _Trial:
    """Blocks that belong to a change of the fit: points, projections, their lengths, and the error of the fit."""

    change: FloatArray
    points: FloatArray
    projected: FloatArray
    lengths: FloatArray
    vectors: FloatArray
    fit: FloatArray
    error: FloatArray
    value: float


class ConeProximal:
    r"""State of the method: blocks, fit, and the multipliers of the cones.

    Parameters
    ----------
    problem : Problem
        Reduced problem, ``beta > 0``.
    masks : ndarray (K, n) of bool
        Patterns of the cones.
    signs : ndarray (K,)
        Output sign of each cone.
    deadline : float
        On the clock of ``time.perf_counter``; projections end there.

    Attributes
    ----------
    vectors : ndarray (K, r)
        Blocks; each lies in its cone at any time.
    fit : ndarray (n,)
        Fitted values.

    References
    ----------
    Li, Sun and Toh (2018), "A highly efficient semismooth Newton augmented Lagrangian method for solving lasso
    problems"; Pilanci and Ergen (2020), "Neural networks are convex regularizers", Theorem 1, for the program.
    """

    def __init__(self, problem: Problem, masks: BoolArray, signs: FloatArray, *, deadline: float = np.inf) -> None:
        X = problem.X
        norms = np.linalg.norm(X, axis=1)
        self.problem = problem
        self.masks = masks
        self.signs = signs
        self.deadline = deadline
        self.vectors = np.zeros((len(masks), X.shape[1]))
        self.fit = np.zeros(len(X))
        self.projector = ConeProjector(X / np.where(norms > 0.0, norms, 1.0)[:, None], masks)
        self._shifts = np.zeros_like(self.vectors)
        self._error = np.zeros_like(self.fit)
        self._system = FaceSystem(X)
        self._last_sigma: tuple[float, float] = (np.inf, 0.0)
        self._bases: dict[int, tuple[bytes, FloatArray]] = {}

    @property
    def dual(self) -> FloatArray:
        """Dual vector at the fit, ``(n,)``."""
        return self.problem.dual_vector(self.fit)

    def start(self, vectors: FloatArray) -> None:
        """Take vectors ``(K, r)`` as the blocks, projected on their cones; zero where that finds no point inside."""
        projected = self.projector.project(vectors, np.arange(len(vectors)), deadline=self.deadline)
        inside = self._inside(projected, _OUTSIDE * np.linalg.norm(vectors, axis=1))
        self.vectors = np.where(inside[:, None], projected, 0.0)
        self.fit = np.zeros(len(self.problem.X))
        for part in self._parts():
            hidden = self.vectors[part] @ self.problem.X.T
            hidden *= self.masks[part]
            self.fit += self.signs[part] @ hidden

    def _inside(self, vectors: FloatArray, slack: FloatArray) -> BoolArray:
        """Whether vectors lie in their cones up to a length ``(K,)``; a projection cut short does not."""
        least = np.empty(len(vectors))
        for part in self._parts():
            least[part] = np.min(self.projector.sides[part] * (vectors[part] @ self.projector.rows.T), axis=1)
        return least >= -slack

    def sigma(self, which: IntArray, beta: float) -> float:
        """Proximal weight to start from: the shrinkage is of the order of the largest block, or the steps are short.

        A descent at the beta of the last one, which other cones have joined since, starts one growth below its end.
        """
        known = self._last_sigma[1] / _GROWTH if self._last_sigma[0] == beta else 0.0
        top = float(self.masses().max(initial=0.0))
        if top > 0.0:
            return max(top / beta, known)
        weights = self.masks[which] * self.signs[which][:, None]
        pulls = (weights * self.dual) @ self.problem.X
        image = np.einsum("kn,kn->n", weights, pulls @ self.problem.X.T)
        curved = float(image @ (self.problem.loss_hessian(self.fit) * image))
        return 10.0 * float(np.sum(pulls * pulls)) / curved if curved > 0.0 else 1.0

    def masses(self) -> FloatArray:
        """Norms of the blocks, ``(K,)``."""
        return np.linalg.norm(self.vectors, axis=1)

    def objective(self, beta: float) -> float:
        """Objective of the blocks with weight decay ``beta``."""
        return self.problem.loss_value(self.fit) + beta * float(self.masses().sum())

    def crude_bounds(self, nu: FloatArray) -> FloatArray:
        """Upper bounds of the dual norm of ``nu`` in every cone, from the multipliers of earlier dual vectors."""
        return np.linalg.norm(self._pulls(nu) + self._shifts, axis=1)

    def bounds(self, target: float, *, limit: int) -> tuple[FloatArray, bool]:
        """Dual norm in the cones, ``(K,)``: exact above ``target``, an upper bound below it; and whether all were seen.

        The cones whose crude bounds are largest come first, ``limit`` at a time; once there are more above the target
        than a quarter of that, which do for one round, the others are passed over and get the target.
        """
        pulls = self._pulls(self.dual)
        bounds = np.linalg.norm(pulls + self._shifts, axis=1)
        above = np.flatnonzero(bounds > target * (1.0 + 1e-10))
        above = above[np.argsort(-bounds[above], kind="stable")]
        found = 0
        for first in range(0, above.size, limit):
            part = above[first : first + limit]
            if found >= limit // 4:
                bounds[above[first:]] = target
                return bounds, False
            projected = self.projector.project(pulls[part], part, enough=target * _BELOW, deadline=self.deadline)
            self._shifts[part] = projected - pulls[part]
            bounds[part] = np.linalg.norm(projected, axis=1)
            found += int(np.count_nonzero(bounds[part] > target * (1.0 + 1e-10)))
        return bounds, True

    def descend(self, which: IntArray, beta: float, *, tol: float, max_iter: int = 60) -> float:
        """Proximal steps on the cones ``which`` (the others hold no mass) until their relative gap is ``tol``.

        Returns
        -------
        float
            The gap reached.
        """
        objective = self.objective(beta)
        sigma, idle = self.sigma(which, beta), 0
        gap, growth = np.inf, _GROWTH
        for _ in range(max_iter):
            model = self._model(which, beta, sigma)
            trial, steps, solved = self._solve(model)
            if _is_past(self.deadline):
                # Projections that were cut short may lie outside their cones.
                break
            part, value = self._line_search(model, trial, objective)
            idle = 0 if objective - value > 1e-14 * abs(objective) else idle + 1
            if part > 0.0:
                self.vectors[which] = _between(model.start, trial.vectors, part)
                self.fit = _between(model.fit, trial.fit, part)
                objective = value
            # With the same dual vector the next model starts where this one ended.
            self._error = trial.error if part == 1.0 else np.zeros_like(self.fit)
            gap = self._gap(model, trial, objective)
            self._last_sigma = (beta, sigma)
            if gap <= tol or idle == _IDLE:
                break
            if part < 1.0 or not solved:
                sigma /= 2.0 if part == 1.0 else 4.0
                growth = max(0.5 * growth, 1.5)
            elif steps <= 3:
                largest = float(np.linalg.norm(trial.vectors, axis=1).max(initial=0.0))
                sigma = min(sigma * growth, max(sigma, _LARGEST * largest / beta))
        return gap

    def _pulls(self, nu: FloatArray) -> FloatArray:
        X = self.problem.X
        pulls = np.empty_like(self.vectors)
        for part in self._parts():
            np.matmul(self.masks[part] * nu, X, out=pulls[part])
        return pulls * self.signs[:, None]

    def _parts(self) -> list[slice]:
        """Parts of the cones whose masks are weighted in one go."""
        size = max(1, _SLAB // max(len(self.fit), 1))
        return [slice(first, first + size) for first in range(0, len(self.masks), size)]

    def _model(self, which: IntArray, beta: float, sigma: float) -> _Model:
        return _Model(
            which,
            self.masks[which] * self.signs[which][:, None],
            self.vectors[which],
            self.fit,
            self.problem.loss_gradient(self.fit),
            self.problem.loss_hessian(self.fit),
            sigma,
            beta,
        )

    def _trial(self, model: _Model, change: FloatArray) -> _Trial:
        """Blocks of a change of the fit, and the value of the dual function, which Newton's method minimises."""
        X, sigma = self.problem.X, model.sigma
        slope = model.gradient + model.curvature * change
        points = model.start - sigma * ((model.weights * slope) @ X)
        limit = sigma * model.beta
        projected = self.projector.project(points, model.which, enough=limit * _BELOW, deadline=self.deadline)
        lengths = np.linalg.norm(projected, axis=1)
        shrink = np.maximum(1.0 - limit / np.where(lengths > 0.0, lengths, 1.0), 0.0)
        vectors = np.where(lengths > limit, shrink, 0.0)[:, None] * projected
        used = np.flatnonzero(lengths > limit)
        fit = np.einsum("kn,kn->n", model.weights[used], vectors[used] @ X.T)
        value = 0.5 * float(change @ (model.curvature * change)) + float(model.fit @ slope)
        value += float(np.sum(vectors * vectors)) / (2.0 * sigma)
        return _Trial(change, points, projected, lengths, vectors, fit, fit - model.fit - change, value)

    def _solve(self, model: _Model) -> tuple[_Trial, int, bool]:
        """Newton's method for the change of the fit; returns the trial, the steps, and whether it was solved."""
        h = model.curvature
        trial = self._trial(model, -self._error)
        floor = 1e-13 * float(np.sqrt(model.fit @ (h * model.fit)))
        for step in range(_INNER_STEPS + 1):
            moved = trial.fit - model.fit
            error = float(np.sqrt(trial.error @ (h * trial.error)))
            if error <= max(_INNER_TOL * float(np.sqrt(moved @ (h * moved))), floor):
                return trial, step, True
            if step == _INNER_STEPS or _is_past(self.deadline):
                break
            direction = self._newton_direction(model, trial)
            slope = float(trial.error @ (h * direction))
            length = 1.0
            while True:
                new = self._trial(model, trial.change + length * direction)
                if new.value <= trial.value - 1e-4 * length * slope + 1e-13 * abs(trial.value) or length < 1e-4:
                    break
                length *= 0.5
            trial = new
        return trial, _INNER_STEPS, False

    def _newton_direction(self, model: _Model, trial: _Trial) -> FloatArray:
        """Newton's direction of the change of the fit; where rounding spoils it the error, always a descent."""
        used = np.flatnonzero(trial.lengths > model.sigma * model.beta)
        maps = [self._face_map(model, trial, int(k)) for k in used]
        direction = self._system.solve(maps, model.weights[used], model.curvature, trial.error)
        return trial.error if direction is None else direction

    def _face_map(self, model: _Model, trial: _Trial, k: int) -> FloatArray:
        """Basis ``(r, q)`` of the face on which block k lies, times the root of the slope of the shrinkage."""
        cone, scale = int(model.which[k]), np.sqrt(model.sigma)
        unit = trial.projected[k] / trial.lengths[k]
        if self.projector.dimension(cone) <= 1:
            return scale * unit[:, None]
        basis = self._basis(cone)
        along = basis.T @ unit
        root = np.sqrt(1.0 - model.sigma * model.beta / trial.lengths[k])
        return scale * (root * basis + (1.0 - root) * np.outer(basis @ along, along))

    def _basis(self, cone: int) -> FloatArray:
        key = np.sort(self.projector.active[cone]).tobytes()
        known = self._bases.get(cone)
        if known is None or known[0] != key:
            known = (key, self.projector.basis(cone))
            self._bases[cone] = known
        return known[1]

    def _line_search(self, model: _Model, trial: _Trial, objective: float) -> tuple[float, float]:
        """Part of the way to the trial that does not raise the objective, and the objective there."""
        part = 1.0
        while part > 1e-6:
            vectors = _between(model.start, trial.vectors, part)
            penalty = model.beta * float(np.linalg.norm(vectors, axis=1).sum())
            value = self.problem.loss_value(_between(model.fit, trial.fit, part)) + penalty
            if value <= objective + 1e-14 * abs(objective):
                return part, value
            part *= 0.5
        return 0.0, objective

    def _gap(self, model: _Model, trial: _Trial, objective: float) -> float:
        """Relative gap among the cones in use; the multipliers of the trial are kept for the bounds to come."""
        nu = self.dual
        shifts = (trial.projected - trial.points) / model.sigma
        self._shifts[model.which] = shifts
        norms = np.linalg.norm((model.weights * nu) @ self.problem.X + shifts, axis=1)
        scale = min(1.0, model.beta / float(norms.max(initial=model.beta)))
        return (objective - self.problem.dual_value(scale * nu)) / max(abs(objective), 1e-300)


def _between(first: FloatArray, last: FloatArray, part: float) -> FloatArray:
    return last if part == 1.0 else first + part * (last - first)


def _is_past(deadline: float) -> bool:
    return time.perf_counter() > deadline
