"""Results of the functions for Wasserstein GANs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from cvxnn.certificates.certificate import relative_gap
from cvxnn.solution import History

FloatArray = npt.NDArray[np.float64]

__all__ = ["DiscriminatorGap", "Generator", "GeneratorStatus"]


class GeneratorStatus(Enum):
    """How a search for a generator ended; :attr:`advice` says what it means."""

    OPTIMUM = "optimum"
    STATIONARY = "stationary"
    INFEASIBLE = "infeasible"
    MAX_ITER = "max_iter reached"
    TIME_LIMIT = "time_limit reached"
    INTERRUPTED = "interrupted"
    STALLED = "stalled"

    @property
    def advice(self) -> str:
        """One sentence for the user."""
        return _ADVICE[self]


_ADVICE = {
    GeneratorStatus.OPTIMUM: "No generator of this kind has a smaller norm.",
    GeneratorStatus.STATIONARY: (
        "The convex program of the generator's own activation patterns gives no smaller norm; other patterns may."
    ),
    GeneratorStatus.INFEASIBLE: (
        "No generator that satisfies the constraint was found from this reference, which does not prove that there is "
        "none: raise beta_d or n_samples, or start from another reference."
    ),
    GeneratorStatus.MAX_ITER: "Raise max_iter; the generator is the best found.",
    GeneratorStatus.TIME_LIMIT: "Raise time_limit; the generator is the best found.",
    GeneratorStatus.INTERRUPTED: "The search was interrupted; the generator is the best found.",
    GeneratorStatus.STALLED: "A convex program was not solved to tol; loosen tol. The generator is the best found.",
}


@dataclass(frozen=True, eq=False)
class DiscriminatorGap:
    r"""Bounds of the largest difference that one discriminator neuron of unit norm can see.

    Attributes
    ----------
    beta_d : float
        Penalty of the discriminator's output weights.
    upper : float
        Proved upper bound of the largest difference, rounding included.
    lower : float
        Difference that `direction` sees, in floating point.
    direction : ndarray (d,)
        Unit vector u of the neuron.
    sign : int
        +1 where the data have the larger moment, -1 where the generator has.
    activation : str
        "relu" or "quadratic".
    slack : float
        Excess over `beta_d` that counts as none, in its units.
    """

    beta_d: float
    upper: float
    lower: float
    direction: FloatArray
    sign: int
    activation: str
    slack: float

    @property
    def constraint_holds(self) -> bool | None:
        """True where no discriminator of any width gains (proved), False where one does, None where it is open."""
        most = self.beta_d + self.slack
        if self.upper <= most:
            return True
        return False if self.lower > most else None


@dataclass(frozen=True, eq=False)
class Generator:
    r"""Generator of small norm under the constraint of the discriminator.

    Attributes
    ----------
    samples : ndarray (m, d)
        Generated samples G.
    weights : ndarray (k, d) or None
        W with ``G = Z W`` where a latent Z was given.
    objective : float
        Squared Frobenius norm that was minimised: of W, or of G.
    lower_bound : float
        Proved lower bound of it over all generators of this kind with m samples, whatever their patterns.
    discriminator : DiscriminatorGap
        What the best discriminator sees.
    status : GeneratorStatus
        How the search ended; ``status.advice`` says what to do.
    history : History or None
        Norms of the steps; None for a closed form.
    """

    samples: FloatArray
    weights: FloatArray | None
    objective: float
    lower_bound: float
    discriminator: DiscriminatorGap
    status: GeneratorStatus
    history: History | None

    @property
    def gap(self) -> float:
        """Relative gap between `objective` and `lower_bound`."""
        return relative_gap(self.objective, self.lower_bound)

    def __repr__(self) -> str:
        """Key figures on one line."""
        return (
            f"Generator(status={self.status.value!r}, samples={self.samples.shape}, objective={self.objective:.9g}, "
            f"lower_bound={self.lower_bound:.9g}, constraint_holds={self.discriminator.constraint_holds})"
        )
