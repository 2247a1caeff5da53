"""What was painted on a picture: where, and in which boxes."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

OPAQUE = 127
"""Alpha above which paint is there."""
SMALLEST = 0.01
"""Share of a side; smaller boxes are slips of the hand."""
Box = tuple[float, float, float, float]


def mask_of(layers: Sequence[Image.Image], keeps: bool) -> Image.Image | None:
    """Which part of a picture is known.

    Args:
        layers: RGBA, of one size, with paint on them.
        keeps: paint is on what is known, not on what is to be made anew.

    Returns:
        White where it is known; None if nothing is painted.
    """
    painted = [np.asarray(layer.getchannel("A")) > OPAQUE for layer in layers]
    if not painted or not any(one.any() for one in painted):
        return None
    there = np.any(painted, axis=0)
    return Image.fromarray(np.where(there == keeps, 255, 0).astype(np.uint8))


def boxes_of(
    layers: Sequence[Image.Image], palette: Mapping[str, tuple[int, int, int]]
) -> list[tuple[str, Box]]:
    """The boxes around paint: one for each colour on each layer.

    Args:
        layers: RGBA, of one size.
        palette: {name: red, green, blue in [0, 255]}; each pixel has the nearest one.

    Returns:
        (name, (left, top, right, bottom) in shares of width and height).
    """
    names, inks = list(palette), np.array(list(palette.values()), dtype=np.float64)
    found = list[tuple[str, Box]]()
    for layer in layers:
        pixels = np.asarray(layer, dtype=np.float64)
        rows, columns = np.nonzero(pixels[..., 3] > OPAQUE)
        if not len(rows):
            continue
        apart = pixels[rows, columns, None, :3] - inks
        nearest = np.square(apart).sum(-1).argmin(-1)
        for number in sorted(set(nearest.tolist())):
            at = nearest == number
            box = _around(rows[at], columns[at], layer.size)
            if min(box[2] - box[0], box[3] - box[1]) >= SMALLEST:
                found.append((names[number], box))
    return found


def viewable(picture: Image.Image) -> Image.Image:
    """A picture with 8 bits a value, which browsers show."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).astype(np.uint8))


def png_of(picture: Image.Image) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _around(rows: np.ndarray, columns: np.ndarray, size: tuple[int, int]) -> Box:
    width, height = size
    return (
        float(columns.min()) / width,
        float(rows.min()) / height,
        float(columns.max() + 1) / width,
        float(rows.max() + 1) / height,
    )
