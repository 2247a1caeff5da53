"""What a measurement says of a picture: an energy of clean ones, a likelihood of noisy ones.

    E(x0)        = |y - A x0|^2 / (2 g),    g = max_i s_i^2 (1 where A is not linear)
    p(y | x_t)   = N(y; a A x_t, r^2 A A^T + noise_std^2)
    a = alpha / (alpha^2 + sigma^2),    r^2 = sigma^2 / (alpha^2 + sigma^2)

Neither needs anything that was trained. The likelihood is exact for pictures of a unit Gaussian
prior: a classifier of noisy latents whose classes are measurements. The energy is one of predicted
pictures, for universal guidance; on latents a pixel counts as much less as there are more of them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unicond.mechanisms.measurement import Measurement, Pixels
from unicond.operators.base import LinearOperator
from unicond.sampling.schedules import NoiseSchedule


def gain_of(known: Measurement) -> float:
    """The largest squared singular value of a measurement's operator; 1 where it is not linear."""
    operator = known.operator
    return float(operator.singulars.max()) ** 2 if isinstance(operator, LinearOperator) else 1.0


def loudness(known: Measurement) -> float:
    """How loud the noise of a linear measurement is in the least certain direction of A^+ y."""
    singular = known.linear("what is taken as exact").singulars
    return float((known.noise_std / singular[singular > 0]).max())


def residual_energy(known: Measurement, factor: int) -> Callable[[Tensor], Tensor]:
    """E, (B,) of predicted pictures (B, C, H, W).

    Args:
        known: y, A.
        factor: pixels a latent, along one side.

    Returns:
        The energy.
    """
    share = 1.0 if isinstance(known.space, Pixels) else 1 / factor**2
    scale = share / (2 * gain_of(known))

    def energy(pictures: Tensor) -> Tensor:
        return scale * known.gap(pictures).square().flatten(1).sum(1)

    return energy


def noisy_likelihood(
    known: Measurement, schedule: NoiseSchedule
) -> Callable[[Tensor, float], Tensor]:
    """Log p(y | x_t) up to a constant, (B,) of noisy latents (B, C, h, w) and their time.

    Args:
        known: y, a linear A, noise.
        schedule: of the model.

    Returns:
        The logarithm; directions that A does not see say nothing.
    """
    operator = known.linear("classifier guidance by a likelihood")

    def log_probability(latents: Tensor, t: float) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        whole = alpha**2 + sigma**2
        picture = known.space.decode(alpha / whole * latents)
        singular = operator.singulars.to(picture)
        seen = operator.measurement_to_spectral(known.of(picture))
        gap = seen - singular * operator.to_spectral(picture)
        variance = singular.square() * sigma**2 / whole + known.noise_std**2
        told = singular > 0
        each = torch.where(told, gap.square() / torch.where(told, variance, 1.0), 0.0)
        return -0.5 * each.sum(1)

    return log_probability
