"""Texts with weights and things in boxes: drawn with the mouse, or written into a table."""

from collections.abc import Sequence
from typing import cast

import gradio as gr
from gradio.components import Component
from PIL import Image

from unicond.studio.page.drawing import boxes_svg
from unicond.studio.page.fields import Part, Values
from unicond.studio.page.painted import Box, boxes_of, followed
from unicond.studio.page.told import Told
from unicond.tasks.places import THINGS
from unicond.world.palette import COLOR_RGB
from unicond.world.vocabulary import COLORS

PALETTE = {name: tuple(round(255 * one) for one in COLOR_RGB[name]) for name in COLORS}
"""{colour: red, green, blue}."""
MASKS = 4
"""Places that masks show."""
Row = list[object]
Spot = tuple[str, Box]
_SIDES = ["left", "top", "right", "bottom"]
_ROWS = 3


def rows_of(
    layers: Sequence[Image.Image], rows: Sequence[Row], painted: Sequence[Spot]
) -> tuple[list[Row], list[Spot]]:
    """The table after something was painted: new spots are added, what was written stays.

    Args:
        layers: RGBA, with paint.
        rows: [colour, thing, left, top, right, bottom], the table until now.
        painted: (colour, box) of the spots that were painted until now.

    Returns:
        The table, in which what has grown has its new sides and what was wiped out is gone unless
        its sides were written anew; and the spots that are painted now.
    """
    became, new = followed(painted, boxes_of(layers, PALETTE))  # pyright: ignore
    moved = {
        _rounded(old[1]): None if one is None else one[1]
        for old, one in zip(painted, became, strict=True)
    }
    found, things = list[Row](), dict[str, str]()
    for row in rows:
        if str(row[1] or "").strip():
            things[str(row[0])] = str(row[1])
        sides = _sides(row)
        box = None if sides is None else moved.get(sides, sides)
        if box is not None and box != sides:
            found.append([*row[:2], *_rounded(box)])
        elif box is not None or (sides is None and any(cell not in ("", None) for cell in row)):
            found.append([*row])
    found += [[colour, things.get(colour, "ball"), *_rounded(box)] for colour, box in new]
    return found or _empty(6), [*(one for one in became if one is not None), *new]


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
    gr.Markdown("Paint things in their colours: each spot of paint is a box, added to the table.")
    with gr.Row():
        editor = _editor("Boxes")
        picture = gr.HTML(drawn([]))
    table = _table(["colour", "thing", *_SIDES], f"Things: {things}; sides in [0, 1]")
    painted = gr.State([])
    editor.change(
        lambda value, rows, before: rows_of((value or {}).get("layers", []), rows, before),
        [editor, table, painted],
        [table, painted],
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

    return Part(["box"], [table], read, show)


def regions_part() -> Part:
    """Texts in boxes, and in places that masks show."""
    picture = gr.HTML(drawn([]))
    table = _table(["text", *_SIDES], "Texts in places; sides in [0, 1]")
    table.change(drawn, table, picture, show_progress="hidden", api_visibility="private")
    masked = list[Component]()
    with gr.Row():
        for number in range(1, MASKS + 1):
            with gr.Column(min_width=140):
                masked += [
                    gr.Textbox(label=f"Text in mask {number}", max_lines=1),
                    gr.Image(label=f"Mask {number}: white is inside", type="pil", height=180),
                ]

    def read(values: Values) -> dict[str, object]:
        found = boxes_told(cast("list[Row]", values[0]), "text")
        for text, mask in zip(values[1::2], values[2::2], strict=True):
            if mask is not None and not text:
                raise ValueError("a mask is given in which there is nothing: write its text")
            if mask is not None:
                found.append({"text": text, "mask": mask})
        return {"region": found}

    def show(told: Told, _branches: Sequence[str]) -> list[object]:
        placed = cast("list[dict[str, object]]", told.get("region", []))
        rows = [[o["text"], *cast("list[float]", o["box"])] for o in placed if "box" in o]
        masks = [[o["text"], o["mask"]] for o in placed if "mask" in o][:MASKS]
        masks += (MASKS - len(masks)) * [["", None]]
        return [rows or _empty(5), *(value for one in masks for value in one)]

    return Part(["region"], [table, *masked], read, show)


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

    return Part(["with", "without"], [table], read, show)


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


def _sides(row: Row) -> Box | None:
    """The sides of a row; None where they are no box."""
    try:
        left, top, right, bottom = map(_number, row[2:])
    except ValueError:
        return None
    return _rounded((left, top, right, bottom))


def _rounded(box: Box) -> Box:
    left, top, right, bottom = (round(side, 3) for side in box)
    return left, top, right, bottom


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
