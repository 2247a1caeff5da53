"""Pairs to train on: a picture, its condition, a caption, from wherever they lie.

`open_pairs(where, condition)` takes a folder with `metadata.jsonl` (Hugging Face's imagefolder),
tar files (webdataset), or the id of a dataset on the hub. What is opened is not yet read: missing
and damaged files are found by `pair` in their turn, and by `unicond data check` before.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from torch import Tensor

from unicond.data.blobs import Blob, header, picture
from unicond.data.conditions import KINDS, ConditionKind, kind_of
from unicond.data.folders import AT_ONCE
from unicond.data.opening import Place, open_rows
from unicond.data.rows import IMAGE, OTHER, Collection, Row
from unicond.pictures.decoding import check_rgb
from unicond.pictures.files import PictureError
from unicond.pictures.fitting import Size

_ENDS = 2**16
_PLAIN = (b"BM", b"II*\0", b"MM\0*", *(f"P{letter}".encode() for letter in "123456Ff"))
"""How BMP, TIFF, PPM and its like, which are usually not compressed, begin."""


@dataclass(frozen=True)
class Pair:
    """A picture and its condition.

    Args:
        key: what messages call it.
        image: (3, H, W) float32 in [-1, 1].
        condition: the same; of the same size where the kind is aligned.
        captions: wordings; may be none.
    """

    key: str
    image: Tensor
    condition: Tensor
    captions: tuple[str, ...]

    @property
    def caption(self) -> str:
        """The first wording, or the empty prompt."""
        return self.captions[0] if self.captions else ""

    @property
    def size(self) -> Size:
        """Height and width of the picture."""
        return self.image.shape[-2], self.image.shape[-1]


class PairSource(Protocol):
    """Pairs that can be read in any order."""

    @property
    def kind(self) -> ConditionKind:
        """What the condition is."""
        ...

    def __len__(self) -> int: ...

    def size(self, number: int) -> Size:
        """Height and width of one picture, without decoding it."""
        ...

    def pair(self, number: int) -> Pair:
        """One pair, decoded."""
        ...

    def fingerprint(self) -> str:
        """What tells these pairs from others, or from themselves after a change."""
        ...


class Pairs:
    """The pairs of a collection for one condition.

    Args:
        rows: where they lie.
        kind: what the condition is.
        column: what the collection calls it.
    """

    def __init__(self, rows: Collection, kind: ConditionKind, column: str) -> None:
        self.rows, self.kind, self.column = rows, kind, column

    def __len__(self) -> int:
        return len(self.rows)

    def size(self, number: int) -> Size:
        """Height and width of one picture, without decoding it."""
        row = self.rows.row(number)
        found = header(file_of(row, IMAGE))
        return found.height, found.width

    def pair(self, number: int) -> Pair:
        """One pair, decoded.

        It is a `PictureError` if a file is missing or damaged, if the condition is no RGB picture,
        or if an aligned pair is not of one size.
        """
        row = self.rows.row(number)
        other = file_of(row, self.column)
        check_mode(other)
        pair = Pair(row.key, picture(file_of(row, IMAGE)), picture(other), row.captions)
        if self.kind.aligned:
            check_sizes(row.key, self.kind.name, pair.image, pair.condition)
        return pair

    def fingerprint(self) -> str:
        """A hash of captions, names, and the lengths and both ends of all files; and the count.

        Of each file 64 kB at both ends count: all of most conditions, and of a large photograph
        what changes whenever it is saved anew. Of formats that are usually not compressed, where an
        edit changes nothing but its own place, all of a file counts.
        """
        return f"{len(self)}-{self._digest}"

    @cached_property
    def _digest(self) -> str:
        def told() -> Iterator[tuple[object, list[Blob | None]]]:
            for number in range(len(self)):
                row = self.rows.row(number)
                blobs = [row.pictures.get(column) for column in (IMAGE, self.column)]
                yield (row.key, row.captions), blobs

        return digest_of(f"{self.kind.name} {self.column}", told())


def open_pairs(place: str | Path | Place, condition: str) -> Pairs:
    """Open a dataset of pairs.

    Args:
        place: where it lies; the condition's column is by default what `unicond annotate` writes,
            or else the kind's own name.
        condition: its kind, one of `conditions.KINDS` or a name of one's own.

    Returns:
        The pairs.

    Raises:
        ValueError: nothing is there, it is damaged, or it has no such column.
    """
    rows, kind = open_rows(place), kind_of(condition)
    column = place.column if isinstance(place, Place) else None
    return Pairs(rows, kind, column_of(rows, kind, column))


def column_of(rows: Collection, kind: ConditionKind, column: str | None = None) -> str:
    """What a collection calls a condition.

    Args:
        rows: the collection.
        kind: of the condition.
        column: as told by the user; None looks for it.

    Returns:
        The column.

    Raises:
        ValueError: it has no such column.
    """
    asked = OTHER if column == IMAGE else column
    for name in (kind.column, kind.name) if asked is None else (asked,):
        if name in rows.columns:
            return name
    others = [name for name in rows.columns if name != IMAGE]
    raise ValueError(
        f"{rows.where} has no pictures of {column or kind.name}; it has "
        f"{', '.join(others) or 'none but the images'}; `unicond annotate` makes "
        f"{', '.join(name for name in KINDS if KINDS[name].annotated)}"
    )


def file_of(row: Row, column: str) -> Blob:
    """A picture of a row; it is a `PictureError` if the row does not name it."""
    if column not in row.pictures:
        raise PictureError(f"{row.key} has no {column}; annotate it, or remove its row")
    return row.pictures[column]


def check_mode(blob: Blob) -> None:
    """Raise a `PictureError` unless a condition's file is an RGB picture of 8 bits."""
    check_rgb(header(blob).mode, blob.name)


