"""What was painted on a picture: where, and in which boxes."""

import io
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from PIL import Image
from scipy import ndimage

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
    """The boxes around paint: one for each connected spot of a colour on each layer.

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
        apart = pixels[rows, columns, None, :3] - inks
        nearest = np.full(pixels.shape[:2], -1)
        nearest[rows, columns] = np.square(apart).sum(-1).argmin(-1)
        for number in sorted(set(nearest[rows, columns].tolist())):
            labelled = ndimage.label(nearest == number, np.ones((3, 3)))
            spots, _ = cast("tuple[np.ndarray, int]", labelled)
            boxes = [_shares(one, layer.size) for one in ndimage.find_objects(spots)]
            found += [
                (names[number], box)
                for box in boxes
                if min(box[2] - box[0], box[3] - box[1]) >= SMALLEST
            ]
    return found


def followed(
    before: Sequence[tuple[str, Box]], now: Sequence[tuple[str, Box]]
) -> tuple[list[tuple[str, Box] | None], list[tuple[str, Box]]]:
    """What has become of boxes when more was painted, or some of it was taken away.

    Pieces of what was one spot stay one: something else was painted across it.

    Args:
        before: (colour, box) of the spots until now.
        now: of all spots.

    Returns:
        What each of `before` is now, None where it is gone; and the boxes that are new.
    """
    left, became = list(now), list[tuple[str, Box] | None]()
    for colour, box in before:
        own = [one for one in left if one[0] == colour and _is_of(one[1], box)]
        left = [one for one in left if one not in own]
        became.append((colour, _around([one[1] for one in own])) if own else None)
    return became, left


def blank(picture: Image.Image | None) -> bool:
    """Whether a canvas is empty: browsers send one that nothing was loaded on as white."""
    if picture is None:
        return True
    return all(low == 255 for low, _ in _extrema(picture.convert("RGB")))


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


def _shares(spot: tuple[slice, slice], size: tuple[int, int]) -> Box:
    width, height = size
    down, across = spot
    return across.start / width, down.start / height, across.stop / width, down.stop / height


def _is_of(box: Box, before: Box) -> bool:
    """Whether one of both boxes lies within the other."""
    return _within(box, before) or _within(before, box)


def _within(inner: Box, outer: Box) -> bool:
    return (
        inner[0] >= outer[0]
        and inner[1] >= outer[1]
        and inner[2] <= outer[2]
        and inner[3] <= outer[3]
    )


def _around(boxes: Sequence[Box]) -> Box:
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _extrema(picture: Image.Image) -> Sequence[tuple[int, int]]:
    return cast("Sequence[tuple[int, int]]", picture.getextrema())
