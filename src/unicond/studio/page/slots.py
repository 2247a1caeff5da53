"""The branches of a model: each given, wholly or in part or coarsely, made, or left out.

As many slots are on the page as any model may have branches; those of a model's are shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component
from PIL import Image

from unicond.studio.page.drawing import moves_of, plan_svg
from unicond.studio.page.fields import Part, Values
from unicond.studio.page.painted import mask_of, viewable
from unicond.studio.page.told import Told

MOST = 6
USUAL = 2
"""Shown from the start: an editor whose width changes later shows its canvas beside its middle."""
ROLES = ("give", "make", "leave out")
PAINTS = ("is made anew", "is kept", "is part of it")
EACH = 5
"""Components of a slot."""


@dataclass(frozen=True, eq=False)
class Slot:
    """What is said of a branch.

    Args:
        picture: that is given, without what was painted on it; None is not there.
        layers: what was painted on it, RGBA.
        composite: both.
        role: one of `ROLES`.
        noise: time up to which it is coarse.
        paint: one of `PAINTS`.
        hold: it stays at its noise.
    """

    picture: Image.Image | None
    layers: Sequence[Image.Image]
    composite: Image.Image | None
    role: str
    noise: float
    paint: str
    hold: bool

    @property
    def drawn(self) -> bool:
        """Whether paint is part of the picture."""
        return self.paint == PAINTS[2]

    @property
    def shown(self) -> Image.Image | None:
        """The picture that is given; None where there is none."""
        return self.composite if self.drawn else self.picture

    @property
    def given(self) -> bool:
        """Whether something is left of what is given."""
        return self.role == ROLES[0] and self.noise < 1

    @property
    def mask(self) -> Image.Image | None:
        """White where it is known; None is everywhere."""
        return None if self.drawn else mask_of(self.layers, self.paint == PAINTS[1])


def slots_of(names: Sequence[str], values: Values) -> dict[str, Slot]:
    """What the slots say.

    Args:
        names: of the model's branches.
        values: of all slots.

    Returns:
        {branch: what is said of it}.
    """
    found = dict[str, Slot]()
    for number, name in enumerate(names):
        edited, role, noise, paint, hold = values[EACH * number : EACH * (number + 1)]
        value = cast("Mapping[str, object]", edited or {})
        found[name] = Slot(
            cast("Image.Image | None", value.get("background")),
            cast("list[Image.Image]", value.get("layers", [])),
            cast("Image.Image | None", value.get("composite")),
            str(role),
            float(cast(float, noise)),
            str(paint),
            bool(hold),
        )
    return found


def unpainted(values: Values) -> list[object]:
    """Values of slots without their editors, as `slots_of` takes them: their pictures are long.

    Args:
        values: of all other components.

    Returns:
        The same, with None for each editor.
    """
    found = list[object]()
    for start in range(0, len(values), EACH - 1):
        found += [None, *values[start : start + EACH - 1]]
    return found


def told_of(slots: Mapping[str, Slot]) -> dict[str, object]:
    """What slots say, as fields of a form to generate.

    Args:
        slots: {branch: what is said of it}.

    Returns:
        {field: value}.

    Raises:
        ValueError: a branch is to be given, and its picture is not there.
    """
    given = {name: one for name, one in slots.items() if one.given}
    for name, one in given.items():
        if one.shown is None:
            raise ValueError(f"{name} is to be given: load, paste or draw its picture, or make it")
    masks = {name: one.mask for name, one in given.items() if one.mask is not None}
    told: dict[str, object] = {
        "give": {name: one.shown for name, one in given.items()},
        "mask": masks,
        "noise": {name: one.noise for name, one in given.items() if one.noise > 0},
        "hold": [name for name, one in given.items() if one.hold and one.noise > 0],
    }
    if any(one.role == ROLES[2] for one in slots.values()):
        made = [n for n, one in slots.items() if one.role != ROLES[2] and not one.given]
        told["only"] = made or list(given)
    return told


def plan_of(slots: Mapping[str, Slot], plan: str | None, steps: int) -> str:
    """The drawing of the way that a run takes.

    Args:
        slots: {branch: what is said of it}.
        plan: by its name; None follows from the slots.
        steps: moves.

    Returns:
        SVG, or why there is none.
    """
    taken = {n: one for n, one in slots.items() if one.role != ROLES[2]}
    starts = {
        name: 1.0 if not one.given or one.mask is not None else one.noise
        for name, one in taken.items()
    }
    hold = [name for name, one in taken.items() if one.given and one.hold]
    try:
        return plan_svg(moves_of(starts, hold, plan or None, steps))
    except ValueError as error:
        return str(error)


def slots_part(names: gr.State) -> tuple[Part, list[Block]]:
    """The slots on the page.

    Args:
        names: holds the branches of the model.

    Returns:
        The part, whose first component is `names`; and what `named` fills.
    """
    components, columns = list[Component]([names]), list[Block]()
    with gr.Row():
        for number in range(MOST):
            with gr.Column(
                visible=number < USUAL, min_width=280, elem_id=f"slot-{number}"
            ) as column:
                components += _slot()
            columns.append(column)

    def read(values: Values) -> dict[str, object]:
        return told_of(slots_of(cast("list[str]", values[0]), values[1:]))

    def shown(told: Told, branches: Sequence[str]) -> list[object]:
        return [list(branches), *_filled(told, branches[:MOST])]

    return Part(components, read, shown), [*components[1::EACH], *columns]


def named(branches: Sequence[str]) -> list[object]:
    """Updates of the slots' pictures and groups that show a model's branches, `MOST` of each."""
    groups = [gr.update(visible=n < len(branches)) for n in range(MOST)]
    labels = [gr.update(label=branches[n] if n < len(branches) else "") for n in range(MOST)]
    return [*labels, *groups]


def _slot() -> list[Component]:
    editor = gr.ImageEditor(
        type="pil",
        format="png",
        height=320,
        canvas_size=(512, 512),
        brush=gr.Brush(colors=["#888888", "#ffffff", "#000000"]),
        sources=["upload", "clipboard"],
    )
    role = gr.Radio(list(ROLES), value="make", show_label=False, container=False)
    noise = gr.Slider(0, 1, 0, step=0.05, label="Noise", info="0 known, 1 free")
    with gr.Accordion("Paint", open=False):
        paint = gr.Radio(list(PAINTS), value=PAINTS[0], label="What is painted")
        hold = gr.Checkbox(label="Stay at this noise")
    editor.upload(lambda: "give", outputs=role, show_progress="hidden", api_visibility="private")
    return [editor, role, noise, paint, hold]


def _filled(told: Told, branches: Sequence[str]) -> list[object]:
    """The values of all slots."""
    pictures = {**_mapping(told, "give"), **{n: told[n] for n in ("image", "depth") if n in told}}
    masks, noise = _mapping(told, "mask"), _mapping(told, "noise")
    hold = cast("Sequence[str]", told.get("hold", ()))
    only = cast("Sequence[str] | None", told.get("only"))
    values = list[object]()
    for branch in branches:
        picture = cast("Image.Image | None", pictures.get(branch))
        role = ROLES[1] if only is None or branch in only else ROLES[2]
        if picture is not None:
            role = ROLES[0]
        mask = cast("Image.Image | None", masks.get(branch))
        edited = None if picture is None else _edited(viewable(picture), mask)
        values += [edited, role, noise.get(branch, 0.0), PAINTS[0], branch in hold]
    spare = MOST - len(branches)
    return values + spare * [None, ROLES[1], 0.0, PAINTS[0], False]


def _edited(picture: Image.Image, mask: Image.Image | None) -> dict[str, object]:
    """What an editor shows: the picture, and white paint where its mask is black."""
    layers = list[Image.Image]()
    if mask is not None:
        layer = Image.new("RGBA", mask.size, "white")
        layer.putalpha(mask.convert("L").point(lambda value: 255 - value))
        layers.append(layer if layer.size == picture.size else layer.resize(picture.size))
    return {"background": picture, "layers": layers, "composite": picture}


def _mapping(told: Told, name: str) -> Mapping[str, object]:
    return cast("Mapping[str, object]", told.get(name, {}))
