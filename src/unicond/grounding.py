"""What a caller says of where things are: phrases in boxes, and who does what to whom.

    {"boxes": [{"phrase": "a person", "box": [0.1, 0.2, 0.4, 0.9]},
               {"phrase": "a red ball", "box": [0.5, 0.6, 0.8, 0.9]}],
     "interactions": [{"subject": 0, "action": "pushing", "object": 1}]}

Every grounding adapter takes of it what it was trained for: GLIGEN and MIGC the boxes,
InteractDiffusion the interactions, and each box of which none is told as `NOTHING_MORE` with
itself, as its authors do.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema

MOST_THINGS = 30
"""Slots of the published adapters."""
NOTHING_MORE = "and"
"""The action of a thing with itself: it is there."""

# Limits for the schema alone: the dataclasses check them with words of their own.
_Text = Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "pattern": r"\S"})]
_Share = Annotated[float, WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})]
_AtLeastOff = Field(json_schema_extra={"minimum": -1})
_Named = Field(json_schema_extra={"minimum": 0, "minLength": 1})

Placed = tuple[str, float, float, float, float]
"""A text and its box: left, top, right, bottom as shares of the picture's width and height."""


@dataclass(frozen=True)
class Box:
    """A thing and where it is.

    Args:
        phrase: what it is, as `"a red ball"`.
        box: (left, top, right, bottom) in [0, 1], shares of the picture's width and height.
        ca_scale: of MIGC: weight of what the picture hears of the phrase.
        ea_scale: of MIGC: weight of what it hears of phrase and box.
        sac_scale: of MIGC: of the instance's map before all are balanced.

    Raises:
        ValueError: no phrase, or a box that is inverted, empty or leaves the picture.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    phrase: _Text
    box: tuple[_Share, _Share, _Share, _Share]
    ca_scale: float = 1.0
    ea_scale: float = 1.0
    sac_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.phrase.strip():
            raise ValueError("a box needs a phrase: say what is in it")
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                f"the box of {self.phrase!r} is {self.box}; give (left, top, right, bottom) with "
                "0 <= left < right <= 1 and 0 <= top < bottom <= 1, shares of width and height"
            )
        for name in ("ca_scale", "ea_scale", "sac_scale"):
            if not math.isfinite(value := getattr(self, name)):
                raise ValueError(f"{name} of {self.phrase!r} is {value}; give a finite number")


@dataclass(frozen=True)
class Interaction:
    """Who does what to whom.

    Args:
        subject: number of a box, from 0, or its phrase where one box alone has it.
        action: such as `"holding"` or `"on top of"`.
        object: as `subject`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    subject: Annotated[int | str, _Named]
    action: _Text
    object: Annotated[int | str, _Named]


