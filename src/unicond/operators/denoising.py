"""Denoising: the measurement is the picture itself, and all that is lost is lost to the noise.

A = I
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from unicond.operators.base import SelectingOperator


@dataclass(frozen=True, eq=False, kw_only=True)
class Identity(SelectingOperator):
    """The identity; all singular values are 1.

    Args:
        shape: (C, H, W).
    """

    @property
    @override
    def measurement_shape(self) -> tuple[int, ...]:
        return self.shape

    @override
    def _forward(self, x: Tensor) -> Tensor:
        return x

    @override
    def _singulars(self) -> Tensor:
        return torch.ones(1, 1, 1, dtype=torch.float64)

    @override
    def _measurement_analysed(self, y: Tensor) -> Tensor:
        return y
