"""Texts with weights and things in boxes: drawn with the mouse, or written into a table."""

from collections.abc import Sequence
from typing import cast

import gradio as gr
from PIL import Image

from unicond.studio.page.drawing import boxes_svg
from unicond.studio.page.fields import Part, Values
from unicond.studio.page.painted import boxes_of
from unicond.studio.page.told import Told
from unicond.tasks.places import THINGS
from unicond.world.palette import COLOR_RGB
from unicond.world.vocabulary import COLORS

PALETTE = {name: tuple(round(255 * one) for one in COLOR_RGB[name]) for name in COLORS}
"""{colour: red, green, blue}."""
Row = list[object]
_SIDES = ["left", "top", "right", "bottom"]
_ROWS = 3


def rows_of(layers: Sequence[Image.Image], before: Sequence[Row]) -> list[Row]:
    """The table of what was painted; what a row is called stays.

    Args:
        layers: RGBA, with paint.
        before: the table until now.

    Returns:
        [colour, thing, left, top, right, bottom] of every box.
    """
    names = {str(row[0]): str(row[1]) for row in before if str(row[1] or "").strip()}
    found = boxes_of(layers, PALETTE)  # pyright: ignore
    return [
        [colour, names.get(colour, "ball"), *(round(side, 3) for side in box)]
        for colour, box in found
    ]


def boxes_told(rows: Sequence[Row], text: str) -> list[object]:
    """What a table of boxes says.

    Args:
        rows: [colour, thing, left, top, right, bottom], or without the colour.
        text: what a box's text is called in the form.

    Returns:
        One mapping a row that has a text.

    Raises:
        ValueError: a side is no number.
    """
    found = list[object]()
    for row in rows:
        *words, left, top, right, bottom = row
        phrase = " ".join(str(word).strip() for word in words if str(word or "").strip())
        if not phrase or all(side in ("", None) for side in (left, top, right, bottom)):
            continue
        found.append({text: phrase, "box": [_number(one) for one in (left, top, right, bottom)]})
    return found


def drawn(rows: Sequence[Row]) -> str:
    """The boxes of a table as SVG, or why there are none."""
    try:
        told = cast("list[dict[str, object]]", boxes_told(rows, "phrase"))
    except ValueError as error:
        return str(error)
    shown = [
        (str(one["phrase"]), _ink(str(one["phrase"])), cast("list[float]", one["box"]))
        for one in told
    ]
    return boxes_svg(shown)


def boxes_part() -> Part:
    """Boxes: a brush whose colours are the things', and the table that comes of it."""
    things = ", ".join(THINGS)
    gr.Markdown("Paint a thing in its colour: its box is around the paint.")
    with gr.Row():
        editor = _editor("Boxes")
        picture = gr.HTML(drawn([]))
    table = _table(["colour", "thing", *_SIDES], f"Things: {things}; sides in [0, 1]")
    editor.change(
        lambda value, rows: rows_of((value or {}).get("layers", []), rows),
        [editor, table],
        table,
        show_progress="hidden",
        api_visibility="private",
    )
    table.change(drawn, table, picture, show_progress="hidden", api_visibility="private")

    def read(values: Values) -> dict[str, object]:
        return {"box": boxes_told(cast("list[Row]", values[0]), "phrase")}

    def show(told: Told, _branches: Sequence[str]) -> list[object]:
        placed = cast("list[dict[str, object]]", told.get("box", []))
        rows = [[*_worded(str(o["phrase"])), *cast("list[float]", o["box"])] for o in placed]
        return [rows or _empty(6)]

    return Part([table], read, show)


def regions_part() -> Part:
    """Texts in boxes."""
    picture = gr.HTML(drawn([]))
    table = _table(["text", *_SIDES], "Texts in places; sides in [0, 1]")
    table.change(drawn, table, picture, show_progress="hidden", api_visibility="private")

    def read(values: Values) -> dict[str, object]:
        return {"region": boxes_told(cast("list[Row]", values[0]), "text")}

    def show(told: Told, _branches: Sequence[str]) -> list[object]:
        placed = cast("list[dict[str, object]]", told.get("region", []))
        rows = [[o["text"], *cast("list[float]", o["box"])] for o in placed if "box" in o]
        return [rows or _empty(5)]

    return Part([table], read, show)


def texts_part() -> Part:
    """Texts that are to be there, or not."""
    table = _table(["text", "weight"], "Texts; an empty weight is usual, below 0 keeps it out")

    def read(values: Values) -> dict[str, object]:
        return weights_told(cast("list[Row]", values[0]))

    def show(told: Told, _branches: Sequence[str]) -> list[object]:
        wanted = cast("dict[str, float | None]", told.get("with", {}))
        unwanted = cast("dict[str, float | None]", told.get("without", {}))
        rows: list[Row] = [[text, weight] for text, weight in wanted.items()]
        rows += [[text, -1.0 if one is None else -one] for text, one in unwanted.items()]
        return [rows or _empty(2)]

    return Part([table], read, show)


def weights_told(rows: Sequence[Row]) -> dict[str, object]:
    """What a table of texts and weights says.

    Args:
        rows: [text, weight].

    Returns:
        The fields `with` and `without`.

    Raises:
        ValueError: a weight is no number.
    """
    wanted, unwanted = dict[str, object](), dict[str, object]()
    for text, weight in rows:
        if not str(text or "").strip():
            continue
        value = None if weight in ("", None) else _number(weight)
        if value is None or value >= 0:
            wanted[str(text).strip()] = value
        else:
            unwanted[str(text).strip()] = -value
    return {"with": wanted, "without": unwanted}


def _editor(label: str) -> gr.ImageEditor:
    colours = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in PALETTE.values()]
    return gr.ImageEditor(
        label=label,
        type="pil",
        format="png",
        height=360,
        canvas_size=(512, 512),
        sources=[],
        brush=gr.Brush(colors=[*colours], color_mode="fixed", default_size=24),
    )


def _table(headers: list[str], label: str) -> gr.Dataframe:
    return gr.Dataframe(
        _empty(len(headers)), headers=headers, label=label, type="array", interactive=True
    )


def _empty(columns: int) -> list[Row]:
    return [[None] * columns for _ in range(_ROWS)]


def _worded(phrase: str) -> tuple[str, str]:
    """(colour, thing) of a phrase."""
    first, _, rest = phrase.partition(" ")
    return (first, rest) if first in COLORS and rest else ("", phrase)


def _ink(phrase: str) -> str:
    named = [word for word in phrase.split() if word in PALETTE]
    return "rgb({}, {}, {})".format(*PALETTE[named[0] if named else "blue"])


def _number(value: object) -> float:
    try:
        return float(str(value))
    except ValueError:
        raise ValueError(f"{value!r} in the table is no number") from None
