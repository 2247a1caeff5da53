"""An independent twin of the solids for tests: signed distances in float64 by definition."""

import math

import numpy as np

from unicond.world import Solid


def to_local(solid: Solid, points: np.ndarray) -> np.ndarray:
    """World points (N, 3) in the solid's own axes: undo yaw about y, then tilt about x."""
    p = points - np.array(solid.center)
    c, s = math.cos(math.radians(solid.yaw)), math.sin(math.radians(solid.yaw))
    p = np.stack([c * p[:, 0] - s * p[:, 2], p[:, 1], s * p[:, 0] + c * p[:, 2]], 1)
    c, s = math.cos(math.radians(solid.tilt)), math.sin(math.radians(solid.tilt))
    return np.stack([p[:, 0], c * p[:, 1] + s * p[:, 2], -s * p[:, 1] + c * p[:, 2]], 1)


def distance(solid: Solid, points: np.ndarray) -> np.ndarray:
    """Signed distance (metres, negative inside) of points (N, 3); 0 exactly on the surface."""
    p = to_local(solid, points)
    hx, hy, hz = (0.5 * extent for extent in solid.size)
    radial = np.hypot(p[:, 0], p[:, 2])
    if solid.shape == "ball":
        return np.linalg.norm(p, axis=1) - hx
    if solid.shape == "box":
        q = np.abs(p) - np.array([hx, hy, hz])
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)
    if solid.shape == "cylinder":
        return np.maximum(radial - hx, np.abs(p[:, 1]) - hy)
    if solid.shape == "pill":
        y = p[:, 1] - np.clip(p[:, 1], -(hy - hx), hy - hx)
        return np.hypot(radial, y) - hx
    slant = (radial - hx * (hy - p[:, 1]) / (2 * hy)) * math.cos(math.atan2(hx, 2 * hy))
    return np.maximum(slant, -hy - p[:, 1])


def inner_points(solid: Solid, count: int = 4000) -> np.ndarray:
    """Points inside the solid, (M, 3), by rejection from its box."""
    rng = np.random.default_rng(5)
    box = Solid("box", "red", solid.center, solid.size, solid.yaw, solid.tilt)
    local = rng.uniform(-0.5, 0.5, (count, 3)) * np.array(solid.size)
    c, s = math.cos(math.radians(solid.tilt)), math.sin(math.radians(solid.tilt))
    x, y, z = local[:, 0], c * local[:, 1] - s * local[:, 2], s * local[:, 1] + c * local[:, 2]
    c, s = math.cos(math.radians(solid.yaw)), math.sin(math.radians(solid.yaw))
    world = np.stack([c * x + s * z, y, -s * x + c * z], 1) + np.array(solid.center)
    assert (distance(box, world) < 1e-9).all()
    return world[distance(solid, world) < 0]
