"""Second derivatives of a two-layer objective in both layers, as products or as a matrix."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

from cvxnn.problem import Problem

FloatArray = npt.NDArray[np.float64]

__all__ = ["LayerHessian"]

_DENSE, _DENSE_ENTRIES = 700, 1 << 24
_FLAT = 1e-12


class LayerHessian:
    r"""Hessian of :math:`\mathrm{loss}(H A) + \tfrac{\beta}{2}(\|W\|_F^2 + \|A\|_F^2)`, :math:`H = D \circ X W^\top`.

    Parameters
    ----------
    problem : Problem
        Targets ``(n, c)``.
    live : ndarray (n, k)
        Fixed activations D.
    A : ndarray (k, c)
    hidden, fit, N : ndarray
        Hidden layer ``(n, k)``, fit and dual matrix ``(n, c)`` at the point.
    projectors : ndarray (k, d, d)
        Projection of each neuron's weights to its face.
    """

    def __init__(
        self,
        problem: Problem,
        live: FloatArray,
        A: FloatArray,
        hidden: FloatArray,
        fit: FloatArray,
        N: FloatArray,
        projectors: FloatArray,
    ) -> None:
        self.problem, self.X, self.beta = problem, problem.X, problem.beta
        self.live, self.A, self.hidden, self.fit, self.N = live, A, hidden, fit, N
        self.projectors = projectors

    def step(
        self, gW: FloatArray, gA: FloatArray, target: float, cg_steps: int, deadline: float
    ) -> tuple[FloatArray, FloatArray]:
        """Direction of descent: Newton's where the Hessian is positive definite.

        Parameters
        ----------
        gW, gA : ndarray
            Gradients within the faces.
        target : float
            Norm of the residual at which conjugate gradients stop.
        cg_steps : int
            Most of their steps.
        deadline : float
            On the clock of ``time.perf_counter``; they stop there, too.
        """
        (k, d), c = gW.shape, self.A.shape[1]
        size = k * (d + c)
        if size > _DENSE or self.fit.size * size > _DENSE_ENTRIES:
            return self._conjugate_gradients(gW, gA, target, cg_steps, deadline)
        gradient = np.concatenate([gW.ravel(), gA.ravel()])
        step = self._dense_step(self.matrix(), gradient)
        return self.project(step[: k * d].reshape(k, d)), step[k * d :].reshape(k, c)

    def project(self, rows: FloatArray) -> FloatArray:
        """Parts of the weights within the faces."""
        return np.matmul(self.projectors, rows[:, :, None])[:, :, 0]

    def matrix(self) -> FloatArray:
        """All entries within the faces; beta on the diagonal of what is orthogonal to them."""
        problem, X, live = self.problem, self.X, self.live
        (n, k), c, d = live.shape, self.A.shape[1], X.shape[1]
        first = np.einsum("jk,jd,kc->jckd", live, X, self.A, optimize=True).reshape(n, c, k * d)
        second = np.einsum("jk,ce->jcke", self.hidden, np.eye(c), optimize=True).reshape(n, c, k * c)
        jacobian = np.concatenate([first, second], axis=2)
        curved = np.empty_like(jacobian)
        basis = np.empty((n, c, c))
        for j in range(c):
            unit = np.zeros_like(self.fit)
            unit[:, j] = 1.0
            basis[:, :, j] = problem.hessian_product(self.fit, unit)
        np.matmul(basis, jacobian, out=curved)
        out = jacobian.reshape(n * c, -1).T @ curved.reshape(n * c, -1)
        mixed = -np.einsum("jk,jd,jc->kdc", live, X, self.N, optimize=True)
        index = np.arange(k)
        cross = out[: k * d, k * d :].reshape(k, d, k, c)
        cross[index, :, index, :] += mixed
        out[k * d :, : k * d] = out[: k * d, k * d :].T
        blocks = out[: k * d].reshape(k, d, -1)
        blocks = np.matmul(self.projectors, blocks).reshape(k * d, -1)
        right = np.matmul(blocks[:, : k * d].reshape(k * d, k, 1, d), self.projectors)
        out[: k * d, : k * d] = right.reshape(k * d, k * d)
        out[: k * d, k * d :] = blocks[:, k * d :]
        out[k * d :, : k * d] = blocks[:, k * d :].T
        out[np.diag_indices_from(out)] += self.beta
        return out

    def _dense_step(self, matrix: FloatArray, gradient: FloatArray) -> FloatArray:
        """Newton step; along directions of negative curvature the size of the curvature counts."""
        with contextlib.suppress(LinAlgError):
            return -np.asarray(cho_solve(cho_factor(matrix), gradient))
        values, vectors = eigh(matrix)
        sizes = np.maximum(np.abs(values), _FLAT * float(np.max(np.abs(values))) + 1e-3 * self.beta)
        return -(vectors @ ((vectors.T @ gradient) / sizes))

    def _conjugate_gradients(
        self, gW: FloatArray, gA: FloatArray, target: float, cg_steps: int, deadline: float
    ) -> tuple[FloatArray, FloatArray]:
        """Solve the Newton system, up to the first direction of negative curvature."""
        (k, d), cut = gW.shape, gW.size
        residual = -np.concatenate([gW.ravel(), gA.ravel()])
        x = np.zeros_like(residual)
        p, now = residual.copy(), float(residual @ residual)
        for i in range(cg_steps):
            q = self._product(p[:cut].reshape(k, d), p[cut:].reshape(k, -1))
            curve = float(p @ q)
            if curve <= 1e-14 * float(p @ p):
                if i == 0:
                    x = p / self.beta
                break
            share = now / curve
            x += share * p
            residual -= share * q
            last, now = now, float(residual @ residual)
            if now <= target * target or time.perf_counter() > deadline:
                break
            p = residual + (now / last) * p
        return x[:cut].reshape(k, d), x[cut:].reshape(k, -1)

    def _product(self, dW: FloatArray, dA: FloatArray) -> FloatArray:
        """Hessian times a direction within the faces, flat."""
        dh = (self.X @ dW.T) * self.live
        dN = -self.problem.hessian_product(self.fit, dh @ self.A + self.hidden @ dA)
        back = (dN @ self.A.T + self.N @ dA.T) * self.live
        top = self.project(self.beta * dW - back.T @ self.X)
        bottom = self.beta * dA - dh.T @ self.N - self.hidden.T @ dN
        return np.concatenate([top.ravel(), bottom.ravel()])
