"""What each ray meets: the nearest surface, its colour and normal, and its light."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.world import rays as r
from unicond.world.pairs import Pairs, Spheres
from unicond.world.rays import NO_HIT, Xyz, dot3, take
from unicond.world.scene import FAR_M
from unicond.world.table import Table
from unicond.world.textures import ground_color, sky_color
from unicond.world.vocabulary import GROUNDS

FADE = 2.6
"""Contact darkening ends at this many radii from a contact ball."""


@dataclass(frozen=True)
class Rays:
    """N camera rays in the order of their scenes.

    Attributes:
        scene: (N,) int32, row of the scene.
        u: (N,) place in the picture plane at depth 1, to the right.
        v: (N,) the same, downwards.
        wide: (N,) width of a pixel at depth 1.
        each: how many rays every scene has, or 0 if not all have as many.
    """

    scene: Tensor
    u: Tensor
    v: Tensor
    wide: Tensor
    each: int = 0

    def spread(self, values: Tensor) -> Tensor:
        """What belongs to scenes, (S,) or (C, S), for every ray, (N,) or (C, N)."""
        if not self.each:
            return take(values, self.scene)
        return values[..., None].expand(*values.shape, self.each).flatten(-2)


@dataclass(frozen=True)
class Near:
    """What may be near the rays: for sight, for shadow, and for contact darkening by `spheres`."""

    seen: Pairs
    shading: Pairs
    touching: Pairs
    spheres: Spheres


@dataclass(frozen=True)
class Surface:
    """What N rays meet; vectors are three tensors (N,).

    Attributes:
        depth: (N,) camera-z distance in metres; inf where there is sky.
        prim: (N,) int32, row of the primitive; -1 for ground and sky.
        sky: (N,) bool.
        direction: unit direction of the ray in the world.
        normal: unit, in the world; 0 for sky.
        rgb: (3, N) surface colour, sRGB in [0, 1]; the sky's own colour for sky.
        sun: (N,) light from the sun in [0, 1]: cosine times what shadows leave.
        open: (N,) in [0, 1]: 1 minus contact occlusion.
    """

    depth: Tensor
    prim: Tensor
    sky: Tensor
    direction: Xyz
    normal: Xyz
    rgb: Tensor
    sun: Tensor
    open: Tensor


def _by_shape(table: Table, row: Tensor) -> Iterator[tuple[int, slice]]:
    """For each shape, the stretch of rising `row` that holds it."""
    edges = torch.tensor(table.first, device=row.device, dtype=row.dtype)
    ends = torch.searchsorted(row, edges).tolist()
    for shape in r.HITS:
        if ends[shape + 1] > ends[shape]:
            yield shape, slice(ends[shape], ends[shape + 1])


def sight(table: Table, rays: Rays, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """The nearest primitive along each ray.

    Args:
        table: the primitives.
        rays: N rays.
        pairs: what may meet.

    Returns:
        depth (N,), inf where nothing is met, and the primitive's row (N,) int32, or -1.
    """
    origin, ahead, right, down = _local_frames(table)
    depth = torch.full_like(rays.u, NO_HIT)
    met = torch.full(pairs.row.shape, NO_HIT, device=depth.device)
    for shape, part in _by_shape(table, pairs.row):
        row, ray = pairs.row[part], pairs.ray[part]
        u, v = take(rays.u, ray), take(rays.v, ray)
        d = take(ahead, row) + u * take(right, row) + v * take(down, row)
        o = take(origin, row)
        met[part] = r.HITS[shape]((o[0], o[1], o[2]), (d[0], d[1], d[2]), take(table.stretch, row))
    index = pairs.ray.long()
    depth.scatter_reduce_(0, index, met, "amin")
    none = len(table.shape)
    first = torch.where((met == take(depth, pairs.ray)) & (met < NO_HIT), pairs.row, none)
    best = torch.full(rays.u.shape, none, device=depth.device, dtype=torch.int32)
    best.scatter_reduce_(0, index, first, "amin")
    return depth, torch.where(best == none, -1, best)


def _local_frames(table: Table) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Camera position and its forward, right, down in every primitive's own frame, each (3, P)."""
    view = take(table.view, table.scene)
    offset = take(table.eye, table.scene) - table.center
    frames = [
        torch.stack(r.transform(table.matrix, (v[0], v[1], v[2])))
        for v in (offset, view[6:9], view[0:3], view[3:6])
    ]
    return frames[0], frames[1], frames[2], frames[3]


def _to_local(table: Table, row: Tensor, points: Xyz, ray: Tensor) -> tuple[Tensor, Xyz]:
    """Matrices (9, K) of primitives, and points in their own frames."""
    m, c = take(table.matrix, row), take(table.center, row)
    x, y, z = (take(component, ray) for component in points)
    return m, r.transform(m, (x - c[0], y - c[1], z - c[2]))


def _normals(table: Table, prim: Tensor, points: Xyz, on: Tensor) -> Tensor:
    """Unit world normals (3, N): of primitives where `on` (numbers of rays) says so, else 0."""
    out = torch.zeros(3, len(prim), device=prim.device)
    row = take(prim, on)
    order = torch.argsort(row)
    on, row = on[order], row[order]
    for shape, part in _by_shape(table, row):
        m, local = _to_local(table, row[part], points, on[part])
        g = r.local_normal(shape, local, take(table.stretch, row[part]))
        world = r.transform_back(m, g)
        length = torch.sqrt(dot3(world, world)).clamp_min(1e-12)
        index = on[part].long()
        for k in range(3):
            out[k].index_copy_(0, index, world[k] / length)
    return out


