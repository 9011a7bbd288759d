"""Checks of the latent inputs of a linear generator."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cvxnn._validation import as_count, as_float_array

FloatArray = npt.NDArray[np.float64]

__all__ = ["as_latent"]


def as_latent(latent: npt.ArrayLike | None, n_samples: int | None) -> FloatArray | None:
    """Latent of full column rank, as many rows as samples."""
    if latent is None:
        return None
    Z = as_float_array(latent, "latent", ndim=2)
    if n_samples is not None and as_count(n_samples, "n_samples") != len(Z):
        raise ValueError(f"n_samples must be {len(Z)}, the rows of latent, or None; got {n_samples}.")
    rank = int(np.linalg.matrix_rank(Z))
    if rank < Z.shape[1]:
        raise ValueError(f"latent must have full column rank {Z.shape[1]}; its rank is {rank}.")
    return Z
