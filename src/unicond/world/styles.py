"""The six styles: how a surface becomes a colour, and what is done with outlines.

Every style keeps an object's colour recognisable, so that a caption stays true in all of them.
Colours are sRGB in [0, 1] here; light is added up in linear values, by the square as a cheap gamma.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from unicond.world.palette import LIGHTS
from unicond.world.rays import dot3, take
from unicond.world.scene import FAR_M
from unicond.world.surface import Rays, Surface
from unicond.world.table import Table
from unicond.world.vocabulary import PARTS, SKIES

FOG_FROM_M = 12.0
SKY_TINT = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.90, 0.80),
    "night": (0.50, 0.54, 0.70),
    "overcast": (0.86, 0.87, 0.90),
}


def _per_sky(values: list[tuple[float, float, float]], table: Table, rays: Rays) -> Tensor:
    """One colour for each ray by its scene's sky, (3, N)."""
    return rays.spread(torch.tensor(values, device=rays.u.device).T[:, table.sky.long()])


def _color(rgb: tuple[float, float, float], like: Tensor) -> Tensor:
    """One colour to broadcast, (3, 1)."""
    return torch.tensor(rgb, device=like.device)[:, None]


def _fog(color: Tensor, surface: Surface, haze: Tensor) -> Tensor:
    """Let far ground dissolve into `haze` (3, N)."""
    share = ((surface.depth.clamp_max(FAR_M) - FOG_FROM_M) / (FAR_M - FOG_FROM_M)).clamp(0, 1)
    share = torch.where(surface.sky, 0.0, share * (2 - share))
    return color + (haze - color) * share


def photo(surface: Surface, table: Table, rays: Rays) -> Tensor:
    """Sun, sky and bounced light, contact darkening, a highlight on solids, haze."""
    lights = [LIGHTS[sky] for sky in SKIES]
    sun = _per_sky([light.sun for light in lights], table, rays)
    ambient = _per_sky([light.ambient for light in lights], table, rays)
    bounce = _per_sky([light.bounce for light in lights], table, rays)
    up = 0.5 + 0.5 * surface.normal[1]
    soft = (ambient * up + bounce * (1 - up)) * surface.open
    direct = sun * surface.sun
    linear = surface.rgb * surface.rgb * (soft + direct)
    toward = rays.spread(table.sun)
    half = [toward[k] - surface.direction[k] for k in range(3)]
    shine = dot3(surface.normal, (half[0], half[1], half[2]))
    shine = shine / torch.sqrt(dot3((half[0], half[1], half[2]), (half[0], half[1], half[2])))
    shine = shine.clamp_min(0)
    for _ in range(4):
        shine = shine * shine
    gloss = torch.where(table.part == PARTS.index("solid"), 0.16, 0.0)
    gloss = torch.cat([gloss, gloss.new_zeros(1)])
    row = torch.where(surface.prim < 0, len(table.part), surface.prim)
    linear = linear + shine * take(gloss, row) * (surface.sun > 0) * sun
    lit = torch.sqrt(linear.clamp(1e-6, 1))
    color = torch.where(surface.sky, surface.rgb, lit)
    return _fog(color, surface, _per_sky([light.horizon for light in lights], table, rays))


def toon(surface: Surface, table: Table, rays: Rays) -> Tensor:
    """Three flat levels of light."""
    tint = _per_sky([SKY_TINT[sky] for sky in SKIES], table, rays)
    level = torch.where(surface.sun > 0.45, 1.0, torch.where(surface.sun > 0.02, 0.82, 0.62))
    color = surface.rgb * level * tint
    bands = torch.where(surface.direction[1] > 0.1, 0.88, 1.0)
    color = torch.where(surface.sky, surface.rgb * bands, color)
    haze = _per_sky([LIGHTS[sky].horizon for sky in SKIES], table, rays)
    return _fog(color, surface, haze)


def sketch(surface: Surface, table: Table, rays: Rays) -> Tensor:
    """Coloured pencil on paper, hatched where it is dark."""
    paper = _color((0.96, 0.95, 0.91), rays.u)
    tone = 0.35 + 0.65 * surface.sun * surface.open
    scale = rays.spread(table.focal)
    hatch = 0.5 + 0.5 * torch.sin(2 * math.pi * 13.0 * (rays.u - rays.v) * scale)
    share = torch.where(surface.prim >= 0, 0.72, torch.where(surface.sky, 0.12, 0.28))
    night = rays.spread(table.sky == SKIES.index("night")) & surface.sky
    share = torch.where(night, 0.45, share)
    color = paper + (surface.rgb - paper) * share
    dark = torch.where(surface.sky, 0.0, 1 - tone) * (0.25 + 0.75 * hatch)
    return _fog(color * (1 - 0.6 * dark), surface, paper * 0.97)


def neon(surface: Surface, table: Table, rays: Rays) -> Tensor:
    """Dark, with coloured rims; outlines glow later."""
    night = _color((0.03, 0.02, 0.08), rays.u)
    facing = -dot3(surface.normal, surface.direction).clamp(-1, 0)
    rim = (1 - facing) ** 2
    glow = 0.16 + 0.22 * surface.sun + 0.5 * rim
    bright = surface.rgb.clamp_min(0.16) * glow
    dim = surface.rgb * (0.08 + 0.12 * surface.sun)
    color = night + torch.where(surface.prim >= 0, bright, dim)
    sky = night + 0.22 * _per_sky([LIGHTS[sky].horizon for sky in SKIES], table, rays)
    low = 1 - surface.direction[1].clamp(0, 0.4) / 0.4
    haze = night + (sky - night) * low
    return _fog(torch.where(surface.sky, haze, color), surface, sky)


