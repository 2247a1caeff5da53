"""Which primitive may meet which ray: lists of pairs, from boxes on the screen.

Each primitive lists the pixels inside the screen box of what bounds it: its own box for sight, the
prism swept away from the sun down to the ground for shadow, a ball's reach for contact darkening.
What no box covers is never looked at, and a z-buffer over the pairs is one scatter-minimum.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.world.rays import take
from unicond.world.table import Table

CUBE = torch.tensor(
    [[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)], dtype=torch.float32
)
"""Corners of the box [-1, 1]^3, (8, 3)."""

SMALLEST_CASTER_M = 0.04
"""Pieces thinner than this radius (eyes, nose) cast no shadow."""


@dataclass(frozen=True)
class Pairs:
    """K pairs that may meet: rows of primitives, not falling, and numbers of rays; int32."""

    row: Tensor
    ray: Tensor


@dataclass(frozen=True)
class Spheres:
    """Balls that stand for things where they touch others.

    Scene and instance (B,) int32, centre (3, B) and radius (B,) in metres.
    """

    scene: Tensor
    instance: Tensor
    center: Tensor
    radius: Tensor


def bounds(table: Table) -> Tensor:
    """World corners of the boxes that bound the primitives, (P, 8, 3)."""
    half = CUBE.to(table.center.device)[None].repeat(len(table.shape), 1, 1)
    half[:, :, 1] *= (1 + table.stretch)[:, None]
    rows = table.matrix.T.reshape(-1, 3, 3)
    rows = rows / (rows * rows).sum(2, keepdim=True)
    return table.center.T[:, None] + torch.einsum("pji,pkj->pki", rows, half)


def swept(table: Table, points: Tensor) -> Tensor:
    """Corners of prisms from boxes (P, 8, 3) away from the sun to the ground, (P, 16, 3)."""
    sun = take(table.sun, table.scene).T
    drop = points[..., 1].clamp_min(0) / sun[:, None, 1]
    return torch.cat([points, points - drop[..., None] * sun[:, None]], dim=1)


def contact_spheres(table: Table, points: Tensor) -> Spheres:
    """One ball at the foot of every solid, shoe and pair of hips; `points` are their bounds."""
    rows = table.touches.nonzero().squeeze(1)
    low, high = points[rows].amin(1), points[rows].amax(1)
    radius = (0.5 * (high - low)).amin(1)
    center = 0.5 * (low + high)
    center[:, 1] = low[:, 1] + radius
    return Spheres(table.scene[rows], table.instance[rows], center.T.contiguous(), radius)


def list_pairs(
    table: Table, scene: Tensor, points: Tensor, size: tuple[int, int], keep: Tensor | None = None
) -> Pairs:
    """Every hull with the pixels that it may cover.

    Args:
        table: the cameras.
        scene: (P,) rows of the scenes that the hulls are in.
        points: (P, N, 3) corners of the hulls in the world, metres.
        size: height and width of the picture in pixels.
        keep: (P,) bool, hulls to list; all of them if None.

    Returns:
        Rows of hulls and flat pixel numbers `(scene * H + y) * W + x`. A hull that reaches behind
        the camera is listed with the whole picture.
    """
    left, upper, width, height = _screen_boxes(table, scene, points, size)
    count = width * height
    if keep is not None:
        count = torch.where(keep, count, 0)
    number = torch.arange(len(count), device=count.device, dtype=torch.int32)
    row = number.repeat_interleave(count)
    start = torch.cumsum(count, 0, dtype=torch.int32) - count
    place = torch.arange(len(row), device=row.device, dtype=torch.int32) - take(start, row)
    wide = take(width, row)
    line = torch.div(place, wide, rounding_mode="floor")
    base = (scene * size[0] + upper) * size[1] + left
    return Pairs(row, take(base, row) + line * (size[1] - wide) + place)


def _screen_boxes(
    table: Table, scene: Tensor, points: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First column and row, width and height of hulls, clipped to the picture; (P,) int32."""
    offset = points - take(table.eye, scene).T[:, None]
    view = take(table.view, scene).T.reshape(-1, 3, 3)
    seen = torch.einsum("pij,pkj->pki", view, offset)
    depth = seen[..., 2]
    scale = min(size) * take(table.focal, scene)[:, None] / depth.clamp_min(1e-3)
    x, y = seen[..., 0] * scale + 0.5 * size[1], seen[..., 1] * scale + 0.5 * size[0]
    behind = (depth < 0.05).any(1)
    spans = []
    for values, limit in ((x, size[1]), (y, size[0])):
        low = torch.where(behind, 0.0, values.amin(1)).clamp(0, limit).floor().int()
        high = torch.where(behind, float(limit), values.amax(1)).clamp(0, limit).ceil().int()
        spans.append((low, high - low))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]
