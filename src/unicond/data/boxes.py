"""Pictures with what is where in them, which grounding adapters are trained on.

A row is a picture, its captions and, in a column of JSON, a grounding as callers give it (see
`unicond.grounding`). Bases take squares: a picture is cut in its middle, and the boxes with it. In
pixels of a picture of height h and width w, m the smaller of both:

    x' = (x w - (w - m) // 2) / m,    y' = (y h - (h - m) // 2) / m,    then cut off at 0 and 1

A box of which less than `KEPT` stays is left out, and what it does with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from unicond.data.blobs import Blob, header, picture
from unicond.data.opening import Place, open_rows
from unicond.data.rows import IMAGE, Collection
from unicond.data.sources import digest_of, file_of
from unicond.grounding import Grounding, grounding_of
from unicond.pictures.fitting import Size, fit

COLUMN = "boxes"
"""Where groundings are looked for."""
KEPT = 0.5
"""Of a box's area."""

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """What is where in a square picture.

    Args:
        key: what messages call it.
        captions: wordings; may be none.
        phrases: of each thing.
        boxes: of each, (left, top, right, bottom) in [0, 1].
        interactions: subject, action, object; things by number.
        lost: phrases of the things that the cut has left out.
        cut: phrases that are longer than the text encoder takes are cut.
    """

    key: str
    captions: tuple[str, ...]
    phrases: tuple[str, ...]
    boxes: tuple[Corners, ...]
    interactions: tuple[tuple[int, str, int], ...]
    lost: tuple[str, ...] = ()
    cut: bool = False

    @property
    def alone(self) -> list[int]:
        """Things that are in no interaction."""
        named = {number for subject, _, thing in self.interactions for number in (subject, thing)}
        return [number for number in range(len(self.phrases)) if number not in named]


def in_square(box: Corners, size: Size) -> Corners | None:
    """A box in the middle square of a picture.

    Args:
        box: in the whole picture, as shares of its sides.
        size: its height and width.

    Returns:
        The box as shares of the square's sides; None if less than `KEPT` of it is inside.

    >>> in_square((0.25, 0.5, 0.5, 1.0), (100, 200))
    (0.0, 0.5, 0.5, 1.0)
    >>> in_square((0.125, 0.0, 0.5, 1.0), (100, 200)), in_square((0.0, 0.0, 0.375, 1.0), (100, 200))
    ((0.0, 0.0, 0.5, 1.0), None)
    """
    height, width = size
    side = min(size)
    sides = ((width, (width - side) // 2), (height, (height - side) // 2)) * 2
    whole = [(at * length - start) / side for at, (length, start) in zip(box, sides, strict=True)]
    left, top, right, bottom = (min(max(at, 0.0), 1.0) for at in whole)
    area = (whole[2] - whole[0]) * (whole[3] - whole[1])
    if right <= left or bottom <= top or (right - left) * (bottom - top) < KEPT * area:
        return None
    return left, top, right, bottom


def scene_of(said: Grounding, size: Size, key: str, captions: tuple[str, ...] = ()) -> Scene:
    """What is where in the middle square of a picture.

    Args:
        said: of the whole picture.
        size: its height and width.
        key: what messages call it.
        captions: of it.

    Returns:
        The scene; may be of no things.
    """
    moved = {number: in_square(one.box, size) for number, one in enumerate(said.boxes)}
    boxes = {number: box for number, box in moved.items() if box is not None}
    place = {number: order for order, number in enumerate(boxes)}
    acts = [(said.number(one.subject), one.action, said.number(one.object))
            for one in said.interactions]  # fmt: skip
    return Scene(
        key,
        captions,
        tuple(said.boxes[number].phrase for number in boxes),
        tuple(boxes.values()),
        tuple((place[s], name, place[o]) for s, name, o in acts if s in place and o in place),
        tuple(said.boxes[number].phrase for number, box in moved.items() if box is None),
        said.cut,
    )


class Unsaid(ValueError):
    """A row does not say what is where."""


class BoxedPictures:
    """The pictures of a collection, and what is where in them.

    Args:
        rows: where they lie.
        column: of the groundings.
    """

    def __init__(self, rows: Collection, column: str = COLUMN) -> None:
        self.rows, self.column = rows, column

    def __len__(self) -> int:
        return len(self.rows)

    def scene(self, number: int) -> Scene:
        """What is where in one picture; it is not decoded.

        It is a ValueError if a row has no grounding or one that is none, or no picture.
        """
        row, said = self.rows.row(number), self.rows.said(number, self.column)
        if said is None:
            raise Unsaid(f"{row.key} has no {self.column}: say what is in it, or remove its row")
        found = header(file_of(row, IMAGE))
        try:
            grounding = grounding_of(said)
        except ValueError as error:
            raise ValueError(f"{row.key}: {error}") from error
        return scene_of(grounding, (found.height, found.width), row.key, row.captions)

    def picture(self, number: int, side: int | None = None) -> Tensor:
        """One picture, decoded; it is a `PictureError` if that cannot be done.

        Args:
            number: of the picture.
            side: of the square that is cut out of its middle, in pixels; None is all of it.

        Returns:
            (3, H, W) float32 in [-1, 1].
        """
        found = picture(file_of(self.rows.row(number), IMAGE))
        return found if side is None else fit(found, side)

    def fingerprint(self) -> str:
        """The count, and a hash of captions, groundings and files (see `Pairs.fingerprint`)."""
        return f"{len(self)}-{self._digest}"

    @cached_property
    def _digest(self) -> str:
        def told() -> Iterator[tuple[object, list[Blob | None]]]:
            for number in range(len(self)):
                row = self.rows.row(number)
                yield (row.key, row.captions, self._said(number)), [row.pictures.get(IMAGE)]

        return digest_of(f"boxes {self.column}", told())

    def _said(self, number: int) -> object:
        """A row's grounding, or why it cannot be read."""
        try:
            return self.rows.said(number, self.column)
        except ValueError as error:
            return str(error)


def open_boxes(place: Place) -> BoxedPictures:
    """Open a dataset of pictures with groundings.

    Args:
        place: where it lies; `column` is that of the groundings.

    Returns:
        The pictures.

    Raises:
        ValueError: nothing is there, or it is damaged.
    """
    return BoxedPictures(open_rows(place), place.column or COLUMN)
