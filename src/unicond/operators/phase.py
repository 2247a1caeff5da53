"""Phase retrieval: the measurement is the magnitude of the picture's Fourier transform.

    y = |F pad(x)|

with zeros around the picture, so that it has `oversampling` times as many pixels a side; F keeps
the norm. What is lost is the phase: a shift within the frame and a turn by 180 degrees do not
change y. The gradient at a magnitude of 0 is taken as 0.

Source: the setting of Chung et al. 2023 (DPS), arXiv:2209.14687.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from unicond.operators.base import Operator, wide


@dataclass(frozen=True, eq=False, kw_only=True)
class FourierMagnitude(Operator):
    """Magnitudes of the Fourier transform of a picture in a larger frame of zeros.

    Args:
        shape: (C, H, W).
        oversampling: sides of the frame, in sides of the picture: 1 to 4.

    Raises:
        ValueError: a frame out of range.
    """

    oversampling: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.oversampling <= 4:
            raise ValueError(f"oversampling {self.oversampling} is out of range; give 1 to 4")

    @property
    @override
    def measurement_shape(self) -> tuple[int, ...]:
        channels, height, width = self.shape
        return (channels, height * self.oversampling, width * self.oversampling)

    @override
    def _forward(self, x: Tensor) -> Tensor:
        _, height, width = self.shape
        more_down, more_across = (side * (self.oversampling - 1) for side in (height, width))
        top, left = more_down // 2, more_across // 2
        framed = functional.pad(wide(x), (left, more_across - left, top, more_down - top))
        return torch.fft.fft2(framed, norm="ortho").abs().to(x.dtype)
