"""The seven colours of COCO-MIG: ranges of hue, saturation and value in 8 bits.

Of the levels r, g, b of a pixel, with value = max(r, g, b) and spread = value - min(r, g, b),

    saturation = 255 spread / value
    hue        = 30 (g - b) / spread           where value = r
                 30 (b - r) / spread + 60      where value = g
                 30 (r - g) / spread + 120     where value = b,   modulo 180

rounded to integers in fixed point, so that pixels on the border of a range fall where they do in
the official evaluation. It paints what is outside of the mask grey (127) before; that grey lies in
no range, and outside of the mask nothing counts here.

Source: the ranges are those of the official evaluation of COCO-MIG (Zhou et al. 2024,
arXiv:2402.05408). Parity: cv2.cvtColor with COLOR_RGB2HSV, and cv2.inRange.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

Level = tuple[int, int, int]
"""Hue in [0, 180], saturation and value in [0, 255]."""

RANGES: Mapping[str, tuple[tuple[Level, Level], ...]] = {
    "red": (((0, 50, 70), (9, 255, 255)), ((159, 50, 70), (180, 255, 255))),
    "blue": (((90, 50, 70), (128, 255, 255)),),
    "yellow": (((25, 50, 70), (35, 255, 255)),),
    "green": (((36, 50, 70), (89, 255, 255)),),
    "black": (((0, 0, 0), (180, 255, 30)),),
    "white": (((0, 0, 221), (180, 43, 255)),),
    "brown": (((6, 43, 35), (25, 255, 255)),),
}
"""{colour: lowest and highest levels, both included, of its ranges}."""

_BITS = 12
"""Of the fraction of a fixed-point number."""


def hsv(levels: Tensor) -> Tensor:
    """Hue, saturation and value of pixels.

    Args:
        levels: (3, H, W) uint8, red, green, blue.

    Returns:
        (3, H, W) int32: hue in [0, 179], saturation and value in [0, 255].
    """
    red, green, blue = levels.int()
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    sixths = torch.where(
        value == red,
        green - blue,
        torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = _rounded(sixths * _over(180 / 6, spread))
    return torch.stack([hue + 180 * (hue < 0), _rounded(spread * _over(255, value)), value])


def color_share(levels: Tensor, mask: Tensor, color: str) -> float:
    """How much of a thing has a colour.

    Args:
        levels: (3, H, W) uint8, the picture.
        mask: (H, W) bool, where the thing is.
        color: a key of `RANGES`.

    Returns:
        The share of its pixels, 0 to 1; 0 of an empty mask.
    """
    inside = hsv(levels[:, mask][:, None])
    hits = torch.zeros_like(inside[0], dtype=torch.bool)
    for low, high in RANGES[color]:
        least, most = (inside.new_tensor(ends)[:, None, None] for ends in (low, high))
        hits |= ((inside >= least) & (inside <= most)).all(0)
    return hits.sum().item() / max(hits.numel(), 1)


def _over(number: float, levels: Tensor) -> Tensor:
    """A number over levels, 0 over 0, in fixed point."""
    table = torch.arange(256, dtype=torch.float64, device=levels.device)
    table[1:] = (number * 2**_BITS / table[1:]).round()
    return table.int()[levels]


def _rounded(fixed: Tensor) -> Tensor:
    """Fixed-point numbers as the nearest integers."""
    return (fixed + 2 ** (_BITS - 1)) >> _BITS
