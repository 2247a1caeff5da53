"""Rows of pictures and texts as they lie on disk or on the hub, each kind behind one interface.

- `ImageFolder`: Hugging Face's imagefolder, a folder with `metadata.jsonl`; a line names its
  picture (`file_name`), further ones (`<column>_file_name`) and its text (`text`, or several in
  `captions`). `unicond world export` and `unicond annotate` write it.
- `Shards`: webdataset, tar files whose members `<key>.<column>.<ext>` make up rows: `image.png` (or
  a picture's extension alone), `edges.png`, `txt`, `json`.
- `HubDataset`: whatever `datasets.load_dataset` finds by id or folder.

What is neither picture nor text a row says as JSON: as it is, as its text, or in a file.
"""

import json
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from unicond.data.blobs import Blob, FileBlob, MemoryBlob
from unicond.pictures.decoding import EXTENSIONS

if TYPE_CHECKING:
    from datasets import Dataset

METADATA = "metadata.jsonl"
FILE_NAME = "file_name"
IMAGE = "image"
OTHER = "the column 'image'"
"""What rows call the column `image` where another one is said to be the picture."""
TEXTS = ("text", "caption", "prompt", "txt")
"""Columns that a caption is looked for in, in this order."""


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        key: what messages call it.
        pictures: {column: file}; the picture itself is `"image"`.
        captions: its texts; one of them, several wordings, or none.
    """

    key: str
    pictures: Mapping[str, Blob]
    captions: tuple[str, ...]


class Collection(Protocol):
    """Rows that can be read in any order."""

    @property
    def where(self) -> str:
        """What messages call it."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of pictures that some row has, sorted."""
        ...

    def __len__(self) -> int: ...

    def row(self, number: int) -> Row:
        """One row; its files may be missing or damaged."""
        ...

    def said(self, number: int, column: str) -> object:
        """The JSON in one column of a row, None where there is none; a ValueError if it is none."""
        ...


class ImageFolder:
    """A folder with `metadata.jsonl`.

    Args:
        folder: that the file is in.
        image: the column that is the picture; None is `file_name`.
        caption: the column of captions; None looks for it.

    Raises:
        ValueError: a line is no JSON object with a file name, or two name the same picture, or
            there is no such column.
    """

    def __init__(self, folder: Path, image: str | None = None, caption: str | None = None) -> None:
        self.folder, self.where, self._caption = folder, str(folder), caption
        self._lines = read_metadata(folder / METADATA)
        names = {name for line in self._lines for name in _file_names(line)}
        self._shown = _shown(names, image, self.where)
        self.columns = tuple(sorted(self._shown))
        if caption is not None and not any(caption in line for line in self._lines):
            raise _no_captions(self.where, caption, {name for line in self._lines for name in line})

    def __len__(self) -> int:
        return len(self._lines)

    def row(self, number: int) -> Row:
        """One row."""
        line = self._lines[number]
        files = {name: FileBlob(self.folder / path) for name, path in _file_names(line).items()}
        shown = _renamed(files, self._shown)
        return Row(str(line[FILE_NAME]), shown, captions_of(line, self._caption))

    def said(self, number: int, column: str) -> object:
        """JSON of a line, its text, or the file of that name in the folder."""
        line = self._lines[number]
        value, name = line.get(column), f"{column} of {line[FILE_NAME]}"
        if isinstance(value, str) and not _is_json(value):
            file = FileBlob(self.folder / value)
            if not file.exists():
                raise ValueError(f"{name} is neither JSON nor a file: {file.name} does not exist")
            return _object(file.read(), file.name)
        return _parsed(value, name)


