"""Ground patterns and skies: of low frequency, so that a factor-8 autoencoder can carry them.

Patterns fade to their mean where a pixel covers more of them than it can show; the checker is
filtered in closed form (the mean of a square wave over a pixel is a difference of triangle waves).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unicond.world.palette import GROUND_RGB, LIGHTS
from unicond.world.rays import take
from unicond.world.vocabulary import SKIES

CHECKER_M = 0.8
TILE_M = 0.7
PLANK_M = 0.42


def _waves(x: Tensor, z: Tensor, rate: float) -> Tensor:
    """Soft blobs in [0, 1]: two warped products of sines, `rate` radians a metre."""
    x, z = rate * x, rate * z
    a = torch.sin(x + 1.7 * torch.sin(0.6 * z + 0.4)) * torch.sin(z + 1.3 * torch.sin(0.7 * x))
    b = torch.sin(1.9 * x - 1.1 * z + 2.1) * torch.sin(1.4 * z + 0.8 * x)
    return 0.5 + 0.3 * a + 0.2 * b


def _fade(wide: Tensor, period: float) -> Tensor:
    """1 where a pixel is far smaller than the pattern's period, 0 where it is as large."""
    return (1.6 - 3.2 * wide / period).clamp(0, 1)


def _square(x: Tensor, wide: Tensor, period: float) -> Tensor:
    """Mean over a pixel of the square wave that is 1 and -1 for half a period each."""
    half = 0.5 * wide.clamp_min(1e-4) / period

    def triangle(s: Tensor) -> Tensor:
        return (torch.remainder(s, 1.0) - 0.5).abs()

    s = x / period
    return (triangle(s - half) - triangle(s + half)) / half


def _grass(x: Tensor, z: Tensor, wide: Tensor) -> Tensor:
    tufts = 0.25 * (_waves(z, x, 9.0) - 0.5) * _fade(wide, 0.7)
    return 0.5 + (_waves(x, z, 2.3) - 0.5) * 0.9 + tufts


def _sand(x: Tensor, z: Tensor, wide: Tensor) -> Tensor:
    ripple = torch.sin(7.5 * x + 1.6 * torch.sin(0.9 * z) + 0.7 * torch.sin(2.3 * z))
    return 0.35 + 0.4 * _waves(x, z, 0.9) + 0.2 * ripple * _fade(wide, 0.84)


def _wood(x: Tensor, z: Tensor, wide: Tensor) -> Tensor:
    plank = torch.floor(x / PLANK_M)
    tone = torch.remainder(plank * 0.618, 1.0)
    grain = torch.sin(16.0 * x + 2.0 * torch.sin(0.8 * z + 5.0 * plank))
    gap = (1.0 - 12.0 * (torch.remainder(x / PLANK_M, 1.0) - 0.5).abs().sub(0.5).abs()).clamp(0, 1)
    near = _fade(wide, PLANK_M)
    return 0.5 + ((tone - 0.5) * 0.8 + 0.12 * grain) * near - 0.8 * gap * near


def _tiles(x: Tensor, z: Tensor, wide: Tensor) -> Tensor:
    edge_x = (torch.remainder(x / TILE_M, 1.0) - 0.5).abs()
    edge_z = (torch.remainder(z / TILE_M, 1.0) - 0.5).abs()
    joint = (torch.maximum(edge_x, edge_z) - 0.435).clamp(0, 0.03) / 0.03
    tone = torch.remainder(torch.floor(x / TILE_M) * 0.37 + torch.floor(z / TILE_M) * 0.59, 1.0)
    near = _fade(wide, TILE_M)
    return 0.72 + (0.28 * (tone - 0.5) - 0.72 * joint) * near


def _snow(x: Tensor, z: Tensor, wide: Tensor) -> Tensor:
    del wide
    return _waves(x, z, 1.1)


def _checker(x: Tensor, z: Tensor, wide: Tensor) -> Tensor:
    period = 2 * CHECKER_M
    return 0.5 + 0.5 * _square(x, wide, period) * _square(z, wide, period)


PATTERNS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "grass": _grass,
    "sand": _sand,
    "wood": _wood,
    "tiles": _tiles,
    "snow": _snow,
    "checker": _checker,
}


def ground_color(name: str, x: Tensor, z: Tensor, wide: Tensor) -> Tensor:
    """The ground's surface colour.

    Args:
        name: one of `GROUNDS`.
        x: (N,) metres, in the pattern's own axes.
        z: (N,) the same.
        wide: (N,) how much ground a pixel covers along its longer side, metres.

    Returns:
        (3, N) sRGB in [0, 1].
    """
    dark, light = (torch.tensor(rgb, device=x.device)[:, None] for rgb in GROUND_RGB[name])
    return dark + (light - dark) * PATTERNS[name](x, z, wide).clamp(0, 1)


def sky_color(sky: Tensor, scene: Tensor, direction: Tensor, pattern: Tensor) -> Tensor:
    """The sky's colour along rays.

    Args:
        sky: (S,) index into `SKIES`.
        scene: (N,) row of each ray's scene.
        direction: (3, N) unit vectors.
        pattern: (4, S) of the table; its offsets shift the clouds.

    Returns:
        (3, N) sRGB in [0, 1].
    """

    def each(values: list[tuple[float, ...]]) -> Tensor:
        return take(torch.tensor(values, device=sky.device).T[:, sky.long()].contiguous(), scene)

    lights = [LIGHTS[name] for name in SKIES]
    horizon, zenith = each([x.horizon for x in lights]), each([x.zenith for x in lights])
    white, thick = each([x.cloud for x in lights]), each([(x.cloudy,) for x in lights])[0]
    x, y, z = direction
    up = (y / 0.5).clamp(0, 1)
    color = horizon + (zenith - horizon) * (up * (2 - up))
    shift = take(pattern[:2].contiguous(), scene)
    far = 0.5 / (y.clamp_min(0) + 0.12)
    blobs = _waves(far * x + shift[0], far * z + shift[1], 2.6)
    cover = thick * ((blobs - 0.55) / 0.3).clamp(0, 1) * (y / 0.12).clamp(0, 1)
    return color + (white - color) * cover
