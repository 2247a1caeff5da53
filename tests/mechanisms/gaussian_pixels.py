"""What the tests of blending stand on: exact denoisers of independent Gaussian pixels, and runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from unicond.sampling import plans, schedules
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.predictions import Prediction
from unicond.sampling.rows import Variant
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import State

SCHEDULE = schedules.from_config(
    {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
)

PLAIN = (Variant(),)


@dataclass(frozen=True)
class Pixels:
    """`E[x0 | latents]` where every pixel is N(mean, variance) under each prompt.

    Args:
        laws: {prompt: (mean, variance)}, maps that broadcast to (B, C, H, W), or numbers.
        calls: what was asked, one entry a call: (state, variants).
    """

    laws: Mapping[str, tuple]
    calls: list = field(default_factory=list)

    def __call__(self, state, variants=PLAIN):
        self.calls.append((state, list(variants)))
        return [
            {branch: self.predict(state, branch, variant.prompt) for branch in state.latents}
            for variant in variants
        ]

    def predict(self, state, branch, prompt):
        alpha, sigma = state.scales(branch)
        mean, variance = self.laws[prompt]
        latents = state.latents[branch]
        gap = (latents - alpha * mean) / (alpha**2 * variance + sigma**2)
        return Prediction(mean + alpha * variance * gap, sigma * gap)


def noise_of(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(denoiser, latents, mechanisms=(), steps=8, solver=None, seeds=None, plan=None):
    """The final state of a run of one branch, from pure noise where no plan is given."""
    plan = plan or plans.descend(SCHEDULE.times(steps), {"image": 1.0})
    seeds = seeds or list(range(len(latents)))
    start = {branch: t for branch, t in plan[0].t.items() if branch == "image"}
    state = State({"image": latents}, start, SCHEDULE, Generators(seeds, ("image",)))
    for progress in run(state, denoiser, plan, solver or DDIM(), mechanisms):
        state = progress.state
    return state


def state_at(t, latents):
    """A state of one branch, or of the branches given."""
    latents = latents if isinstance(latents, dict) else {"image": latents}
    times = t if isinstance(t, dict) else dict.fromkeys(latents, t)
    count = len(next(iter(latents.values())))
    return State(latents, times, SCHEDULE, Generators(range(count), tuple(latents)))


def half(values_left, values_right, side):
    """A map (1, 1, side, side) of two values, left and right."""
    found = torch.full((1, 1, side, side), float(values_left), dtype=torch.float64)
    found[..., side // 2 :] = values_right
    return found
