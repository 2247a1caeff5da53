"""Colourisation: the measurement is the picture in grey.

    y_p = w^T x_p

for every pixel p, with the weights w of the channels. V holds w / |w| and C - 1 directions across
it, the same for every pixel; the singular values are |w| and zeros.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from unicond.operators.base import LinearOperator, constant

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey pictures of files (ITU-R BT.601), as PIL's `L`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Grey(LinearOperator):
    """A weighted mean of the channels.

    Args:
        shape: (C, H, W).
        weights: one a channel; empty is the plain mean.

    Raises:
        ValueError: another number of weights, or none that is not 0.
    """

    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights and (len(self.weights) != self.shape[0] or not any(self.weights)):
            raise ValueError(
                f"weights {self.weights} do not fit pictures of {self.shape[0]} channels; give one "
                "a channel, not all 0"
            )

    @property
    @override
    def measurement_shape(self) -> tuple[int, ...]:
        return (1, *self.shape[1:])

    @cached_property
    def _basis(self) -> Tensor:
        """(C, C): w / |w| in the first row, directions across it in the others."""

        def basis() -> Tensor:
            found, size = torch.linalg.qr(self._mixing[:, None], mode="complete")
            return torch.cat([found[:, :1] * size[0, 0].sign(), found[:, 1:]], 1).T

        return constant(basis)

    @cached_property
    def _mixing(self) -> Tensor:
        channels = self.shape[0]
        weights = self.weights or (1 / channels,) * channels
        return constant(lambda: torch.tensor(weights, dtype=torch.float64))

    @override
    def _forward(self, x: Tensor) -> Tensor:
        return torch.einsum("c,bchw->bhw", self._mixing.to(x), x)[:, None]

    @override
    def _singulars(self) -> Tensor:
        values = functional.pad(self._mixing.norm()[None], (0, self.shape[0] - 1))
        return values[:, None, None]

    @override
    def _analysed(self, x: Tensor) -> Tensor:
        return torch.einsum("kc,bchw->bkhw", self._basis.to(x), x)

    @override
    def _synthesised(self, z: Tensor) -> Tensor:
        return torch.einsum("kc,bkhw->bchw", self._basis.to(z), z)

    @override
    def _measurement_analysed(self, y: Tensor) -> Tensor:
        return functional.pad(y, (0, 0, 0, 0, 0, self.shape[0] - 1))

    @override
    def _measurement_synthesised(self, z: Tensor) -> Tensor:
        return z[:, :1]
