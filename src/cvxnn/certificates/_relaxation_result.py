"""Result of the relaxations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

__all__ = ["RelaxationBound"]


@dataclass(frozen=True, eq=False)
class RelaxationBound:
    """Lower bound over the networks of every width, from a relaxation, and the dual vector that proves it.

    Attributes
    ----------
    lower_bound : float
        No network has a lower objective; rounding is subtracted.
    dual : ndarray (n,)
        Dual vector ``nu``; ``scale * dual`` is the feasible point.
    scale : float
    dual_norm_bound : float
        Proved upper bound of ``max |nu^T (X u)_+|`` over unit vectors.
    directions : ndarray (k, d)
        Unit vectors, candidates for neurons.
    signs : ndarray (k,)
        Signs of their output weights.
    iterations : int
    method : str
    seconds : float
    interrupted : bool
        Whether a keyboard interrupt ended the search; the bound holds all the same.
    """

    lower_bound: float
    dual: FloatArray
    scale: float
    dual_norm_bound: float
    directions: FloatArray
    signs: npt.NDArray[np.int64]
    iterations: int
    method: str
    seconds: float
    interrupted: bool
