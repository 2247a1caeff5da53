"""The interface of measurements `y = A(x) + noise`: what is known of a picture that is looked for.

A linear operator knows its singular value decomposition, from the structure of A and never by a
matrix of the picture's size:

    A = U S V^T,    A^T = V S U^T,    A^+ = V S^+ U^T

S has one value for each of the `n = C * H * W` coordinates of the picture, zeros included; U has a
column for each that is not zero. So white noise on y is white noise of the same standard deviation
on `U^T y`. Where singular values get arbitrarily small (blur), those up to `CUTOFF` of the largest
are zero, in A itself: then forward, adjoint, pseudo-inverse and decomposition agree exactly, A is
within `CUTOFF` of the plain operator, and A^+ raises rounding errors by at most `1 / CUTOFF`.

Source: the decomposition as an interface, Kawar et al. 2022 (DDRM), arXiv:2201.11793.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

import torch
from torch import Tensor
from typing_extensions import override

CUTOFF = 1e-3
"""Singular values up to this share of the largest are zero."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True)
class Operator(ABC):
    """A map from pictures to measurements; differentiable, or straight-through where it says so.

    Operators hold parameters in float64 on the CPU, and compute in the dtype and on the device of
    what they are given. Samples do not see each other.

    Args:
        shape: (C, H, W) of the pictures that it takes.

    Raises:
        ValueError: no such picture.
    """

    shape: tuple[int, int, int]
    linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_shape(self.shape)

    @property
    @abstractmethod
    def measurement_shape(self) -> tuple[int, ...]:
        """Shape of the measurement of one picture, without the batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Measure.

        Args:
            x: (B, C, H, W), any float dtype, usually in [-1, 1].

        Returns:
            (B, *measurement_shape).

        Raises:
            ValueError: pictures of another shape.
            TypeError: pictures of integers.
        """
        return self._forward(self.check_image(x))

    def check_image(self, x: Tensor) -> Tensor:
        """Raise unless pictures fit.

        Args:
            x: (B, C, H, W).

        Returns:
            The same.

        Raises:
            ValueError: another shape.
            TypeError: no floats.
        """
        return self._checked(x, self.shape, "pictures")

    def check_measurement(self, y: Tensor) -> Tensor:
        """Raise unless measurements are what this operator makes.

        Args:
            y: (B, *measurement_shape).

        Returns:
            The same.

        Raises:
            ValueError: another shape.
            TypeError: no floats.
        """
        return self._checked(y, self.measurement_shape, "measurements")

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor: ...

    def _checked(self, values: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
        if tuple(values.shape[1:]) != shape:
            sizes = ", ".join(str(size) for size in shape)
            raise ValueError(
                f"{what} of shape {tuple(values.shape)} do not fit {type(self).__name__} for "
                f"pictures of {self.shape}: it needs (batch, {sizes}); make the operator for the "
                "size of the picture"
            )
        if not values.is_floating_point():
            raise TypeError(f"{what} are floats in [-1, 1], not {values.dtype}")
        return values


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearOperator(Operator):
    """A linear map with its decomposition; all in the order of `singulars`.

    Args:
        shape: (C, H, W) of the pictures that it takes.
    """

    linear: ClassVar[bool] = True

    @cached_property
    def singulars(self) -> Tensor:
        """(n,) float64 on the CPU: the value of each coordinate of `to_spectral`, 0 included."""
        return constant(lambda: self._singulars().broadcast_to(self.shape).flatten().clone())

    def adjoint(self, y: Tensor) -> Tensor:
        """`A^T y`.

        Args:
            y: (B, *measurement_shape).

        Returns:
            (B, C, H, W).
        """
        spectral = self.measurement_to_spectral(y)
        return self.from_spectral(spectral * self.singulars.to(spectral))

    def pinv(self, y: Tensor) -> Tensor:
        """`A^+ y`: of all pictures whose measurement is nearest to y, that of the least norm.

        Args:
            y: (B, *measurement_shape).

        Returns:
            (B, C, H, W).
        """
        spectral = self.measurement_to_spectral(y)
        inverse = torch.where(self.singulars > 0, 1 / self.singulars, 0.0)
        return self.from_spectral(spectral * inverse.to(spectral))

    def to_spectral(self, x: Tensor) -> Tensor:
        """`V^T x`.

        Args:
            x: (B, C, H, W).

        Returns:
            (B, n).
        """
        return self._analysed(self.check_image(x)).flatten(1)

    def from_spectral(self, z: Tensor) -> Tensor:
        """`V z`, the inverse of `to_spectral`.

        Args:
            z: (B, n).

        Returns:
            (B, C, H, W).
        """
        return self._synthesised(self._coordinates(z))

    def measurement_to_spectral(self, y: Tensor) -> Tensor:
        """`U^T y`, with 0 where the singular value is 0.

        Args:
            y: (B, *measurement_shape).

        Returns:
            (B, n).
        """
        spectral = self._measurement_analysed(self.check_measurement(y)).flatten(1)
        return spectral * (self.singulars > 0).to(spectral)

    def measurement_from_spectral(self, z: Tensor) -> Tensor:
        """`U z`; coordinates whose singular value is 0 are left out.

        Args:
            z: (B, n).

        Returns:
            (B, *measurement_shape).
        """
        kept = self._coordinates(z) * (self.singulars > 0).to(z).reshape(self.shape)
        return self._measurement_synthesised(kept)

    @override
    def _forward(self, x: Tensor) -> Tensor:
        spectral = self.to_spectral(x)
        return self.measurement_from_spectral(spectral * self.singulars.to(spectral))

    def _coordinates(self, z: Tensor) -> Tensor:
        count = math.prod(self.shape)
        if tuple(z.shape[1:]) != (count,):
            raise ValueError(
                f"coordinates of shape {tuple(z.shape)} do not fit pictures of {self.shape}: "
                f"give (batch, {count})"
            )
        return z.reshape(-1, *self.shape)

    @abstractmethod
    def _singulars(self) -> Tensor:
        """Float64, broadcastable to (C, H, W)."""

    @abstractmethod
    def _analysed(self, x: Tensor) -> Tensor:
        """`V^T x`, laid out as (B, C, H, W)."""

    @abstractmethod
    def _synthesised(self, z: Tensor) -> Tensor:
        """`V z` of coordinates (B, C, H, W)."""

    @abstractmethod
    def _measurement_analysed(self, y: Tensor) -> Tensor:
        """`U^T y`, laid out as (B, C, H, W); anything where the singular value is 0."""

    @abstractmethod
    def _measurement_synthesised(self, z: Tensor) -> Tensor:
        """`U z` of coordinates (B, C, H, W) that are 0 where the singular value is."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectingOperator(LinearOperator):
    """Keeps some values of a picture as they are and drops the others: V is the identity.

    The singular values are 1 (kept) or 0, so that `U z` is `A z`.

    Args:
        shape: (C, H, W) of the pictures that it takes.
    """

    @override
    def _analysed(self, x: Tensor) -> Tensor:
        return x

    @override
    def _synthesised(self, z: Tensor) -> Tensor:
        return z

    @override
    def _measurement_synthesised(self, z: Tensor) -> Tensor:
        return self._forward(z)


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise unless a shape is (C, H, W), none of them 0."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"an operator is for pictures of (C, H, W), not {tuple(shape)}")


def drawing(seed: int) -> torch.Generator:
    """A generator for what an operator draws once: the same numbers on every device.

    Args:
        seed: 0 to 2^63 - 1.

    Returns:
        The generator, on the CPU.

    Raises:
        ValueError: a seed out of range.
    """
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed {seed} is out of range; give 0 to 2^63 - 1")
    return torch.Generator().manual_seed(seed)


def constant(make: Callable[[], T]) -> T:
    """Compute what operators keep, so that it may enter graphs later.

    The operator may be first used while sampling in inference mode, whose tensors cannot be saved
    for a gradient.

    Args:
        make: computes it.

    Returns:
        What it made.
    """
    with torch.inference_mode(False), torch.no_grad():
        return make()


def wide(x: Tensor) -> Tensor:
    """The same in float32 where it is narrower: Fourier transforms are not for half precision."""
    return x if x.dtype == torch.float64 else x.float()


def without_tiny(singulars: Tensor, cutoff: float) -> Tensor:
    """Singular values with those up to `cutoff` of the largest set to 0.

    Args:
        singulars: not negative.
        cutoff: share of the largest, [0, 1).

    Returns:
        The same shape.
    """
    return torch.where(singulars > cutoff * singulars.max(), singulars, 0.0)
