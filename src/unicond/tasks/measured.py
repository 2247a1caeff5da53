"""What restorations begin with: a measurement that is given as a picture, or made of a clean one.

    given      y is the picture: small, blurred, grey, or with a hole
    simulate   y = A x + noise_std z of a clean picture x

The size of the run follows from the operator: what was measured at 16 x 16 by `sr4` is 64 x 64.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unicond.backbones.base import Backbone
from unicond.calls.inputs import size_of
from unicond.mechanisms.measurement import Measurement, space_of
from unicond.operators.base import LinearOperator, Operator
from unicond.operators.masking import Mask
from unicond.operators.phase import FourierMagnitude
from unicond.operators.registry import OPERATORS, make_operator, usages
from unicond.pictures.decoding import Source as Picture
from unicond.pictures.files import PictureError
from unicond.pictures.fitting import Size, fit
from unicond.pictures.masks import read_mask
from unicond.pictures.reading import read_picture
from unicond.sampling.noise import Generators

Kind = Literal["mask", "sr", "linear", "nonlinear"]
OWN_MASK = "mask"
"""The operator whose mask is a picture of the caller's."""
NO_PICTURES = ("hadamard", "phase")
"""Operators whose measurement is no picture, so that no file can hold it."""
KNOWN = 0.5
"""A mask's value from which a pixel is known."""
LARGEST = 4
"""Of the base's own area: a measurement of more is refused unless a size is asked for."""
GREY = 0.1
"""How far the channels of a grey picture may lie apart, in [-1, 1]: files in colour round."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What is known of the picture that is looked for.

    Args:
        measurement: y, its operator and noise.
        kind: of the operator.
        size: (height, width) of the run in pixels.
    """

    measurement: Measurement
    kind: Kind
    size: Size

    @property
    def operator(self) -> Operator:
        """A, as it was made for this size."""
        assert isinstance(self.measurement.operator, Operator)
        return self.measurement.operator

    def shown(self) -> Tensor:
        """The measurement as a picture, (B or 1, 3, h, w) in [-1, 1]; grey where nothing is known.

        What is no picture is shown as the one of the least norm that fits, magnitudes of a Fourier
        transform as their logarithm, low frequencies in the middle.
        """
        y = self.measurement.values
        if isinstance(self.operator, FourierMagnitude):
            size = torch.fft.fftshift(y.clamp_min(0).log1p(), (-2, -1))  # noise may be below 0
            return 2 * size / size.amax((1, 2, 3), keepdim=True).clamp_min(1e-6) - 1
        if y.ndim == 4:
            return y.expand(-1, 3, -1, -1).clamp(-1, 1)
        return self.shortest().clamp(-1, 1)

    def shortest(self) -> Tensor:
        """Of a linear operator: A^+ y, (B or 1, 3, H, W), not clipped."""
        assert isinstance(self.operator, LinearOperator)
        return self.operator.pinv(self.measurement.values)

    def estimate(self) -> Tensor:
        """A plain guess of the picture, such as a bicubic enlargement: (B or 1, 3, H, W), clipped.

        Holes are filled by the colours around them; what has the size of a picture is taken as it
        is.
        """
        y, operator = self.measurement.values, self.operator
        if isinstance(operator, Mask):
            return filled(self.shortest(), self.known()).clamp(-1, 1)
        if self.kind == "sr":
            return functional.interpolate(y, self.size, mode="bicubic").clamp(-1, 1)
        return self.shown()

    def known(self) -> Tensor:
        """Of a mask: (1, 1, H, W), 1 where the picture is known."""
        assert isinstance(self.operator, Mask)
        return self.operator.known.float().reshape(1, 1, *self.size)


def kind_of(operator: str) -> Kind:
    """What sort of measurement a text stands for.

    Args:
        operator: as of the registry, or `"mask"`.

    Returns:
        Which methods can be asked follows from it.

    Raises:
        ValueError: an unknown operator.
    """
    name = operator.partition(":")[0]
    if operator == OWN_MASK or name.startswith("inpaint-"):
        kind: Kind = "mask"
    else:
        kind = "sr" if name.startswith("sr") else "linear"
    if operator != OWN_MASK and name not in OPERATORS:
        raise ValueError(
            f"there is no operator {operator!r}; choose of {OWN_MASK} (with a mask picture), "
            f"{', '.join(usages())}"
        )
    return kind if operator == OWN_MASK or OPERATORS[name].linear else "nonlinear"


def shrinks(operator: str) -> int:
    """How many times smaller its measurement is than the picture, along one side."""
    return int(operator.partition(":")[0].removeprefix("sr")) if kind_of(operator) == "sr" else 1


