"""Boxes as pictures: their outlines, to be looked at, and what stands in them as a segmentation.

A segmentation is drawn in the world's own colours: the sky above the horizon, the ground below it,
and in each box the outline that its class has from a little above, which fills the box. What tells
classes apart counts most: a cylinder's ends are round, and a pill whose box is nearly square lies
from corner to corner of it, where upright it would be a ball. Boxes of a few pixels hold no shape:
they are filled.
"""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from unicond.grounding import Placed
from unicond.pictures.fitting import Size
from unicond.pictures.reading import read_picture
from unicond.world.palette import CLASS_RGB, COLOR_RGB, Rgb
from unicond.world.vocabulary import SHAPES

THINGS: Mapping[str, str] = {name: name for name in (*SHAPES, "person")} | {
    "sphere": "ball",
    "cube": "box",
    "capsule": "pill",
    "man": "person",
    "woman": "person",
}
"""{word: class}."""
HORIZON = 0.42
"""Share of the height that is sky."""
HEAD = 0.2
"""Share of a person's box that is the head's."""
END = 0.6
"""Of a cylinder's ends: the ellipses' shorter axis over the longer one, or half its length."""
SQUARE = 1.35
"""Ratio of a box's sides below which a pill lies from corner to corner."""
SMALL = 4
"""Boxes with a side of fewer pixels are filled."""
_OUTLINE = 40  # of the shorter side is the width of a line
_Pixels = tuple[int, int, int, int]


def draw_outlines(boxes: Sequence[Placed], size: Size) -> Tensor:
    """Boxes on white, in the colour that a phrase names, else in colours by turns.

    Args:
        boxes: (phrase, left, top, right, bottom), later ones on top.
        size: (height, width) in pixels.

    Returns:
        (3, H, W) in [-1, 1].
    """
    canvas, pen = _canvas(size, (1.0, 1.0, 1.0))
    visible = {name: rgb for name, rgb in COLOR_RGB.items() if name != "white"}
    turns = list(visible.values())
    for number, (phrase, *_) in enumerate(boxes):
        named = [visible[word] for word in phrase.lower().split() if word in visible]
        color = named[0] if named else turns[number % len(turns)]
        width = max(1, min(size) // _OUTLINE)
        pen.rectangle(_pixels(boxes[number], size), outline=_bytes(color), width=width)
    return read_picture(canvas)


def draw_segmentation(boxes: Sequence[Placed], size: Size) -> Tensor:
    """What stands in boxes, as the segmentation adapter has learned to see it.

    Args:
        boxes: (phrase, left, top, right, bottom); those that end lower are nearer.
        size: (height, width) in pixels.

    Returns:
        (3, H, W) in [-1, 1].

    Raises:
        ValueError: a phrase that names no class.
    """
    canvas, pen = _canvas(size, CLASS_RGB["sky"])
    height, width = size
    pen.rectangle((0, round(HORIZON * height), width, height), fill=_bytes(CLASS_RGB["ground"]))
    for place in sorted(boxes, key=lambda box: box[4]):
        thing = thing_of(place[0])
        _fill(pen, thing, _pixels(place, size), _bytes(CLASS_RGB[thing]))
    return read_picture(canvas)


def thing_of(phrase: str) -> str:
    """The class that a phrase is about: the first that it names.

    Args:
        phrase: such as "a person on a box".

    Returns:
        One of `vocabulary.CLASSES`.

    Raises:
        ValueError: it names none.
    """
    for word in phrase.lower().split():
        if word in THINGS:
            return THINGS[word]
    raise ValueError(
        f"{phrase!r} names nothing that a segmentation of this world has: write one of "
        f"{', '.join(THINGS)} in it, or choose another method"
    )


def _fill(pen: ImageDraw.ImageDraw, thing: str, box: _Pixels, color: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    if min(right - left, bottom - top) + 1 < SMALL:
        pen.rectangle(box, fill=color)
    elif thing == "ball":
        pen.ellipse(box, fill=color)
    elif thing == "cone":
        pen.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=color)
    elif thing == "pill":
        _fill_pill(pen, box, color)
    elif thing == "cylinder":
        _fill_cylinder(pen, box, color)
    elif thing == "person":
        neck = top + round(HEAD * (bottom - top))
        half, middle = min(neck - top, right - left) // 2, (left + right) // 2
        pen.ellipse((middle - half, top, middle + half, neck), fill=color)
        pen.rounded_rectangle((left, neck, right, bottom), (right - left) // 4, fill=color)
    else:
        pen.rectangle(box, fill=color)


def _fill_cylinder(pen: ImageDraw.ImageDraw, box: _Pixels, color: tuple[int, int, int]) -> None:
    """Along the longer side of the box, with an ellipse at either end."""
    left, top, right, bottom = box
    across, high = right - left, bottom - top
    end = min(round(END * min(across, high)), max(across, high) // 2)
    half = end // 2
    if high >= across:
        pen.rectangle((left, top + half, right, bottom - half), fill=color)
        ends = (left, top, right, top + end), (left, bottom - end, right, bottom)
    else:
        pen.rectangle((left + half, top, right - half, bottom), fill=color)
        ends = (left, top, left + end, bottom), (right - end, top, right, bottom)
    for ellipse in ends:
        pen.ellipse(ellipse, fill=color)


def _fill_pill(pen: ImageDraw.ImageDraw, box: _Pixels, color: tuple[int, int, int]) -> None:
    """Along the longer side of the box, or from its lower left to its upper right corner."""
    left, top, right, bottom = box
    low, high = sorted((right - left, bottom - top))
    if high >= SQUARE * low:
        pen.rounded_rectangle(box, low // 2, fill=color)
        return
    around = max(1, low // 3)
    ends = (left + around, bottom - around), (right - around, top + around)
    pen.line(ends, fill=color, width=2 * around + 1)
    for x, y in ends:
        pen.ellipse((x - around, y - around, x + around, y + around), fill=color)


def _canvas(size: Size, color: Rgb) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (size[1], size[0]), _bytes(color))
    return canvas, ImageDraw.Draw(canvas)


def _bytes(color: Rgb) -> tuple[int, int, int]:
    red, green, blue = (round(255 * one) for one in color)
    return red, green, blue


def _pixels(place: Placed, size: Size) -> _Pixels:
    """First and last pixels of a box: left, top, right, bottom; at least one each way."""
    _, left, top, right, bottom = place
    height, width = size
    first_x, first_y = min(int(left * width), width - 1), min(int(top * height), height - 1)
    return (
        first_x,
        first_y,
        max(first_x, round(right * width) - 1),
        max(first_y, round(bottom * height) - 1),
    )
