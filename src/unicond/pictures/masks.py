"""Masks: white (1) is known and kept, black (0) is free and generated, grey is a blend of both.

Latents are coarser than pixels. A latent takes the median of its pixels, of two the greater: it is
known where at least half of them are, free where more than half of them are, grey where the mask is
grey; there are no new values. What is finer than latents cannot be said so, and is told
(`left_out`).
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unicond.pictures.decoding import Source, pixels
from unicond.pictures.files import PictureError
from unicond.pictures.fitting import Policy, Size, fit, proportional, resized

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
KNOWN = 0.5
"""A value from which a pixel or a latent counts as known, where it must be known or free."""
LEFT_OUT = 1 / 3
"""More than this share of what a mask says is no rounding of its edges any more."""


def read_mask(
    source: Source,
    size: Size | None = None,
    invert: bool = False,
    threshold: float | None = None,
) -> Tensor:
    """Read a mask.

    Args:
        source: a path, a PIL image, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a tensor
            (H, W) or (1, H, W); floats in [0, 1], integers or bools. Colours count by their
            brightness, transparent pixels as black.
        size: height and width of the picture that it belongs to, in the same proportions; a mask
            of another size is resized without new values.
        invert: white is what is free, as in other inpainting tools.
        threshold: in (0, 1]: known (1) where the mask, inverted if asked, is at least this, else
            free (0); None keeps soft values.

    Returns:
        (1, H, W) float32 in [0, 1], 1 is known.

    Raises:
        PictureError: it cannot be read, is out of range, of other proportions, or knows nothing or
            everything.
    """
    values = pixels(_array(source) if isinstance(source, Tensor) else source)
    grey = values[..., 0] if values.shape[-1] == 1 else values[..., :3] @ LUMA
    if values.shape[-1] == 4:
        grey = grey * values[..., 3]
    if not np.isfinite(grey).all() or grey.min() < 0 or grey.max() > 1 + 1e-5:
        raise PictureError(
            f"the mask's values lie in [{grey.min():.4g}, {grey.max():.4g}]; give [0, 1]"
        )
    mask = torch.from_numpy(np.clip(1 - grey if invert else grey, 0, 1))[None]
    if threshold is not None:
        mask = (mask >= threshold).float()
    if size is not None:
        _check_proportions((mask.shape[-2], mask.shape[-1]), size)
        mask = resized(mask, size, "nearest")
    _check_content(mask)
    return mask


def in_blocks(mask: Tensor, latents: Size, factor: int, policy: Policy = "crop") -> Tensor:
    """Bring a mask to whole blocks of pixels, one a latent, without leaving a pixel out.

    Args:
        mask: (1, H, W), of its picture's size.
        latents: height and width of the latents.
        factor: pixels a latent stands for along one side, in the run; blocks of larger masks are
            larger, so that none of their points is lost on the way.
        policy: how the picture is brought to size, as in `fit`.

    Returns:
        (1, h n, w n), n at least `factor`.
    """
    sides = (math.ceil(side / count) for side, count in zip(mask.shape[-2:], latents, strict=True))
    block = max(factor, *sides)
    whole = (latents[0] * block, latents[1] * block)
    return fit(mask, whole, policy=policy, resample="nearest", fill=0.0)


def on_latents(mask: Tensor, latents: Size) -> Tensor:
    """What a mask says of every latent: the median of its block, of two the greater.

    Args:
        mask: (1, h n, w n), see `in_blocks`.
        latents: height and width, (h, w).

    Returns:
        (1, h, w), values of the mask.
    """
    height, width = latents
    block = mask.shape[-2] // height
    blocks = mask.reshape(height, block, width, block).transpose(1, 2).flatten(2)
    return -(-blocks).median(-1).values[None]  # `median` is the lesser of two


def left_out(mask: Tensor, small: Tensor) -> str:
    """What a mask says and the latents do not: points and lines that are finer than they.

    Edges that latents round are not told: a part is left out where no latent of it or beside it
    counts as it says, or if it is more than `LEFT_OUT` of all known or all free pixels.

    Args:
        mask: (1, h n, w n), see `in_blocks`.
        small: (1, h, w), see `on_latents`.

    Returns:
        How many pixels, and what to do; "" where nothing is left out.
    """
    block = mask.shape[-2] // small.shape[-2]
    parts = (
        ("known", mask >= KNOWN, small >= KNOWN, "less than half is known, so that they are made"),
        ("free", mask < KNOWN, small < KNOWN, "half or more is known, so that they are kept"),
    )
    told: list[str] = []
    for name, said, counts, why in parts:
        near = functional.max_pool2d(counts.float(), 3, stride=1, padding=1) > 0
        lost = said & ~_blown_up(counts, block)
        missed, all_of_it = int(lost.sum()), int(said.sum())
        if (lost & ~_blown_up(near, block)).any() or missed > LEFT_OUT * all_of_it:
            told.append(f"{missed} of its {all_of_it} {name} pixels lie in latents of which {why}")
    if not told:
        return ""
    return (
        f"{', and '.join(told)} (of {mask.shape[-2]} x {mask.shape[-1]} pixels): a latent is "
        f"{block} pixels wide; draw points and lines at least as wide, best in whole blocks"
    )


def _blown_up(latents: Tensor, block: int) -> Tensor:
    return latents.repeat_interleave(block, -2).repeat_interleave(block, -1)


def _array(mask: Tensor) -> np.ndarray:
    if mask.ndim not in (2, 3) or (mask.ndim == 3 and len(mask) != 1):
        raise PictureError(
            f"the mask is a tensor of shape {tuple(mask.shape)}; give (H, W) or (1, H, W)"
        )
    flat = mask.detach().cpu().reshape(mask.shape[-2:])
    return (flat.float() if flat.is_floating_point() else flat).numpy()


def _check_proportions(mask: Size, size: Size) -> None:
    if not proportional(mask, size):
        raise PictureError(
            f"the mask has height {mask[0]}, width {mask[1]}, but its picture {size[0]}, "
            f"{size[1]}: other proportions; draw the mask over the picture itself"
        )


def _check_content(mask: Tensor) -> None:
    if float(mask.max()) <= 0:
        raise PictureError(
            "the mask is empty: all black, so nothing of the picture is known (white is known); "
            "invert it, or leave the picture out"
        )
    if float(mask.min()) >= 1:
        raise PictureError(
            "the mask is all white, so nothing is free to be generated (black is free); invert it, "
            "or leave the mask out"
        )
