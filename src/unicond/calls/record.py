"""What a run was asked for, as it is written into its pictures and read by `rerun`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from unicond.calls.request import Against, Attention, Held, Sampling, Scale
from unicond.grounding import Grounding
from unicond.mechanisms.guidance.gradients import AdamW
from unicond.pictures.depth import DepthKind
from unicond.pictures.fitting import Policy
from unicond.sampling.schedules import Spacing
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True)
class Source:
    """How a branch was given, for the record: enough to find its files again and to see a change.

    Args:
        files: path and sha256 of each of its pictures; empty if it was given from memory.
        mask: of its mask, likewise; None without a mask.
    """

    files: tuple[Mapping[str, str], ...]
    mask: tuple[Mapping[str, str], ...] | None
    noise: float | None
    hold: bool
    kind: DepthKind
    fit: Policy
    invert: bool
    threshold: float | None = None
    guide: bool = False


@dataclass(frozen=True)
class Shown:
    """An image prompt, for the record.

    Args:
        files: path and sha256 of each picture; empty if one came from memory.
        scale: of the attention to them.
        window: when it acted.
    """

    files: tuple[Mapping[str, str], ...]
    scale: float
    window: Window


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything that a run was asked for: written into its pictures, and read by `rerun`.

    Args:
        adapters: {branch, or name of a grounding or image prompt adapter: what it was loaded by}.
        grounding: where things are, of every sample or one for all; none where nothing was said.
        image_prompt: pictures that were prompts.
        seeds: one a sample.
        size: (height, width) in pixels.
        generated: the branches that were made.
        branches: all branches of the run, in their order.
        given: {branch: how it was given}.
        conditioning_scale: {branch: w for both, or (w_x, w_y)} where they were given.
        attention: how far tokens see in joint attention; None is as the adapters were trained.
        cache: whether held branches run once; None does where that changes nothing.
        refresh: network calls after which a cached branch that hears runs again.
        ensemble_size: noises whose pictures were averaged.
        condition_guidance_against: share of the weights of joint attention that condition guidance
            moves away from, or the weights of some branches.
        perturbed_guidance: perturbed-attention guidance.
        guidance_window: when guidance of text, of conditions and of shapes acts.
        spacing: of the times of the moves; None is the base's own.
        plan: name of the way through the plane of times; None follows from what is given, and
            `MOVES` stands for the caller's own moves.
        references: {branch: the prompt of every sample} of pictures beside the image.
        task: what a task function was asked for, by which `rerun` finds its mechanisms again.
        reconstruction_weight: {branch known in part, or guided: weight of its guidance}.
        reconstruction_optimizer: in the place of a fixed weight.
        reconstruction_window: when that guidance acts.
        mechanisms: names of the caller's own mechanisms, and `Aggregate` of several prepared calls
            that ran as one; with any, a picture cannot be made again from its record alone.
        device: kind of the device that it ran on; None is not known.
    """

    base: str
    adapters: Mapping[str, str]
    loras: Mapping[str, float]
    dtype: str
    prompts: tuple[str, ...]
    negative_prompt: str
    seeds: tuple[int, ...]
    size: tuple[int, int]
    branches: tuple[str, ...]
    generated: tuple[str, ...]
    given: Mapping[str, Source]
    num_inference_steps: int
    solver: str
    eta: float | None
    guidance_scale: float
    condition_guidance: float
    joint_scale: float
    conditioning_scale: Mapping[str, Scale]
    held: Held | None
    sampling: Sampling
    mechanisms: tuple[str, ...] = field(default=())
    attention: Attention | None = None
    cache: bool | None = None
    refresh: int | None = None
    ensemble_size: int = 1
    condition_guidance_against: Against = 0.0
    perturbed_guidance: float = 0.0
    guidance_window: Window = ALWAYS
    spacing: Spacing | None = None
    plan: str | None = None
    references: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    task: Mapping[str, object] | None = None
    reconstruction_weight: Mapping[str, float] = field(default_factory=dict[str, float])
    reconstruction_optimizer: AdamW | None = None
    reconstruction_window: Window = ALWAYS
    device: str | None = None
    grounding: tuple[Grounding, ...] = ()
    image_prompt: Shown | None = None

    def __post_init__(self) -> None:
        for name, kind in (("held", Held), ("attention", Attention), ("sampling", Sampling)):
            value, allowed = getattr(self, name), get_args(kind)
            if value not in (*allowed, *(() if name == "sampling" else (None,))):
                raise ValueError(f"{name} is {value!r}; give one of {', '.join(allowed)}")
        if not isinstance(self.num_inference_steps, int):
            raise ValueError(f"num_inference_steps is {self.num_inference_steps}; give an integer")
