"""Manifold optimisation: a mixed state is pulled back to where each model would have gone.

    x_m = x' - p_m (x' - mu_m) / |x' - mu_m|        norm per sample

one ascent step on `log p(x_s | x_t, c_m)`, whose gradient is divided by its norm, so that the
variance cancels. The mean `mu_m` is one of

    posterior  the mean of the step that model m has just taken; p_m is clipped to the distance
    released   x_t / sqrt(a) - (1 - a) / (sqrt(1 - abar) sqrt(a)) e_last,   a = 1 - beta, abar at
               the time before this step, e_last predicted there: the mean of a step of one model
               index, one step stale, so that it is close to x_t; p_m is not clipped

The published p are for 64 x 64 latents, whose states have norm `sqrt(16384) = 128`; for others they
scale with `sqrt(numel / 16384)`.

Source: AMDM, arXiv:2410.01262, eq. 10 and 14. The released code takes the norm over the batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.aggregation.mixing import nonzero, norms
from unicond.sampling.schedules import DiscreteSchedule, NoiseSchedule

PUBLISHED_NUMEL = 4 * 64 * 64


def pulled(mixed: Tensor, mean: Tensor, step_size: float, clip: bool) -> Tensor:
    """A mixed state, one step nearer to a mean.

    Args:
        mixed: (B, C, H, W).
        mean: shaped as it.
        step_size: p for latents of `PUBLISHED_NUMEL` values.
        clip: go no farther than the mean.

    Returns:
        (B, C, H, W); `mixed` itself where it is the mean already, or the step has no length.
    """
    if step_size == 0:
        return mixed
    apart = mixed - mean
    distance = norms(apart)
    steps = torch.full_like(distance, _length(step_size, mixed))
    if clip:
        steps = torch.minimum(steps, distance)
    return mixed - steps / nonzero(distance) * apart


def undone(mixed: Tensor, mean: Tensor, step_size: float) -> Tensor:
    """Which share of the way from a mean to the mixed state a clipped step goes back.

    Args:
        mixed: (B, C, H, W).
        mean: shaped as it.
        step_size: as of `pulled`.

    Returns:
        (B,) in [0, 1]; 0 where the mixed state is the mean.
    """
    distance = norms(mixed - mean).flatten()
    share = (_length(step_size, mixed) / nonzero(distance)).clamp(max=1)
    return torch.where(distance > 0, share, 0.0)


def _length(step_size: float, state: Tensor) -> float:
    """Of a step, for states of this size."""
    return step_size * math.sqrt(state[0].numel() / PUBLISHED_NUMEL)


@dataclass(frozen=True)
class Past:
    """What a model said at the last move.

    Args:
        t: the time then.
        eps: (B, C, H, W), its noise prediction, guided.
    """

    t: float
    eps: Tensor


def released_mean(latents: Tensor, past: Past, schedule: NoiseSchedule) -> Tensor:
    """The released code's mean of a step from the present state.

    Args:
        latents: (B, C, H, W), the state before the step.
        past: what was predicted at the move before, not at pure noise: there beta is 1.
        schedule: of a model of discrete steps.

    Returns:
        (B, C, H, W).
    """
    assert isinstance(schedule, DiscreteSchedule)  # Aggregate checks it before the run
    one_index = 1 / len(schedule.alphas_cumprod)
    abar = schedule.alpha(past.t) ** 2
    a = abar / schedule.alpha(max(past.t - one_index, 0.0)) ** 2
    shift = (1 - a) / (math.sqrt(1 - abar) * math.sqrt(a))
    return latents / math.sqrt(a) - shift * past.eps
