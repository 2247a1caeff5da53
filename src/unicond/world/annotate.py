"""Annotations that are read off a rendering: soft edges, keypoints with visibility, boxes.

Soft edges take the strongest of four discontinuities between neighbours: another instance, a fold
in depth (the inverse depth of a plane is affine in the picture, so its second difference is 0
however steep the plane), a turn of the normal, and another surface colour. Shadows are no edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unicond.world.people import body
from unicond.world.render import Rendering
from unicond.world.scene import Scene
from unicond.world.vectors import project
from unicond.world.vocabulary import KEYPOINTS

EDGE_LEVELS = 5
"""Edges take this many values, evenly from none (-1) to full (1)."""
OUTSIDE, OCCLUDED, SEEN = 0, 1, 2
"""Visibility of a keypoint."""

_JOINT_RADIUS_M = {
    "nose": 0.06,
    "neck": 0.16,
    "shoulder": 0.13,
    "elbow": 0.10,
    "wrist": 0.11,
    "hip": 0.20,
    "knee": 0.14,
    "ankle": 0.12,
    "eye": 0.06,
    "ear": 0.08,
}
"""How far in front of a joint its own body part may lie: flesh, clothes and hair."""


def _ramp(values: Tensor, low: float, high: float) -> Tensor:
    """0 up to `low`, 1 from `high`, straight between."""
    return ((values - low) / (high - low)).clamp(0, 1)


def _fold(values: Tensor, axis: int) -> Tensor:
    """Second difference along an axis, 0 at the border; the same shape."""
    a, b, c = (values.narrow(axis, k, values.shape[axis] - 2) for k in range(3))
    pads = [0, 0, 0, 0]
    pads[2 * (3 - axis)] = pads[2 * (3 - axis) + 1] = 1
    return functional.pad((a - 2 * b + c).abs(), pads)


def edge_strength(rendering: Rendering) -> Tensor:
    """How strong the edge at each pixel is, before softening.

    Args:
        rendering: B renderings.

    Returns:
        (B, 1, H, W) in [0, 1]; exactly 0 where neighbours lie on one flat surface of one colour.
    """
    inverse = torch.where(rendering.valid, 1 / rendering.depth.clamp_min(1e-3), 0.0)
    strength = torch.zeros_like(inverse)
    instances = rendering.instances[:, None]
    thing = (instances > 0) & rendering.valid
    for axis in (2, 3):
        count = inverse.shape[axis] - 1

        def pair(values: Tensor, axis: int = axis, count: int = count) -> tuple[Tensor, Tensor]:
            return values.narrow(axis, 0, count), values.narrow(axis, 1, count)

        (i0, i1), (n0, n1) = pair(instances), pair(rendering.normals)
        a0, a1 = pair(rendering.albedo)
        other = (i0 != i1).float()
        other = torch.where(torch.maximum(i0, i1) <= 0, 0.5 * other, other)
        solid = rendering.valid.narrow(axis, 0, count) & rendering.valid.narrow(axis, 1, count)
        turn = _ramp(1 - (n0 * n1).sum(1, keepdim=True), 0.12, 0.5) * solid
        color = 0.75 * _ramp((a0 - a1).abs().amax(1, keepdim=True), 0.34, 0.85) * solid
        found = torch.maximum(torch.maximum(other, turn), color)
        for side in pair(strength):
            side.copy_(torch.maximum(side, found))
        fold = _ramp(_fold(inverse, axis) / inverse.clamp_min(1e-3), 0.05, 0.2)
        strength = torch.maximum(strength, fold * thing)
    return strength


def soft_edges(rendering: Rendering) -> Tensor:
    """Edges as a picture, bright on black.

    Args:
        rendering: B renderings.

    Returns:
        (B, 3, H, W) in [-1, 1], three equal channels of `EDGE_LEVELS` values.
    """
    strength = edge_strength(rendering)
    tent = torch.tensor((0.25, 0.5, 0.25), device=strength.device)
    padded = functional.pad(strength, (1, 1, 1, 1), mode="replicate")
    return quantised(functional.conv2d(padded, (tent[:, None] * tent)[None, None]) * 1.25)


def quantised(strength: Tensor) -> Tensor:
    """Edges of any origin as the picture that soft edges are, in `EDGE_LEVELS` values.

    Args:
        strength: (B, 1, H, W), 0 none to 1 full; what is beyond is clipped.

    Returns:
        (B, 3, H, W) in [-1, 1], three equal channels.
    """
    steps = EDGE_LEVELS - 1
    return (strength.clamp(0, 1) * steps).round().div(0.5 * steps).sub(1).repeat(1, 3, 1, 1)


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of P people, in the order of `vocabulary.KEYPOINTS`.

    Attributes:
        scene: (P,) int64, row of the scene.
        entity: (P,) int64, the person's index in its scene.
        xy: (P, 18, 2) float32 pixels: x right, y down, (0.5, 0.5) is the middle of the first pixel.
        depth: (P, 18) float32, camera-z distance in metres.
        visibility: (P, 18) int64: `SEEN`, `OCCLUDED` by something or by the person, or `OUTSIDE`.
    """

    scene: Tensor
    entity: Tensor
    xy: Tensor
    depth: Tensor
    visibility: Tensor


