"""Three-vectors as plain tuples: Python floats are the same on every machine."""

import math

from unicond.world.scene import Camera, Vec3


def add(a: Vec3, b: Vec3, scale: float = 1.0) -> Vec3:
    """`a + scale * b`."""
    return (a[0] + scale * b[0], a[1] + scale * b[1], a[2] + scale * b[2])


def dot(a: Vec3, b: Vec3) -> float:
    """Inner product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vec3, b: Vec3) -> Vec3:
    """Right-handed cross product."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def unit(a: Vec3) -> Vec3:
    """`a` at length 1; the zero vector stays zero."""
    length = math.sqrt(dot(a, a))
    return (a[0] / length, a[1] / length, a[2] / length) if length > 0.0 else a


def turn(a: Vec3, yaw: float) -> Vec3:
    """`a` turned about y by `yaw` degrees: local z goes to (sin yaw, 0, cos yaw)."""
    c, s = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    return (c * a[0] + s * a[2], a[1], c * a[2] - s * a[0])


def yaw_of(direction: Vec3) -> float:
    """The yaw (degrees) that turns local z to the horizontal part of `direction`."""
    return math.degrees(math.atan2(direction[0], direction[2]))


def camera_axes(camera: Camera) -> tuple[Vec3, Vec3, Vec3]:
    """Unit vectors right, down, forward of the picture, in the world."""
    forward = unit(add(camera.target, camera.position, -1.0))
    right = unit(cross(forward, (0.0, 1.0, 0.0)))
    return right, cross(forward, right), forward


def focal(camera: Camera) -> float:
    """Focal length as a share of the picture's shorter side."""
    return 0.5 / math.tan(math.radians(camera.fov) / 2)


def project(camera: Camera, point: Vec3) -> Vec3:
    """Where a world point is seen.

    Args:
        camera: the camera.
        point: in the world, metres.

    Returns:
        (x, y, depth): x right and y down from the picture's centre as shares of its shorter side
        (a square picture spans -0.5 to 0.5), and the distance along the camera's axis in metres.
        Behind the camera (depth <= 0), x and y mean nothing.
    """
    right, down, forward = camera_axes(camera)
    offset = add(point, camera.position, -1.0)
    depth = dot(offset, forward)
    scale = focal(camera) / depth if depth > 1e-6 else 0.0
    return (dot(offset, right) * scale, dot(offset, down) * scale, depth)
