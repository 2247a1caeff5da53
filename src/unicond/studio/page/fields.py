"""Fields of forms as components: what each reads of the page, and how it is filled."""

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import gradio as gr
from gradio.components import Component

from unicond.studio.page.told import Told

Values = Sequence[object]
SEEDS = 2**31
"""Of the dice."""
_SIZE = re.compile(r"\s*([0-9]+)\s*(?:x\s*([0-9]+)\s*)?")


@dataclass(frozen=True, eq=False)
class Part:
    """Components that stand for fields of a form.

    Args:
        names: of the fields, as a form calls them in JSON.
        components: in their order.
        read: makes of their values {field: value}; None is not said.
        show: makes of {field: value} and the model's branches their values.
    """

    names: Sequence[str]
    components: Sequence[Component]
    read: Callable[[Values], dict[str, object]]
    show: Callable[[Told, Sequence[str]], list[object]]


def one(
    name: str,
    component: Component,
    usual: object = None,
    read: Callable[[object], object] = lambda value: value,
    show: Callable[[object], object] = lambda value: value,
) -> Part:
    """A field that is one component.

    Args:
        name: of the field.
        component: that stands for it.
        usual: its value where the field is not said.
        read: makes the field of the component's value.
        show: the way back.

    Returns:
        The part.
    """

    def filled(told: Told, _branches: Sequence[str]) -> list[object]:
        value = told.get(name)
        return [usual if value is None else show(value)]

    return Part([name], [component], lambda values: {name: read(values[0])}, filled)


def text(name: str, label: str, place: str = "", info: str | None = None) -> Part:
    """A line of text."""
    return one(name, gr.Textbox(label=label, info=info, placeholder=place, max_lines=1), "")


def number(
    name: str, label: str, whole: bool = False, info: str | None = None, place: str = "usual"
) -> Part:
    """A number; empty is what is usual, which browsers make 0 of in a `gr.Number`."""
    box = gr.Textbox(label=label, info=info, placeholder=place, max_lines=1)
    return one(name, box, "", lambda value: number_of(str(value or ""), label, whole), str)


def number_of(text: str, label: str, whole: bool = False) -> int | float | None:
    """The number that a text says.

    Args:
        text: a number, or nothing.
        label: of its field.
        whole: it has no fraction.

    Returns:
        The number; None for nothing.

    Raises:
        ValueError: it is none.
    """
    if not text.strip():
        return None
    try:
        return int(text) if whole else float(text)
    except ValueError:
        kind = "whole number" if whole else "number"
        raise ValueError(
            f"{label} {text!r} is no {kind}; leave it empty for the usual one"
        ) from None


def share(name: str, label: str, zero_is_usual: bool = False) -> Part:
    """A share between 0 and 1; 0 may stand for what is usual."""
    slider = gr.Slider(0, 1, 0, step=0.05, label=label)
    return one(name, slider, 0.0, lambda value: (value or None) if zero_is_usual else value)


def choice(
    name: str, label: str, choices: Sequence[str], usual: str = "", info: str | None = None
) -> Part:
    """One of several; none of them is what is usual."""
    box = gr.Dropdown(list(choices), value=usual, label=label, info=info, allow_custom_value=True)
    return one(name, box, usual, lambda value: value or None)


def check(name: str, label: str, info: str | None = None) -> Part:
    """Yes or no."""
    return one(name, gr.Checkbox(label=label, info=info), False, bool)


def picture(name: str, label: str) -> Part:
    """A picture, from a file, the clipboard or a camera."""
    return one(name, gr.Image(label=label, type="pil", image_mode=None, format="png", height=220))


def size_part() -> Part:
    """The size of what is made."""
    box = gr.Textbox(label="Size", placeholder="usual; 128 or HEIGHTxWIDTH", max_lines=1)

    def shown(value: object) -> object:
        return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    return one("size", box, "", lambda value: size_of(str(value or "")), shown)


def size_of(text: str) -> int | list[int] | None:
    """The size that a text says.

    Args:
        text: a side, HEIGHTxWIDTH, or nothing.

    Returns:
        A side or both; None for nothing.

    Raises:
        ValueError: it is none of these.
    """
    if not text.strip():
        return None
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"size {text!r} is none: write a side, as 128, or HEIGHTxWIDTH, as 64x192")
    return [int(found[1]), int(found[2])] if found[2] else int(found[1])


def seed_row() -> list[Component]:
    """A seed with its dice, and a lock that keeps it from one run to the next."""
    with gr.Row(equal_height=True):
        box = gr.Number(0, label="Seed", precision=0, minimum=0, scale=3, min_width=110)
        dice = gr.Button("Dice", size="sm", scale=1, min_width=60)
        lock = gr.Checkbox(True, label="keep", scale=1, min_width=90)
    dice.click(dice_thrown, outputs=box, show_progress="hidden", api_visibility="private")
    return [box, lock]


def seeds_part(components: Sequence[Component]) -> Part:
    """The seeds of all samples.

    Args:
        components: seed, lock and number of samples.

    Returns:
        The part.
    """

    def shown(told: Told, _branches: Sequence[str]) -> list[object]:
        seed = told.get("seed", 0)
        seeds = cast("Sequence[int]", seed if isinstance(seed, list | tuple) else [seed])
        return [seeds[0], True, told.get("count") or len(seeds)]

    def read(values: Values) -> dict[str, object]:
        return {"seed": values[0] if values[1] else dice_thrown(), "count": values[2]}

    return Part(["seed", "count"], components, read, shown)


def dice_thrown() -> int:
    """Any seed."""
    return secrets.randbelow(SEEDS)


def filled(parts: Sequence[Part], said: Told, branches: Sequence[str]) -> list[object]:
    """What is to stand on the page.

    Args:
        parts: of a tab.
        said: {field: value}.
        branches: of the model.

    Returns:
        A value for each of their components.
    """
    return [value for part in parts for value in part.show(said, branches)]
