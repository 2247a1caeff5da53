"""Pictures in and out: from any file, PIL image, array or tensor to [-1, 1], and back to PIL."""

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unicond.pictures.decoding import MAX_SIDE, Source, check_rgb, mode_of, pixels
from unicond.pictures.files import PictureError

WHITE = (1.0, 1.0, 1.0)


def read_picture(
    source: Source,
    background: tuple[float, float, float] = WHITE,
    max_side: int = MAX_SIDE,
) -> Tensor:
    """Read a picture of any kind.

    CMYK, palette, 1-bit and 16-bit pictures become RGB, and EXIF orientation is applied.

    Args:
        source: one of
            - a path (PNG, JPEG, WebP, BMP, TIFF, GIF, PPM, AVIF) or a PIL image;
            - a numpy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, uint16, bool, or
              floats in [0, 1], as everywhere outside of this package;
            - a tensor (3, H, W) or (1, H, W), also with a batch of one in front: floats in
              [-1, 1], as everywhere inside, or uint8.
        background: RGB in [0, 1] that shows through where the picture is transparent.
        max_side: files and PIL images with a longer side are reduced to it; arrays and tensors
            keep their size.

    Returns:
        (3, H, W) float32 in [-1, 1].

    Raises:
        PictureError: it cannot be read, or its values are not finite or out of range.
        TypeError: it is none of these kinds.
    """
    if isinstance(source, Tensor):
        return _from_tensor(source)
    values = pixels(source, max_side)
    _check_range(float(values.min()), float(values.max()), 0.0)
    if values.shape[-1] == 4:
        alpha = values[..., 3:]
        values = values[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)
    picture = torch.from_numpy(values).permute(2, 0, 1) * 2 - 1
    return picture.expand(3, -1, -1).contiguous()


def read_colours(source: Source, what: str) -> Tensor:
    """Read a picture whose colours carry its meaning, such as a skeleton or a segmentation.

    Args:
        source: as in `read_picture`; a file or a PIL image is RGB, or RGBA.
        what: it shows, for messages.

    Returns:
        (3, H, W) float32 in [-1, 1].

    Raises:
        PictureError: as `read_picture` does; or the file or the PIL image is grey, has a palette,
            ..., so that its colours are no ones of this kind.
    """
    if isinstance(source, str | os.PathLike | Image.Image):
        name = f"the PIL image of {what}" if isinstance(source, Image.Image) else str(source)
        mode = mode_of(source)
        if mode != "RGBA":
            check_rgb(mode, name)
    return read_picture(source)


def to_pil(picture: Tensor) -> Image.Image:
    """The 8-bit picture that is shown and saved.

    Args:
        picture: (3, H, W) in [-1, 1]; what is beyond is clipped.

    Returns:
        An RGB image.

    Raises:
        PictureError: the shape is another, or a value is not finite.
    """
    if picture.ndim != 3 or picture.shape[0] != 3 or picture.numel() == 0:
        raise PictureError(f"the picture has shape {tuple(picture.shape)}; give (3, H, W)")
    values = picture.detach().float().cpu()
    if not values.isfinite().all():
        raise PictureError("the picture holds values that are not finite; it is not saved")
    levels = ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())


def _from_tensor(tensor: Tensor) -> Tensor:
    picture = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise PictureError(
            f"the tensor has shape {tuple(tensor.shape)}; one picture is (3, H, W) or (1, H, W)"
        )
    if picture.numel() == 0:
        raise PictureError(f"the tensor has shape {tuple(tensor.shape)}: it has no pixels")
    if picture.dtype == torch.uint8:
        picture = picture.float() / 127.5 - 1
    if not picture.is_floating_point():
        raise PictureError(f"the tensor is of {picture.dtype}; give floats in [-1, 1], or uint8")
    _check_range(float(picture.min()), float(picture.max()), -1.0)
    return picture.float().expand(3, -1, -1).contiguous()


def _check_range(low: float, high: float, least: float) -> None:
    """Raise unless values lie in [least, 1], give or take rounding; NaN lies nowhere."""
    if not (np.isfinite(low) and np.isfinite(high)):
        raise PictureError("the picture holds values that are not finite (NaN or infinity)")
    if low < least - 1e-3 or high > 1 + 1e-3:
        raise PictureError(
            f"the picture's values lie in [{low:.4g}, {high:.4g}]; they must lie in "
            f"[{least:g}, 1]: scale them first (a depth map is read by read_depth)"
        )
