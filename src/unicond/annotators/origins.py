"""Which picture each annotation was made of, so that one whose picture was replaced is made anew.

    {"file_name": "a.jpg", "depth": "48213-0f3a...", "caption": "48213-0f3a...", "text": "a cat"}

A picture is told by its length and a hash of its content. A line is added after each annotation,
and all are written anew when a run ends; of several lines for one picture the later ones count.
Annotations without a line, of one's own or made before there were lines, are never out of date.
"""

import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from unicond.annotators.base import CAPTION
from unicond.data.rows import FILE_NAME
from unicond.pictures.files import PictureError, fingerprint, whole_file

RECORD = "annotated.jsonl"
TEXT = "text"


class Origins:
    """The pictures that the annotations of a folder were made of.

    Args:
        folder: of the pictures.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / RECORD
        self._told: dict[str, dict[str, str]] = {}
        self._now: dict[str, str] = {}
        for name, line in _lines(self._path):
            self._told.setdefault(name, {}).update(line)

    def now(self, name: str) -> str:
        """What a picture is, as it was first looked at here; empty if it cannot be read."""
        if name not in self._now:
            self._now[name] = _identity(self._folder / name)
        return self._now[name]

    def kinds(self, name: str) -> list[str]:
        """The kinds of annotations whose picture is recorded."""
        return [kind for kind in self._told.get(name, {}) if kind != TEXT]

    def caption(self, name: str) -> str:
        """The caption that was made of a picture; empty if none was."""
        return self._told.get(name, {}).get(TEXT, "")

    def changed(self, name: str, kind: str) -> bool:
        """Whether an annotation was made of another picture than is there now."""
        told = self._told.get(name, {}).get(kind)
        return told is not None and told != self.now(name)

    def note(self, name: str, kind: str, caption: str = "") -> None:
        """Record that an annotation is of the present picture.

        A full disk is the annotations' matter, which say what to do.

        Args:
            name: of the picture.
            kind: of the annotation.
            caption: what it says, if it is one.
        """
        line = {kind: self.now(name)} | ({TEXT: caption} if kind == CAPTION else {})
        self._told.setdefault(name, {}).update(line)
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps({FILE_NAME: name} | line)}")

    def forget(self, kinds: Collection[str]) -> None:
        """Remove what is recorded of these kinds."""
        gone = {*kinds} | ({TEXT} if CAPTION in kinds else set[str]())
        for line in self._told.values():
            for key in gone & line.keys():
                del line[key]
        self.write()

    def write(self) -> None:
        """Write one line for each picture."""
        lines = [{FILE_NAME: name} | line for name, line in self._told.items() if line]
        if lines or self._path.exists():
            with whole_file(self._path) as file:
                file.write("".join(f"{json.dumps(line)}\n" for line in lines).encode())


def _identity(path: Path) -> str:
    """Length and hash of a picture's file."""
    try:
        return f"{path.stat().st_size}-{fingerprint(path)['sha256'][:16]}"
    except (OSError, PictureError):
        return ""


def _lines(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Names of pictures, and what is recorded of each; what is cut off is left out."""
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            yield line.pop(FILE_NAME), {key: str(value) for key, value in line.items()}
