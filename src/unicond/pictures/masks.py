"""Masks: white (1) is known and kept, black (0) is free and generated, grey is a blend of both."""

import numpy as np
import torch
from torch import Tensor

from unicond.pictures.decoding import Source, pixels
from unicond.pictures.files import PictureError
from unicond.pictures.fitting import Size, resized

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


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


def _array(mask: Tensor) -> np.ndarray:
    if mask.ndim not in (2, 3) or (mask.ndim == 3 and len(mask) != 1):
        raise PictureError(
            f"the mask is a tensor of shape {tuple(mask.shape)}; give (H, W) or (1, H, W)"
        )
    flat = mask.detach().cpu().reshape(mask.shape[-2:])
    return (flat.float() if flat.is_floating_point() else flat).numpy()


def _check_proportions(mask: Size, size: Size) -> None:
    """Allow for the rounding of one pixel, and 2 %."""
    wide = mask[1] * size[0] / mask[0]
    if abs(wide - size[1]) > max(1 + size[0] / mask[0], 0.02 * size[1]):
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
