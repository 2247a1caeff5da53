"""The shape of a solid: its axes, how far it reaches, and how it comes to rest."""

import math

from unicond.world.scene import Solid, Vec3
from unicond.world.vectors import add, turn


def axes(solid: Solid) -> tuple[Vec3, Vec3, Vec3]:
    """The solid's local x, y, z axes in the world (unit vectors)."""
    c, s = math.cos(math.radians(solid.tilt)), math.sin(math.radians(solid.tilt))
    x, y, z = (1.0, 0.0, 0.0), (0.0, c, s), (0.0, -s, c)
    return turn(x, solid.yaw), turn(y, solid.yaw), turn(z, solid.yaw)


def reach(solid: Solid, direction: Vec3) -> float:
    """How far the solid reaches from its centre along a unit direction (the support function).

    Args:
        solid: the solid.
        direction: unit vector in the world.

    Returns:
        Metres from the centre to the furthest point along `direction`.
    """
    hx, hy, hz = (0.5 * extent for extent in solid.size)
    along = [sum(a * d for a, d in zip(axis, direction, strict=True)) for axis in axes(solid)]
    side = hx * math.sqrt(max(0.0, 1.0 - along[1] ** 2))
    if solid.shape == "ball":
        return hx
    if solid.shape == "box":
        return hx * abs(along[0]) + hy * abs(along[1]) + hz * abs(along[2])
    if solid.shape == "cylinder":
        return hy * abs(along[1]) + side
    if solid.shape == "pill":
        return (hy - hx) * abs(along[1]) + hx
    return max(hy * along[1], -hy * along[1] + side)


def bottom(solid: Solid) -> float:
    """Height of the solid's lowest point, metres."""
    return solid.center[1] - reach(solid, (0.0, -1.0, 0.0))


def top(solid: Solid) -> float:
    """Height of the solid's highest point, metres."""
    return solid.center[1] + reach(solid, (0.0, 1.0, 0.0))


def footprint(solid: Solid) -> float:
    """Radius of the upright cylinder about the centre that holds the solid, metres."""
    if solid.shape == "ball":
        return 0.5 * solid.size[0]
    hx, hy, hz = (0.5 * extent for extent in solid.size)
    if solid.tilt == 0.0:
        return math.hypot(hx, hz) if solid.shape == "box" else hx
    return hy if solid.shape == "pill" else math.hypot(hx, hy)


def corners(solid: Solid) -> list[Vec3]:
    """The eight corners of the box around the solid along its own axes, in the world."""
    half = [0.5 * extent for extent in solid.size]
    x, y, z = axes(solid)
    out = []
    for sx in (-half[0], half[0]):
        for sy in (-half[1], half[1]):
            for sz in (-half[2], half[2]):
                out.append(add(add(add(solid.center, x, sx), y, sy), z, sz))
    return out


def lying_tilt(shape: str, size: Vec3) -> float:
    """The tilt (degrees) at which a round solid lies on its side."""
    return 90.0 + (math.degrees(math.atan2(0.5 * size[0], size[1])) if shape == "cone" else 0.0)


def has_flat_top(solid: Solid) -> bool:
    """Whether something can rest on it: boxes, and cylinders that stand."""
    return solid.shape == "box" or (solid.shape == "cylinder" and solid.tilt == 0.0)
