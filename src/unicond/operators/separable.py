"""Operators that act on the rows and the columns of a picture one after the other.

    y = R x K^T,    R = U_R S_R V_R^T,    K = U_K S_K V_K^T
    V^T x = V_R^T x V_K,    singular values s_R s_K^T

for every channel: the decompositions of two small matrices are the decomposition of the whole,
whatever they do at the edges of the picture.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from unicond.operators.base import CUTOFF, LinearOperator, constant, without_tiny


@dataclass(frozen=True, eq=False, kw_only=True)
class Separable(LinearOperator):
    """A matrix for the rows and one for the columns, without tiny singular values.

    Args:
        shape: (C, H, W).
        down: (h, H) float64, h <= H: mixes rows.
        across: (w, W) float64, w <= W: mixes columns.

    Raises:
        ValueError: matrices that do not fit the picture, or enlarge it.
    """

    down: Tensor
    across: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        for matrix, size in zip((self.down, self.across), self.shape[1:], strict=True):
            if matrix.ndim != 2 or matrix.shape[1] != size or len(matrix) > size:
                raise ValueError(
                    f"a matrix of {tuple(matrix.shape)} does not fit a side of {size} pixels; it "
                    f"takes {size} and makes at most as many"
                )

    @property
    @override
    def measurement_shape(self) -> tuple[int, ...]:
        return (self.shape[0], len(self.down), len(self.across))

    @cached_property
    def _factors(self) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
        """U (h, h), S (H,) and V^T (H, H) of each matrix."""
        return constant(lambda: (_decomposed(self.down), _decomposed(self.across)))

    @override
    def _singulars(self) -> Tensor:
        (_, down, _), (_, across, _) = self._factors
        return without_tiny(down[:, None] * across, CUTOFF)

    @override
    def _analysed(self, x: Tensor) -> Tensor:
        (_, _, down), (_, _, across) = self._factors
        return down.to(x) @ x @ across.to(x).T

    @override
    def _synthesised(self, z: Tensor) -> Tensor:
        (_, _, down), (_, _, across) = self._factors
        return down.to(z).T @ z @ across.to(z)

    @override
    def _measurement_analysed(self, y: Tensor) -> Tensor:
        (down, _, _), (across, _, _) = self._factors
        spectral = down.to(y).T @ y @ across.to(y)
        _, height, width = self.shape
        return functional.pad(spectral, (0, width - len(across), 0, height - len(down)))

    @override
    def _measurement_synthesised(self, z: Tensor) -> Tensor:
        (down, _, _), (across, _, _) = self._factors
        return down.to(z) @ z[..., : len(down), : len(across)] @ across.to(z).T


def _decomposed(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix.detach().cpu().double())
    return left, functional.pad(values, (0, matrix.shape[1] - len(values))), right
