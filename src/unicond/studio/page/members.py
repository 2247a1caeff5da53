"""The models that make one picture together, in the order in which they are mixed."""

from collections.abc import Sequence
from typing import cast

import gradio as gr
from gradio.components import Component

from unicond.studio.page.fields import Part, Values
from unicond.studio.page.told import Told

MOST = 4
EACH = 4
"""Components of each."""


def members_told(values: Values) -> list[object]:
    """What is said of the models.

    Args:
        values: name, picture, weight and prompt of each.

    Returns:
        One mapping for each that has a name.
    """
    found = list[object]()
    for number in range(MOST):
        name, picture, weight, prompt = values[EACH * number : EACH * (number + 1)]
        if name:
            told = {"name": name, "picture": picture, "prompt": prompt or None}
            if found:
                told["weight"] = weight
            found.append({key: one for key, one in told.items() if one is not None})
    return found


def members_part() -> tuple[Part, list[Component]]:
    """The models on the page.

    Returns:
        The part, and what their names are chosen by.
    """
    components, names = list[Component](), list[Component]()
    with gr.Row():
        for number in range(MOST):
            with gr.Column(min_width=140):
                usual = ("", "text")[number == 1]
                label = f"Model {number + 1}" + (" (kept)" if not number else "")
                name = gr.Dropdown([usual], value=usual, label=label, allow_custom_value=True)
                names.append(name)
                components += [
                    name,
                    gr.Image(label="Its condition", type="pil", image_mode=None, height=180),
                    gr.Slider(0, 1, 0.5, step=0.05, label="All before against this one"),
                    gr.Textbox(label="Prompt of its own", max_lines=1),
                ]
    return (
        Part(components, lambda values: {"model": members_told(values)}, _shown),
        names,
    )


def _shown(told: Told, _branches: Sequence[str]) -> list[object]:
    members = cast("list[dict[str, object]]", told.get("model", []))[:MOST]
    values = list[object]()
    for one in members:
        weight = one.get("weight")
        half = 0.5 if weight is None else weight
        values += [one.get("name"), one.get("picture"), half, one.get("prompt") or ""]
    return values + (MOST - len(members)) * ["", None, 0.5, ""]
