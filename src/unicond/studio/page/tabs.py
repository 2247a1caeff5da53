"""The fields of each task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import gradio as gr
from gradio.components import Component

from unicond.operators.registry import OPERATORS
from unicond.sampling.named_plans import NAMES
from unicond.sampling.solvers import SOLVERS
from unicond.studio.page import placed
from unicond.studio.page.fields import (
    Part,
    Values,
    check,
    choice,
    number,
    one,
    picture,
    seed_row,
    seeds_part,
    share,
    size_part,
    text,
)
from unicond.studio.page.members import members_part
from unicond.studio.page.more import more
from unicond.studio.page.slots_part import Slots, slots_part
from unicond.studio.page.told import Told
from unicond.tasks import compose, edit, layout, restorers

CONDITIONS = 4
"""That a task may be given."""
PLANS = ("joint", "image-first", "condition-first", "curve(0.25)", "curve(0.75)")


@dataclass(frozen=True, eq=False)
class Go:
    """What starts a run.

    Args:
        button: does.
        wrong: says why it does not.
    """

    button: gr.Button
    wrong: gr.HTML


@dataclass(frozen=True, eq=False)
class Tab:
    """A task on the page.

    Args:
        task: that it asks for.
        parts: its fields, the prompt first.
        go: the button, and what is wrong below it.
        branches: components whose choices are the model's conditions.
        slots: of the branches of a model; None without.
        kept: what the tab was filled with, see `kept`.
    """

    task: str
    parts: Sequence[Part]
    go: Go
    branches: Sequence[Component] = field(default=())
    slots: Slots | None = None
    kept: gr.State = field(default_factory=lambda: gr.State(None))

    @property
    def components(self) -> list[Component]:
        """All components of its fields."""
        return [component for part in self.parts for component in part.components]


def generate(names: gr.State) -> Tab:
    """Make what is not given."""
    prompt = _prompt("a red ball left of a blue box on grass")
    go = _go("Generate")
    slots = slots_part(names)
    common = _common()
    with gr.Accordion("Sampling", open=False), gr.Row():
        sampling = [
            choice("solver", "Solver", ["", *SOLVERS]),
            one(
                "plan",
                gr.Dropdown(
                    ["", *PLANS],
                    value="",
                    label="Plan",
                    info=f"empty follows from the slots; {', '.join(NAMES)}",
                    allow_custom_value=True,
                ),
                "",
                lambda value: value or None,
            ),
            number("condition_guidance", "Condition guidance", info="0 is off"),
            number("perturbed_guidance", "Perturbed-attention guidance", info="0 is off"),
            one(
                "depth_kind",
                gr.Dropdown(
                    ["near-white", "near-black", "metric"], value="near-white", label="Depth is"
                ),
                "near-white",
            ),
        ]
    parts = [prompt, slots.part, *common, *sampling]
    return Tab("generate", [*parts, *more("generate", parts)], go, slots=slots)


def change() -> Tab:
    """Change a picture as words say."""
    prompt = _prompt("what it is to show")
    go = _go("Edit")
    with gr.Row():
        given = picture("picture", "Picture")
        with gr.Column():
            source = text("source_prompt", "What it shows now")
            known = ["", *edit.NAMED, *edit.UNPAIRED, *edit.ALONE]
            method = choice("method", "Method", known)
            strength = share("strength", "Strength (0: the method's own)", zero_is_usual=True)
            kept = gr.Dropdown(
                [], value=[], multiselect=True, allow_custom_value=True, label="Keep its"
            )
            keep = one("keep", kept, [], show=list_of)
    with gr.Accordion("Style", open=False), gr.Row():
        style = [picture("style", "Style"), text("style_prompt", "What that one shows")]
    parts = [prompt, given, source, method, strength, keep, *style, *_common()]
    return Tab("edit", [*parts, *more("edit", parts)], go, [kept])


def mend() -> Tab:
    """Find a picture of which a measurement is known."""
    prompt = _prompt("what it shows, if that is known")
    go = _go("Restore")
    with gr.Row():
        given = picture("picture", "Measurement")
        mask = picture("mask", "Mask (operator mask): white is known")
    with gr.Row():
        operator = choice("operator", "Operator", ["mask", *OPERATORS], "sr4")
        noise = one("noise_std", gr.Number(0.0, label="Noise", minimum=0), 0.0)
        method = choice("method", "Method", ["", *restorers.METHODS])
    with gr.Row():
        checks = [
            check("simulate", "The picture is clean: measure it first"),
            check("mean", "Mean of all samples"),
        ]
    parts = [prompt, given, mask, operator, noise, method, *checks, *_common()]
    return Tab("restore", [*parts, *more("restore", parts)], go)


def place() -> Tab:
    """Make a picture with things in their boxes."""
    prompt = _prompt("a red ball and a blue box on grass")
    go = _go("Lay out")
    boxes = placed.boxes_part()
    with gr.Row():
        method = choice("method", "Method", ["", *layout.METHODS])
        scale = number("scale", "Scale")
        coarse = share("coarse", "Coarse (segmentation, segmented_regions)")
    branches, condition = _conditions()
    parts = [prompt, boxes, method, scale, coarse, condition, *_common()]
    return Tab("layout", [*parts, *more("layout", parts)], go, branches)


def join() -> Tab:
    """Make one picture of several texts."""
    prompt = _prompt("the whole picture")
    go = _go("Compose")
    texts = placed.texts_part()
    with gr.Accordion("Places", open=False):
        regions = placed.regions_part()
    with gr.Row():
        method = choice("method", "Method", ["", *compose.METHODS])
        other = one("other", gr.Textbox(label="Second model (magic_fusion)", max_lines=1), "")
        scene = number("scene", "Weight of the prompt in places")
    given = picture("picture", "Picture (blended)")
    branches, condition = _conditions()
    parts = [prompt, texts, regions, method, other, scene, given, condition, *_common()]
    return Tab("compose", [*parts, *more("compose", parts)], go, branches)


def together() -> Tab:
    """Let several models make one picture."""
    prompt = _prompt("a red ball left of a blue box on grass")
    go = _go("Aggregate")
    members, names = members_part()
    with gr.Row():
        manner = choice("manner", "Manner", ["default", "paper"], "default")
        mix = choice("mix", "Mix", ["", "slerp", "lerp", "released"])
        mean = choice("mean", "Pulled to", ["", "posterior", "none", "released"])
        start = choice("start", "The others begin", ["", "joined", "own", "shared"])
        solver = choice("solver", "Solver", ["", *SOLVERS])
    parts = [prompt, members, manner, mix, mean, start, solver, *_common()]
    return Tab("aggregate", [*parts, *more("aggregate", parts)], go, names)


BUILT: Mapping[str, Callable[[], Tab]] = {
    "edit": change,
    "restore": mend,
    "layout": place,
    "compose": join,
    "aggregate": together,
}
"""{task: makes its tab}, beside `generate`."""


def list_of(value: object) -> object:
    """A tuple as a list."""
    return list(value) if isinstance(value, tuple) else value


def _prompt(place: str) -> Part:
    return text("prompt", "Prompt", place)


def _go(label: str) -> Go:
    return Go(gr.Button(label, variant="primary"), gr.HTML(padding=False))


def _common() -> list[Part]:
    with gr.Row():
        seed = seed_row()
        steps = number("steps", "Steps", whole=True)
        guidance = number("guidance", "Guidance", info="1 is off")
    with gr.Row():
        size = size_part()
        count = gr.Number(1, label="Count", precision=0, minimum=1)
        previews = one("previews", gr.Slider(0, 20, 4, step=1, label="Previews"), 4)
    negative = text("negative_prompt", "Negative prompt")
    return [seeds_part([*seed, count]), steps, guidance, size, previews, negative]


def _conditions() -> tuple[list[Component], Part]:
    """Given conditions: branches and their pictures."""
    components = list[Component]()
    with gr.Accordion("Conditions", open=False), gr.Row():
        for number in range(CONDITIONS):
            with gr.Column(min_width=140):
                label = "Condition" if not number else f"Condition {number + 1}"
                components += [
                    gr.Dropdown([], value="", label=label, allow_custom_value=True),
                    gr.Image(
                        label="Its picture",
                        type="pil",
                        image_mode=None,
                        format="png",
                        height=180,
                    ),
                ]

    def read(values: Values) -> dict[str, object]:
        found = dict[str, object]()
        for name, shown in zip(values[::2], values[1::2], strict=True):
            if shown is None:
                continue
            if not name:
                raise ValueError("a condition's picture is given: say which condition it is")
            if str(name) in found:
                raise ValueError(f"two pictures of {name} are given: leave one")
            found[str(name)] = shown
        return {"give": found}

    def show(told: Told, _branches: Sequence[str]) -> list[object]:
        found = dict(cast("Mapping[str, object]", told.get("give", {})))
        if told.get("depth") is not None:
            found["depth"] = told["depth"]
        shown = [*found.items(), *CONDITIONS * [("", None)]][:CONDITIONS]
        return [value for one in shown for value in one]

    return components[::2], Part(["give", "depth"], components, read, show)
