"""What is on disk of an annotated folder: its pictures, their rows, and who made what."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from unicond.annotators.base import CAPTION
from unicond.annotators.origins import Origins
from unicond.data.conditions import kind_of
from unicond.data.rows import FILE_NAME, METADATA, TEXTS, captions_of, read_metadata
from unicond.pictures.decoding import EXTENSIONS
from unicond.pictures.files import PictureError, whole_file
from unicond.pictures.reading import read_picture, to_pil

CLAIMS, JOURNAL = "annotations.json", ".captions.jsonl"


def target(kind: str, name: str) -> str:
    """Where a picture's condition lies, relative to the folder.

    >>> target("depth", "a/b.jpg"), target("depth", "c.png")
    ('inverse_depth/a/b.jpg.png', 'inverse_depth/c.png')
    """
    ending = "" if name.lower().endswith(".png") else ".png"
    return f"{kind_of(kind).column}/{name}{ending}"


class Ledger:
    """What is on disk.

    Args:
        folder: of the pictures.
        names: {kind: name of the annotator} that are made.

    `gone` are the pictures that the metadata named and that are not there any more, `changed` those
    of which something that is made is of another picture of their name. `left_out` counts, by kind,
    what of that is not made anew.
    """

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self.folder, self.names, self.kinds = folder, names, tuple(names)
        path = folder / METADATA
        self.lines = {
            str(line[FILE_NAME]): line for line in (read_metadata(path) if path.exists() else [])
        }
        self.claims: dict[str, str] = {}
        if (folder / CLAIMS).exists():
            self.claims = json.loads((folder / CLAIMS).read_text())
        self.captions = dict(_journal(folder / JOURNAL))
        self.origins = Origins(folder)
        self.gone: list[str] = []
        self.changed: set[str] = set()
        self.left_out: dict[str, int] = {}

    def check(self, overwrite: bool) -> None:
        """Raise where another annotator made what is there, or a folder is in the way."""
        for kind, name in self.names.items():
            before = self.claims.get(kind, name)
            if before != name and not overwrite:
                raise ValueError(
                    f"{self.folder} holds annotations by {before}, and {name} is asked for: give "
                    f"the same model, or overwrite them"
                )
            place = self.folder / kind_of(kind).column
            if kind == CAPTION or kind in self.claims or place.name in self._taken():
                continue
            if any(path.is_file() for path in place.rglob("*")):
                raise ValueError(f"{place} is in the way: {kind} would be written there; rename it")

    def _taken(self) -> set[str]:
        """Folders of conditions: claimed, or named in the metadata."""
        taken = {kind_of(kind).column for kind in self.claims if kind != CAPTION}
        for line in self.lines.values():
            for key, value in line.items():
                if key.endswith(f"_{FILE_NAME}") and isinstance(value, str) and "/" in value:
                    taken.add(value.split("/")[0])
        return taken

    def pictures(self) -> list[str]:
        """Names of all pictures: those of the metadata in its order, then the others sorted.

        Lines of pictures that are not there any more are dropped.
        """
        taken = self._taken()
        self._part_with_gone()
        found: list[str] = []
        for path in sorted(self.folder.rglob("*")):
            inside = path.relative_to(self.folder)
            hidden = any(part.startswith(".") for part in inside.parts)
            if path.suffix.lower() in EXTENSIONS and path.is_file() and not hidden:
                name = inside.as_posix()
                if name not in self.lines and (
                    len(inside.parts) == 1 or inside.parts[0] not in taken
                ):
                    found.append(name)
        names = [*self.lines, *found]
        for kind in self.kinds:
            first: dict[str, str] = {}
            for name in names:
                if (other := first.setdefault(target(kind, name), name)) != name:
                    raise ValueError(f"{other} and {name} need other names: {target(kind, name)}")
        return names

    def _part_with_gone(self) -> None:
        """Drop the lines of pictures that are gone; what was made of them is of no later ones."""
        self.gone += [name for name in self.lines if not (self.folder / name).is_file()]
        for name in self.gone:
            for kind in self.claims:
                if self._is_made_here(kind, name) and kind not in self.origins.kinds(name):
                    self.origins.note(name, kind)
            del self.lines[name]

    def forget(self, names: Sequence[str]) -> None:
        """Remove what is there of the kinds, so that a run which is then stopped can go on."""
        columns = {f"{kind_of(kind).column}_{FILE_NAME}" for kind in self.kinds if kind != CAPTION}
        columns |= {"captions", *TEXTS} if CAPTION in self.kinds else set()
        places = [self._place(kind, name) for kind in self.kinds for name in names]
        for line in self.lines.values():
            for column in columns & line.keys():
                del line[column]
        if self.lines:
            self._write()
        for place in places:
            (self.folder / place).unlink(missing_ok=True)
        (self.folder / JOURNAL).unlink(missing_ok=True)
        self.captions.clear()
        self.origins.forget(self.kinds)
        for kind in self.kinds:
            self.claims.pop(kind, None)

    def lacking(self, name: str) -> list[str]:
        """The kinds that a picture lacks, or that are of another picture that had its name."""
        missing: list[str] = []
        for kind in self.kinds:
            if not self._is_there(kind, name):
                missing.append(kind)
            elif self._is_outdated(kind, name):
                missing.append(kind)
                self.changed.add(name)
            elif kind not in self.origins.kinds(name) and self._is_made_here(kind, name):
                self.origins.note(name, kind, self.captions.get(name, ""))
        return missing

    def _is_there(self, kind: str, name: str) -> bool:
        """Whether a picture has an annotation, whoever made it of whatever."""
        if kind == CAPTION:
            return bool(captions_of(self.lines.get(name, {}))) or name in self.captions
        return (self.folder / self._place(kind, name)).is_file()

    def _is_made_here(self, kind: str, name: str) -> bool:
        """Whether an annotation that is there is no one's own, as far as its place tells."""
        if kind == CAPTION:
            return name in self.captions
        usual = kind in self.claims and self._place(kind, name) == target(kind, name)
        return usual and self._is_there(kind, name)

    def _is_outdated(self, kind: str, name: str) -> bool:
        """Whether an annotation was made of another picture; a text of one's own never was."""
        if kind == CAPTION and name not in self.captions:
            made = captions_of({TEXTS[0]: self.origins.caption(name)})
            if captions_of(self.lines.get(name, {})) != made:
                return False
        return self.origins.changed(name, kind)

    def read(self, name: str) -> Tensor:
        """A picture, (3, H, W) in [-1, 1]; what is kept of it is then known to be of this one."""
        self.origins.now(name)
        return read_picture(self.folder / name)

    def _place(self, kind: str, name: str) -> str:
        """Where the metadata says that a condition is, or else where it will be."""
        told = self.lines.get(name, {}).get(f"{kind_of(kind).column}_{FILE_NAME}")
        return told if isinstance(told, str) else target(kind, name)

    def keep(self, name: str, kind: str, made: Tensor | str) -> None:
        """Write one annotation, and who made it before the first."""
        if self.claims.get(kind) != self.names[kind]:
            self.claims[kind] = self.names[kind]
            with whole_file(self.folder / CLAIMS) as file:
                file.write(json.dumps(self.claims, indent=1, sort_keys=True).encode())
        if isinstance(made, str):
            self.captions[name] = made
            self._note(json.dumps({FILE_NAME: name, "text": made}))
            self.origins.note(name, kind, made)
            return
        with whole_file(self.folder / self._place(kind, name)) as file:
            to_pil(made).save(file, "PNG")
        self.origins.note(name, kind)

    def _note(self, line: str) -> None:
        """Add a line to the journal, apart from one before it that may be cut off."""
        path = self.folder / JOURNAL
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}")
        except OSError as error:
            raise PictureError(
                f"cannot write {path}: {error.strerror or error}; captions in it are kept: make "
                "room, and run the same command to go on"
            ) from error

    def finish(self, names: Sequence[str]) -> None:
        """Write the metadata: old lines, and those of new pictures of which everything was made."""
        for name in names:
            line: dict[str, object] = self.lines.get(name, {FILE_NAME: name})
            for kind in self.kinds:
                if kind != CAPTION:
                    line[f"{kind_of(kind).column}_{FILE_NAME}"] = self._place(kind, name)
            if CAPTION in self.kinds and name in self.captions:
                line["text"] = self.captions[name]
            self.lines[name] = line
        self._leave_out()
        self._write()
        self.origins.write()
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def _leave_out(self) -> None:
        """Take out of the lines what is of other pictures: unasked for, or it could not be made."""
        for name, line in self.lines.items():
            for kind in self.origins.kinds(name):
                column = TEXTS[0] if kind == CAPTION else f"{kind_of(kind).column}_{FILE_NAME}"
                if column in line and self._is_outdated(kind, name):
                    del line[column]
                    self.left_out[kind] = self.left_out.get(kind, 0) + 1

    def _write(self) -> None:
        with whole_file(self.folder / METADATA) as file:
            for line in self.lines.values():
                file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())


def _journal(path: Path) -> Iterator[tuple[str, str]]:
    """Captions of an unfinished run; its last line may be cut off."""
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                line = json.loads(text)
                yield line[FILE_NAME], line["text"]
