"""Rows of pictures and texts as they lie on disk or on the hub, each kind behind one interface.

- `ImageFolder`: Hugging Face's imagefolder, a folder with `metadata.jsonl`; a line names its
  picture (`file_name`), further ones (`<column>_file_name`) and its text (`text`, or several in
  `captions`). `unicond world export` and `unicond annotate` write it.
- `Shards`: webdataset, tar files whose members `<key>.<column>.<ext>` make up rows: `image.png` (or
  a picture's extension alone), `edges.png`, `txt`, `json`.
- `HubDataset`: whatever `datasets.load_dataset` finds by id or folder.
"""

import json
import re
import tarfile
from collections.abc import Mapping, Sequence
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
TEXTS = ("text", "caption", "prompt")
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


class ImageFolder:
    """A folder with `metadata.jsonl`.

    Args:
        folder: that the file is in.

    Raises:
        ValueError: a line is no JSON object with a file name, or two name the same picture.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.where = folder, str(folder)
        self._lines = read_metadata(folder / METADATA)
        self.columns = tuple(sorted({name for line in self._lines for name in _file_names(line)}))

    def __len__(self) -> int:
        return len(self._lines)

    def row(self, number: int) -> Row:
        """One row."""
        line = self._lines[number]
        files = {name: FileBlob(self.folder / path) for name, path in _file_names(line).items()}
        return Row(str(line[FILE_NAME]), files, captions_of(line))


class Shards:
    """Tar files in webdataset's manner.

    Args:
        paths: of the tars, in order.

    Raises:
        ValueError: a file is no plain tar, or two rows have one key.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.where = f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        rows: dict[str, dict[str, FileBlob]] = {}
        for path in paths:
            for key, members in _members(path).items():
                if key in rows:
                    raise ValueError(f"{path} repeats the key {key!r} of an earlier shard")
                rows[key] = members
        self._rows = list(rows.items())
        self.columns = tuple(sorted({name for files in rows.values() for name in _pictures(files)}))

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> Row:
        """One row."""
        key, members = self._rows[number]
        line: Mapping[str, object] = {}
        if "json" in members:
            line = _object(members["json"].read(), members["json"].name)
        captions = captions_of(line)
        if not captions and "txt" in members:
            captions = _texts(members["txt"].read().decode("utf-8", "replace"))
        return Row(key, _pictures(members), captions)


class HubDataset:
    """A dataset of the library `datasets`.

    Args:
        where: what messages call it.
        dataset: one split of it.
    """

    def __init__(self, where: str, dataset: "Dataset") -> None:
        from datasets import Image

        self.where = where
        for name, feature in dataset.features.items():
            if isinstance(feature, Image):
                dataset = dataset.cast_column(name, Image(decode=False))
        self._dataset = dataset
        names = [name for name, feature in dataset.features.items() if isinstance(feature, Image)]
        self._image = IMAGE if IMAGE in names or not names else names[0]
        self.columns = tuple(sorted({IMAGE if name == self._image else name for name in names}))

    def __len__(self) -> int:
        return len(self._dataset)

    def row(self, number: int) -> Row:
        """One row."""
        line = cast("Mapping[str, object]", self._dataset[number])
        files: dict[str, Blob] = {}
        for column in self.columns:
            name = self._image if column == IMAGE else column
            content = cast("Mapping[str, object] | None", line[name])
            if content and content["bytes"] is not None:
                files[column] = MemoryBlob(f"row {number}: {name}", cast(bytes, content["bytes"]))
            elif content and content["path"]:
                files[column] = FileBlob(Path(str(content["path"])))
        return Row(f"row {number}", files, captions_of(line))


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


def captions_of(line: Mapping[str, object]) -> tuple[str, ...]:
    """The captions of a row: all of `captions` if there are any, or the first of `TEXTS`."""
    several = line.get("captions")
    if isinstance(several, list | tuple) and several and all(isinstance(t, str) for t in several):
        return tuple(cast("Sequence[str]", several))
    found = next((line[name] for name in TEXTS if isinstance(line.get(name), str)), None)
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
