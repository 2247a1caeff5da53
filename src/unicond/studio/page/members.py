"""The models that make one picture together, in the order in which they are mixed."""

import json
from collections.abc import Sequence
from typing import cast

import gradio as gr
from gradio.components import Component

from unicond.studio.limits import MODELS
from unicond.studio.page.fields import Part, Values
from unicond.studio.page.more import boxes_text, json_of
from unicond.studio.page.told import Told

USUAL = 4
"""Shown from the start."""
EACH = 5
"""Components of each."""


def members_told(values: Values) -> list[object]:
    """What is said of the models.

    Args:
        values: name, picture, weight, prompt and boxes of each.

    Returns:
        One mapping for each that has a name.

    Raises:
        ValueError: boxes are no JSON.
    """
    found = list[object]()
    for number in range(MODELS):
        name, picture, weight, prompt, boxes = values[EACH * number : EACH * (number + 1)]
        if name:
            told = {"name": name, "picture": picture, "prompt": prompt or None}
            told["boxes"] = json_of(str(boxes or ""), f"Boxes of model {number + 1}")
            if found:
                told["weight"] = weight
            found.append({key: one for key, one in told.items() if one is not None})
    return found


def members_part() -> tuple[Part, list[Component]]:
    """The models on the page.

    Returns:
        The part, and what their names are chosen by.
    """
    components = list[Component]()
    with gr.Row():
        for number in range(USUAL):
            components += _member(number)
    with gr.Accordion("More models", open=False):
        for start in range(USUAL, MODELS, USUAL):
            with gr.Row():
                for number in range(start, start + USUAL):
                    components += _member(number)
    names = components[::EACH]
    return (
        Part(["model"], components, lambda values: {"model": members_told(values)}, _shown),
        names,
    )


def _member(number: int) -> list[Component]:
    usual = ("", "text")[number == 1]
    label = f"Model {number + 1}" + (" (kept)" if not number else "")
    with gr.Column(min_width=140):
        return [
            gr.Dropdown([usual], value=usual, label=label, allow_custom_value=True),
            gr.Image(label="Its condition", type="pil", image_mode=None, height=180),
            gr.Slider(0, 1, 0.5, step=0.05, label="All before against this one"),
            gr.Textbox(label="Prompt of its own", max_lines=1),
            boxes_text("Boxes of its own"),
        ]


def _shown(told: Told, _branches: Sequence[str]) -> list[object]:
    members = cast("list[dict[str, object]]", told.get("model", []))[:MODELS]
    values = list[object]()
    for one in members:
        weight = one.get("weight")
        half = 0.5 if weight is None else weight
        boxes = "" if one.get("boxes") is None else json.dumps(one["boxes"])
        prompt = one.get("prompt") or ""
        values += [one.get("name"), one.get("picture"), half, prompt, boxes]
    return values + (MODELS - len(members)) * ["", None, 0.5, "", ""]
