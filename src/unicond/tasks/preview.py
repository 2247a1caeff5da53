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
_INSIDE = 18  # pixels from a corner to the text
_HEAD = 12  # pixels of an arrow's head
_Point = tuple[float, float]


def draw_grounding(grounding: Grounding, size: Size = SIZE) -> Tensor:
    """Boxes in the colours that their phrases name, and an arrow for each interaction.

    Args:
        grounding: what is where.
        size: (height, width) in pixels.

    Returns:
        (3, H, W) in [-1, 1].
    """
    canvas: Image.Image = to_pil(draw_outlines(grounding.places(), size))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    height, width = size
    for number, one in enumerate(grounding.boxes):
        corner = (one.box[0] * width + _INSIDE, one.box[1] * height + _INSIDE)
        pen.text(corner, f"{number}  {one.phrase}", fill=_INK, font=font)
    for one in grounding.interactions:
        subject, thing = (grounding.boxes[grounding.number(x)] for x in (one.subject, one.object))
        start, end = _middle(subject, size), _middle(thing, size)
        _arrow(pen, start, end)
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 4)
        pen.text(middle, one.action, fill=_INK, font=font, anchor="ms")
    return read_picture(canvas)


def _middle(box: Box, size: Size) -> _Point:
    left, top, right, bottom = box.box
    return (left + right) / 2 * size[1], (top + bottom) / 2 * size[0]


def _arrow(pen: ImageDraw.ImageDraw, start: _Point, end: _Point) -> None:
    pen.line((*start, *end), fill=_INK, width=2)
    back = math.atan2(start[1] - end[1], start[0] - end[0])
    sides = [
        (end[0] + _HEAD * math.cos(back + turn), end[1] + _HEAD * math.sin(back + turn))
        for turn in (-0.4, 0.4)
    ]
    pen.polygon([end, *sides], fill=_INK)
