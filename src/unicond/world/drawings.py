"""Annotations drawn as pictures: skeletons in OpenPose's colours, segmentations in a fixed palette.

Limbs and colours are those of OpenPose's COCO-18 drawings (CMU Perceptual Computing Lab), as
ControlNet's annotators draw them: sticks at 60 % brightness, joints at full.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unicond.world.annotate import project_people
from unicond.world.palette import CLASS_RGB
from unicond.world.people import body
from unicond.world.render import Rendering
from unicond.world.scene import Person, Scene
from unicond.world.vectors import add, dot
from unicond.world.vocabulary import CLASSES, KEYPOINTS

LIMBS = (
    (1, 2),
    (1, 5),
    (2, 3),
    (3, 4),
    (5, 6),
    (6, 7),
    (1, 8),
    (8, 9),
    (9, 10),
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
COLORS_RGB = (
    (255, 0, 0),
    (255, 85, 0),
    (255, 170, 0),
    (255, 255, 0),
    (170, 255, 0),
    (85, 255, 0),
    (0, 255, 0),
    (0, 255, 85),
    (0, 255, 170),
    (0, 255, 255),
    (0, 170, 255),
    (0, 85, 255),
    (0, 0, 255),
    (85, 0, 255),
    (170, 0, 255),
    (255, 0, 255),
    (255, 0, 170),
    (255, 0, 85),
)
STICK_SHARE, JOINT_SHARE = 0.009, 0.012
"""Radii of sticks and joints, as shares of the shorter side."""
FACE = (0, 14, 15, 16, 17)


def _drawn(scene: Scene, person: Person) -> list[bool]:
    """Which keypoints a skeleton shows: the face's only from the side on which they are."""
    posed = body(person)
    head = posed.points["head"]
    toward = add(scene.camera.position, head, -1.0)
    shown = [True] * len(KEYPOINTS)
    for k in FACE:
        shown[k] = dot(add(posed.points[KEYPOINTS[k]], head, -1.0), toward) > 0.0
    return shown


def _stroke(grid: Tensor, start: Tensor, end: Tensor, radius: float) -> Tensor:
    """Coverage (P, H, W) of pixel centres (H, W, 2) by strokes between ends (P, 2)."""
    way = end - start
    offset = grid - start[:, None, None]
    length = (way * way).sum(-1).clamp_min(1e-6)[:, None, None]
    share = ((offset * way[:, None, None]).sum(-1) / length).clamp(0, 1)
    gap = (offset - share[..., None] * way[:, None, None]).square().sum(-1).sqrt()
    return (radius + 0.5 - gap).clamp(0, 1)


def draw_skeletons(
    scenes: Sequence[Scene], size: int | tuple[int, int] = 128, device: torch.device | str = "cpu"
) -> Tensor:
    """Everybody's skeleton on black.

    Args:
        scenes: B scenes.
        size: height and width in pixels, or one number for both.
        device: where to draw.

    Returns:
        (B, 3, H, W) float32 in [-1, 1]; black where a scene has no people.
    """
    height, width = (size, size) if isinstance(size, int) else size
    canvas = torch.zeros(len(scenes), 3, height, width, device=device)
    found = project_people(scenes, (height, width))
    if not len(found.scene):
        return canvas - 1
    marks = [_drawn(scene, person) for scene in scenes for person in scene.people]
    shown = torch.tensor(marks, device=device) & (found.depth.to(device) > 0)
    xy, row = found.xy.to(device), found.scene.to(device)
    y, x = torch.meshgrid(
        torch.arange(height, device=device) + 0.5,
        torch.arange(width, device=device) + 0.5,
        indexing="ij",
    )
    grid, short = torch.stack([x, y], -1), min(height, width)
    stick, joint = max(0.6, STICK_SHARE * short), max(0.8, JOINT_SHARE * short)
    layers = torch.zeros(len(row), 3, height, width, device=device)
    strokes = [(a, b, stick, 0.6, n) for n, (a, b) in enumerate(LIMBS)]
    strokes += [(k, k, joint, 1.0, k) for k in range(len(KEYPOINTS))]
    for a, b, radius, bright, number in strokes:
        both = (shown[:, a] & shown[:, b])[:, None, None]
        cover = _stroke(grid, xy[:, a], xy[:, b], radius) * both
        color = torch.tensor(COLORS_RGB[number], device=device) / 255 * bright
        layers += cover[:, None] * (color[:, None, None] - layers)
    for n, number in enumerate(row.tolist()):
        over = layers[n].amax(0, keepdim=True) > 0
        canvas[number] = torch.where(over, layers[n], canvas[number])
    return canvas * 2 - 1


def draw_segmentation(rendering: Rendering) -> Tensor:
    """Classes in a fixed palette.

    Args:
        rendering: B renderings.

    Returns:
        (B, 3, H, W) float32 in [-1, 1].
    """
    device = rendering.classes.device
    palette = torch.tensor([CLASS_RGB[name] for name in CLASSES], device=device)
    return palette[rendering.classes.long()].permute(0, 3, 1, 2).contiguous() * 2 - 1


def draw_instances(rendering: Rendering) -> Tensor:
    """Instances, each in a colour of its own by its number; ground and sky dark.

    Args:
        rendering: B renderings.

    Returns:
        (B, 3, H, W) float32 in [-1, 1].
    """
    ids = rendering.instances.float()[:, None]
    hue = torch.remainder(ids * 0.381966, 1.0) * 6
    wheel = torch.cat(
        [(torch.remainder(hue + shift, 6.0) - 3).abs() - 1 for shift in (0.0, 4.0, 2.0)], 1
    )
    color = 0.25 + 0.75 * wheel.clamp(0, 1)
    return torch.where(ids > 0, color, 0.12 * (ids + 1)) * 2 - 1
