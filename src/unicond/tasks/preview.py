"""What was understood of a grounding: its boxes with their phrases, and who acts on whom."""

import math

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unicond.grounding import Box, Grounding
from unicond.pictures.fitting import Size
from unicond.pictures.reading import read_picture, to_pil
from unicond.tasks.places import draw_outlines

SIZE = (512, 512)
_INK = (40, 40, 40)
_PAPER = (255, 255, 255)
_INSIDE = 18  # pixels from a corner to the text
_HEAD = 12  # pixels of an arrow's head
_ASIDE = 8  # pixels by which an arrow leaves the line where another comes back
_GAP = 6  # pixels between an arrow and its actions
_LOOP = 16  # pixels of the radius of a thing's arrow to itself
_Point = tuple[float, float]


def draw_grounding(grounding: Grounding, size: Size = SIZE) -> Tensor:
    """Boxes in the colours that their phrases name, and an arrow from each who acts to whom.

    All that one does to another stands at one arrow, a line each; what comes back has an arrow
    beside it, and what a thing does to itself a loop.

    Args:
        grounding: what is where.
        size: (height, width) in pixels.

    Returns:
        (3, H, W) in [-1, 1].
    """
    canvas: Image.Image = to_pil(draw_outlines(grounding.places(), size))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    height, width = size
    actions: dict[tuple[int, int], list[str]] = {}
    for one in grounding.interactions:
        pair = grounding.number(one.subject), grounding.number(one.object)
        actions.setdefault(pair, []).append(one.action)
    for (subject, thing), told in actions.items():
        start, end = (_middle(grounding.boxes[number], size) for number in (subject, thing))
        if math.dist(start, end) < _HEAD:
            _loop(pen, start)
            side, middle = (0.0, 1.0), start
        else:
            back = (thing, subject) in actions
            side = _side(start, end, back)
            start, end = (_moved(point, side, _ASIDE if back else 0) for point in (start, end))
            _arrow(pen, start, end)
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        _write(pen, font, "\n".join(told), middle, side, size)
    for number, one in enumerate(grounding.boxes):
        corner = (one.box[0] * width + _INSIDE, one.box[1] * height + _INSIDE)
        text = f"{number}  {one.phrase}"
        pen.text(corner, text, fill=_INK, font=font, stroke_width=2, stroke_fill=_PAPER)
    return read_picture(canvas)


def _middle(box: Box, size: Size) -> _Point:
    left, top, right, bottom = box.box
    return (left + right) / 2 * size[1], (top + bottom) / 2 * size[0]


def _side(start: _Point, end: _Point, back: bool) -> _Point:
    """Of length 1, across an arrow: to its left where another comes back, else upwards."""
    length = math.dist(start, end)
    x, y = (end[1] - start[1]) / length, (start[0] - end[0]) / length
    return (x, y) if back or y < 0 or (y == 0 and x > 0) else (-x, -y)


def _moved(point: _Point, side: _Point, by: float) -> _Point:
    return point[0] + by * side[0], point[1] + by * side[1]


def _write(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    text: str,
    beside: _Point,
    side: _Point,
    size: Size,
) -> None:
    """Lines of text on one side of a point, inside of the picture."""
    left, top, right, bottom = pen.multiline_textbbox((0, 0), text, font=font, anchor="mm")
    half = (right - left) / 2, (bottom - top) / 2
    away = _GAP + abs(side[0]) * half[0] + abs(side[1]) * half[1]
    x, y = _moved(beside, side, away)
    x, y = (
        min(max(place, own + 1), whole - own - 1)
        for place, own, whole in ((x, half[0], size[1]), (y, half[1], size[0]))
    )
    pen.multiline_text(
        (x, y),
        text,
        fill=_INK,
        font=font,
        anchor="mm",
        align="center",
        stroke_width=2,
        stroke_fill=_PAPER,
    )


def _loop(pen: ImageDraw.ImageDraw, at: _Point) -> None:
    """An arrow from a point up and back to it."""
    x, y = at
    pen.arc((x - _LOOP, y - 2 * _LOOP, x + _LOOP, y), 90, 75, fill=_INK, width=2)
    _head(pen, at, math.radians(-25))


def _arrow(pen: ImageDraw.ImageDraw, start: _Point, end: _Point) -> None:
    pen.line((*start, *end), fill=_INK, width=2)
    _head(pen, end, math.atan2(start[1] - end[1], start[0] - end[0]))


def _head(pen: ImageDraw.ImageDraw, end: _Point, back: float) -> None:
    """Of an arrow that comes to its end from a direction."""
    sides = [
        (end[0] + _HEAD * math.cos(back + turn), end[1] + _HEAD * math.sin(back + turn))
        for turn in (-0.4, 0.4)
    ]
    pen.polygon([end, *sides], fill=_INK)