def shadows(table: Table, pairs: Pairs, points: Xyz, prim: Tensor, lit: Tensor) -> Tensor:
    """Which points the sun does not reach.

    Args:
        table: the primitives.
        pairs: what may shade what.
        points: (N,) each.
        prim: (N,) the primitive on which each point lies; it does not shade itself.
        lit: (N,) bool, points that face the sun; others are not asked.

    Returns:
        (N,) bool.
    """
    dark = torch.zeros_like(lit)
    sun = take(table.sun, table.scene)
    toward = torch.stack(r.transform(table.matrix, (sun[0], sun[1], sun[2])))
    owner = torch.where(lit, prim, -2)
    here = take(owner, pairs.ray)
    asked = ((here != -2) & (here != pairs.row)).nonzero().squeeze(1)
    rows, rays = take(pairs.row, asked), take(pairs.ray, asked)
    for shape, part in _by_shape(table, rows):
        row, ray = rows[part], rays[part]
        _, o = _to_local(table, row, points, ray)
        d = take(toward, row)
        t = r.HITS[shape](o, (d[0], d[1], d[2]), take(table.stretch, row))
        dark[ray[t < NO_HIT]] = True
    return dark


def occlusion(spheres: Spheres, pairs: Pairs, points: Xyz, normal: Tensor, owner: Tensor) -> Tensor:
    """How much of the sky nearby things leave open, in [0, 1].

    A ball of radius r at distance q r above a surface hides `cos / q^2` of its light; it
    fades out at `q = FADE`. Balls do not darken the entity that they belong to.
    """
    ball, ray = pairs.row, pairs.ray
    c, radius = take(spheres.center, ball), take(spheres.radius, ball)
    d = (c[0] - take(points[0], ray), c[1] - take(points[1], ray), c[2] - take(points[2], ray))
    n = take(normal, ray)
    far = torch.sqrt(dot3(d, d)).clamp_min(1e-6)
    q = (far / radius).clamp_min(1.0)
    facing = (dot3(d, (n[0], n[1], n[2])) / far).clamp(0, 1)
    hidden = 0.75 * facing * ((FADE - q) / (FADE - 1)).clamp_min(0) / (q * q)
    hidden = torch.where(take(owner, ray) == take(spheres.instance, ball), 0.0, hidden)
    clear = torch.ones_like(points[0])
    return clear.scatter_reduce_(0, ray.long(), 1 - hidden, "prod")


def meet(table: Table, rays: Rays, near: Near) -> Surface:
    """What the rays meet, with light and shadow."""
    depth, prim = sight(table, rays, near.seen)
    view, eye = rays.spread(table.view), rays.spread(table.eye)
    way = view[6:9] + rays.u * view[0:3] + rays.v * view[3:6]
    down = torch.where(way[1] < -1e-6, -eye[1] / way[1].clamp_max(-1e-6), NO_HIT)
    ground = (down < depth) & (down < FAR_M)
    prim = torch.where(ground, -1, prim)
    depth = torch.where(ground, down, depth)
    sky = ~ground & (prim < 0)
    t = torch.where(sky, FAR_M, depth)
    points = (eye[0] + t * way[0], eye[1] + t * way[1], eye[2] + t * way[2])
    on = (prim >= 0).nonzero().squeeze(1).int()
    normal = _normals(table, prim, points, on)
    normal[1] += ground
    way = way / torch.sqrt(dot3((way[0], way[1], way[2]), (way[0], way[1], way[2])))
    rgb = torch.zeros_like(way)
    rgb.index_copy_(1, on.long(), take(table.rgb, take(prim, on)))
    above = sky.nonzero().squeeze(1).int()
    blue = sky_color(table.sky, take(rays.scene, above), take(way, above), table.pattern)
    rgb.index_copy_(1, above.long(), blue)
    _paint_ground(table, rays, rgb, ground, points, t * rays.wide / way[1].abs().clamp_min(0.02))
    sun = rays.spread(table.sun)
    bent = (normal[0], normal[1], normal[2])
    cosine = dot3(bent, (sun[0], sun[1], sun[2])).clamp_min(0)
    dark = shadows(table, near.shading, points, prim, cosine > 0)
    owner = torch.zeros_like(prim)
    owner.index_copy_(0, on.long(), take(table.instance, take(prim, on)))
    clear = occlusion(near.spheres, near.touching, points, normal, owner)
    light = torch.where(dark, 0.0, cosine)
    return Surface(depth, prim, sky, (way[0], way[1], way[2]), bent, rgb, light, clear)


def _paint_ground(
    table: Table, rays: Rays, rgb: Tensor, ground: Tensor, points: Xyz, wide: Tensor
) -> None:
    """Fill in the ground's colours; scenes with the same ground lie together."""
    at = ground.nonzero().squeeze(1).int()
    scene = take(rays.scene, at)
    kinds, counts = torch.unique_consecutive(table.ground, return_counts=True)
    edges = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(scene.dtype)
    ends = torch.searchsorted(scene, edges).tolist()
    for n, kind in enumerate(kinds.tolist()):
        here = at[ends[n] : ends[n + 1]]
        if not len(here):
            continue
        shift = take(table.pattern, take(rays.scene, here))
        x, z = take(points[0], here) + shift[0], take(points[2], here) + shift[1]
        along, across = shift[2] * x + shift[3] * z, shift[2] * z - shift[3] * x
        color = ground_color(GROUNDS[kind], along, across, take(wide, here))
        rgb.index_copy_(1, here.long(), color)
