"""JPEG: the measurement is the picture after compression into a file, decoded again.

    y = decode(round(DCT(encode(x)) / q) * q)

Baseline JPEG in 8 bits as libjpeg does it, up to the rounding of its integer arithmetic: luma and
chroma (BT.601), chroma at half the size (4:2:0), 8 x 8 cosine transforms, the standard's example
tables scaled by the quality, chroma enlarged linearly. Sides that are no multiples of a block are
filled up by their last row and column. Every rounding and clipping is straight through, so that the
gradient is that of the linear rest; it is a projection only nearly (the conversion of colours
rounds too), and neither linear nor invertible.

Source: ITU-T T.81, annexes A and K; the scaling by quality: the Independent JPEG Group's library.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from unicond.operators.base import Operator, constant, wide
from unicond.operators.quantisation import clipped, rounded, straight_through

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136286, -0.714136286), (1.0, 1.772, 0.0))


@dataclass(frozen=True, eq=False, kw_only=True)
class JPEG(Operator):
    """Compression of colour pictures.

    Args:
        shape: (3, H, W).
        quality: 1 (coarse) to 100 (fine), as of libjpeg and PIL.

    Raises:
        ValueError: pictures that are not of three channels, or a quality out of range.
    """

    quality: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shape[0] != 3:
            raise ValueError(f"JPEG is for pictures of 3 channels (RGB), not {self.shape[0]}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality {self.quality} is out of range; give 1 to 100")

    @property
    @override
    def measurement_shape(self) -> tuple[int, ...]:
        return self.shape

    @override
    def _forward(self, x: Tensor) -> Tensor:
        _, height, width = self.shape
        bytes_ = rounded(clipped((wide(x) + 1) * 127.5, 0, 255))
        filled = functional.pad(bytes_, (0, -width % 16, 0, -height % 2), mode="replicate")
        # the standard shifts luma by -128, and chroma is centred at 0 here: no offsets are needed
        mixed = torch.einsum("kc,bchw->bkhw", _matrix(_TO_YCC, filled), filled)
        luma = rounded(mixed[:, :1] - 128)
        chroma = _halved(rounded(mixed[:, 1:]))
        luma = self._coded(luma, _LUMA)[..., :height, :width]
        small = math.ceil(height / 2), math.ceil(width / 2)
        chroma = self._coded(chroma, _CHROMA)[..., : small[0], : small[1]]
        # linear between the centres of the small pixels
        large = functional.interpolate(chroma, scale_factor=2, mode="bilinear")
        both = torch.cat([luma + 128, rounded(large)[..., :height, :width]], 1)
        colours = torch.einsum("ck,bkhw->bchw", _matrix(_TO_RGB, both), both)
        return (rounded(clipped(colours, 0, 255)) / 127.5 - 1).to(x.dtype)

    def _coded(self, plane: Tensor, table: tuple[tuple[int, ...], ...]) -> Tensor:
        """Planes (B, k, H, W), W a multiple of 8, after rounding in a cosine basis."""
        cosine, steps = _cosine().to(plane), self._steps(table).to(plane)
        filled = functional.pad(plane, (0, 0, 0, -plane.shape[-2] % 8), mode="replicate")
        blocks = filled.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)
        coded = rounded(cosine @ blocks @ cosine.T / steps) * steps
        decoded = (cosine.T @ coded @ cosine).transpose(-3, -2)
        return clipped(rounded(decoded.flatten(-4, -3).flatten(-2)), -128, 127)

    def _steps(self, table: tuple[tuple[int, ...], ...]) -> Tensor:
        """(8, 8) steps of the rounding at this quality, 1 to 255."""
        scale = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        return ((_table(table) * scale + 50) // 100).clamp(1, 255)


def _table(rows: tuple[tuple[int, ...], ...]) -> Tensor:
    return constant(lambda: torch.tensor(rows))


def _matrix(rows: tuple[tuple[float, ...], ...], like: Tensor) -> Tensor:
    return constant(lambda: torch.tensor(rows, dtype=torch.float64).to(like))


def _halved(plane: Tensor) -> Tensor:
    """Means of 2 x 2 whole numbers, halves rounded down and up by turns, as libjpeg does."""
    mean = functional.avg_pool2d(plane, 2)
    bias = torch.arange(mean.shape[-1], device=plane.device) % 2 / 4 + 0.25
    return straight_through(mean, (mean + bias).floor())


def _cosine() -> Tensor:
    """(8, 8), the orthogonal cosine transform, frequencies down."""

    def cosine() -> Tensor:
        order = torch.arange(8, dtype=torch.float64)
        waves = torch.cos(math.pi / 8 * order[:, None] * (order + 0.5)) / 2
        waves[0] /= math.sqrt(2)
        return waves

    return constant(cosine)