def check_sizes(key: str, condition: str, image: Tensor, other: Tensor) -> None:
    """Raise a `PictureError` unless an aligned pair has one size."""
    sizes = [tuple(tensor.shape[-2:]) for tensor in (image, other)]
    if sizes[0] != sizes[1]:
        (h, w), (other_h, other_w) = sizes
        raise PictureError(
            f"{key}: the picture is {w} x {h}, its {condition} {other_w} x {other_h}; an aligned "
            "pair has one size: annotate it again"
        )


def digest_of(head: str, rows: Iterable[tuple[object, Sequence[Blob | None]]]) -> str:
    """A hash of rows: of what is said of them, and of the lengths and both ends of their files.

    Args:
        head: what is the same for all rows.
        rows: of each what is said of it, and its files; None and those that are missing count, too.

    Returns:
        16 hex digits.
    """
    digest = hashlib.sha256(head.encode())
    for said, blobs in rows:
        digest.update(repr(said).encode())
        for blob in blobs:
            digest.update(b"missing" if blob is None or not blob.exists() else _told(blob))
    return digest.hexdigest()[:16]


class Fingerprinted(Protocol):
    """Something that can be told from others."""

    def fingerprint(self) -> str:
        """The number of rows, a hyphen, a hash of them."""
        ...


def check_unchanged(source: Fingerprinted, recorded: str, what: str = "pairs") -> None:
    """Raise unless pairs are those that a run began with.

    Args:
        source: the pairs now.
        recorded: their `fingerprint` then.
        what: its rows are called.

    Raises:
        ValueError: they have changed.
    """
    now = source.fingerprint()
    if now != recorded:
        counts = [int(text.split("-")[0]) for text in (recorded, now)]
        what = (
            f"it had {counts[0]} {what} and has {counts[1]}"
            if counts[0] != counts[1]
            else f"it still has {counts[0]} {what}, but files, captions or their order differ"
        )
        raise ValueError(
            f"the dataset has changed since this run began ({what}); put it back, or start a new "
            "run: nothing was written"
        )


def _told(blob: Blob) -> bytes:
    """What tells a file from others: its length, beginning and end, or a hash of all of it."""
    length = blob.length()
    head, tail = blob.read(0, _ENDS), max(_ENDS, length - _ENDS)
    if length > 2 * _ENDS and head.startswith(_PLAIN):
        digest = hashlib.sha256()
        for start in range(0, length, AT_ONCE):
            digest.update(blob.read(start, AT_ONCE))
        return digest.digest()
    return f"{length}".encode() + head + blob.read(tail)
