"""Does a relation of a scene hold in a picture? By what the probe finds, relation by relation.

What is found: the one person's keypoints, and of every entity the box of the largest area of its
class, and its depth. Scenes that are asked have one person and solids of different classes, so that
a class says which entity it is. With h the larger side of the box around the person's keypoints,
and distances to a box 0 inside of it:

    left of, right of,     `world.relations.spatial` of the two boxes, which the scene's own
    in front of, behind    relations are found by; the probe's depth, which has no unit, is taken to
                           reach from the scene's nearest to its farthest metre
    on top of              columns overlap by `COLUMN_OVERLAP` of the narrower box, and the lower
                           edge of the one is at the upper edge of the other, within 0.12 of its
                           height and the other's together
    holding                a wrist is within 0.2 h of the box, all of which is above the ankles and
                           the middle of which is above the knees
    pushing                a wrist is within 0.2 h of the box, which reaches below the knees, and
                           the hips are beside the box
    sitting on             the hips are above the middle of the box, at most 0.35 h above its upper
                           edge, and in its columns, widened by 0.15 h on each side
    pointing at            from a shoulder, wrist and middle of the box lie in directions at most 25
                           degrees apart, and that wrist is farther than 0.1 h from the box

A relation of which an entity is not found does not hold.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.evaluation.judge import Reading
from unicond.evaluation.metrics_objects import Box, seen_spots
from unicond.evaluation.people import People, read_people
from unicond.world.layout import Frame
from unicond.world.relations import COLUMN_OVERLAP, spatial
from unicond.world.scene import Relation, Scene, Solid
from unicond.world.vocabulary import CLASSES, KEYPOINTS, SPATIAL_RELATIONS

REACH = 0.2
"""Between a wrist and what it touches, of the person's size."""
RESTING = 0.12
SEAT_ABOVE, SEAT_BESIDE = 0.35, 0.15
POINTING_DEGREES, POINTING_GAP = 25.0, 0.1
_DEPTHS = (0.05, 0.95)
"""Quantiles of an entity's depth that its frame reaches from and to."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Body:
    """A person's keypoints: x right, y down, as shares of the picture's side.

    Attributes:
        points: {name: place} of those that were found.
        size: h, the larger side of the box around them.
    """

    points: Mapping[str, Point]
    size: float

    def both(self, joint: str) -> list[Point]:
        """What is found of a joint, right and left."""
        names = (f"right {joint}", f"left {joint}")
        return [self.points[name] for name in names if name in self.points]

    def middle(self, joint: str) -> Point | None:
        """Between right and left; None where neither is found."""
        found = self.both(joint)
        if not found:
            return None
        return sum(x for x, _ in found) / len(found), sum(y for _, y in found) / len(found)


@dataclass(frozen=True)
class Found:
    """What is found in one picture.

    Attributes:
        body: of the person; None where nobody is.
        frames: {entity: its box and depth in metres}, of those that are found; coordinates are
            shares of the picture's side from 0 on.
    """

    body: Body | None
    frames: Mapping[int, Frame]


def holds(relation: Relation, found: Found) -> bool:
    """Whether a relation holds of what is found.

    Args:
        relation: of a scene of one person and solids of different classes.
        found: in a picture.

    Returns:
        The answer, by the table above.
    """
    frames = [found.frames.get(number) for number in (relation.subject, relation.target)]
    one, other = frames
    if one is None or other is None:
        return False
    if relation.name == "on top of":
        return _rests(one, other)
    if relation.name in SPATIAL_RELATIONS:
        return spatial(one, other) == relation.name
    return found.body is not None and _ACTIONS[relation.name](found.body, other)


def _rests(one: Frame, other: Frame) -> bool:
    shared = min(one.right, other.right) - max(one.left, other.left)
    narrow = min(one.right - one.left, other.right - other.left)
    high = one.lower - one.upper + other.lower - other.upper
    on_top = one.middle[1] < other.middle[1]
    # what is seen from above covers a part of what it rests on
    return (
        on_top and shared >= COLUMN_OVERLAP * narrow and one.lower - other.upper > -RESTING * high
    )


def _touches(body: Body, box: Frame) -> bool:
    return any(_gap(point, box) <= REACH * body.size for point in body.both("wrist"))


def _holding(body: Body, box: Frame) -> bool:
    knees, ankles = body.middle("knee"), body.middle("ankle")
    high = (knees is None or box.middle[1] < knees[1]) and (ankles is None or box.lower < ankles[1])
    return high and _touches(body, box)


def _pushing(body: Body, box: Frame) -> bool:
    knees, hips = body.middle("knee"), body.middle("hip")
    low = knees is None or box.lower > knees[1]
    beside = hips is None or not box.left < hips[0] < box.right
    return low and beside and _touches(body, box)


def _sitting_on(body: Body, box: Frame) -> bool:
    hips = body.middle("hip")
    if hips is None:
        return False
    aside, above = SEAT_BESIDE * body.size, SEAT_ABOVE * body.size
    inside = box.left - aside < hips[0] < box.right + aside
    return inside and box.upper - above < hips[1] < box.middle[1]


def _pointing_at(body: Body, box: Frame) -> bool:
    for side in ("right", "left"):
        start, end = (body.points.get(f"{side} {joint}") for joint in ("shoulder", "wrist"))
        if start is None or end is None or _gap(end, box) <= POINTING_GAP * body.size:
            continue
        if _angle(start, end, box.middle) <= POINTING_DEGREES:
            return True
    return False


_ACTIONS: Mapping[str, Callable[[Body, Frame], bool]] = {
    "holding": _holding,
    "pushing": _pushing,
    "sitting on": _sitting_on,
    "pointing at": _pointing_at,
}


def _gap(point: Point, box: Frame) -> float:
    """How far a point is from a box; 0 inside."""
    x = max(box.left - point[0], 0.0, point[0] - box.right)
    y = max(box.upper - point[1], 0.0, point[1] - box.lower)
    return math.hypot(x, y)


def _angle(start: Point, one: Point, other: Point) -> float:
    """Degrees between the directions from a start to two points."""
    ways = [math.atan2(end[1] - start[1], end[0] - start[0]) for end in (one, other)]
    return abs((math.degrees(ways[0] - ways[1]) + 180) % 360 - 180)


def find(scenes: Sequence[Scene], reading: Reading, depth: Tensor, valid: Tensor) -> list[Found]:
    """Find the entities of scenes in pictures.

    Args:
        scenes: what the pictures are to show, one each.
        reading: of the pictures.
        depth: (B, 1, H, W) exact metres of the scenes, whose range the reading's depth takes.
        valid: (B, 1, H, W) bool, where there is a depth.

    Returns:
        What is found, picture by picture.
    """
    side = reading.classes.shape[-1]
    people = read_people(reading.keypoints, reading.offsets, reading.classes)
    spots = seen_spots(reading.classes, torch.zeros_like(reading.colors))
    found: list[Found] = []
    for row, scene in enumerate(scenes):
        metres = _metres(reading.inverse_depth[row, 0], depth[row][valid[row]])
        frames: dict[int, Frame] = {}
        for number in range(len(scene)):
            entity = scene.entity(number)
            cls = CLASSES.index(entity.shape if isinstance(entity, Solid) else "person")
            boxes = [spot.box for spot in spots[row] if spot.cls == cls]
            if boxes:
                frames[number] = _frame(boxes[0], reading.classes[row] == cls, metres)
        found.append(Found(_body(people[row], side), frames))
    return found


def _metres(inverse: Tensor, true: Tensor) -> Tensor:
    """(H, W) metres of a depth without a unit, in [0, 1] and near 1."""
    least, most = 1 / true.max(), 1 / true.min()
    return 1 / (least + inverse.clamp(0, 1) * (most - least))


def _frame(box: Box, alike: Tensor, metres: Tensor) -> Frame:
    """A box with the depth of those of its pixels that are alike."""
    height, width = alike.shape
    left, top, right, bottom = box
    rows = slice(round(top * height), round(bottom * height))
    columns = slice(round(left * width), round(right * width))
    depths = metres[rows, columns][alike[rows, columns]]
    near, far = (float(depths.quantile(share)) for share in _DEPTHS)
    return Frame(left, top, right, bottom, near, far)


def _body(people: People, side: int) -> Body | None:
    """The largest of some people."""
    if not len(people):
        return None
    sizes = people.sides()
    which = int(sizes.argmax())
    points = {
        name: (float(x) / side, float(y) / side)
        for name, (x, y), known in zip(
            KEYPOINTS, people.xy[which].tolist(), people.found[which].tolist(), strict=True
        )
        if known
    }
    return Body(points, float(sizes[which]) / side)
