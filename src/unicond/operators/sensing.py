"""Compressed sensing: the measurement is a few coordinates of the scrambled picture.

    y = (H P x)_rows,    H = [[1, 1], [1, -1]] / sqrt(2), Kronecker log2(H * W) times

P shuffles the pixels; H, the Walsh-Hadamard transform, is orthogonal and its own inverse, and takes
n log n additions. Which rows are kept is random too, but the first (the mean) is always among them.
All singular values are 1 or 0. Every channel is measured alike.

Source: the setting of Kawar et al. 2022 (DDRM), arXiv:2201.11793.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from typing_extensions import override

from unicond.operators.base import LinearOperator, constant, drawing


@dataclass(frozen=True, eq=False, kw_only=True)
class WalshHadamard(LinearOperator):
    """Random rows of the Walsh-Hadamard transform of shuffled pixels.

    Args:
        shape: (C, H, W); H * W is a power of two.
        ratio: share of the rows that are kept, (0, 1]; at least one.
        seed: which shuffle, which rows.

    Raises:
        ValueError: a size that has no such transform, or a ratio out of range.
    """

    ratio: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _, height, width = self.shape
        if (height * width) & (height * width - 1):
            raise ValueError(
                f"pictures of {height} x {width} have no Walsh-Hadamard transform; height and "
                "width must be powers of two"
            )
        if not 0 < self.ratio <= 1:
            raise ValueError(f"a share of {self.ratio:g} cannot be measured; give 0 < ratio <= 1")
        drawing(self.seed)

    @cached_property
    def _order(self) -> tuple[Tensor, Tensor, Tensor]:
        """The shuffle, its inverse, and the rows that are kept, ascending."""

        def order() -> tuple[Tensor, Tensor, Tensor]:
            count = self.shape[1] * self.shape[2]
            generator = drawing(self.seed)
            shuffle = torch.randperm(count, generator=generator)
            others = torch.randperm(count - 1, generator=generator) + 1
            rows = torch.cat([torch.zeros(1, dtype=torch.long), others])
            kept = max(1, round(self.ratio * count))
            return shuffle, shuffle.argsort(), rows[:kept].sort().values

        return constant(order)

    @property
    @override
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.shape[0], len(self._order[2]))

    @override
    def _forward(self, x: Tensor) -> Tensor:
        return self._analysed(x).flatten(2)[..., self._order[2].to(x.device)]

    @override
    def _singulars(self) -> Tensor:
        values = torch.zeros(self.shape[1] * self.shape[2], dtype=torch.float64)
        values[self._order[2]] = 1
        return values.reshape(1, *self.shape[1:])

    @override
    def _analysed(self, x: Tensor) -> Tensor:
        mixed = walsh_hadamard(x.flatten(2)[..., self._order[0].to(x.device)])
        return mixed.reshape(x.shape)

    @override
    def _synthesised(self, z: Tensor) -> Tensor:
        mixed = walsh_hadamard(z.flatten(2))
        return mixed[..., self._order[1].to(z.device)].reshape(z.shape)

    @override
    def _measurement_analysed(self, y: Tensor) -> Tensor:
        channels, height, width = self.shape
        empty = y.new_zeros(y.shape[0], channels, height * width)
        filled = empty.index_copy(2, self._order[2].to(y.device), y)
        return filled.unflatten(2, (height, width))

    @override
    def _measurement_synthesised(self, z: Tensor) -> Tensor:
        return z.flatten(2)[..., self._order[2].to(z.device)]


def walsh_hadamard(x: Tensor) -> Tensor:
    """The orthogonal transform of the last axis, in the order of the Kronecker product.

    Args:
        x: (..., n), n a power of two.

    Returns:
        The same shape.

    >>> walsh_hadamard(torch.tensor([1.0, 0.0, 0.0, 1.0])).tolist()
    [1.0, 0.0, 0.0, 1.0]
    """
    count, half = x.shape[-1], 1
    mixed = x.reshape(-1, count)
    while half < count:
        first, second = mixed.unflatten(-1, (-1, 2, half)).unbind(-2)
        mixed = torch.stack([first + second, first - second], -2).flatten(1)
        half *= 2
    return (mixed * count**-0.5).reshape(x.shape)
