"""Sizes that the latents can hold, and the ways of bringing a picture to one.

A network on latents takes only sides that are multiples of some number of pixels: the autoencoder's
factor times the network's own down-sampling. Nothing is resized unless a policy says how.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from unicond.pictures.files import PictureError

Policy = Literal["crop", "pad", "stretch", "keep"]
Resample = Literal["smooth", "linear", "nearest"]
Size = tuple[int, int]


def allowed_size(height: int, width: int, multiple: int, area: int | None = None) -> Size:
    """The size nearest to the given one that the latents can hold.

    Args:
        height: in pixels.
        width: in pixels.
        multiple: both sides must be multiples of it.
        area: number of pixels to aim at in the same proportions; None stays near the given size.

    Returns:
        Height and width.
    """
    scale = math.sqrt(area / (height * width)) if area else 1.0
    near_height, near_width = (
        max(1, round(side * scale / multiple)) * multiple for side in (height, width)
    )
    return near_height, near_width


def check_size(height: int, width: int, multiple: int) -> None:
    """Raise unless the latents can hold a size.

    Args:
        height: in pixels.
        width: in pixels.
        multiple: both sides must be multiples of it.

    Raises:
        PictureError: they cannot; the message names the nearest sides that they can.
    """
    if min(height, width) >= 1 and height % multiple == 0 and width % multiple == 0:
        return
    raise PictureError(
        f"the latents cannot hold height {height}, width {width}: both must be multiples of "
        f"{multiple}; nearest are height {_near(height, multiple)}, width {_near(width, multiple)}"
    )


def proportional(small: Size, large: Size) -> bool:
    """Whether a size is another one at a smaller scale; the rounding of one pixel, or 2 %, aside.

    Args:
        small: height and width.
        large: height and width.

    Returns:
        The answer.
    """
    scale = large[0] / small[0]
    return abs(small[1] * scale - large[1]) <= max(1 + scale, 0.02 * large[1])


def fit(
    picture: Tensor,
    size: int | Size | None = None,
    multiple: int = 1,
    policy: Policy = "crop",
    resample: Resample = "smooth",
    fill: float = -1.0,
) -> Tensor:
    """Bring a picture to a size that the latents can hold.

    Args:
        picture: (C, H, W), any range.
        size: height and width, or one number for both; None takes the allowed size nearest to the
            picture's own.
        multiple: both sides must be multiples of it.
        policy: `"crop"` cuts the middle out in the new proportions, then resizes; `"pad"` resizes
            to fit inside and fills the rest; `"stretch"` changes the proportions; `"keep"` changes
            nothing and refuses a picture of another size.
        resample: `"smooth"` is bicubic, for pictures; `"linear"` never overshoots, for depth maps;
            both average when they shrink. `"nearest"` makes no new values, for masks.
        fill: value around a padded picture.

    Returns:
        (C, height, width), within the range of the picture and `fill`.

    Raises:
        PictureError: the latents cannot hold the size, or `"keep"` would have to resize.
        ValueError: the policy is unknown.
    """
    if policy not in get_args(Policy):
        raise ValueError(f"resize policy {policy!r} is not known; choose one of {get_args(Policy)}")
    height, width = picture.shape[-2:]
    if size is None:
        goal = (height, width) if policy == "keep" else allowed_size(height, width, multiple)
    else:
        goal = (size, size) if isinstance(size, int) else size
    check_size(*goal, multiple)
    if goal == (height, width):
        return picture
    if policy == "keep":
        raise PictureError(
            f"the picture has height {height}, width {width}, but {goal[0]}, {goal[1]} is asked "
            "for; resize it first, or let it be cropped, padded or stretched"
        )
    if policy == "crop":
        return resized(_middle(picture, goal), goal, resample)
    if policy == "pad":
        return _padded(picture, goal, resample, fill)
    return resized(picture, goal, resample)


def resized(picture: Tensor, size: Size, resample: Resample = "smooth") -> Tensor:
    """Resize without regard to proportions.

    Args:
        picture: (C, H, W), any range.
        size: height and width.
        resample: as in `fit`.

    Returns:
        (C, height, width), within the picture's own range.
    """
    if tuple(picture.shape[-2:]) == size:
        return picture
    batch = picture[None]
    if resample == "nearest":
        return functional.interpolate(batch, size, mode="nearest-exact")[0]
    mode = "bicubic" if resample == "smooth" else "bilinear"
    smooth = functional.interpolate(batch, size, mode=mode, antialias=True)[0]
    return smooth.clamp(picture.min(), picture.max())


def _near(side: int, multiple: int) -> str:
    below = side // multiple * multiple
    if below < multiple:
        return str(multiple)
    return str(side) if below == side else f"{below} or {below + multiple}"


def _middle(picture: Tensor, goal: Size) -> Tensor:
    """The largest middle part of the goal's proportions."""
    height, width = picture.shape[-2:]
    scale = min(height / goal[0], width / goal[1])
    rows, columns = (max(1, round(side * scale)) for side in goal)
    top, left = (height - rows) // 2, (width - columns) // 2
    return picture[:, top : top + rows, left : left + columns]


def _padded(picture: Tensor, goal: Size, resample: Resample, fill: float) -> Tensor:
    height, width = picture.shape[-2:]
    scale = min(goal[0] / height, goal[1] / width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (goal[0] - rows) // 2, (goal[1] - columns) // 2
    canvas = torch.full((len(picture), *goal), fill, dtype=picture.dtype, device=picture.device)
    canvas[:, top : top + rows, left : left + columns] = resized(picture, (rows, columns), resample)
    return canvas
