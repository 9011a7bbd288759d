r"""Wasserstein GANs whose discriminator is a two-layer network: generators with proofs instead of a game of gradients.

The discriminator's best reply has a closed description: a quadratic one compares second moments, a ReLU one the
moments :math:`1^\top (Xu)_+` over all directions u. :func:`discriminator_gap` bounds how much the best discriminator
sees between any two sets of samples; :func:`quadratic_generator` is the generator of least norm in closed form,
:func:`quadratic_game` the same as a saddle point with its discriminator; :func:`relu_generator` lowers the norm of a
generator by convex programs, one for each set of activation patterns.
"""

from __future__ import annotations

from cvxnn.gan._discriminator import discriminator_gap as discriminator_gap
from cvxnn.gan._game import QuadraticGame as QuadraticGame
from cvxnn.gan._game import quadratic_game as quadratic_game
from cvxnn.gan._quadratic import quadratic_generator as quadratic_generator
from cvxnn.gan._relu import relu_generator as relu_generator
from cvxnn.gan._results import DiscriminatorGap as DiscriminatorGap
from cvxnn.gan._results import Generator as Generator
from cvxnn.gan._results import GeneratorStatus as GeneratorStatus

__all__ = [
    "DiscriminatorGap",
    "Generator",
    "GeneratorStatus",
    "QuadraticGame",
    "discriminator_gap",
    "quadratic_game",
    "quadratic_generator",
    "relu_generator",
]
