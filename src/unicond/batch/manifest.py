"""A manifest: a file of JSON lines, each a form (`unicond.tasks.forms`).

    {"task": "generate", "prompt": "a red ball", "depth": "maps/7.png", "seed": 7, "id": "ball"}

Pictures are files, seen from the manifest's folder. `id` names the folder of what is made; without
one it is the line's number. All of a manifest is checked before a model is loaded: its lines, what
they ask for, and that their pictures are there.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError

from unicond.pictures.decoding import FORMATS
from unicond.pictures.files import PictureError, fingerprint
from unicond.studio import batching
from unicond.studio.limits import rows_of
from unicond.tasks.filled import Filled
from unicond.tasks.form_faults import told
from unicond.tasks.form_parts import TEXTS
from unicond.tasks.form_pictures import pictures_of
from unicond.tasks.forms import ANY, AnyForm

SHOWN = 20
"""Faults of a manifest that are told at once."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a manifest.

    Args:
        line: its number, from 1.
        id: name of its folder.
        form: what is asked for.
        kin: equal where rows may be made in one call; None is alone.
        samples: that it asks for.
        digest: SHA-256 of all that its pictures follow from: the form, the files, the model.
    """

    line: int
    id: str
    form: AnyForm
    kin: str | None
    samples: int
    digest: str


@dataclass(frozen=True)
class Seen:
    """A picture that a row names.

    Args:
        size: (height, width) in pixels.
        digest: SHA-256 of the file.
    """

    size: tuple[int, int]
    digest: str


@dataclass
class _Reader:
    """Reads the lines of one manifest, and remembers what it saw.

    Args:
        root: folder from which pictures are seen.
        base: name of the model.
        where: what `unicond.load` takes for it.
        model: all that says what it is.
        seen: {file as it is named: what is known of it}.
        lines: {id: its line}.
    """

    root: Path
    base: str
    where: str
    model: Mapping[str, object]
    seen: dict[str, Seen] = field(default_factory=dict[str, Seen])
    lines: dict[str, int] = field(default_factory=dict[str, int])

    def row(self, number: int, text: str) -> Row:
        """Read a line."""
        identity, form = self._parsed(number, text)
        if form.base not in (None, self.base):
            raise ValueError(f"there is no model {form.base!r} here: it is {self.base!r} (--base)")
        names = list[str]()
        for picture in pictures_of(form):
            if picture.upload is None:
                raise ValueError("a picture is a file, named by its path from the manifest")
            names.append(picture.upload)
        Filled(form, lambda picture: str(picture.upload), {self.base: self.where}).check()
        for name in names:
            if name not in self.seen:
                self.seen[name] = _seen(self.root / name)
        pictures = {name: self.seen[name].digest for name in sorted(names)}
        asked = form.model_dump(mode="json", exclude={"base"})
        whole = json.dumps([asked, pictures, self.model], sort_keys=True)
        return Row(
            line=number,
            id=identity,
            form=form,
            kin=batching.kin(form, self.base, self.seen),
            samples=rows_of(form),
            digest=hashlib.sha256(whole.encode()).hexdigest(),
        )

    def _parsed(self, number: int, text: str) -> tuple[str, AnyForm]:
        try:
            value: object = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"no JSON: {error.msg} at character {error.pos + 1}") from None
        if not isinstance(value, dict):
            raise ValueError('a line is an object, as in {"task": "generate", "prompt": "a ball"}')
        identity = value.pop("id", f"{number:06d}")
        if not isinstance(identity, str) or not _ID.fullmatch(identity):
            raise ValueError("id is up to 100 letters, digits, dots, dashes and underscores")
        before = self.lines.setdefault(identity, number)
        if before != number:
            raise ValueError(f"id {identity!r} is that of line {before}, too")
        try:
            return identity, ANY.validate_python(value, context={TEXTS: "upload"})
        except ValidationError as error:
            raise ValueError(told(error.errors())) from None  # pyright: ignore[reportArgumentType]


def read_manifest(path: Path, base: str, model: Mapping[str, object]) -> list[Row]:
    """Read a manifest.

    Args:
        path: of the file.
        base: what `unicond.load` takes; rows may name it by its last part.
        model: what else says which model it is, as JSON holds it.

    Returns:
        Its rows; empty lines are none.

    Raises:
        ValueError: lines that are no forms, or name what is not there; all of them are told, each
            with its number.
    """
    reader = _Reader(path.absolute().parent, Path(base).name, base, {"base": base, **model})
    rows, faults = list[Row](), list[str]()
    for number, text in _lines(path):
        try:
            rows.append(reader.row(number, text))
        except (ValueError, TypeError) as error:
            faults.append(f"line {number}: {error}")
    if faults:
        more = len(faults) - SHOWN
        shown = faults[:SHOWN] + ([f"and {more} more lines"] if more > 0 else [])
        raise ValueError("\n".join([f"{path} cannot be made, and nothing was:", *shown]))
    if not rows:
        raise ValueError(f"{path} has no lines: each is a form, as the HTTP API takes it")
    return rows


def groups(rows: Sequence[Row], most: int) -> list[list[Row]]:
    """Rows that are made in one call each.

    Args:
        rows: of a manifest.
        most: samples at once; a single row may have more.

    Returns:
        Rows of one kin, in the manifest's order, by the first of each group.
    """
    found, open_ = list[list[Row]](), dict[str, list[Row]]()
    for row in rows:
        group = None if row.kin is None else open_.get(row.kin)
        if group is None or sum(one.samples for one in group) + row.samples > most:
            group = list[Row]()
            found.append(group)
            if row.kin is not None:
                open_[row.kin] = group
        group.append(row)
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                if text.strip():
                    yield number, text
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8: {error.reason}") from None


def _seen(path: Path) -> Seen:
    """Look at a picture without decoding it."""
    if not path.is_file():
        raise PictureError(f"the picture {path} does not exist")
    digest = fingerprint(path)["sha256"]
    try:
        if path.suffix.lower() == ".npy":
            height, width = np.load(path, mmap_mode="r").shape[:2]
        else:
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
    except UnidentifiedImageError:
        raise PictureError(f"{path} is not a picture: none of {', '.join(FORMATS)}") from None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(f"the picture {path} cannot be read: {error}") from None
    return Seen((height, width), digest)
