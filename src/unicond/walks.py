"""From a request to a start state and a plan: the two ways to walk, ours and the published one.

Ours holds a clean branch exactly at t = 0 and ends clean. `"released"` is UniCon's published
pipeline, which counts the last model index as clean (see `sampling.released`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.backbones.stable_diffusion import Backbone
from unicond.inputs import Inputs
from unicond.mechanisms.correction.replacement import Replacement
from unicond.request import Given, Record
from unicond.sampling import plans, released
from unicond.sampling.noise import Generators
from unicond.sampling.plans import Plan
from unicond.sampling.schedules import DiscreteSchedule, FlowSchedule
from unicond.sampling.state import Latents, Mechanism, State


@dataclass(frozen=True)
class Walk:
    """A plan, and what the published setting changes beside it.

    Args:
        plan: the moves.
        pure: standard deviation of a branch that starts at pure noise.
        levels: {t: level} of masked parts; None takes the move's own.
    """

    plan: Plan
    pure: float = 1.0
    levels: Mapping[float, float] | None = None


def walk(
    schedule: DiscreteSchedule | FlowSchedule, record: Record, conditions: Mapping[str, Given]
) -> Walk:
    """The walk of a request.

    Args:
        schedule: of the base.
        record: what was asked.
        conditions: {branch: how it is given}.

    Returns:
        The plan, and what goes with it.

    Raises:
        ValueError: nothing is left to generate, or the published setting on a flow model.
    """
    starts = {b: conditions[b].start if b in conditions else 1.0 for b in record.branches}
    hold = [branch for branch, known in conditions.items() if known.hold]
    if record.sampling == "unicond":
        return Walk(plans.descend(schedule.times(record.num_inference_steps), starts, hold))
    if not isinstance(schedule, DiscreteSchedule):
        raise ValueError(
            "sampling 'released' is defined for models of discrete steps, not for flow"
        )
    times = released.times_of(schedule, record.solver, record.num_inference_steps)
    spans = [(1 - r, 1 - r if branch in hold else 1.0) for branch, r in starts.items()]
    rows = released.parse([spans], record.num_inference_steps)
    plan = released.plan(rows, record.branches, times, released.end_of(schedule, record.solver))
    pure = schedule.sigma(times[0]) if record.solver.startswith("euler") else 1.0
    return Walk(plan, pure, released.levels(times))


def start(
    walk: Walk,
    backbone: Backbone,
    record: Record,
    conditions: Mapping[str, Given],
    clean: Latents,
) -> tuple[State, Latents]:
    """The state at the plan's beginning, and the unit noise that each branch was made of.

    Pure noise for what is generated, `alpha x0 + sigma z` for what is given up to a level, the
    clean latents themselves at t = 0 (no noise is drawn there).
    """
    times = dict(walk.plan[0].t)
    source = Generators(record.seeds, record.branches)
    shape = (len(record.seeds), *backbone.latent_shape(record.size))
    like = torch.zeros(shape, device=backbone.device)
    latents, noise = dict[str, Tensor](), dict[str, Tensor]()
    for branch, t in times.items():
        if t == 0:
            latents[branch] = clean[branch]
            continue
        z = noise[branch] = source.draw(branch, like)
        if branch not in conditions or conditions[branch].start == 1:
            latents[branch] = walk.pure * z
        else:
            alpha, sigma = backbone.schedule.alpha(t), backbone.schedule.sigma(t)
            latents[branch] = alpha * clean[branch] + sigma * z
    return State(latents, times, backbone.schedule, source), noise


def replacements(walk: Walk, inputs: Inputs, clean: Latents, noise: Latents) -> list[Mechanism]:
    """A replacement for every branch that is known in part; the published one keeps its noise."""
    return [
        Replacement(
            branch,
            clean[branch],
            mask,
            until=inputs.given[branch].level,
            noise=noise[branch] if walk.levels is not None else None,
            levels=walk.levels,
        )
        for branch, mask in inputs.masks.items()
    ]
