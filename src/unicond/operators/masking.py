"""Inpainting: some pixels are known, the others are looked for.

    y = (x_p : m_p = 1)

The measurement is the list of the known pixels, (C, k), in reading order: what is not known is no
part of it, neither as zeros nor as noise. `pinv` puts them back into a picture that is 0 elsewhere.
All singular values are 1 (known) or 0. Masks are 1 where the picture is known, as everywhere here.

Free-form masks are brush strokes: random walks of a thick pen, until a share of the picture is
hidden. By a seed, on any device the same.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from typing_extensions import override

from unicond.operators.base import SelectingOperator, constant, drawing


@dataclass(frozen=True, eq=False, kw_only=True)
class Mask(SelectingOperator):
    """Keeps the known pixels, in all channels.

    Args:
        shape: (C, H, W).
        known: (H, W) or (1, H, W), 1 or True where the picture is known, else 0.

    Raises:
        ValueError: a mask of another size, of other values, or one that knows nothing.
    """

    known: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        if tuple(self.known.shape) not in (self.shape[1:], (1, *self.shape[1:])):
            raise ValueError(
                f"a mask of {tuple(self.known.shape)} does not fit pictures of {self.shape}; "
                f"give one of {self.shape[1:]}"
            )
        if not ((self.known == 0) | (self.known == 1)).all():
            raise ValueError(
                "a mask of known pixels is 1 or 0 everywhere; threshold a soft one, e.g. mask > 0.5"
            )
        if not self.known.any():
            raise ValueError("the mask hides every pixel: nothing is measured; 1 means known")

    @cached_property
    def _places(self) -> Tensor:
        """(k,) places of the known pixels, in reading order."""
        return constant(lambda: self.known.detach().cpu().flatten().nonzero()[:, 0])

    @property
    @override
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.shape[0], len(self._places))

    @override
    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(2)[..., self._places.to(x.device)]

    @override
    def _singulars(self) -> Tensor:
        return self.known.detach().cpu().double().reshape(1, *self.shape[1:])

    @override
    def _measurement_analysed(self, y: Tensor) -> Tensor:
        channels, height, width = self.shape
        empty = y.new_zeros(y.shape[0], channels, height * width)
        return empty.index_copy(2, self._places.to(y.device), y).unflatten(2, (height, width))


def box(
    shape: tuple[int, int, int], left: float, top: float, right: float, bottom: float
) -> Tensor:
    """A mask that hides a box.

    Args:
        shape: (C, H, W).
        left: where the box starts, as a share of the width.
        top: where it starts, as a share of the height.
        right: where it ends.
        bottom: where it ends.

    Returns:
        (H, W) bool, False in the box.

    Raises:
        ValueError: the box is out of range, or holds no pixel.

    >>> box((3, 2, 4), 0.5, 0.0, 1.0, 1.0).int().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0]]
    """
    _, height, width = shape
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(
            f"the box {left:g}, {top:g}, {right:g}, {bottom:g} is out of range; give left, top, "
            "right, bottom as shares of the picture, 0 <= left < right <= 1, 0 <= top < bottom <= 1"
        )
    columns = slice(round(left * width), round(right * width))
    rows = slice(round(top * height), round(bottom * height))
    known = torch.ones(height, width, dtype=torch.bool)
    known[rows, columns] = False
    if known.all():
        raise ValueError(
            f"the box {left:g}, {top:g}, {right:g}, {bottom:g} holds no pixel of {width} x "
            f"{height}; give a larger one"
        )
    return known


def free_form(shape: tuple[int, int, int], share: float, seed: int = 0) -> Tensor:
    """A mask that hides random brush strokes.

    Args:
        shape: (C, H, W).
        share: of the pixels that are hidden, (0, 0.9]; reached by the last stroke, or passed by at
            most the area of its pen.
        seed: which strokes.

    Returns:
        (H, W) bool, False on the strokes.

    Raises:
        ValueError: a share out of range.
    """
    _check_share(share, 0.9)
    _, height, width = shape
    generator = drawing(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    known = torch.ones(height, width, dtype=torch.bool)
    side = min(height, width)
    while True:
        start, turn, pen = (float(value) for value in torch.rand(3, generator=generator))
        place = torch.rand(2, generator=generator) * torch.tensor([width, height])
        angle, radius = 2 * math.pi * start, max(0.5, side * (0.02 + 0.04 * pen))
        for _ in range(24):
            known &= (x - place[0]).square() + (y - place[1]).square() > radius**2
            if 1 - known.double().mean() >= share:
                return known
            angle += (turn - 0.5) + float(torch.randn((), generator=generator)) * 0.3
            place = place + radius * torch.tensor([math.cos(angle), math.sin(angle)])


def random_pixels(shape: tuple[int, int, int], share: float, seed: int = 0) -> Tensor:
    """A mask that hides random pixels.

    Args:
        shape: (C, H, W).
        share: of the pixels that are hidden, (0, 0.99].
        seed: which ones.

    Returns:
        (H, W) bool, False where hidden.

    Raises:
        ValueError: a share out of range.
    """
    _check_share(share, 0.99)
    _, height, width = shape
    order = torch.randperm(height * width, generator=drawing(seed))
    known = torch.ones(height * width, dtype=torch.bool)
    known[order[: round(share * height * width)]] = False
    return known.reshape(height, width)


def _check_share(share: float, most: float) -> None:
    if not 0 < share <= most:
        raise ValueError(f"a share of {share:g} cannot be hidden; give more than 0, at most {most}")
