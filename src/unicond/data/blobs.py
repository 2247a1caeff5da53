"""Files wherever they lie: on their own, inside a tar, or in memory; and the pictures in them."""

import io
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeGuard

from PIL import Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile
from torch import Tensor

from unicond.pictures.decoding import draft, opened, reduced
from unicond.pictures.files import PictureError
from unicond.pictures.reading import read_picture

_TURNED = (5, 6, 7, 8)
_ORIENTATION = 0x0112
"""EXIF's tag for how a camera was held, and its values that exchange height and width."""
_HEADER_BYTES = 2**18
"""Cameras put previews of up to 64 kB in front of a picture's size."""


class Blob(Protocol):
    """A file's content."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def exists(self) -> bool:
        """Whether it is there."""
        ...

    def length(self) -> int:
        """Bytes."""
        ...

    def read(self, start: int = 0, count: int | None = None) -> bytes:
        """Some of its bytes, or all from `start` on."""
        ...


@dataclass(frozen=True)
class FileBlob:
    """A file; the whole of it, or a part (a member of a tar).

    Args:
        path: of the file.
        offset: where the part begins.
        size: bytes of the part; None is the whole file.
        member: what the part is called.
    """

    path: Path
    offset: int = 0
    size: int | None = None
    member: str | None = None

    @property
    def name(self) -> str:
        """The path, and the member."""
        return str(self.path) if self.member is None else f"{self.path}:{self.member}"

    def exists(self) -> bool:
        """Whether it is there."""
        return self.path.is_file()

    def length(self) -> int:
        """Bytes."""
        return self.path.stat().st_size if self.size is None else self.size

    def read(self, start: int = 0, count: int | None = None) -> bytes:
        """Some of its bytes, or all from `start` on."""
        left = max(0, self.length() - start)
        with self.path.open("rb") as file:
            file.seek(self.offset + start)
            return file.read(left if count is None else min(count, left))


@dataclass(frozen=True)
class MemoryBlob:
    """Bytes in memory.

    Args:
        name: what messages call it.
        data: its content.
    """

    name: str
    data: bytes

    def exists(self) -> bool:
        """Whether it is there."""
        return True

    def length(self) -> int:
        """Bytes."""
        return len(self.data)

    def read(self, start: int = 0, count: int | None = None) -> bytes:
        """Some of its bytes, or all from `start` on."""
        return self.data[start:] if count is None else self.data[start : start + count]


@dataclass(frozen=True)
class Header:
    """What a picture's file says of it before it is decoded.

    Args:
        height: as `picture` will read it: turned as EXIF says, reduced to `MAX_SIDE`.
        width: the same.
        mode: Pillow's: "RGB", "L" (grey), "P" (palette), "RGBA", "I;16", ...
    """

    height: int
    width: int
    mode: str


def header(blob: Blob) -> Header:
    """Size and mode of a picture, without decoding it; a `PictureError` if it cannot be one.

    Of what is no file of its own the beginning is read, and the rest where that does not tell.
    """
    if not _is_file(blob) and blob.exists() and blob.length() > _HEADER_BYTES:
        with suppress(PictureError), opened(_stream(blob, _HEADER_BYTES), blob.name) as image:
            return _told(image)
    with _opened(blob) as image:
        if _is_file(blob):
            draft(image)
        return _told(image)


def _told(image: Image.Image) -> Header:
    """What a picture says of itself before it is decoded."""
    # not PNG's own, which decodes a whole file to find data behind its pixels: nobody writes it
    turned = Image.Image.getexif(image).get(_ORIENTATION) in _TURNED
    size = image.size
    if isinstance(image, TiffImageFile):  # of which Pillow tells the size as it is turned
        size = image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    width, height = reduced(size)[::-1] if turned else reduced(size)
    return Header(height, width, image.mode)


def picture(blob: Blob) -> Tensor:
    """The picture, (3, H, W) float32 in [-1, 1], as `pictures.read_picture` reads it."""
    if _is_file(blob):
        return read_picture(blob.path)
    with _opened(blob) as image:
        try:
            return read_picture(image)
        except PictureError as error:
            raise PictureError(str(error).replace("the PIL image", blob.name)) from error


def _is_file(blob: Blob) -> TypeGuard[FileBlob]:
    """Whether it is a file of its own."""
    return isinstance(blob, FileBlob) and blob.size is None


@contextmanager
def _opened(blob: Blob) -> Generator[Image.Image]:
    """The picture, checked and not yet decoded."""
    if not blob.exists():
        raise PictureError(f"{blob.name} does not exist")
    with _stream(blob) as file, opened(file, blob.name) as image:
        yield image


def _stream(blob: Blob, count: int | None = None) -> BinaryIO:
    """A file to decode from; of what is no file of its own, only so many bytes are read."""
    if _is_file(blob):
        return blob.path.open("rb")
    return io.BytesIO(blob.read(0, count))
