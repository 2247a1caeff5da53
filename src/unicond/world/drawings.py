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
_PIXELS = 2**22
"""About so many pixels are drawn at a time, people times height times width."""


def _drawn(scene: Scene, person: Person) -> list[bool]:
    """Which keypoints a skeleton shows: the face's only from the side on which they are."""
    posed = body(person)
    head = posed.points["head"]
    toward = add(scene.camera.position, head, -1.0)
    shown = [True] * len(KEYPOINTS)
    for k in FACE:
        shown[k] = dot(add(posed.points[KEYPOINTS[k]], head, -1.0), toward) > 0.0
    return shown


def shown_points(scenes: Sequence[Scene]) -> Tensor:
    """(P, 18) bool: which keypoints of everybody in some scenes a skeleton shows."""
    marks = [_drawn(scene, person) for scene in scenes for person in scene.people]
    return torch.tensor(marks, dtype=torch.bool).reshape(-1, len(KEYPOINTS))


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
    found = project_people(scenes, (height, width))
    shown = shown_points(scenes) & (found.depth > 0)
    xy, shown, row = found.xy.to(device), shown.to(device), found.scene.to(device)
    return draw_people(xy, shown, row, len(scenes), (height, width))


def draw_people(
    xy: Tensor, shown: Tensor, row: Tensor, count: int, size: tuple[int, int]
) -> Tensor:
    """Skeletons of people whose keypoints are known, on black; later people cover earlier ones.

    Args:
        xy: (P, 18, 2) pixels of `vocabulary.KEYPOINTS`; (0.5, 0.5) is the middle of the first
            pixel.
        shown: (P, 18) bool; a limb is drawn where both of its ends are shown.
        row: (P,) int64, the picture that each person is in.
        count: B pictures.
        size: height and width in pixels.

    Returns:
        (B, 3, H, W) float32 in [-1, 1].
    """
    height, width = size
    canvas = torch.zeros(count, 3, height, width, device=xy.device)
    for people in torch.arange(len(row)).split(max(1, _PIXELS // (height * width))):
        layers = _layers(xy[people], shown[people], size)
        for layer, number in zip(layers, row[people].tolist(), strict=True):
            over = layer.amax(0, keepdim=True) > 0
            canvas[number] = torch.where(over, layer, canvas[number])
    return canvas * 2 - 1


def _layers(xy: Tensor, shown: Tensor, size: tuple[int, int]) -> Tensor:
    """Each of P people alone, (P, 3, H, W) in [0, 1]; points as in `draw_people`."""
    (height, width), device = size, xy.device
    short = min(size)
    stick, joint = max(0.6, STICK_SHARE * short), max(0.8, JOINT_SHARE * short)
    layers = torch.zeros(len(xy), 3, height, width, device=device)
    strokes = [(a, b, stick, 0.6, n) for n, (a, b) in enumerate(LIMBS)]
    strokes += [(k, k, joint, 1.0, k) for k in range(len(KEYPOINTS))]
    for a, b, radius, bright, number in strokes:
        both = shown[:, a] & shown[:, b]
        left, upper, right, lower = _window(xy[both][:, (a, b)], radius + 1, size)
        y, x = torch.meshgrid(
            torch.arange(upper, lower, device=device) + 0.5,
            torch.arange(left, right, device=device) + 0.5,
            indexing="ij",
        )
        cover = _stroke(torch.stack([x, y], -1), xy[:, a], xy[:, b], radius) * both[:, None, None]
        color = torch.tensor(COLORS_RGB[number], device=device) / 255 * bright
        part = layers[:, :, upper:lower, left:right]
        part += cover[:, None] * (color[:, None, None] - part)
    return layers


def _window(ends: Tensor, margin: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, upper, right, lower (exclusive) of the pixels within a margin of points (P, 2, 2)."""
    if not len(ends):
        return 0, 0, 0, 0
    limit = torch.tensor([size[1], size[0]], device=ends.device)
    low = (ends.amin((0, 1)) - margin).clamp_min(0).minimum(limit).long()
    high = (ends.amax((0, 1)) + margin + 1).clamp_min(0).minimum(limit).long()
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


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