def project_people(scenes: Sequence[Scene], size: tuple[int, int]) -> Keypoints:
    """Where joints are in the picture; all inside it count as seen.

    Args:
        scenes: the scenes.
        size: height and width of the picture in pixels.

    Returns:
        The keypoints, on the CPU.
    """
    rows: list[tuple[int, int]] = []
    values: list[list[tuple[float, float, float]]] = []
    short = min(size)
    for number, scene in enumerate(scenes):
        for n, person in enumerate(scene.people):
            points = body(person).points
            seen = [project(scene.camera, points[name]) for name in KEYPOINTS]
            rows.append((number, len(scene.solids) + n))
            values.append(
                [(x * short + 0.5 * size[1], y * short + 0.5 * size[0], z) for x, y, z in seen]
            )
    where = torch.tensor(rows, dtype=torch.int64).reshape(-1, 2)
    found = torch.tensor(values, dtype=torch.float32).reshape(-1, len(KEYPOINTS), 3)
    x, y, depth = found.unbind(2)
    inside = (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0]) & (depth > 0)
    visibility = torch.where(inside, SEEN, OUTSIDE)
    return Keypoints(where[:, 0], where[:, 1], found[..., :2], depth, visibility)


def keypoints(scenes: Sequence[Scene], rendering: Rendering) -> Keypoints:
    """Keypoints of everybody, and whether each is seen.

    A keypoint is seen where its own person covers its pixel, no further in front of it than flesh,
    clothes and hair go there.

    Args:
        scenes: the scenes, as they were drawn.
        rendering: their rendering, one row a scene.

    Returns:
        The keypoints, on the CPU.

    Raises:
        ValueError: not one rendering for each scene.
    """
    if len(scenes) != len(rendering):
        raise ValueError(
            f"{len(scenes)} scenes but {len(rendering)} renderings; give those that belong together"
        )
    height, width = rendering.instances.shape[1:]
    found = project_people(scenes, (height, width))
    column = found.xy[..., 0].long().clamp(0, width - 1)
    line = found.xy[..., 1].long().clamp(0, height - 1)
    scene = found.scene[:, None].expand_as(column)
    owner = rendering.instances.cpu()[scene, line, column].long()
    surface = rendering.depth.cpu()[scene, 0, line, column]
    radius = torch.tensor([_JOINT_RADIUS_M[name.split()[-1]] for name in KEYPOINTS])
    mine = owner == found.entity[:, None] + 1
    near = found.depth - surface <= radius
    hidden = (found.visibility == SEEN) & ~(mine & near)
    visibility = torch.where(hidden, OCCLUDED, found.visibility)
    return Keypoints(found.scene, found.entity, found.xy, found.depth, visibility)


@dataclass(frozen=True)
class Boxes:
    """Boxes of what can be seen of entities, E of them for every picture.

    Attributes:
        corners: (B, E, 4) int64 pixels: left, upper, right, lower; the last two are exclusive.
            All 0 where nothing is seen, or where a scene has fewer entities.
        pixels: (B, E) int64, how many pixels are seen.
    """

    corners: Tensor
    pixels: Tensor


def boxes(rendering: Rendering, entities: int | None = None) -> Boxes:
    """Boxes around what is seen of each entity.

    Args:
        rendering: B renderings.
        entities: E, how many to tell of; the most that any picture shows if None.

    Returns:
        Boxes and pixel counts.
    """
    return boxes_in(rendering.instances, entities)


def boxes_in(instances: Tensor, entities: int | None = None) -> Boxes:
    """Boxes around the values of an instance map.

    Args:
        instances: (B, H, W), k + 1 where entity k is seen, as `Rendering` has them.
        entities: E, how many to tell of; the most that any picture shows if None.

    Returns:
        Boxes and pixel counts.
    """
    ids = instances.long()
    count = max(int(ids.max()), 0) if entities is None else entities
    batch, height, width = ids.shape
    slot = torch.where((ids > 0) & (ids <= count), ids, 0).reshape(batch, -1)
    x = torch.arange(width, device=ids.device).repeat(height)[None].expand(batch, -1)
    y = torch.arange(height, device=ids.device).repeat_interleave(width)[None].expand(batch, -1)

    def reduce(values: Tensor, how: str, start: int) -> Tensor:
        out = torch.full((batch, count + 1), start, device=ids.device)
        return out.scatter_reduce_(1, slot, values, how)[:, 1:]

    pixels = reduce(torch.ones_like(x), "sum", 0)
    sides = [reduce(x, "amin", width), reduce(y, "amin", height)]
    sides += [reduce(x, "amax", -1) + 1, reduce(y, "amax", -1) + 1]
    corners = torch.stack(sides, 2)
    return Boxes(torch.where(pixels[..., None] > 0, corners, 0), pixels)
