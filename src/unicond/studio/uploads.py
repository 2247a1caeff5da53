"""Pictures from clients: decoded within limits and written anew, so that nothing else comes along.

Only what is looked at is kept: no metadata, no profile, nothing behind the picture. Formats are
few, and each picture's size is checked before its pixels are decoded.
"""

import base64
import binascii
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from unicond.pictures.files import PictureError
from unicond.studio.settings import Limits
from unicond.tasks.form_pictures import pictures_of, with_pictures
from unicond.tasks.forms import AnyForm, Picture

FORMATS = ("PNG", "JPEG", "WEBP")
_QUICK = 1  # of PNG's 9 levels


@dataclass(frozen=True)
class Stored:
    """A picture that was decoded.

    Args:
        png: written anew.
        size: (height, width) in pixels.
        digest: SHA-256 of `png`.
    """

    png: bytes
    size: tuple[int, int]
    digest: str


def received(
    form: AnyForm, uploads: Mapping[str, bytes], limits: Limits
) -> tuple[AnyForm, list[Stored]]:
    """Decode every picture of a form.

    Args:
        form: from a client.
        uploads: {name: content} of what was sent beside it.
        limits: of sizes.

    Returns:
        The form with its pictures called `0.png`, `1.png`, ..., and these.

    Raises:
        PictureError: one is none, is too large or is not there; or something sent is not used.
    """
    pictures = list(pictures_of(form))
    if len(pictures) > limits.pictures:
        raise PictureError(
            f"{len(pictures)} pictures are given, at most {limits.pictures} are taken"
        )
    unused = sorted(uploads.keys() - {one.upload for one in pictures})
    if unused:
        raise PictureError(f"the part {unused[0]!r} is sent, but no picture says upload so")
    stored = [_stored(picture, uploads, limits) for picture in pictures]
    names = iter(range(len(stored)))
    return with_pictures(form, lambda _: Picture(upload=f"{next(names)}.png")), stored


def named(stored: list[Stored]) -> dict[str, Stored]:
    """{what the form calls it: picture} of pictures that `received` returned."""
    return {f"{number}.png": picture for number, picture in enumerate(stored)}


def keep(stored: list[Stored], target: Path) -> None:
    """Write pictures as `received` calls them, into a folder that no one knows of yet.

    Args:
        stored: decoded.
        target: folder that is made.

    Raises:
        OSError: they cannot be written.
    """
    target.mkdir(parents=True)
    for name, picture in named(stored).items():
        (target / name).write_bytes(picture.png)


def _stored(picture: Picture, uploads: Mapping[str, bytes], limits: Limits) -> Stored:
    if picture.upload is not None:
        if picture.upload not in uploads:
            raise PictureError(f"upload names {picture.upload!r}, but no such part was sent")
        return reencoded(uploads[picture.upload], f"the part {picture.upload!r}", limits)
    _, _, text = str(picture.base64).rpartition(";base64,")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(f"a picture is not in base64: {error}") from None
    return reencoded(content, "a picture in base64", limits)


def reencoded(content: bytes, name: str, limits: Limits) -> Stored:
    """Decode a picture and write it anew.

    Args:
        content: of a file.
        name: for messages.
        limits: of sizes.

    Returns:
        8-bit grey, RGB or RGBA, or 16-bit grey; turned as its EXIF data says.

    Raises:
        PictureError: it is no picture, damaged, too large, or has several frames.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check(image, name, limits)
            image.load()
            upright = ImageOps.exif_transpose(image)
        pixels = np.asarray(_plain(upright))
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(
            f"{name} is not a picture: its content is none of {', '.join(FORMATS)}"
        ) from None
    except Exception as error:  # decoders raise nearly any type for damaged files
        raise PictureError(f"{name} is damaged or cut off ({_short(error)})") from None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=_QUICK)
    png = buffer.getvalue()
    return Stored(png, (pixels.shape[0], pixels.shape[1]), hashlib.sha256(png).hexdigest())


def _check(image: Image.Image, name: str, limits: Limits) -> None:
    width, height = image.size
    if max(width, height) > limits.side or width * height > limits.pixels:
        raise PictureError(
            f"{name} has height {height}, width {width}; at most {limits.side} a side and "
            f"{limits.pixels} pixels are taken"
        )
    if max(width, height) > limits.aspect * max(1, min(width, height)):
        raise PictureError(
            f"{name} has height {height}, width {width}; one side may be {limits.aspect:g} times "
            "the other"
        )
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise PictureError(f"{name} is an animation: send one frame of it")


def _plain(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray(np.asarray(image).clip(0, 65535).astype(np.uint16))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _short(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__