def pastel(surface: Surface, table: Table, rays: Rays) -> Tensor:
    """Pale colours, soft lilac shadows."""
    white = _color((1.0, 0.98, 0.96), rays.u)
    shade = _color((0.70, 0.66, 0.80), rays.u)
    tint = _per_sky([SKY_TINT[sky] for sky in SKIES], table, rays).sqrt()
    pale = white + (surface.rgb - white) * torch.where(surface.prim >= 0, 0.62, 0.45)
    light = (0.25 + 0.75 * surface.sun) * surface.open
    color = pale * (shade + (1 - shade) * light) * tint
    color = torch.where(surface.sky, pale, color)
    haze = _per_sky([LIGHTS[sky].horizon for sky in SKIES], table, rays)
    return _fog(color, surface, white + (haze - white) * 0.45)


def blueprint(surface: Surface, table: Table, rays: Rays) -> Tensor:
    """Tinted fills on blue paper with a faint grid; outlines are white."""
    paper = _color((0.09, 0.22, 0.52), rays.u)
    fill = torch.where(surface.prim >= 0, 0.5, torch.where(surface.sky, 0.05, 0.12))
    light = torch.where(surface.sky, 1.0, 0.82 + 0.3 * surface.sun)
    color = (paper + (surface.rgb - paper) * fill) * light
    scale = rays.spread(table.focal)
    cell = [torch.remainder(8 * side * scale, 1.0) - 0.5 for side in (rays.u, rays.v)]
    line = (1 - torch.minimum(0.5 - cell[0].abs(), 0.5 - cell[1].abs()) / 0.08).clamp(0, 1)
    return color + torch.where(surface.prim >= 0, 0.0, 0.07 * line)


PAINT = {
    "photo": photo,
    "toon": toon,
    "sketch": sketch,
    "neon": neon,
    "pastel": pastel,
    "blueprint": blueprint,
}


def outlines(instances: Tensor, parts: Tensor, normals: Tensor, depth: Tensor) -> Tensor:
    """Where one thing, part or face ends and another begins.

    Args:
        instances: (B, H, W) int, as in `Rendering`.
        parts: (B, H, W) int.
        normals: (B, 3, H, W) unit vectors.
        depth: (B, 1, H, W) metres, 0 where there is sky.

    Returns:
        (B, 1, H, W) float: 1 on the right or lower of two pixels that differ, 0 elsewhere.
    """
    line = torch.zeros_like(depth)
    parts = torch.where(parts == PARTS.index("eyes"), PARTS.index("skin"), parts)
    key = (instances.int().clamp_min(0) * len(PARTS) + parts)[:, None]
    solid = (parts == PARTS.index("solid"))[:, None]
    thing = (instances > 0)[:, None]
    inverse = 1 / depth.clamp_min(0.5)
    for axis in (2, 3):
        near = depth.shape[axis] - 1

        def pair(values: Tensor, axis: int = axis, near: int = near) -> tuple[Tensor, Tensor]:
            return values.narrow(axis, 1, near), values.narrow(axis, 0, near)

        (n1, n0), (k1, k0), (i1, i0) = pair(normals), pair(key), pair(inverse)
        (s1, s0), (t1, t0) = pair(solid), pair(thing)
        turn = ((n1 * n0).sum(1, keepdim=True) < 0.7) & s1 & s0
        jump = ((i1 / i0).log().abs() > 0.04) & t1 & t0
        here = pair(line)[0]
        here.copy_(torch.maximum(here, ((k1 != k0) | turn | jump).float()))
    return line


def _soften(line: Tensor, radius: int) -> Tensor:
    """Widen a map by `radius` pixels and blur its rim."""
    if radius > 0:
        line = functional.max_pool2d(line, 2 * radius + 1, 1, radius)
    tent = torch.tensor((0.25, 0.5, 0.25), device=line.device)
    padded = functional.pad(line, (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(padded, (tent[:, None] * tent)[None, None])


def outline(style: str, image: Tensor, line: Tensor, albedo: Tensor, thing: Tensor) -> Tensor:
    """Draw a style's outlines into a picture.

    Args:
        style: one of `STYLES`.
        image: (B, 3, H, W) sRGB in [0, 1].
        line: (B, 1, H, W), 1 on outlines and 0 elsewhere.
        albedo: (B, 3, H, W) surface colours, sRGB in [0, 1].
        thing: (B, 1, H, W) bool, True on solids and people; their colours are what glows.

    Returns:
        The picture; a photo is returned as it is.
    """
    if style == "photo":
        return image
    radius = round(0.5 * (min(image.shape[2:]) / 128 - 1))
    soft = (_soften(line, radius) * 1.7).clamp(0, 1)
    if style == "neon":
        bright = albedo.clamp_min(0.2)
        bright = bright / bright.amax(1, keepdim=True) * 0.95
        wide = round(min(image.shape[2:]) / 64)
        halo = functional.avg_pool2d(line, 2 * wide + 1, 1, wide)
        share = functional.avg_pool2d(thing.float(), 2 * wide + 1, 1, wide)
        tint = functional.avg_pool2d(bright * thing, 2 * wide + 1, 1, wide) / share.clamp_min(1e-4)
        return (image + tint * (0.9 * soft + 0.9 * halo).clamp(0, 1)).clamp(0, 1)
    ink, share = {
        "toon": ((0.07, 0.06, 0.09), 0.9),
        "sketch": ((0.22, 0.21, 0.22), 0.75),
        "pastel": ((0.62, 0.56, 0.70), 0.45),
        "blueprint": ((0.95, 0.97, 1.0), 0.9),
    }[style]
    color = torch.tensor(ink, device=image.device)[None, :, None, None]
    return image + (color - image) * (share * soft)
