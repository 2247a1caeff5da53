"""Are the objects that a caption names there, with the right class and colour?

A picture is read by a probe as two maps: a class and a colour for every pixel. A *seen object* is a
connected area (four neighbours) of at least `MIN_PIXELS` pixels of one class and one colour. A
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
"""Least area at 128 x 128; the scenes' own objects show at least 40 pixels."""

Named = tuple[str, str]
"""(colour, class), as in ("red", "ball")."""


@dataclass(frozen=True)
class Area:
    """A connected area of one class and one colour.

    Attributes:
        cls: index of the class.
        color: index of the colour.
        pixels: its size.
    """

    cls: int
    color: int
    pixels: int


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


def seen_objects(
    classes: Tensor, colors: Tensor, min_pixels: int = MIN_PIXELS
) -> list[tuple[Area, ...]]:
    """The connected areas of each picture that are large enough.

    Args:
        classes: (B, H, W) integers, 0 or more.
        colors: (B, H, W) integers, 0 or more.
        min_pixels: least size, 1 or more.

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
    if min_pixels < 1:
        raise ValueError(f"min_pixels {min_pixels} is out of range; give 1 or more")
    colors, classes = colors.long(), classes.long()
    many = int(colors.max()) + 1
    labels = connected_areas(classes * many + colors)
    first, sizes = labels.reshape(-1).unique(return_counts=True)
    out: list[list[Area]] = [[] for _ in range(len(classes))]
    for pixel, size in zip(first.tolist(), sizes.tolist(), strict=True):
        if size >= min_pixels:
            row = pixel // classes[0].numel()
            area = Area(int(classes.view(-1)[pixel]), int(colors.view(-1)[pixel]), size)
            out[row].append(area)
    return [tuple(sorted(areas, key=lambda each: -each.pixels)) for areas in out]


def found_objects(
    named: Sequence[Named],
    areas: Sequence[Area],
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
