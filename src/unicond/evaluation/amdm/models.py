"""One model or several for one picture: who is asked what, and how several become one.

    text        the base, by the caption alone
    interact    InteractDiffusion, which is told boxes and who does what to whom
    migc        MIGC, gligen GLIGEN: boxes
    style       the base with a picture as its prompt (IP-Adapter)

All share seeds, steps and solver. Where several are asked, the first one's picture is kept (AMDM).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from unicond.adapter_loading import IMAGE_PROMPT
from unicond.aggregation.aggregate import STEP_SIZES, WINDOW
from unicond.aggregation.manifold import Mean
from unicond.aggregation.mixing import Mix
from unicond.aggregation.together import aggregate
from unicond.calls.image_prompts import ImagePrompt
from unicond.calls.output import Output
from unicond.calls.prepared import Prepared
from unicond.evaluation.subject import Sampling
from unicond.grounding import Grounding
from unicond.model import Model
from unicond.sampling.noise import apart
from unicond.sampling.window import Window
from unicond.tasks.together import STYLE, TEXT

INTERACT, MIGC, GLIGEN = "interact", "migc", "gligen"
GLIGEN_BETA = 0.3
"""Share of the moves in which GLIGEN acts, as published."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """One picture that is asked for.

    Attributes:
        caption: all of it, in words.
        plain: what InteractDiffusion is told.
        colored: what the other grounding adapters are told.
        look: (3, H, W) in [-1, 1], what the image prompt adapter looks at.
    """

    caption: str
    plain: Grounding
    colored: Grounding
    look: Tensor | None = None


@dataclass(frozen=True)
class Manner:
    """How several models become one; see `aggregation.aggregate.Aggregate`.

    Attributes:
        weights: one fewer than models; None is 0.5 for each.
        mix: how states become one.
        mean: what each is pulled to; None leaves the mixed state to all.
        step_sizes: how far, for latents of 64 x 64; None is as published for two models.
        window: (first, behind the last) of the moves after which states are mixed.
        shared_noise: all start from the first one's noise; else each from its own.
        ip_scale: of the attention of `style` to its picture.
    """

    weights: tuple[float, ...] | None = None
    mix: Mix = "released"
    mean: Mean | None = "released"
    step_sizes: tuple[float, ...] | None = None
    window: tuple[int, int] = (int(WINDOW.from_t), int(WINDOW.to_t))
    shared_noise: bool = False
    ip_scale: float = 0.8

    def label(self) -> str:
        """All of it in words."""
        return " ".join(f"{name}={value}" for name, value in vars(self).items())

    def scaled(self, factor: float) -> "Manner":
        """The same, pulling a number of times as far."""
        sizes = STEP_SIZES if self.step_sizes is None else self.step_sizes
        return replace(self, step_sizes=tuple(factor * size for size in sizes))


PAPER = Manner()
"""Two models, as published with the paper's table 1."""
PAPER_STEPS = 50
PAPER_STYLE = Manner(weights=(0.45,))
"""With an image prompt, as published with the paper's figure 5."""
PAPER_THREE = Manner(weights=(0.47, 0.5), step_sizes=(45.0, 40.0, 35.0))
"""Three models, as published with the paper's figure 6."""
PAPER_STYLE_STEPS = 10


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
    ip_scale: float = PAPER.ip_scale,
    negative: str = "",
) -> Prepared:
    """What one model is asked.

    Args:
        model: with the adapters.
        name: of the model, see above.
        wanted: the picture.
        seeds: one a sample.
        sampling: its steps, solver and text guidance are used.
        ip_scale: of `style`.
        negative: what guidance moves away from.

    Returns:
        A call that is ready to run.

    Raises:
        ValueError: the model lacks the adapter.
    """
    grounding = None
    if name == INTERACT:
        grounding = wanted.plain
    elif name == GLIGEN:
        grounding = replace(wanted.colored, beta=GLIGEN_BETA)
    elif name == MIGC:
        grounding = wanted.colored
    looked = None
    if name == STYLE:
        assert wanted.look is not None  # whoever asks for a style shows one
        looked = ImagePrompt(wanted.look, ip_scale)
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
    manner: Manner = PAPER,
    negative: str = "",
) -> Output:
    """A picture by one model, or by several that are aggregated.

    Args:
        model: with the adapters of all.
        names: of the models; the first one's picture is kept.
        wanted: the picture.
        seeds: one a sample.
        sampling: its steps, solver and text guidance are used.
        manner: how several become one.
        negative: what guidance moves away from.

    Returns:
        The first one's output.

    Raises:
        ValueError: the model lacks an adapter, or manner and models do not fit.
    """
    calls: list[Prepared] = []
    for slot, name in enumerate(names):
        own = [apart(seed, 0 if manner.shared_noise else slot) for seed in seeds]
        calls.append(prepare(model, name, wanted, own, sampling, manner.ip_scale, negative))
    if len(calls) == 1:
        return calls[0].run()
    return aggregate(
        calls,
        manner.weights,
        mix=manner.mix,
        mean=manner.mean,
        step_sizes=manner.step_sizes,
        window=Window.steps(*manner.window),
    )
