"""Deblurring: the measurement is the picture blurred, by a Gaussian or along a line.

    Gaussian:  y_i = sum_k g_k x_{i+k},  g_k ~ exp(-k^2 / (2 std^2)),  separably
    motion:    y = k * x,  k a line of a length and an angle

What lies beyond the edges is a choice. For the Gaussian it is the picture mirrored (the pixel at
the edge twice): rows and columns are matrices of their own, and their decompositions are exact. A
line at an angle is not separable; there the picture goes on at its other side, so that with the
Fourier transform F and the kernel's transfer function a = F k

    A = F^H diag(a) F = P |A|,    P = F^H diag(a / |a|) F
    |A| = H diag(|a|) H,          H = Re F - Im F

where H, the Hartley transform, is real, orthogonal and its own inverse: S = |a|, V = H, U = P H.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from typing_extensions import override

from unicond.operators.base import CUTOFF, LinearOperator, constant, wide, without_tiny
from unicond.operators.separable import Separable

_REACH = 4
"""A Gaussian ends after so many standard deviations: 1e-4 of its weight is left out."""


def gaussian_blur(shape: tuple[int, int, int], std: float) -> Separable:
    """Blur by a Gaussian, mirrored at the edges.

    Args:
        shape: (C, H, W).
        std: standard deviation in pixels, positive, at most the shorter side.

    Returns:
        The operator; it measures (C, H, W).

    Raises:
        ValueError: a standard deviation out of range.
    """
    if not 0 < std <= min(shape[1:]):
        raise ValueError(
            f"a blur of standard deviation {std:g} is out of range; give more than 0 and at most "
            f"the shorter side, {min(shape[1:])} pixels"
        )
    return Separable(shape=shape, down=_mirrored(shape[1], std), across=_mirrored(shape[2], std))


def motion_blur(shape: tuple[int, int, int], length: float, angle: float = 0.0) -> "Circular":
    """Blur along a line, wrapped around at the edges.

    Args:
        shape: (C, H, W).
        length: of the line in pixels, 1 to the longer side.
        angle: in degrees, 0 to the right, 90 up.

    Returns:
        The operator; it measures (C, H, W).

    Raises:
        ValueError: a length out of range, or an angle that is no number.
    """
    if not 1 <= length <= max(shape[1:]) or not math.isfinite(angle):
        raise ValueError(
            f"a motion of {length:g} pixels at {angle:g} degrees is out of range; give 1 to the "
            f"longer side, {max(shape[1:])} pixels, and any angle"
        )
    return Circular(shape=shape, kernel=_line(shape, length, math.radians(angle)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Circular(LinearOperator):
    """Circular convolution of every channel, without tiny singular values.

    Args:
        shape: (C, H, W).
        kernel: (H, W) float64, its origin at [0, 0].

    Raises:
        ValueError: a kernel of another size.
    """

    kernel: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        if tuple(self.kernel.shape) != self.shape[1:]:
            raise ValueError(
                f"a kernel of {tuple(self.kernel.shape)} does not fit pictures of {self.shape}; "
                f"give one of {self.shape[1:]}"
            )

    @property
    @override
    def measurement_shape(self) -> tuple[int, ...]:
        return self.shape

    @cached_property
    def _polar(self) -> tuple[Tensor, Tensor]:
        """|a| without tiny values, and a / |a|, 1 where |a| is 0."""

        def polar() -> tuple[Tensor, Tensor]:
            transfer = torch.fft.fft2(self.kernel.detach().cpu().double())
            size = without_tiny(transfer.abs(), CUTOFF)
            # a kernel's |a| is even: rounding must not keep a frequency and drop its opposite
            opposite = size.roll((-1, -1), (0, 1)).flip(0, 1)
            size = torch.where(opposite > 0, size, 0.0)
            return size, torch.where(size > 0, transfer / transfer.abs(), 1.0)

        return constant(polar)

    @override
    def _forward(self, x: Tensor) -> Tensor:
        size, phase = self._polar
        return _filtered(x, size * phase)

    @override
    def _singulars(self) -> Tensor:
        return self._polar[0]

    @override
    def _analysed(self, x: Tensor) -> Tensor:
        return _hartley(x)

    @override
    def _synthesised(self, z: Tensor) -> Tensor:
        return _hartley(z)

    @override
    def _measurement_analysed(self, y: Tensor) -> Tensor:
        return _hartley(_filtered(y, self._polar[1].conj()))

    @override
    def _measurement_synthesised(self, z: Tensor) -> Tensor:
        return _filtered(_hartley(z), self._polar[1])


def _filtered(x: Tensor, transfer: Tensor) -> Tensor:
    spectrum = torch.fft.fft2(wide(x))
    return torch.fft.ifft2(spectrum * transfer.to(spectrum)).real.to(x.dtype)


def _hartley(x: Tensor) -> Tensor:
    spectrum = torch.fft.fft2(wide(x), norm="ortho")
    return (spectrum.real - spectrum.imag).to(x.dtype)


def _mirrored(side: int, std: float) -> Tensor:
    """(side, side): correlation with a Gaussian, the picture mirrored beyond its edges."""
    radius = math.ceil(_REACH * std)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / std) ** 2)
    places = (torch.arange(side)[:, None] + offsets) % (2 * side)
    places = torch.where(places < side, places, 2 * side - 1 - places)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add_(1, places, (weights / weights.sum()).expand(side, -1).contiguous())


def _line(shape: tuple[int, int, int], length: float, angle: float) -> Tensor:
    """A line through the origin: points a pixel apart or nearer, each shared by four pixels."""
    _, height, width = shape
    count = math.ceil(length)
    steps = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * (length / count)
    place = torch.stack([-math.sin(angle) * steps, math.cos(angle) * steps])
    corner = place.floor()
    share = place - corner
    kernel = torch.zeros(height, width, dtype=torch.float64)
    for row in (0, 1):
        for column in (0, 1):
            weight = (share[0] if row else 1 - share[0]) * (share[1] if column else 1 - share[1])
            places = ((corner[0] + row) % height).long(), ((corner[1] + column) % width).long()
            kernel.index_put_(places, weight / count, accumulate=True)
    return kernel
