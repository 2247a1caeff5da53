"""What users ask for, as plain data: one model a task, named as the command line's options are.

A form knows nothing of models, files or tensors: it can be sent, kept and compared. Pictures in it
come along in base64, or are called by the name of what is sent beside the form. `filled` makes of
it what a model runs.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from unicond.aggregation.manner import MannerName, Mean, Mix, Place, Start
from unicond.grounding import Grounding
from unicond.tasks.form_parts import (
    MOST,
    Box,
    Branch,
    Branches,
    Counted,
    Form,
    Name,
    Picture,
    Pictures,
    Plain,
    Scales,
    Seed,
    Seeds,
    Share,
    Text,
    Weight,
    Where,
    Window,
)


class Generate(Form):
    """Make what is not given: depth to image, image to depth, both from text, or parts.

    Args:
        prompt: what to make; may be left out.
        method: how a map is followed: by its adapter, or one by a readout head.
        scale: of readout; None is the usual one, 0 is off.
        seed: of the first sample, or one a sample.
        count: samples; None is one for each seed.
        image: a given image.
        depth: a given depth map.
        give: {branch: picture} of any other.
        boxes: what is where, for grounding adapters.
        image_prompt: pictures beside the prompt, for image prompt adapters.
        ip_scale: of these; 0 is off.
        depth_kind: how depth maps are read.
        mask: {branch: white is known, black is made}.
        mask_invert: masks are white where to make.
        mask_threshold: known from this value on; None blends grey.
        guide: branches that are made, guided to their given picture.
        noise: {branch: how coarse its given picture is}.
        hold: branches that are kept at their noise instead of lowered.
        only: the branches that are made; None is all.
        fit: how given pictures are brought to size.
        solver: one of `unicond.SOLVERS`.
        spacing: of the times of the moves.
        eta: noise of the ddim solver.
        condition_guidance: 0 is off.
        condition_guidance_against: share of all joint attention that it moves away from, or
            {branch: weight, or (w_x, w_y)} of some.
        perturbed_guidance: away from the model whose places do not see each other; 0 is off.
        guidance_window: times between which guidance acts.
        joint_scale: of all joint attention; 0 is off.
        conditioning_scale: {branch: weight of its joint attention, or (w_x, w_y)}.
        held: whether a held branch looks at the others.
        attention: how far joint attention sees.
        cache: run held branches once.
        refresh: run a held branch that hears again after so many calls.
        ensemble_size: noises whose estimates are averaged.
        sampling: `"released"` walks as UniCon's published pipeline does.
        plan: a way through the times by its name.
        reconstruction_weight: of guidance from known parts, one or {branch: its own}.
        reconstruction_iterations: AdamW steps a move instead of a fixed weight.
        reconstruction_lr: its learning rate.
        reconstruction_window: times between which that guidance acts.
    """

    task: Literal["generate"] = "generate"
    prompt: Text = ""
    method: Literal["adapter", "readout"] = "adapter"
    scale: float | None = None
    seed: Seed | Seeds = 0
    count: int | None = Field(default=None, ge=1)
    image: Picture | None = None
    depth: Picture | None = None
    give: Pictures = {}
    boxes: Grounding | None = None
    image_prompt: Annotated[tuple[Picture, ...], Field(max_length=MOST)] = ()
    ip_scale: float = 1.0
    depth_kind: Literal["near-white", "near-black", "metric"] = "near-white"
    mask: Pictures = {}
    mask_invert: bool = False
    mask_threshold: float | None = Field(default=None, gt=0, le=1)
    guide: Branches = ()
    noise: Annotated[dict[Branch, Share], Field(max_length=MOST)] = {}
    hold: Branches = ()
    only: Annotated[tuple[Branch, ...], Field(min_length=1, max_length=MOST)] | None = None
    fit: Literal["crop", "pad", "stretch", "keep"] = "crop"
    solver: Name | None = None
    spacing: Literal["leading", "linspace", "trailing"] | None = None
    eta: Share | None = None
    condition_guidance: float | None = None
    condition_guidance_against: float | Scales = 0.0
    perturbed_guidance: float | None = None
    guidance_window: Window = (1.0, 0.0)
    joint_scale: float = 1.0
    conditioning_scale: Scales = {}
    held: Literal["one_way", "two_way"] | None = None
    attention: Literal["global", "aligned"] | None = None
    cache: bool | None = None
    refresh: int | None = Field(default=None, ge=1)
    ensemble_size: int | None = Field(default=None, ge=1, le=MOST)
    sampling: Literal["unicond", "released"] = "unicond"
    plan: Annotated[str, Field(max_length=1000)] | None = None
    reconstruction_weight: float | Annotated[dict[Branch, float], Field(max_length=MOST)] | None = (
        None
    )
    reconstruction_iterations: int | None = Field(default=None, ge=1)
    reconstruction_lr: float | None = Field(default=None, gt=0)
    reconstruction_window: Window = (1.0, 0.0)

    def told(self) -> tuple[str, ...]:
        """The branches that it says something of, but the image, in the order of their names."""
        depth = ("depth",) if self.depth is not None else ()
        said = (depth, self.give, self.mask, self.guide, self.noise, self.hold, self.only or ())
        said = (*said, self.conditioning_scale)
        return tuple(sorted({name for names in said for name in names} - {"image"}))


class Edit(Counted):
    """Change a picture as words say.

    Args:
        picture: to be changed.
        prompt: what it is to show.
        source_prompt: what it shows.
        method: INVERSION+ATTENTION, an inversion, or one of its own; None follows from what is
            given.
        strength: small changes little.
        keep: conditions that stay as they are in the picture.
        align: of p2p: None swaps where words stand one for one, and refines else.
        weight: of p2p: {words of the prompt: factor}; of semantic: {text: scale} of further edits.
        subject: of p2p and masactrl: the words of the prompt that it is about.
        source_subject: the words for it in the source's prompt; "" are the same.
        scale: of semantic; None is 7.
        per: of semantic: what is masked; None is by value.
        style: of style_injection: a picture that shows the look.
        style_prompt: what that one shows.
    """

    task: Literal["edit"] = "edit"
    picture: Picture
    prompt: Text
    source_prompt: Text = ""
    method: Name | None = None
    strength: float | None = Field(default=None, gt=0, le=1)
    keep: Branches = ()
    align: Literal["swap", "refine"] | None = None
    weight: Annotated[dict[Text, float], Field(max_length=MOST)] = {}
    subject: Text = ""
    source_subject: Text = ""
    scale: float | None = None
    per: Literal["value", "pixel"] | None = None
    style: Picture | None = None
    style_prompt: Text = ""


class Restore(Counted):
    """Find a picture of which a measurement is known.

    Args:
        picture: what was measured.
        prompt: what it shows, if that is known.
        operator: what measured it.
        noise_std: of its noise, on pictures in [-1, 1].
        mask: of operator mask: white is known.
        method: None is that of the operator's kind.
        simulate: the picture is clean: measure it first.
        mean: one picture, the mean of the samples.
    """

    task: Literal["restore"] = "restore"
    prompt: Text = ""
    picture: Picture
    operator: Name
    noise_std: float = Field(ge=0)
    mask: Picture | None = None
    method: Name | None = None
    simulate: bool = False
    mean: bool = False


class _Conditioned(Counted):
    depth: Picture | None = None
    give: Pictures = {}


class Region(Plain):
    """A text in its place: a box, or a mask that is white inside.

    Args:
        text: what is there.
        box: where.
        mask: or where.

    Raises:
        ValueError: neither place is given, or both are.
    """

    text: Annotated[str, Field(min_length=1, max_length=10_000)]
    box: Box | None = None
    mask: Picture | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.box is None) == (self.mask is None):
            raise ValueError("a region has its place by box or by mask: give one of both")
        return self


class Compose(_Conditioned):
    """Make one picture of several texts.

    Args:
        prompt: what the whole picture shows.
        with_: {text: weight} of what is to be there; in JSON it is called `with`. None is usual.
        without: {text: weight} of what is not to be there; likewise.
        region: texts in their places.
        method: how they are composed; None follows from what is given.
        picture: of blended: what stays outside of the regions.
        other: of magic_fusion: a second model, by the name that it is served under.
        scene: weight of the prompt where regions are.
        depth: a given depth map.
        give: {branch: picture} of any other condition.
    """

    task: Literal["compose"] = "compose"
    prompt: Text = ""
    with_: Annotated[dict[Text, Weight | None], Field(alias="with", max_length=MOST)] = {}
    without: Annotated[dict[Text, Weight | None], Field(max_length=MOST)] = {}
    region: Annotated[tuple[Region, ...], Field(max_length=MOST)] = ()
    method: Name | None = None
    picture: Picture | None = None
    other: Where = ""
    scene: float | None = None


class Placed(Plain):
    """A thing in its box."""

    phrase: Annotated[str, Field(min_length=1, max_length=10_000)]
    box: Box


class Layout(_Conditioned):
    """Make a picture with things in their boxes.

    Args:
        prompt: what the whole picture shows.
        box: the things.
        boxes: or the things, and what they do.
        method: how they are kept there; None is what the model was trained for, else regions.
        scale: of layout, paint_with_words, self_guidance, readout, gligen and interact.
        coarse: of segmentation and segmented_regions: how coarse the map is.
        depth: a given depth map.
        give: {branch: picture} of any other condition.

    Raises:
        ValueError: neither box nor boxes is given, or both are.
    """

    task: Literal["layout"] = "layout"
    prompt: Text
    box: Annotated[tuple[Placed, ...], Field(max_length=MOST)] = ()
    boxes: Grounding | None = None
    method: Name | None = None
    scale: float | None = None
    coarse: Share = 0.0

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.box) == (self.boxes is not None):
            raise ValueError(
                "a layout says what is where by box (--box 'a red ball@0.1,0.3,0.4,0.9') or by "
                "boxes (--boxes): give one of them"
            )
        return self


class Member(Plain):
    """One of several models: a condition with its picture, a grounding adapter, `style`, ...

    Args:
        name: condition, adapter, `style` with a picture, `text`, or what a base is served under.
        picture: of the condition or the style.
        boxes: of a grounding adapter: its own.
        weight: of all before against this one; none of the first.
        prompt: of its own.
    """

    name: Where
    picture: Picture | None = None
    boxes: Grounding | None = None
    weight: Share | None = None
    prompt: Text | None = None


class Aggregate(Counted):
    """Let several models make one picture.

    Args:
        prompt: what the picture shows.
        model: in the order in which they are mixed.
        first: number of the model whose picture is kept, from 1.
        boxes: what is where, for all grounding adapters among them.
        ip_scale: of `style`.
        manner: how models are aggregated where nothing else is said; paper is as published.
        mix: how states become one.
        mean: what each is pulled to.
        step_size: how far each is pulled back, the first one first, for 64 x 64 latents.
        window: first and last of the moves after which states are mixed, or their place.
        start: how all but the first begin.
        solver: of all models, one of `unicond.SOLVERS`.
        eta: noise of the ddim solver.
    """

    task: Literal["aggregate"] = "aggregate"
    prompt: Text
    model: Annotated[tuple[Member, ...], Field(min_length=2, max_length=MOST)]
    first: Annotated[int, Field(ge=1)] = 1
    boxes: Grounding | None = None
    ip_scale: float = 0.8
    manner: MannerName = "default"
    mix: Mix | None = None
    mean: Literal[Mean, "none"] | None = None
    step_size: Annotated[tuple[float, ...], Field(max_length=MOST)] | None = None
    window: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]] | Place | None = None
    start: Start | None = None
    solver: Name | None = None
    eta: Share | None = None


AnyForm = Generate | Edit | Restore | Compose | Layout | Aggregate
FORMS: Mapping[str, type[AnyForm]] = {
    "generate": Generate,
    "edit": Edit,
    "restore": Restore,
    "compose": Compose,
    "layout": Layout,
    "aggregate": Aggregate,
}
ANY: TypeAdapter[AnyForm] = TypeAdapter(Annotated[AnyForm, Field(discriminator="task")])
"""Reads whichever form its `task` says."""
