"""Quantisation: the measurement is the picture in a few values.

    y = step * round((x + 1) / step) - 1,    step = 2 / (levels - 1)

with the ends of [-1, 1] among the values. Its derivative is 0 or none, so that gradients go
straight through: as if y were x.

Source: the straight-through estimator, Bengio et al. 2013, arXiv:1308.3432.
"""

from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from unicond.operators.base import Operator


@dataclass(frozen=True, eq=False, kw_only=True)
class Quantisation(Operator):
    """The nearest of equally spaced values in [-1, 1].

    Args:
        shape: (C, H, W).
        levels: how many values, 2 to 256.

    Raises:
        ValueError: another number of values.
    """

    levels: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.levels <= 256:
            raise ValueError(f"{self.levels} levels are out of range; give 2 to 256")

    @property
    @override
    def measurement_shape(self) -> tuple[int, ...]:
        return self.shape

    @override
    def _forward(self, x: Tensor) -> Tensor:
        step = 2 / (self.levels - 1)
        return straight_through(x, ((x.clamp(-1, 1) + 1) / step).round() * step - 1)


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """A value that was computed from x, bit for bit, with the gradient as if it were x.

    Args:
        x: where gradients go.
        value: the same shape.

    Returns:
        The value.
    """
    return value.detach() + (x - x.detach())


def rounded(x: Tensor) -> Tensor:
    """The nearest whole numbers, straight through."""
    return straight_through(x, x.round())


def clipped(x: Tensor, low: float, high: float) -> Tensor:
    """Values within two bounds, straight through."""
    return straight_through(x, x.clamp(low, high))