def measured(
    picture: Picture,
    operator: str,
    noise_std: float,
    mask: Picture | None,
    size: int | Size | None,
    backbone: Backbone,
) -> Measured:
    """Take a picture for the measurement.

    Args:
        picture: the measurement.
        operator: what made it.
        noise_std: of its noise, on pictures in [-1, 1].
        mask: of operator `"mask"`, white where the picture is known.
        size: of the run; the measurement is brought to what belongs to it. None takes the
            measurement as it is.
        backbone: says which sizes can be.

    Returns:
        What is known.

    Raises:
        PictureError: it cannot be read, or the base cannot hold what belongs to it.
        ValueError: it is none of this operator's.
    """
    raw, factor = read_picture(picture), shrinks(operator)
    if size is None:
        goal = _enlarged(raw, factor, operator, backbone)
    else:
        goal = size_of(size, {}, backbone.sample_size, backbone.multiple)
    made = _operator(operator, mask, raw, goal)
    seen = fit(raw, (goal[0] // factor, goal[1] // factor))[None]
    if made.measurement_shape[0] == 1:
        apart = float((seen.amax(1) - seen.amin(1)).max())
        if apart > GREY:
            raise PictureError(
                f"{operator!r} starts from a grey picture, but the channels of this one lie up to "
                f"{apart:.2f} apart; make it grey first, or take its colours off here with "
                "simulate=True (--simulate)"
            )
    values = seen if made.measurement_shape == tuple(seen.shape[1:]) else made.forward(seen)
    known = Measurement(operator=made, values=values, noise_std=noise_std, space=space_of(backbone))
    return Measured(known, kind_of(operator), goal)


def simulated(
    picture: Picture,
    operator: str,
    noise_std: float,
    mask: Picture | None,
    size: int | Size | None,
    backbone: Backbone,
    seeds: Sequence[int],
) -> Measured:
    """Measure a clean picture.

    Args:
        picture: the clean one.
        operator: what is measured of it.
        noise_std: of the noise that is added.
        mask: of operator `"mask"`, white where the picture is known.
        size: of the run; None is as of any given picture.
        backbone: says which sizes can be.
        seeds: one a sample: without noise all samples share one measurement.

    Returns:
        What is known.

    Raises:
        PictureError: the picture cannot be read, or the base cannot hold the size.
        ValueError: the operator does not fit it.
    """
    raw = read_picture(picture)
    goal = size_of(size, {"image": [raw]}, backbone.sample_size, backbone.multiple)
    made = _operator(operator, mask, raw, goal)
    values = made.forward(fit(raw, goal)[None])
    if noise_std > 0:
        values = values.expand(len(seeds), *values.shape[1:])
        # a stream of its own: the image's is what the run starts from
        noise = Generators(seeds, ("image", "measurement"))
        values = values + noise_std * noise.draw("measurement", values)
    known = Measurement(operator=made, values=values, noise_std=noise_std, space=space_of(backbone))
    return Measured(known, kind_of(operator), goal)


def filled(picture: Tensor, known: Tensor) -> Tensor:
    """Holes filled by what is around them: averages of ever larger blocks, from fine to coarse.

    Args:
        picture: (B, C, H, W); any values where it is not known.
        known: (1, 1, H, W) of 0 and 1, some 1.

    Returns:
        (B, C, H, W), the same where it is known.
    """
    if known.min() > 0:
        return picture
    count = functional.avg_pool2d(known, 2, ceil_mode=True)
    total = functional.avg_pool2d(known * picture, 2, ceil_mode=True)
    coarse = filled(total / count.clamp_min(1e-6), (count > 0).to(known))
    around = functional.interpolate(coarse, picture.shape[-2:], mode="bilinear")
    return torch.where(known > 0, picture, around)


def _operator(text: str, mask: Picture | None, raw: Tensor, size: Size) -> Operator:
    """The operator for pictures of a size; a mask picture is cropped as its picture is."""
    if text != OWN_MASK:
        return make_operator(text, (3, *size))
    assert mask is not None
    known = read_mask(mask, (raw.shape[-2], raw.shape[-1]), threshold=KNOWN)
    whole = fit(known, size, resample="nearest", fill=0.0)
    return Mask(shape=(3, *size), known=whole)


def _enlarged(raw: Tensor, factor: int, operator: str, backbone: Backbone) -> Size:
    """The size of the picture that a measurement (3, h, w) was made of."""
    height, width = (side * factor for side in raw.shape[-2:])
    multiple, usual = backbone.multiple, backbone.sample_size
    what = f"a measurement of {raw.shape[-2]} x {raw.shape[-1]} by {operator!r} is of {height} x "
    what += f"{width} pixels"
    bring = "or say to which size it is to be brought, as in size=64 (--size 64)"
    if height % multiple or width % multiple:
        step = multiple // math.gcd(multiple, factor)
        raise PictureError(
            f"{what}, and this base makes multiples of {multiple}: crop the measurement to "
            f"multiples of {step}, {bring}"
        )
    if height * width > LARGEST * usual**2:
        raise PictureError(
            f"{what}, many times what this base was made for, {usual} x {usual}: use a larger "
            f"base, {bring}"
        )
    return height, width
