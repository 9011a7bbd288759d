r"""Multipliers that bound one sub-network of three layers on a part of the sign patterns, by Clarabel.

They are hints: what they prove is evaluated by :mod:`cvxnn.certificates.parallel_bounds`, with rounding.
"""

# pyright: reportAttributeAccessIssue=false
# Clarabel ships no type stubs for its compiled module.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import clarabel
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from cvxnn.certificates._rounding import FloatArray

__all__ = ["MultiplierProgram", "Multipliers"]

_FREE = 1e21
"""Right-hand side of a constraint that is not there; Clarabel drops bounds of 1e20 and more."""


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Coefficients ``p, q (n,)`` of the positive and negative parts, ``t (m, n)`` of the inner products, and a point.

    The point ``(m, d)`` is where the bound would be attained if the relaxation were exact.
    """

    p: FloatArray
    q: FloatArray
    t: FloatArray
    point: FloatArray


class MultiplierProgram:
    """The conic program for rows ``(n, d)``, inner signs ``(m,)`` and a norm; parts differ in right-hand sides only."""

    def __init__(self, rows: FloatArray, signs: npt.NDArray[np.int8], norm: str) -> None:
        self.rows, self.signs = rows, signs
        n, d = rows.shape
        m = len(signs)
        self.n, self.d, self.m = n, d, m
        eye: Any = sp.eye_array(n)
        lengths = np.linalg.norm(rows, axis=1)

        # Variables: p, q, t_1..t_m, k_1..k_m, r_1..r_m, tau_1..tau_m, tau. Rows of A x + s = b.
        def row(**parts: Any) -> Any:
            names = ["p", "q", *(f"t{j}" for j in range(m)), *(f"k{j}" for j in range(m)), "r", "u", "tau"]
            height = next(iter(parts.values())).shape[0]
            sizes = [n] * (2 + 2 * m) + [m, m, 1]
            return sp.hstack([parts.get(x, sp.csc_array((height, k))) for x, k in zip(names, sizes, strict=True)])

        blocks = [row(p=-eye), row(q=-eye), row(p=-eye, q=-eye)]
        for j in range(m):
            blocks.append(row(**{f"t{j}": eye, f"k{j}": -eye}))
            blocks.append(row(**{"p" if signs[j] > 0 else "q": eye, f"t{j}": -eye, f"k{j}": -eye}))
            blocks.append(row(**{f"k{j}": -eye}))
        unit: Any = sp.eye_array(m, format="csr")
        for j in range(m):
            blocks.append(row(**{f"k{j}": sp.csc_array(lengths[None]), "r": unit[[j]], "u": -unit[[j]]}))
        one = sp.csc_array(np.ones((1, 1)))
        cones: list[Any] = []
        if norm == "l21":
            blocks.append(row(u=unit, tau=sp.csc_array(-np.ones((m, 1)))))
            cones.append(clarabel.NonnegativeConeT((3 + 3 * m) * n + 2 * m))
        else:
            blocks += [row(tau=-one), row(u=-unit)]
            cones += [clarabel.NonnegativeConeT((3 + 3 * m) * n + m), clarabel.SecondOrderConeT(m + 1)]
        self.start = sum(block.shape[0] for block in blocks)
        for j in range(m):
            blocks += [row(r=-unit[[j]]), row(**{f"t{j}": sp.csc_array(-rows.T)})]
            cones.append(clarabel.SecondOrderConeT(d + 1))
        self.A: Any = sp.csc_matrix(sp.vstack(blocks))
        self.cones = cones
        self.cost = np.zeros(self.A.shape[1])
        self.cost[-1] = 1.0
        self.quadratic = sp.csc_matrix((self.A.shape[1],) * 2)
        self.settings = clarabel.DefaultSettings()
        self.settings.verbose = False
        self.settings.tol_gap_abs = self.settings.tol_gap_rel = self.settings.tol_feas = 1e-10
        self.settings.max_iter = 60

    def solve(self, c: FloatArray, inner: npt.NDArray[np.int8], outer: npt.NDArray[np.int8]) -> Multipliers | None:
        """Multipliers for the part with the signs ``inner (m, n)`` and ``outer (n,)``, 0 where they are open."""
        n, m, d = self.n, self.m, self.d
        b = np.zeros(self.A.shape[0])
        b[:n] = np.where(outer >= 0, -c, _FREE)
        b[n : 2 * n] = np.where(outer <= 0, 0.0, _FREE)
        for j in range(m):
            at = (3 + 3 * j) * n
            b[at : at + n] = np.where(inner[j] <= 0, 0.0, _FREE)
            b[at + n : at + 2 * n] = np.where(inner[j] >= 0, 0.0, _FREE)
        answer = clarabel.DefaultSolver(self.quadratic, self.cost, self.A, b, self.cones, self.settings).solve()
        x, z = np.asarray(answer.x), np.asarray(answer.z)
        if x.size != self.A.shape[1] or not (np.all(np.isfinite(x)) and np.all(np.isfinite(z))):
            return None
        point = -z[self.start :].reshape(m, d + 1)[:, 1:]
        return Multipliers(x[:n], x[n : 2 * n], x[2 * n : (2 + m) * n].reshape(m, n), point)
