"""From whatever holds a picture to plain numbers: (H, W, C) float32, integers scaled to [0, 1].

Only the decoders of common picture formats are tried (Pillow's PostScript reader, for one, would
start another program). Big files are reduced on the way: JPEGs while they are decoded, the others
as bytes, so that floats exist only at the reduced size.
"""

import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from unicond.pictures.files import FilePath, PictureError, existing_file

Source = FilePath | Image.Image | np.ndarray | Tensor

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".mpo", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
)
MAX_PIXELS = 150_000_000
"""Pictures with more are refused. Pillow itself refuses 179 million as a decompression bomb."""
MAX_SIDE = 2048
"""Files and PIL images with a longer side are reduced to it."""


def pixels(
    source: Source,
    max_side: int = MAX_SIDE,
    resample: Image.Resampling = Image.Resampling.LANCZOS,
) -> np.ndarray:
    """Read a file, a PIL image or an array.

    Args:
        source: path, PIL image, or array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        max_side: files and PIL images with a longer side are reduced to it.
        resample: how they are reduced.

    Returns:
        (H, W, C) float32: C is 1 (grey), 3 (RGB) or 4 (RGBA, straight alpha); integers are scaled
        to [0, 1], floats as they are.

    Raises:
        PictureError: it is no picture, is damaged, too large, of no size, or has several frames.
        TypeError: it is none of these kinds.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        with explained("the PIL image"):
            _check_image(source, "the PIL image")
            image = ImageOps.exif_transpose(source)
        return _from_image(image, max_side, resample)
    if isinstance(source, str | os.PathLike):
        path = existing_file(source, EXTENSIONS)
        return _from_image(_decode(path, max_side), max_side, resample)
    raise TypeError(
        f"a picture is a path, a PIL image, a numpy array or a tensor, not {type(source).__name__}"
    )


def draft(image: Image.Image, max_side: int = MAX_SIDE) -> None:
    """Have a big JPEG reduced while it is decoded, as far as that goes; others stay as they are.

    Args:
        image: that is opened and not yet decoded; its size is then the one that is decoded.
        max_side: no less is left of its longer side.
    """
    shrink = min(1.0, max_side / max(image.size))
    width, height = (max(1, int(side * shrink)) for side in image.size)
    image.draft(None, (width, height))


def reduced(size: tuple[int, int], max_side: int = MAX_SIDE) -> tuple[int, int]:
    """The size that a decoded picture is brought to.

    >>> reduced((3000, 500)), reduced((300, 50))
    ((2048, 341), (300, 50))
    """
    longest = max(size)
    if longest <= max_side:
        return size
    width, height = (max(1, round(side * max_side / longest)) for side in size)
    return width, height


def mode_of(source: FilePath | Image.Image) -> str:
    """How a picture's pixels are stored, without decoding it.

    Args:
        source: path, or PIL image.

    Returns:
        Pillow's mode: "RGB", "L" (grey), "P" (palette), "RGBA", "I;16", ...

    Raises:
        PictureError: it is no picture, is damaged, too large, or has several frames.
    """
    if isinstance(source, Image.Image):
        return source.mode
    path = existing_file(source, EXTENSIONS)
    with opened(path, str(path)) as image:
        return image.mode


def check_rgb(mode: str, name: str) -> None:
    """Raise unless a picture whose colours mean something has some, of 8 bits.

    Args:
        mode: Pillow's.
        name: of the picture, for the message.

    Raises:
        PictureError: it is grey, has a palette, 16 bits, ...
    """
    if mode != "RGB":
        raise PictureError(
            f"{name} is of mode {mode}, not RGB: what its values mean is not known; save it "
            "as RGB with 8 bits a channel"
        )


def _decode(path: Path, max_side: int) -> Image.Image:
    """Decode a file, turned as its EXIF data says."""
    with opened(path, str(path)) as image:
        draft(image, max_side)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image


@contextmanager
def opened(file: Path | BinaryIO, name: str) -> Generator[Image.Image]:
    """A picture of a format that is read, checked and not yet decoded.

    Args:
        file: its path, or its content.
        name: what messages call it.

    Yields:
        The picture; what goes wrong with it inside the block is a `PictureError`, too.

    Raises:
        PictureError: it is no picture, is damaged, too large, of no size, or has several frames.
    """
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with explained(name), warnings.catch_warnings():
        # Pillow warns from 89 million pixels on; ours is the limit, and it is checked.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(file, formats=formats) as image:
            _check_image(image, name)
            yield image


@contextmanager
def explained(name: str) -> Generator[None]:
    """Say which picture it was: for damaged files, decoders raise nearly any type of error."""
    try:
        yield
    except (PictureError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{name} is not a picture: its content is none of {', '.join(FORMATS)}"
        ) from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name} is too large: {error}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise PictureError(f"{name} cannot be read: {error.strerror}") from error
        raise PictureError(
            f"{name} is damaged or cut off ({error}); export or download it again"
        ) from error


def _check_image(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width == 0 or height == 0:
        raise PictureError(f"{name} has no pixels (height {height}, width {width})")
    if width * height > MAX_PIXELS:
        raise PictureError(
            f"{name} has {width * height / 1e6:.0f} million pixels; at most "
            f"{MAX_PIXELS / 1e6:.0f} million are read: make it smaller first"
        )
    frames = getattr(image, "n_frames", 1)
    # Telephones put previews behind a photo (MPO): its first frame is the photo.
    if frames > 1 and image.format != "MPO":
        raise PictureError(
            f"{name} has {frames} frames (an animation or several pages); export the one you mean, "
            f"of 0 to {frames - 1}, as a PNG"
        )


def _from_image(image: Image.Image, max_side: int, resample: Image.Resampling) -> np.ndarray:
    try:
        if image.mode.startswith(("I", "F")):
            full = 1.0 if image.mode == "F" else 65535.0
            image = Image.fromarray(np.asarray(image, dtype=np.float32) / np.float32(full))
        elif image.has_transparency_data:
            image = image.convert("RGBA")
        else:
            image = image.convert("L" if image.mode in ("1", "L") else "RGB")
    except ValueError as error:
        raise PictureError(f"pictures of mode {image.mode} are not read: {error}") from error
    if (size := reduced(image.size, max_side)) != image.size:
        image = image.resize(size, resample, reducing_gap=3.0)
    return _from_array(np.asarray(image))


def _from_array(array: np.ndarray) -> np.ndarray:
    values = array[..., None] if array.ndim == 2 else array
    if values.ndim != 3 or values.shape[-1] not in (1, 3, 4):
        raise PictureError(
            f"the array has shape {array.shape}; a picture is (H, W), (H, W, 1), (H, W, 3) or "
            "(H, W, 4), channels last"
        )
    if values.size == 0:
        raise PictureError(f"the array has shape {array.shape}: it has no pixels")
    if array.dtype == np.bool_ or array.dtype.kind == "f":
        return values.astype(np.float32)
    if array.dtype in (np.uint8, np.uint16):
        return values.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    raise PictureError(
        f"the array is of {array.dtype}; give uint8, uint16, bool, or floats in [0, 1]"
    )
