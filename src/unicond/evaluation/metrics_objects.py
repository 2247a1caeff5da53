"""Are the objects that a caption names there, with the right class and colour?

A picture is read by a probe as two maps: a class and a colour for every pixel. A *seen object* is a
connected area (four neighbours) of one class and one colour, at least `MIN_PIXELS` large. A
named object (colour, class) is found if such an area is left for it: "two red balls" asks for two
areas. Since an area serves exactly one pair, the greedy matching is also the best one: the number
found is `sum over pairs of min(times named, areas seen)`.

What it cannot see: two touching objects of one class and colour are one area; an object that
another cuts in two is two. The score of the real renders, beside each table, says what this costs.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_PIXELS = 24
"""Least area at 128 x 128, proportionally at others; the scenes' own objects show at least 40."""

Named = tuple[str, str]
"""(colour, class), as in ("red", "ball")."""
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


def connected_areas(keys: Tensor) -> Tensor:
    """Label the connected areas (four neighbours) of equal keys.

    Every pixel repeatedly takes the least label among itself and its equal neighbours, then the
    label of that label; the second step makes the number of rounds logarithmic in practice.

    Args:
        keys: (B, H, W) integers.

    Returns:
        (B, H, W) int64: the flat index, in the whole batch, of the area's first pixel.

    Raises:
        ValueError: keys of another shape.
    """
    if keys.ndim != 3:
        raise ValueError(f"keys must have shape (B, H, W), not {tuple(keys.shape)}")
    same_x = keys[:, :, 1:] == keys[:, :, :-1]
    same_y = keys[:, 1:] == keys[:, :-1]
    labels = torch.arange(keys.numel(), device=keys.device).reshape(keys.shape)
    while True:
        new = labels.clone()
        for same, ahead, behind in (
            (same_x, new[:, :, 1:], new[:, :, :-1]),
            (same_y, new[:, 1:], new[:, :-1]),
        ):
            least = torch.minimum(ahead, behind)
            ahead.copy_(torch.where(same, least, ahead))
            behind.copy_(torch.where(same, torch.minimum(least, behind), behind))
        flat = new.reshape(-1)
        for _ in range(3):
            flat = flat[flat]
        new = flat.reshape(keys.shape)
        if torch.equal(new, labels):
            return labels
        labels = new


def seen_spots(classes: Tensor, colors: Tensor, min_pixels: int | None = None) -> list[list[Spot]]:
    """The connected areas of each picture with their boxes.

    Args:
        classes: (B, H, W) integers, 0 or more.
        colors: (B, H, W) integers, 0 or more.
        min_pixels: least size; default `MIN_PIXELS` at 128 x 128, proportionally.

    Returns:
        For each picture its areas, largest first.

    Raises:
        ValueError: the shapes differ, or min_pixels is not positive.
    """
    if classes.shape != colors.shape or classes.ndim != 3:
        raise ValueError(
            "class and colour maps must share one shape (B, H, W); these are "
            f"{tuple(classes.shape)} and {tuple(colors.shape)}"
        )
    if min_pixels is not None and min_pixels < 1:
        raise ValueError(f"min_pixels {min_pixels} is out of range; give 1 or more")
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


def found_objects(
    named: Sequence[Named],
    areas: Sequence[Spot],
    class_names: Sequence[str],
    color_names: Sequence[str],
) -> int:
    """How many of the named objects were found in one picture.

    Args:
        named: (colour, class) of each object that the caption names, with repetition.
        areas: what was seen.
        class_names: the words of the class map.
        color_names: the words of the colour map.

    Returns:
        0 to `len(named)`.

    Raises:
        ValueError: a named colour or class is in no map.
    """
    for color, cls in named:
        if color not in color_names or cls not in class_names:
            raise ValueError(
                f"{color} {cls} is not what the maps can show: classes are "
                f"{', '.join(class_names)}, colours {', '.join(color_names)}"
            )
    seen = Counter((color_names[area.color], class_names[area.cls]) for area in areas)
    return sum(min(times, seen[pair]) for pair, times in Counter(named).items())
