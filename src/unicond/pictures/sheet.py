"""Contact sheets: lines of pictures, a title above each line, a caption below each picture."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from unicond.pictures.reading import to_pil

_GAP = 4
_TITLE = 20
_CAPTION = 12
_LETTER = 5.4  # mean width of a letter of the caption's font, in pixels


@dataclass(frozen=True)
class Line:
    """One line of a sheet.

    Args:
        title: above it; empty takes no room.
        pictures: each (3, H, W) in [-1, 1]; sizes may differ.
        captions: one below each picture, or none.
    """

    title: str
    pictures: Sequence[Tensor]
    captions: Sequence[str] = field(default=())


def sheet(lines: Sequence[Line], height: int | None = None, rows: int = 2) -> Image.Image:
    """Draw a sheet.

    Args:
        lines: from the top.
        height: every picture is brought to it, in its own proportions; None leaves sizes alone.
        rows: of text that a caption may take; longer ones end in dots.

    Returns:
        The whole sheet on white.

    Raises:
        ValueError: no pictures, or captions of another number than the pictures.
    """
    if not lines or not all(line.pictures for line in lines):
        raise ValueError("a sheet needs lines with at least one picture each")
    drawn = [_line(line, height, rows) for line in lines]
    wide = max(image.width for image in drawn)
    whole = Image.new("RGB", (wide, sum(image.height for image in drawn)), "white")
    top = 0
    for image in drawn:
        whole.paste(image, (0, top))
        top += image.height
    return whole


def _line(line: Line, height: int | None, rows: int) -> Image.Image:
    if line.captions and len(line.captions) != len(line.pictures):
        raise ValueError(f"{len(line.captions)} captions for {len(line.pictures)} pictures")
    images = [_scaled(to_pil(picture), height) for picture in line.pictures]
    above = _TITLE if line.title else 0
    below = rows * _CAPTION + _GAP if line.captions else 0
    high = max(image.height for image in images)
    face = ImageFont.load_default(13)
    titled = _GAP + math.ceil(face.getlength(line.title)) + _GAP if line.title else 0
    wide = max(titled, sum(image.width + _GAP for image in images) + _GAP)
    drawn = Image.new("RGB", (wide, above + high + below + _GAP), "white")
    pen, left = ImageDraw.Draw(drawn), _GAP
    if line.title:
        pen.text((left, 4), line.title, fill="black", font=face)
    for image, caption in zip(images, line.captions or [""] * len(images), strict=True):
        drawn.paste(image, (left, above))
        if caption:
            letters = max(8, int(image.width / _LETTER))
            text = textwrap.fill(caption, letters, max_lines=rows, placeholder=" ...")
            font = ImageFont.load_default(10)
            pen.text((left, above + high + 1), text, fill="#333333", font=font, spacing=1)
        left += image.width + _GAP
    return drawn


def _scaled(image: Image.Image, height: int | None) -> Image.Image:
    if height is None or image.height == height:
        return image
    wide = max(1, round(image.width * height / image.height))
    return image.resize((wide, height), Image.Resampling.LANCZOS)
