"""Are things in their boxes? Boxes of what is seen, and how well they lie on those asked for.

A picture is read as in `metrics_objects`: an area is connected pixels of one class and one colour.
Its box is compared with the one asked for, box with box: a cone fills half of its own. An instance
is there where some area of its class and colour has

    IoU(box of the area, box asked for) >= PLACED
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unicond.evaluation.metrics_objects import MIN_PIXELS, connected_areas

PLACED = 0.5
"""Least IoU of an instance that counts as placed."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the picture's width and height."""


@dataclass(frozen=True)
class Spot:
    """A thing and its box: asked for, or seen.

    Attributes:
        cls: index of the class.
        color: index of the colour.
        box: around it.
        pixels: its size; 0 where that is not asked for.
    """

    cls: int
    color: int
    box: Box
    pixels: int = 0

    @property
    def middle(self) -> tuple[float, float]:
        """Of the box: x, y."""
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


def seen_spots(classes: Tensor, colors: Tensor, min_pixels: int | None = None) -> list[list[Spot]]:
    """The connected areas of each picture with their boxes.

    Args:
        classes: (B, H, W) integers, 0 or more.
        colors: (B, H, W) integers, 0 or more.
        min_pixels: least size; default `MIN_PIXELS` at 128 x 128, proportionally.

    Returns:
        For each picture its areas, largest first.

    Raises:
        ValueError: the shapes differ.
    """
    if classes.shape != colors.shape or classes.ndim != 3:
        raise ValueError(
            "class and colour maps must share one shape (B, H, W); these are "
            f"{tuple(classes.shape)} and {tuple(colors.shape)}"
        )
    least = MIN_PIXELS / 128**2 * classes[0].numel() if min_pixels is None else min_pixels
    classes, colors = classes.long().cpu(), colors.long().cpu()
    labels = connected_areas(classes * (int(colors.max()) + 1) + colors)
    found: list[list[Spot]] = []
    for row, areas in enumerate(labels):
        names, sizes = areas.unique(return_counts=True)
        spots: list[Spot] = []
        for name, size in zip(names.tolist(), sizes.tolist(), strict=True):
            if size >= least:
                inside = areas == name
                y, x = inside.nonzero()[0].tolist()
                cls, color = int(classes[row, y, x]), int(colors[row, y, x])
                spots.append(Spot(cls, color, box_of(inside), size))
        found.append(sorted(spots, key=lambda spot: -spot.pixels))
    return found


def box_of(inside: Tensor) -> Box:
    """The box around some pixels.

    Args:
        inside: (H, W) bool, True somewhere.

    Returns:
        It, to the outer borders of its pixels.

    Raises:
        ValueError: there is no pixel.
    """
    if not inside.any():
        raise ValueError("no pixel is inside: nothing has no box")
    height, width = inside.shape
    rows, columns = (inside.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    return (
        columns[0] / width,
        rows[0] / height,
        (columns[-1] + 1) / width,
        (rows[-1] + 1) / height,
    )


def box_iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0.0) * max(high, 0.0)
    total = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (total - shared)


def placed_ious(asked: Sequence[Spot], seen: Sequence[Spot]) -> list[float]:
    """How well each thing lies where it was asked for.

    Args:
        asked: things of different class or colour.
        seen: in one picture.

    Returns:
        For each the greatest IoU of a seen area of its class and colour; 0 where there is none.

    Raises:
        ValueError: two things of one class and colour, which one area could both be.
    """
    if len({(spot.cls, spot.color) for spot in asked}) < len(asked):
        raise ValueError("two of the things have one class and colour: they cannot be told apart")
    return [
        max((box_iou(spot.box, one.box) for one in seen if _alike(spot, one)), default=0.0)
        for spot in asked
    ]


def largest_alike(spot: Spot, seen: Sequence[Spot]) -> Spot | None:
    """The largest seen area of a thing's class and colour; None where there is none."""
    return max((one for one in seen if _alike(spot, one)), key=lambda s: s.pixels, default=None)


def _alike(one: Spot, other: Spot) -> bool:
    return (one.cls, one.color) == (other.cls, other.color)
