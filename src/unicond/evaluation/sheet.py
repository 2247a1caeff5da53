"""Contact sheets of what was measured, with the captions: no metric replaces looking.

Measures keep the first pictures of every kind as PNG files in the run's folder, so that a sheet can
be drawn after an interrupted run too.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

KEPT = 64
"""Pictures of each kind that are kept."""

_LINE = 11
_LINES = 3


def keep_pictures(folder: Path, numbers: Sequence[int], pictures: Tensor) -> None:
    """Write those pictures whose number is below `KEPT` as PNG.

    Args:
        folder: is made where it does not exist.
        numbers: of the cases, one a picture.
        pictures: (B, 3, H, W) in [-1, 1].
    """
    folder.mkdir(parents=True, exist_ok=True)
    levels = ((pictures.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    for number, level in zip(numbers, levels, strict=True):
        if number < KEPT:
            Image.fromarray(np.ascontiguousarray(level)).save(_file(folder, number))


def draw_sheet(
    folder: Path, kinds: Sequence[str], captions: Sequence[str], columns: int = 8
) -> Image.Image:
    """One cell a case: its pictures side by side, its caption below.

    Args:
        folder: where `keep_pictures` wrote a folder for every kind.
        kinds: names of those folders, in the order shown.
        captions: one a case; as many cases are drawn.
        columns: cells in a line.

    Returns:
        The sheet.

    Raises:
        ValueError: a picture is missing.
    """
    missing = [k for k in kinds for n in range(len(captions)) if not _file(folder / k, n).is_file()]
    if missing or not captions:
        raise ValueError(f"{folder} lacks pictures of {sorted(set(missing))}; measure them first")
    rows = [[Image.open(_file(folder / kind, n)) for kind in kinds] for n in range(len(captions))]
    wide, high = sum(p.width for p in rows[0]), max(p.height for p in rows[0])
    cell = (wide + 6, high + _LINES * _LINE + 8)
    columns = min(columns, len(rows))
    sheet = Image.new("RGB", (columns * cell[0], -(-len(rows) // columns) * cell[1]), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(9)
    for number, (pictures, caption) in enumerate(zip(rows, captions, strict=True)):
        left, top = number % columns * cell[0], number // columns * cell[1]
        for picture in pictures:
            sheet.paste(picture, (left, top))
            left += picture.width
        text = textwrap.fill(caption, wide // 5, max_lines=_LINES, placeholder=" ...")
        pen.text((left - wide + 2, top + high + 2), text, fill="black", font=font, spacing=1)
    return sheet


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:03d}.png"