class Shards:
    """Tar files in webdataset's manner.

    Args:
        paths: of the tars, in order.
        image: the column that is the picture; None is `image`.
        caption: of `json`, or the member `<caption>.txt`; None looks for it.

    Raises:
        ValueError: a file is no plain tar, or two rows have one key, or there is no such column.
    """

    def __init__(
        self, paths: Sequence[Path], image: str | None = None, caption: str | None = None
    ) -> None:
        self.where = f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        rows: dict[str, dict[str, FileBlob]] = {}
        for path in paths:
            for key, members in _members(path).items():
                if key in rows:
                    raise ValueError(f"{path} repeats the key {key!r} of an earlier shard")
                rows[key] = members
        self._rows, self._caption = list(rows.items()), caption
        names = {name for files in rows.values() for name in _pictures(files)}
        self._shown = _shown(names, image, self.where)
        self.columns = tuple(sorted(self._shown))

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> Row:
        """One row."""
        key, members = self._rows[number]
        line: Mapping[str, object] = {}
        if "json" in members:
            line = _object(members["json"].read(), members["json"].name)
        captions = captions_of(line, self._caption)
        names = ("txt",) if self._caption is None else (f"{self._caption}.txt", self._caption)
        member = next((members[name] for name in names if name in members), None)
        if not captions and member is not None:
            captions = _texts(member.read().decode("utf-8", "replace"))
        return Row(key, _renamed(_pictures(members), self._shown), captions)

    def said(self, number: int, column: str) -> object:
        """The member `<column>.json`, or what `json` has of that name."""
        key, members = self._rows[number]
        own = members.get(f"{column.lower()}.json")
        if own is not None:
            return _object(own.read(), own.name)
        line = members.get("json")
        whole = {} if line is None else _object(line.read(), line.name)
        return _parsed(whole.get(column), f"{column} of {key}")


class HubDataset:
    """A dataset of the library `datasets`.

    Args:
        where: what messages call it.
        dataset: one split of it.
        image: the column that is the picture; None is `image`, or else the first of pictures.
        caption: the column of captions; None looks for it.

    Raises:
        ValueError: there is no such column.
    """

    def __init__(
        self, where: str, dataset: "Dataset", image: str | None = None, caption: str | None = None
    ) -> None:
        from datasets import Image

        self.where, self._caption = where, caption
        features = dataset.features
        names = [name for name, feature in features.items() if isinstance(feature, Image)]
        for name in names:
            dataset = dataset.cast_column(name, Image(decode=False))
        if image is None and names and IMAGE not in names:
            image = names[0]
        self._dataset, self._shown = dataset, _shown(names, image, where)
        self.columns = tuple(sorted(self._shown))
        if caption is not None and caption not in features:
            raise _no_captions(where, caption, features)

    def __len__(self) -> int:
        return len(self._dataset)

    def row(self, number: int) -> Row:
        """One row."""
        line = cast("Mapping[str, object]", self._dataset[number])
        files: dict[str, Blob] = {}
        for column, name in self._shown.items():
            content = cast("Mapping[str, object] | None", line[name])
            if content and content["bytes"] is not None:
                files[column] = MemoryBlob(f"row {number}: {name}", cast(bytes, content["bytes"]))
            elif content and content["path"]:
                files[column] = FileBlob(Path(str(content["path"])))
        return Row(f"row {number}", files, captions_of(line, self._caption))

    def said(self, number: int, column: str) -> object:
        """A struct, without the fields that it leaves empty, or JSON's text."""
        line = cast("Mapping[str, object]", self._dataset[number])
        return _parsed(_filled(line.get(column)), f"{column} of row {number}")


def _shown(names: Iterable[str], image: str | None, where: str) -> dict[str, str]:
    """{column as rows call it: as the dataset does}; the one that is the picture is `IMAGE`."""
    told = {name: name for name in names}
    if image is not None and image not in told:
        raise ValueError(
            f"{where} has no pictures in a column {image}; it has {', '.join(sorted(told))}: give "
            "one of them as --image-column, or none"
        )
    if image is not None and image != IMAGE:
        told |= {OTHER: told.pop(IMAGE)} if IMAGE in told else {}
        told[IMAGE] = told.pop(image)
    return told


def _renamed(files: Mapping[str, Blob], shown: Mapping[str, str]) -> dict[str, Blob]:
    """{column as rows call it: file}."""
    return {column: files[name] for column, name in shown.items() if name in files}


def _no_captions(where: str, caption: str, names: Iterable[str]) -> ValueError:
    """What is wrong with a column of captions that is not there."""
    return ValueError(
        f"{where} has no column {caption}; it has {', '.join(sorted(names))}: give one of them as "
        "--caption-column"
    )


