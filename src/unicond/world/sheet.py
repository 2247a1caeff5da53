"""Contact sheets: scenes down, annotations across, captions beneath."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from unicond.world.annotate import boxes, keypoints, soft_edges
from unicond.world.captions import describe
from unicond.world.drawings import draw_instances, draw_segmentation, draw_skeletons
from unicond.world.palette import COLOR_RGB
from unicond.world.render import Rendering, render
from unicond.world.scene import Scene
from unicond.world.vocabulary import COLOR_NAMES

COLUMNS = (
    "image",
    "depth",
    "normals",
    "edges",
    "skeleton",
    "classes",
    "instances",
    "colours",
    "boxes",
)
LINE_PX = 14


def to_pixels(picture: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [-1, 1] as (B, H, W, 3) uint8."""
    scaled = (picture.clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def draw_colors(rendering: Rendering) -> Tensor:
    """The colour map in its colours, (B, 3, H, W) in [-1, 1]: none is dark, other is grey."""
    named = {"none": (0.2, 0.2, 0.25), "other": (0.6, 0.6, 0.6)} | COLOR_RGB
    palette = torch.tensor([named[name] for name in COLOR_NAMES], device=rendering.colors.device)
    return palette[rendering.colors.long()].permute(0, 3, 1, 2) * 2 - 1


def _boxed(scenes: Sequence[Scene], rendering: Rendering) -> np.ndarray:
    """The pictures with boxes and keypoints (green seen, red occluded) drawn in."""
    out = []
    found, joints = boxes(rendering), keypoints(scenes, rendering)
    for n, pixels in enumerate(to_pixels(rendering.image)):
        picture = Image.fromarray(pixels)
        pen = ImageDraw.Draw(picture)
        for corners, count in zip(found.corners[n].tolist(), found.pixels[n].tolist(), strict=True):
            if count:
                left, upper, right, lower = corners
                pen.rectangle((left, upper, right - 1, lower - 1), outline=(255, 255, 0))
        for row in (joints.scene == n).nonzero().flatten().tolist():
            points = zip(joints.xy[row].tolist(), joints.visibility[row].tolist(), strict=True)
            for (x, y), visibility in points:
                color = ((0, 0, 0), (255, 0, 0), (0, 255, 0))[visibility]
                pen.rectangle((x - 1, y - 1, x, y), fill=color)
        out.append(np.asarray(picture))
    return np.stack(out)


def contact_sheet(scenes: Sequence[Scene], size: int = 128) -> Image.Image:
    """All annotations of some scenes in one picture.

    Args:
        scenes: one row each.
        size: side of each panel in pixels.

    Returns:
        An RGB picture of `len(COLUMNS) * size` by a row's height for each scene and a heading.
    """
    rendering = render(scenes, size)
    panels = [
        to_pixels(rendering.image),
        to_pixels(rendering.inverse_depth),
        to_pixels(rendering.normals),
        to_pixels(soft_edges(rendering)),
        to_pixels(draw_skeletons(scenes, size)),
        to_pixels(draw_segmentation(rendering)),
        to_pixels(draw_instances(rendering)),
        to_pixels(draw_colors(rendering)),
        _boxed(scenes, rendering),
    ]
    high = size + LINE_PX
    sheet = Image.new("RGB", (len(panels) * size, LINE_PX + high * len(scenes)), (16, 16, 20))
    pen = ImageDraw.Draw(sheet)
    for k, title in enumerate(COLUMNS):
        pen.text((k * size + 3, 1), title, fill=(230, 230, 230))
        for n in range(len(scenes)):
            sheet.paste(Image.fromarray(panels[k][n]), (k * size, LINE_PX + n * high))
    for n, scene in enumerate(scenes):
        text = f"{scene.index}: {describe(scene).text}"
        pen.text((3, LINE_PX + n * high + size + 1), text, fill=(200, 200, 200))
    return sheet
