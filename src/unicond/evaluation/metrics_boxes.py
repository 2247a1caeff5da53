"""Are things in their boxes? Boxes of what is seen, and how well they lie on those asked for.

A picture is read as in `metrics_objects`: an area is connected pixels of one class and one colour.
Its box is compared with the one asked for, box with box: a cone fills half of its own. An instance
is there where some area of its class and colour has

    IoU(box of the area, box asked for) >= PLACED
"""

from collections.abc import Sequence

from unicond.evaluation.metrics_objects import Box, Spot

PLACED = 0.5
"""Least IoU of an instance that counts as placed."""
THERE_SHARE = 0.25
"""Of its true size, at least, is what counts as there."""


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


def there(spot: Spot, seen: Sequence[Spot]) -> bool:
    """Whether a thing is seen anywhere, large enough: `THERE_SHARE` of its true size."""
    largest = largest_alike(spot, seen)
    return largest is not None and largest.pixels >= THERE_SHARE * spot.pixels


def both_there(both: tuple[Spot, Spot], seen: Sequence[Spot]) -> bool:
    """Whether two things are seen anywhere, large enough.

    Args:
        both: the left one, the right one, as large as they truly are.
        seen: in one picture.

    Returns:
        The answer.
    """
    return all(there(spot, seen) for spot in both)


def left_alone(both: tuple[Spot, Spot], seen: Sequence[Spot]) -> bool:
    """Whether the left one of two things is seen anywhere, and the right one is not."""
    left, right = both
    return there(left, seen) and not there(right, seen)


def right_sides(both: tuple[Spot, Spot], seen: Sequence[Spot]) -> bool:
    """Whether two things are there, the left one left of the right one; as `both_there`."""
    left, right = (largest_alike(spot, seen) for spot in both)
    if left is None or right is None or not both_there(both, seen):
        return False
    return left.middle[0] < right.middle[0]


def _alike(one: Spot, other: Spot) -> bool:
    return (one.cls, one.color) == (other.cls, other.color)