def read_metadata(path: Path) -> list[dict[str, object]]:
    """The lines of `metadata.jsonl`.

    Args:
        path: of the file.

    Returns:
        One mapping a line, in order.

    Raises:
        ValueError: a line is no JSON object with a file name, or two name the same picture.
    """
    lines: list[dict[str, object]] = []
    seen: dict[object, int] = {}
    # not splitlines: JSON's texts may hold line breaks of Unicode as they are
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not text.strip():
            continue
        line = _object(text, f"{path}, line {number}")
        name = line.get(FILE_NAME)
        if not isinstance(name, str) or not name:
            raise ValueError(f"{path}, line {number} has no {FILE_NAME!r}; it names the picture")
        if name in seen:
            raise ValueError(f"{path}, line {number} names {name} again, as line {seen[name]} did")
        seen[name] = number
        lines.append(line)
    return lines


def captions_of(line: Mapping[str, object], column: str | None = None) -> tuple[str, ...]:
    """The captions of a row.

    Args:
        line: the row.
        column: their column, one text or several; None takes all of `captions` if there are any,
            or the first of `TEXTS`.

    Returns:
        The captions; may be none.
    """
    several = line.get(column or "captions")
    if isinstance(several, list | tuple) and several and all(isinstance(t, str) for t in several):
        return tuple(cast("Sequence[str]", several))
    names = TEXTS if column is None else (column,)
    found = next((line[name] for name in names if isinstance(line.get(name), str)), None)
    return _texts(str(found)) if found is not None else ()


def _texts(text: str) -> tuple[str, ...]:
    """One caption without line breaks, or none if it is empty."""
    joined = " ".join(text.split())
    return (joined,) if joined else ()


def _file_names(line: Mapping[str, object]) -> dict[str, str]:
    """{column: file name} of the pictures that a line names."""
    ending = f"_{FILE_NAME}"
    named = {key[: -len(ending)]: value for key, value in line.items() if key.endswith(ending)}
    out = {IMAGE: line[FILE_NAME]} | named
    return {name: path for name, path in out.items() if isinstance(path, str) and path}


def _is_json(text: str) -> bool:
    """Whether a text is meant as JSON, and not as the name of a file."""
    return text.lstrip().startswith(("{", "["))


def _parsed(value: object, name: str) -> object:
    """JSON that may be given as its text."""
    return _object(value, name) if isinstance(value, str) else value


def _filled(value: object) -> object:
    """JSON without what is None: structs have every field that any row has."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value).items()
        return {name: _filled(one) for name, one in fields if one is not None}
    if isinstance(value, list):
        return [_filled(one) for one in cast("list[object]", value)]
    return value


def _object(text: str | bytes, name: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} is no JSON object: it needs names and values")
    return cast("dict[str, object]", found)


def _members(path: Path) -> dict[str, dict[str, FileBlob]]:
    """{key: {rest of the name: file}} of a tar; only its headers are read."""
    rows: dict[str, dict[str, FileBlob]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for entry in tar:
                folder, _, name = entry.name.rpartition("/")
                key, _, rest = name.partition(".")
                if entry.isfile() and key and rest:
                    key = f"{folder}/{key}" if folder else key
                    blob = FileBlob(path, entry.offset_data, entry.size, entry.name)
                    rows.setdefault(key, {})[rest.lower()] = blob
    except tarfile.TarError as error:
        raise ValueError(
            f"{path} is no plain tar ({error}); compressed or damaged ones cannot be read in any "
            "order: unpack it, and pack it again without compression"
        ) from error
    return rows


def _pictures(members: Mapping[str, FileBlob]) -> dict[str, Blob]:
    """{column: file} of the members that are pictures; one without a column is the image."""
    out: dict[str, Blob] = {}
    for rest, blob in members.items():
        column, _, extension = rest.rpartition(".")
        if f".{extension}" in EXTENSIONS:
            out.setdefault(re.sub(r"\W", "_", column) or IMAGE, blob)
    return out
