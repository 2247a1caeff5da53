"""Drawing scenes: one call gives the picture and every pixel-exact map of it.

Maps are taken at pixel centres. The picture is too, and where neighbours differ it is drawn again
at four places within the pixel and averaged, so that edges are smooth at a fraction of full
supersampling's cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unicond.world.pairs import (
    CUBE,
    SMALLEST_CASTER_M,
    Pairs,
    bounds,
    contact_spheres,
    list_pairs,
    swept,
)
from unicond.world.rays import dot3, take
from unicond.world.scene import Scene
from unicond.world.styles import PAINT, outline, outlines
from unicond.world.surface import FADE, Near, Rays, Surface, meet
from unicond.world.table import Table, tabulate
from unicond.world.vocabulary import CLASSES, GROUNDS, STYLES, check_word

SUBSAMPLES = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
SMOOTH_ABOVE = 0.05
CHUNK_RAYS = 1 << 17
"""Rays at a time on a CPU, so that a chunk stays in cache; on a GPU 64 times as many."""


@dataclass(frozen=True)
class Rendering:
    """B pictures of H x W pixels and their maps, all exact at pixel centres.

    Attributes:
        image: (B, 3, H, W) float32 in [-1, 1].
        depth: (B, 1, H, W) float32, camera-z distance in metres; 0 where there is sky.
        valid: (B, 1, H, W) bool, False where there is sky.
        normals: (B, 3, H, W) float32 unit vectors in the camera's frame: x right, y up, z towards
            the camera; 0 where there is sky. As an image it is itself: values are in [-1, 1].
        albedo: (B, 3, H, W) float32 in [-1, 1], surface colour without light.
        instances: (B, H, W) int16: -1 sky, 0 ground, k + 1 entity k of the scene.
        classes: (B, H, W) uint8, index into `vocabulary.CLASSES`.
        colors: (B, H, W) uint8, index into `vocabulary.COLOR_NAMES`.
        parts: (B, H, W) uint8, index into `vocabulary.PARTS`.
    """

    image: Tensor
    depth: Tensor
    valid: Tensor
    normals: Tensor
    albedo: Tensor
    instances: Tensor
    classes: Tensor
    colors: Tensor
    parts: Tensor

    def __len__(self) -> int:
        return len(self.image)

    @property
    def inverse_depth(self) -> Tensor:
        """1 / depth as a picture, (B, 3, H, W) in [-1, 1]: near is white, sky is black.

        Scaled from its least (-1) to its greatest (1) value over each picture's valid pixels.
        """
        near = 1 / torch.where(self.valid, self.depth, 1.0)
        low = torch.where(self.valid, near, torch.inf).amin((1, 2, 3), keepdim=True)
        high = torch.where(self.valid, near, -torch.inf).amax((1, 2, 3), keepdim=True)
        share = (near - low) / (high - low).clamp_min(1e-6)
        return (2 * torch.where(self.valid, share, 0.0) - 1).repeat(1, 3, 1, 1)

    def __getitem__(self, rows: slice | Tensor) -> "Rendering":
        """Some of the pictures, as a batch."""
        return Rendering(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def to(self, device: torch.device | str) -> "Rendering":
        """The same on another device."""
        return Rendering(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def render(
    scenes: Sequence[Scene] | Scene,
    size: int | tuple[int, int] = 128,
    style: str | None = None,
    device: torch.device | str = "cpu",
    smooth: bool = True,
) -> Rendering:
    """Draw scenes.

    Args:
        scenes: one or more scenes.
        size: height and width in pixels, or one number for both; the camera's field of view spans
            the shorter side.
        style: draw all in this style instead of each scene's own.
        device: where to compute; the result stays there.
        smooth: draw the picture's edges four times a pixel; maps are the same without.

    Returns:
        Pictures and maps, in the order of the scenes.

    Raises:
        ValueError: no scene, a size below 8 or above 2048 pixels, or an unknown style.
    """
    scenes = [scenes] if isinstance(scenes, Scene) else list(scenes)
    height, width = (size, size) if isinstance(size, int) else size
    if not scenes:
        raise ValueError("no scenes were given; give at least one")
    if min(height, width) < 8 or max(height, width) > 2048:
        raise ValueError(f"size {height} x {width} is out of range; give 8 to 2048 pixels a side")
    if style is not None:
        check_word(style, STYLES, "style")
    drawn = [style or scene.style for scene in scenes]
    device = torch.device(device)
    rays = CHUNK_RAYS * (1 if device.type == "cpu" else 64)
    step = max(1, rays // (height * width))
    order: list[int] = []
    parts: list[Rendering] = []
    with torch.inference_mode():
        for name in STYLES:
            rows = [n for n, each in enumerate(drawn) if each == name]
            rows.sort(key=lambda n: GROUNDS.index(scenes[n].place.ground))
            order += rows
            for start in range(0, len(rows), step):
                table = tabulate([scenes[n] for n in rows[start : start + step]]).to(device)
                parts.append(_draw(table, name, (height, width), smooth))
        back = torch.argsort(torch.tensor(order)).to(device)
        names = [f.name for f in fields(Rendering)]
        return Rendering(**{n: torch.cat([getattr(p, n) for p in parts])[back] for n in names})


def _frame(table: Table, size: tuple[int, int]) -> Rays:
    """One ray through the centre of every pixel."""
    device = table.eye.device
    count, (height, width) = len(table.focal), size
    scale = min(size) * table.focal
    x = (torch.arange(width, device=device) + 0.5 - 0.5 * width) / scale[:, None]
    y = (torch.arange(height, device=device) + 0.5 - 0.5 * height) / scale[:, None]
    scene = torch.arange(count, device=device, dtype=torch.int32)

    def spread(values: Tensor) -> Tensor:
        return values.expand(count, height, width).reshape(-1)

    return Rays(
        spread(scene[:, None, None]),
        spread(x[:, None, :]),
        spread(y[:, :, None]),
        spread((1 / scale)[:, None, None]),
        height * width,
    )


def _near(table: Table, size: tuple[int, int]) -> Near:
    """What may be near the rays of whole pictures."""
    points = bounds(table)
    spheres = contact_spheres(table, points)
    reach = spheres.radius[:, None, None] * FADE * CUBE.to(points.device)
    hull = spheres.center.T[:, None] + reach
    rows = table.matrix.T.reshape(-1, 3, 3)
    casts = (rows * rows).sum(2).amin(1) < SMALLEST_CASTER_M**-2
    return Near(
        list_pairs(table, table.scene, points, size),
        list_pairs(table, table.scene, swept(table, points), size, casts),
        list_pairs(table, spheres.scene, hull, size),
        spheres,
    )


def _draw(table: Table, style: str, size: tuple[int, int], smooth: bool) -> Rendering:
    """Draw one chunk of scenes in one style."""
    rays, near = _frame(table, size), _near(table, size)
    surface = meet(table, rays, near)
    image = PAINT[style](surface, table, rays)
    if smooth:
        edge = _uneven(surface, image, size)
        if len(edge):
            _smooth(image, edge, table, style, rays, near)
    return _collect(table, style, size, rays, surface, image)


def _uneven(surface: Surface, image: Tensor, size: tuple[int, int]) -> Tensor:
    """Flat numbers of the pixels where things, faces or shadows end, (E,) int32."""
    prim, sun = surface.prim.reshape(-1, *size), surface.sun.reshape(-1, *size)
    grid = image.reshape(3, -1, *size)
    mark = torch.zeros_like(prim, dtype=torch.bool)
    for axis in (1, 2):
        last = mark.shape[axis] - 1

        def pair(values: Tensor, axis: int = axis, last: int = last) -> tuple[Tensor, Tensor]:
            axis -= 3
            return values.narrow(axis, 0, last), values.narrow(axis, 1, last)

        (p0, p1), (s0, s1), (c0, c1) = pair(prim), pair(sun), pair(grid)
        ends = (p0 != p1) | ((s0 - s1).abs() > SMOOTH_ABOVE)
        ends &= (c0 - c1).abs().amax(0) > SMOOTH_ABOVE
        for side in pair(mark):
            side |= ends
    return mark.reshape(-1).nonzero().squeeze(1).int()


def _smooth(image: Tensor, edge: Tensor, table: Table, style: str, rays: Rays, near: Near) -> None:
    """Replace the pixels `edge` of `image` (3, N) by the mean of four rays each."""
    times, device = len(SUBSAMPLES), image.device
    number = torch.full(rays.u.shape, -1, dtype=torch.int32, device=device)
    first = torch.arange(len(edge), device=device, dtype=torch.int32) * times
    number.index_copy_(0, edge.long(), first)
    each = torch.arange(times, device=device, dtype=torch.int32)

    def spread(pairs: Pairs) -> Pairs:
        start = take(number, pairs.ray)
        keep = (start >= 0).nonzero().squeeze(1)
        ray = take(start, keep)[:, None] + each
        row = take(pairs.row, keep)[:, None].expand(-1, times)
        return Pairs(row.reshape(-1), ray.reshape(-1))

    shift = torch.tensor(SUBSAMPLES, device=device)
    wide = take(rays.wide, edge)[:, None].expand(-1, times)
    u = take(rays.u, edge)[:, None] + wide * shift[:, 0]
    v = take(rays.v, edge)[:, None] + wide * shift[:, 1]
    scene = take(rays.scene, edge)[:, None].expand(-1, times)
    fine = Rays(scene.reshape(-1), u.reshape(-1), v.reshape(-1), wide.reshape(-1))
    lists = (spread(near.seen), spread(near.shading), spread(near.touching))
    surface = meet(table, fine, Near(*lists, near.spheres))
    color = PAINT[style](surface, table, fine).reshape(3, -1, times).unbind(2)
    image.index_copy_(1, edge.long(), (color[0] + color[1] + color[2] + color[3]) / times)


def _collect(
    table: Table,
    style: str,
    size: tuple[int, int],
    rays: Rays,
    surface: Surface,
    image: Tensor,
) -> Rendering:
    """Shape what was met into pictures and maps."""
    shape = (len(table.focal), *size)
    ground = (~surface.sky).int()

    def looked_up(values: Tensor, sky: int, below: int, kind: torch.dtype) -> Tensor:
        """By row of the primitive; `sky` and `below` elsewhere."""
        full = torch.cat([values, values.new_tensor([sky, below])])
        row = torch.where(surface.prim >= 0, surface.prim, len(values) + ground)
        return take(full.to(kind), row).reshape(shape)

    def planes(values: Tensor) -> Tensor:
        return values.reshape(3, *shape).transpose(0, 1).contiguous()

    view, n = rays.spread(table.view), surface.normal
    seen = [dot3((view[k], view[k + 1], view[k + 2]), n) for k in (0, 3, 6)]
    depth = torch.where(surface.sky, 0.0, surface.depth).reshape(shape)[:, None]
    albedo = planes(surface.rgb)
    instances = looked_up(table.instance, -1, 0, torch.int16)
    normals = planes(torch.stack([seen[0], -seen[1], -seen[2]]))
    parts = looked_up(table.part, 0, 0, torch.uint8)
    picture = planes(image)
    if style != "photo":
        line = outlines(instances, parts, normals, depth)
        picture = outline(style, picture, line, albedo, instances[:, None] > 0)
    kind = CLASSES.index("ground")
    return Rendering(
        image=picture.clamp(0, 1) * 2 - 1,
        depth=depth,
        valid=~surface.sky.reshape(shape)[:, None],
        normals=normals,
        albedo=albedo * 2 - 1,
        instances=instances,
        classes=looked_up(table.kind, CLASSES.index("sky"), kind, torch.uint8),
        colors=looked_up(table.name, 0, 0, torch.uint8),
        parts=parts,
    )
