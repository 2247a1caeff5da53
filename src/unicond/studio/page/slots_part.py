"""The slots of a model's branches on the page, and what fills them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component
from PIL import Image, ImageOps

from unicond.studio.page.fields import Part, Values
from unicond.studio.page.painted import viewable
from unicond.studio.page.slots import (
    EACH,
    MOST,
    OWN,
    PAINTS,
    ROLES,
    USUAL,
    painted_on,
    slots_of,
    told_of,
)
from unicond.studio.page.told import Told


@dataclass(frozen=True, eq=False)
class Slots:
    """The slots on the page.

    Args:
        part: of the fields; its first component holds the branches of the model.
        shown: what `named` fills.
        painted: whether there is paint on each.
        read: buttons by which a condition is read from the image, all but the first slot's.
    """

    part: Part
    shown: Sequence[Block]
    painted: Sequence[gr.State]
    read: Sequence[gr.Button]

    def of(self, number: int) -> Sequence[Component]:
        """The components of a slot."""
        return self.part.components[1 + EACH * number : 1 + EACH * (number + 1)]


def slots_part(names: gr.State) -> Slots:
    """Put the slots on the page.

    Args:
        names: holds the branches of the model.

    Returns:
        The slots.
    """
    components, columns = list[Component]([names]), list[Block]()
    painted, buttons = list[gr.State](), list[gr.Button]()
    with gr.Row():
        for number in range(MOST):
            with gr.Column(
                visible=number < USUAL, min_width=280, elem_id=f"slot-{number}"
            ) as column:
                slot, paint = _slot(is_condition=number > 0)
                components += slot
                painted.append(paint)
                if number:
                    buttons.append(gr.Button("Read from the image", size="sm"))
            columns.append(column)

    def read(values: Values) -> dict[str, object]:
        return told_of(slots_of(cast("list[str]", values[0]), values[1:]))

    def shown(told: Told, branches: Sequence[str]) -> list[object]:
        return [list(branches), *_filled(told, branches[:MOST])]

    part = Part(OWN, components, read, shown)
    return Slots(part, [*components[1::EACH], *columns], painted, buttons)


def named(branches: Sequence[str]) -> list[object]:
    """Updates of the slots' pictures and groups that show a model's branches, `MOST` of each."""
    groups = [gr.update(visible=n < len(branches)) for n in range(MOST)]
    labels = [gr.update(label=branches[n] if n < len(branches) else "") for n in range(MOST)]
    return [*labels, *groups]


def _slot(is_condition: bool) -> tuple[list[Component], gr.State]:
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
    with gr.Accordion("Paint and weight", open=False):
        paint = gr.Radio(list(PAINTS), value=PAINTS[0], label="What is painted")
        hold = gr.Checkbox(label="Stay at this noise")
        weight = gr.Textbox(
            label="Weight",
            info="of its joint attention; 0 is off, 1:0.5 hears the image by half",
            placeholder="usual",
            max_lines=1,
            visible=is_condition,
        )
    painted = gr.State(False)
    editor.upload(lambda: "give", outputs=role, show_progress="hidden", api_visibility="private")
    editor.change(
        _follow,
        [editor, role, paint],
        [role, paint, painted],
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="always_last",
    )
    return [editor, role, noise, paint, hold, weight], painted


def _follow(edited: Mapping[str, object] | None, role: str, paint: str) -> list[object]:
    """What `painted_on` says; what stays is left alone, as it may have been changed meanwhile."""
    new_role, new_paint, there = painted_on(edited, role, paint)
    changed = (new_role, new_paint) != (role, paint)
    return [new_role, new_paint, there] if changed else [gr.skip(), gr.skip(), there]


def _filled(told: Told, branches: Sequence[str]) -> list[object]:
    """The values of all slots."""
    pictures = {**_mapping(told, "give"), **{n: told[n] for n in ("image", "depth") if n in told}}
    masks, noise = _mapping(told, "mask"), _mapping(told, "noise")
    hold = cast("Sequence[str]", told.get("hold", ()))
    only = cast("Sequence[str] | None", told.get("only"))
    weights = _mapping(told, "conditioning_scale")
    values = list[object]()
    for branch in branches:
        picture = cast("Image.Image | None", pictures.get(branch))
        role = ROLES[1] if only is None or branch in only else ROLES[2]
        if picture is not None:
            role = ROLES[0]
        mask = cast("Image.Image | None", masks.get(branch))
        known = None if mask is None else _known(mask, told)
        edited = None if picture is None else _edited(viewable(picture), known)
        values += [edited, role, noise.get(branch, 0.0), PAINTS[0], branch in hold]
        values.append(_weight_text(weights.get(branch)))
    spare = MOST - len(branches)
    return values + spare * [None, ROLES[1], 0.0, PAINTS[0], False, ""]


def _known(mask: Image.Image, told: Told) -> Image.Image:
    """A mask that is white where something is known, whatever a form says of its masks."""
    grey = viewable(mask).convert("L")
    if told.get("mask_invert"):
        grey = ImageOps.invert(grey)
    threshold = cast("float | None", told.get("mask_threshold"))
    if threshold is None:
        return grey
    return grey.point([255 if value >= threshold * 255 else 0 for value in range(256)])


def _weight_text(weight: object) -> str:
    if isinstance(weight, list | tuple):
        return ":".join(map(str, cast("Sequence[float]", weight)))
    return "" if weight is None else str(weight)


def _edited(picture: Image.Image, mask: Image.Image | None) -> dict[str, object]:
    """What an editor shows: the picture, and white paint where its mask is black."""
    layers = list[Image.Image]()
    if mask is not None:
        layer = Image.new("RGBA", mask.size, "white")
        layer.putalpha(ImageOps.invert(mask))
        layers.append(layer if layer.size == picture.size else layer.resize(picture.size))
    return {"background": picture, "layers": layers, "composite": picture}


def _mapping(told: Told, name: str) -> Mapping[str, object]:
    return cast("Mapping[str, object]", told.get(name, {}))