@dataclass(frozen=True)
class Grounding:
    """Things in their boxes, what they do, and how strongly that acts.

    Args:
        boxes: 1 to `MOST_THINGS`.
        interactions: between them, at most as many.
        scale: of GLIGEN and InteractDiffusion; 0.0 is off.
        beta: these act in the first share of the image's moves, in [0, 1]; published: 1.0 of
            InteractDiffusion, 0.3 of GLIGEN.
        migc_steps: MIGC acts up to this one of the image's moves, counted from 0; None is two
            fifths of them, as published (20 of 50); -1 is never.
        naive_fuser_steps: MIGC's naive stand-in acts up to this one where MIGC does not; -1 is
            never.
        repeat: MIGC is told each phrase so many times over, joined by ", and "; published on
            COCO-MIG: as many as there are boxes, at most 7.
        cut: phrases that are longer than the text encoder takes are cut instead of refused.

    Raises:
        ValueError: no boxes or too many, a number outside its range, or an interaction of which a
            box is absent or not told apart.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    boxes: Annotated[
        tuple[Box, ...], Field(json_schema_extra={"minItems": 1, "maxItems": MOST_THINGS})
    ]
    interactions: Annotated[
        tuple[Interaction, ...], Field(json_schema_extra={"maxItems": MOST_THINGS})
    ] = ()
    scale: float = 1.0
    beta: _Share = 1.0
    migc_steps: Annotated[int | None, _AtLeastOff] = None
    naive_fuser_steps: Annotated[int, _AtLeastOff] = -1
    repeat: Annotated[int, Field(json_schema_extra={"minimum": 1})] = 1
    cut: bool = False

    def __post_init__(self) -> None:
        for what, things in (("boxes", self.boxes), ("interactions", self.interactions)):
            if len(things) > MOST_THINGS:
                raise ValueError(f"{len(things)} {what} are given, {MOST_THINGS} are the most")
        if not self.boxes:
            raise ValueError("a grounding needs boxes: give at least one phrase with its box")
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta is {self.beta}; it is a share of the moves, in [0, 1]")
        if not math.isfinite(self.scale):
            raise ValueError(f"scale is {self.scale}; give a finite number")
        if self.repeat < 1:
            raise ValueError(f"repeat is {self.repeat}; a phrase is told once (1) or more often")
        for name in ("migc_steps", "naive_fuser_steps"):
            value = getattr(self, name)
            if value is not None and value < -1:
                raise ValueError(f"{name} is {value}; give the last move's number, or -1 for never")
        for one in self.interactions:
            if not one.action.strip():
                raise ValueError(f"an interaction of {one.subject!r} has no action: say what it is")
            self.number(one.subject)
            self.number(one.object)

    @classmethod
    def of(cls, places: "Sequence[Placed] | Grounding") -> "Grounding":
        """Texts with their boxes, as (phrase, left, top, right, bottom), and nothing more."""
        if isinstance(places, Grounding):
            return places
        return cls(tuple(Box(phrase, box) for phrase, box in map(_parted, places)))

    def places(self) -> list[Placed]:
        """(phrase, left, top, right, bottom) of every box."""
        return [(one.phrase, *one.box) for one in self.boxes]

    def number(self, named: int | str) -> int:
        """The number of the box that an interaction names.

        Args:
            named: a number from 0, or a phrase.

        Returns:
            Its place in `boxes`.

        Raises:
            ValueError: there is none, or more than one.
        """
        phrases = [one.phrase for one in self.boxes]
        if isinstance(named, int):
            if not 0 <= named < len(phrases):
                raise ValueError(
                    f"an interaction names box {named}, but the boxes are 0 to {len(phrases) - 1}"
                )
            return named
        found = [number for number, phrase in enumerate(phrases) if phrase == named]
        if len(found) != 1:
            raise ValueError(
                f"an interaction names {named!r}, but {len(found)} of the boxes have that phrase: "
                f"they are {', '.join(phrases)}; give one of them, or the box's number from 0"
            )
        return found[0]

    def told(self) -> list[tuple[Box, str, Box]]:
        """(subject, action, object) of every interaction, then of every box without any."""
        numbers = [(self.number(one.subject), self.number(one.object)) for one in self.interactions]
        named = {number for pair in numbers for number in pair}
        found = [
            (self.boxes[subject], one.action, self.boxes[thing])
            for one, (subject, thing) in zip(self.interactions, numbers, strict=True)
        ]
        alone = [box for number, box in enumerate(self.boxes) if number not in named]
        return [*found, *((box, NOTHING_MORE, box) for box in alone)]


_FILE = TypeAdapter(Grounding)


def schema() -> Mapping[str, object]:
    """The JSON schema of a grounding file."""
    return _FILE.json_schema()


def read_grounding(source: str | Path) -> Grounding:
    """Read a grounding from a JSON file.

    Args:
        source: its path.

    Returns:
        What it says.

    Raises:
        ValueError: there is no such file, or it is not as `schema()` says; the message names the
            first place that is wrong.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise ValueError(f"{source} is no file; give a JSON file of boxes and interactions")
    try:
        return grounding_of(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def grounding_of(content: object) -> Grounding:
    """A grounding from what JSON holds.

    Args:
        content: a mapping with "boxes" and what else `schema()` allows.

    Returns:
        The same, checked.

    Raises:
        ValueError: it is not as `schema()` says.
    """
    try:
        return _FILE.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(
            f"{where}: {first['msg']}; a grounding is "
            '{"boxes": [{"phrase": "a red ball", "box": [0.1, 0.4, 0.4, 0.9]}, ...]} '
            "(`unicond layout --schema` prints all of it)"
        ) from error


def _parted(place: Placed) -> tuple[str, tuple[float, float, float, float]]:
    if len(place) != 5:
        raise ValueError(f"{place!r} is no place: give (text, left, top, right, bottom)")
    phrase, left, top, right, bottom = place
    return phrase, (left, top, right, bottom)
