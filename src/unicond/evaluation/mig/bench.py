"""The file of COCO-MIG: captions, and the boxes of what they name.

    {"0": {"caption": "a photo of a black cat and a white dog",
           "segment": [{"bbox": [0.1, 0.4, 0.6, 0.7], "label": "a black cat"}, ...],
           "image_id": "500084"}, ...}

Boxes are left, top, right, bottom as shares of the picture. The level of an entry is the number of
its instances, two to six in the published file.

Source: Zhou et al. 2024, arXiv:2402.05408, section 4.1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from unicond.evaluation.metrics_objects import Box
from unicond.evaluation.mig.colors import RANGES

TOLD = 5
"""So many faults of a file are told."""


class Instance(BaseModel):
    """A thing that is asked for.

    Attributes:
        bbox: where, left < right and top < bottom, all in [0, 1].
        label: "a <colour> <thing>", the colour one of `RANGES`.
    """

    model_config = ConfigDict(frozen=True)

    bbox: Box
    label: str

    @field_validator("bbox")
    @classmethod
    def _has_area(cls, box: Box) -> Box:
        left, top, right, bottom = box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                f"{list(box)} is no box: give 0 <= left < right <= 1 and 0 <= top < bottom <= 1"
            )
        return box

    @field_validator("label")
    @classmethod
    def _names_a_color(cls, label: str) -> str:
        words = label.split(maxsplit=2)
        if len(words) < 3 or words[0] != "a" or words[1] not in RANGES:
            raise ValueError(
                f"{label!r} is not 'a <colour> <thing>' with a colour of {', '.join(RANGES)}"
            )
        return label

    @property
    def color(self) -> str:
        """Its colour."""
        return self.label.split(maxsplit=2)[1]

    @property
    def thing(self) -> str:
        """What it is, without article and colour."""
        return self.label.split(maxsplit=2)[2]


class Entry(BaseModel):
    """One picture that is asked for.

    Attributes:
        caption: all of it, the prompt.
        segment: the instances, one or more.
        image_id: of the COCO picture that the boxes are from; first part of file names.
    """

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    caption: str
    segment: Annotated[tuple[Instance, ...], Field(min_length=1)]
    image_id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z-]+$")]

    @property
    def level(self) -> int:
        """How many instances there are."""
        return len(self.segment)


Bench = Mapping[str, Entry]
"""{key: entry}; the key is the last part of the names of an entry's pictures."""

_FILE = TypeAdapter(dict[Annotated[str, StringConstraints(pattern=r"^[0-9]+$")], Entry])


def read_bench(path: Path, entries: int | None = None) -> Bench:
    """Read the file of the benchmark.

    Args:
        path: of the JSON.
        entries: so many of the first; None takes all.

    Returns:
        The entries, in the order of the file.

    Raises:
        ValueError: the file is missing, is not of this format, or has fewer entries.
    """
    try:
        bench = _FILE.validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(
            f"the bench {path} cannot be read: {error.strerror}; give COCO-MIG's mig_bench.json"
        ) from error
    except ValidationError as error:
        raise ValueError(f"{path} is no file of COCO-MIG: {_faults(error)}") from error
    if not bench:
        raise ValueError(f"{path} has no entries")
    if entries is not None and entries > len(bench):
        raise ValueError(f"{path} has {len(bench)} entries; {entries} are asked for (--entries)")
    return dict(list(bench.items())[:entries])


def _faults(error: ValidationError) -> str:
    """The first faults of a file, each with its place."""
    found = error.errors(include_url=False)
    told = [
        f"{'/'.join(str(part) for part in fault['loc']) or 'all of it'}: {fault['msg']}"
        for fault in found[:TOLD]
    ]
    more = len(found) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")
