"""One model or several for one picture: who is asked what, and how several become one.

    text        the base, by the caption alone
    interact    InteractDiffusion, which is told boxes and who does what to whom
    migc        MIGC, gligen GLIGEN: boxes
    style       the base with a picture as its prompt (IP-Adapter)

All share seeds, steps and solver. Where several are asked, the first one's picture is kept (AMDM).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from unicond.adapter_loading import IMAGE_PROMPT
from unicond.aggregation.manner import DEFAULT, Manner
from unicond.aggregation.placing import moves_of, placed
from unicond.aggregation.together import aggregate
from unicond.calls.image_prompts import ImagePrompt
from unicond.calls.output import Output
from unicond.calls.prepared import Prepared
from unicond.evaluation.subject import Sampling
from unicond.grounding import Grounding
from unicond.model import Model
from unicond.sampling.noise import apart
from unicond.sampling.plans import descend
from unicond.sampling.window import Window
from unicond.tasks.together import STYLE, TEXT

INTERACT, MIGC, GLIGEN = "interact", "migc", "gligen"
GLIGEN_BETA = 0.3
"""Share of the moves in which GLIGEN acts, as published."""
IP_SCALE = 0.8
"""Of the attention of `style` to its picture, as published with AMDM."""
PAPER_STEPS, PAPER_STYLE_STEPS = 50, 10
"""Of the paper's table 1, and with an image prompt."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """One picture that is asked for.

    Attributes:
        caption: all of it, in words.
        plain: what InteractDiffusion is told.
        colored: what the other grounding adapters are told, but for interactions.
        look: (3, H, W) in [-1, 1], what the image prompt adapter looks at.
    """

    caption: str
    plain: Grounding
    colored: Grounding
    look: Tensor | None = None


def steps_of(model: Model, sampling: Sampling) -> int:
    """The moves of a run."""
    return sampling.steps or model.backbone.defaults.num_inference_steps


def window_of(model: Model, sampling: Sampling, manner: Manner) -> Window:
    """The moves after which a manner aggregates, in the model's own size.

    Args:
        model: whose schedule and latents they are.
        sampling: its steps are used.
        manner: whose window is asked for.

    Returns:
        A window of steps.

    Raises:
        ValueError: there is none in so many steps.
    """
    backbone, schedule = model.backbone, model.backbone.schedule
    plan = descend(schedule.times(steps_of(model, sampling)), {"image": 1.0})
    numel = math.prod(backbone.latent_shape((backbone.sample_size, backbone.sample_size)))
    return placed(moves_of(manner.window), plan, "image", schedule, numel, manner.mean)


def adapters_of(names: Sequence[str]) -> tuple[str, ...]:
    """The adapters that some models take, by the names that they are loaded by."""
    own = {STYLE: IMAGE_PROMPT}
    return tuple(dict.fromkeys(own.get(name, name) for name in names if name != TEXT))


def prepare(
    model: Model,
    name: str,
    wanted: Wanted,
    seeds: Sequence[int],
    sampling: Sampling,
    negative: str = "",
    beside: bool = False,
) -> Prepared:
    """What one model is asked.

    Args:
        model: with the adapters.
        name: of the model, see above.
        wanted: the picture.
        seeds: one a sample.
        sampling: its steps, solver and text guidance are used.
        negative: what guidance moves away from.
        beside: it is asked beside another model, in some moves: its adapter acts in all of these.

    Returns:
        A call that is ready to run.

    Raises:
        ValueError: the model lacks the adapter.
    """
    grounding, things = None, replace(wanted.colored, interactions=())
    if name == INTERACT:
        grounding = wanted.plain
    elif name == GLIGEN:
        grounding = replace(things, beta=1.0 if beside else GLIGEN_BETA)
    elif name == MIGC:
        grounding = things
        if beside:
            grounding = replace(grounding, migc_steps=steps_of(model, sampling))
    looked = None
    if name == STYLE:
        assert wanted.look is not None  # whoever asks for a style shows one
        looked = ImagePrompt(wanted.look, IP_SCALE)
    return model.only(*adapters_of([name])).prepare(
        wanted.caption,
        negative_prompt=negative,
        seed=list(seeds),
        branches=["image"],
        num_inference_steps=sampling.steps,
        solver=sampling.solver,
        guidance_scale=sampling.guidance,
        grounding=grounding,
        image_prompt=looked,
    )


def make(
    model: Model,
    names: Sequence[str],
    wanted: Wanted,
    seeds: Sequence[int],
    sampling: Sampling,
    manner: Manner = DEFAULT,
    negative: str = "",
) -> Output:
    """A picture by one model, or by several that are aggregated.

    Args:
        model: with the adapters of all.
        names: of the models; the first one's picture is kept.
        wanted: the picture.
        seeds: one a sample.
        sampling: its steps, solver and text guidance are used.
        manner: how several become one; `Manner.among` as many as there are.
        negative: what guidance moves away from.

    Returns:
        The first one's output.

    Raises:
        ValueError: the model lacks an adapter, or manner and models do not fit.
    """
    calls, manner = list[Prepared](), manner.among(len(names))
    for slot, name in enumerate(names):
        own = [apart(seed, slot if manner.start == "own" else 0) for seed in seeds]
        calls.append(prepare(model, name, wanted, own, sampling, negative, slot > 0))
    if len(calls) == 1:
        return calls[0].run()
    return aggregate(calls, manner=manner)
