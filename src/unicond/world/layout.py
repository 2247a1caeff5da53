"""Where things are before a scene is drawn: screen boxes, overlap, collisions."""

import math
from dataclasses import dataclass

from unicond.world import solids
from unicond.world.people import Body, body
from unicond.world.scene import Camera, Person, Scene, Solid, Vec3
from unicond.world.vectors import add, camera_axes, dot, focal


@dataclass(frozen=True, slots=True)
class Frame:
    """A box in the picture: x right, y down, in shares of the shorter side; depth in metres."""

    left: float
    upper: float
    right: float
    lower: float
    near: float
    far: float

    @property
    def middle(self) -> tuple[float, float]:
        """Centre of the box."""
        return 0.5 * (self.left + self.right), 0.5 * (self.upper + self.lower)

    @property
    def area(self) -> float:
        """Area as a share of the square."""
        return (self.right - self.left) * (self.lower - self.upper)

    def inside(self, margin: float) -> bool:
        """Whether the box keeps `margin` away from the border of a square picture."""
        limit = 0.5 - margin
        return (
            min(self.left, self.upper) >= -limit
            and max(self.right, self.lower) <= limit
            and self.near > 0.5
        )

    def overlap(self, other: "Frame") -> float:
        """Shared area as a share of the smaller box."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.lower, other.lower) - max(self.upper, other.upper)
        if wide <= 0.0 or high <= 0.0:
            return 0.0
        return wide * high / max(1e-9, min(self.area, other.area))


def frame(camera: Camera, points: list[Vec3], pad: float = 0.0) -> Frame:
    """The box around points in the picture, each padded by `pad` metres."""
    right, down, forward = camera_axes(camera)
    scale, eye = focal(camera), camera.position
    xs: list[float] = []
    ys: list[float] = []
    depths: list[float] = []
    for point in points:
        offset = add(point, eye, -1.0)
        depth = max(1e-3, dot(offset, forward))
        x, y = dot(offset, right), dot(offset, down)
        xs += [(x - pad) * scale / depth, (x + pad) * scale / depth]
        ys += [(y - pad) * scale / depth, (y + pad) * scale / depth]
        depths.append(depth)
    return Frame(min(xs), min(ys), max(xs), max(ys), min(depths) - pad, max(depths) + pad)


def solid_frame(camera: Camera, solid: Solid) -> Frame:
    """The picture box of a solid: of its corners, or of its balls where it is round."""
    radius = 0.5 * solid.size[0]
    if solid.shape == "ball":
        return frame(camera, [solid.center], radius)
    if solid.shape == "pill":
        axis, straight = solids.axes(solid)[1], 0.5 * solid.size[1] - radius
        ends = [add(solid.center, axis, straight), add(solid.center, axis, -straight)]
        return frame(camera, ends, radius)
    return frame(camera, solids.corners(solid))


def person_frame(camera: Camera, posed: Body, scale: float = 1.0) -> Frame:
    """The picture box of a person, from the joints and the crown."""
    points = [p for name, p in posed.points.items() if name.split()[-1] not in ("eye", "ear")]
    crown = add(posed.points["head"], posed.head_up, 0.12 * scale)
    return frame(camera, [*points, crown], 0.065 * scale)


def entity_frame(scene: Scene, index: int) -> Frame:
    """The picture box of entity `index`."""
    entity = scene.entity(index)
    if isinstance(entity, Solid):
        return solid_frame(scene.camera, entity)
    return person_frame(scene.camera, body(entity), entity.scale)


@dataclass(frozen=True, slots=True)
class Room:
    """The upright cylinder that an entity takes up: middle (x, z), radius, height range; metres."""

    x: float
    z: float
    radius: float
    low: float
    high: float

    def meets(self, other: "Room", gap: float = 0.03) -> bool:
        """Whether the two come nearer than `gap`."""
        apart = math.hypot(self.x - other.x, self.z - other.z)
        beside = apart >= self.radius + other.radius + gap
        return not (beside or self.low >= other.high - 1e-6 or other.low >= self.high - 1e-6)


def solid_room(solid: Solid) -> Room:
    """The room that a solid takes up."""
    x, _, z = solid.center
    return Room(x, z, solids.footprint(solid), solids.bottom(solid), solids.top(solid))


def person_room(person: Person, posed: Body) -> Room:
    """The room that a person takes up: all joints within it."""
    x, y, z = person.position
    points = [posed.points[k] for k in posed.points]
    radius = max(math.hypot(p[0] - x, p[2] - z) for p in points) + 0.1 * person.scale
    return Room(x, z, radius, y, max(p[1] for p in points) + 0.15 * person.scale)
