"""Super-resolution: the measurement is the picture made smaller.

    average:  y_i = mean of the f x f pixels that it covers
    bicubic:  y_i = sum_j k((j + 1/2) / f - (i + 1/2)) x_j / sum_j k(..),  separably

with k Keys' cubic of a = -1/2, stretched by f so that nothing aliases. At the edges the weights
that fall outside are left out and the others made to sum to 1: the same numbers as `Image.resize`
of PIL before rounding, and as `interpolate` of torch with `antialias=True`. Every side must be a
multiple of f.

Source: Keys 1981, "Cubic convolution interpolation for digital image processing".
"""

import torch
from torch import Tensor

from unicond.operators.separable import Separable

METHODS = ("average", "bicubic")


def super_resolution(
    shape: tuple[int, int, int], factor: int, method: str = "average"
) -> Separable:
    """Down-sampling of both sides.

    Args:
        shape: (C, H, W) of the large picture.
        factor: f, 2 or more.
        method: one of `METHODS`.

    Returns:
        The operator; it measures (C, H / f, W / f).

    Raises:
        ValueError: an unknown method, or sides that are no multiples of the factor.
    """
    if method not in METHODS:
        raise ValueError(f"{method!r} is no way to make a picture smaller: {', '.join(METHODS)}")
    if factor < 2 or any(side % factor for side in shape[1:]):
        raise ValueError(
            f"pictures of {shape[1]} x {shape[2]} cannot be made {factor} times smaller; the "
            "factor is 2 or more, and both sides are multiples of it"
        )
    make = _average if method == "average" else _bicubic
    return Separable(shape=shape, down=make(shape[1], factor), across=make(shape[2], factor))


def _average(side: int, factor: int) -> Tensor:
    ones = torch.full((1, factor), 1 / factor, dtype=torch.float64)
    return torch.kron(torch.eye(side // factor, dtype=torch.float64), ones)


def _bicubic(side: int, factor: int) -> Tensor:
    fine = (torch.arange(side, dtype=torch.float64) + 0.5) / factor
    coarse = torch.arange(side // factor, dtype=torch.float64) + 0.5
    distance = (coarse[:, None] - fine).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)
