"""A folder of photographs to a dataset: conditions beside the pictures, `metadata.jsonl` over all.

    photos/a.jpg, photos/b.png                     what was there
    photos/inverse_depth/a.jpg.png, .../b.png      one folder for each condition
    photos/metadata.jsonl                          file_name, inverse_depth_file_name, ..., text
    photos/annotations.json                        which annotator made what

Every file is written whole or not at all, so that what has its name is done: a run that was stopped
goes on where it was. Captions wait in `.captions.jsonl` until the metadata is written, at the end.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from unicond.annotators.base import CAPTION, Annotator
from unicond.annotators.registry import check_kinds, load_annotator, name_of
from unicond.data.conditions import kind_of
from unicond.data.rows import FILE_NAME, METADATA, TEXTS, captions_of, read_metadata
from unicond.pictures.decoding import EXTENSIONS
from unicond.pictures.files import PictureError, check_output_folder, whole_file
from unicond.pictures.fitting import Size
from unicond.pictures.reading import read_picture, to_pil

CLAIMS, JOURNAL = "annotations.json", ".captions.jsonl"
_HELD = 4
"""So many batches of pictures are read while they wait for others of their size."""


@dataclass
class Outcome:
    """What a run did.

    Args:
        made: pictures that were annotated.
        there: pictures that had everything before.
        skipped: {picture: why nothing could be made of it}.
    """

    made: int = 0
    there: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def annotate_folder(
    folder: Path,
    kinds: Sequence[str],
    models: Mapping[str, str | Path] | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 8,
    overwrite: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Annotate every picture of a folder and those below it; what is there is kept.

    Args:
        folder: with pictures, or with `metadata.jsonl`, whose other columns are kept.
        kinds: of `registry.MADE`.
        models: {kind: hub id or folder} in place of the defaults.
        device: where to run; CUDA where there is one if None.
        batch_size: pictures of one size at a time.
        overwrite: forget what is there, and make it anew.
        report: told how many pictures are done, and how many there are.

    Returns:
        What was done, and what was skipped.

    Raises:
        ValueError: no pictures, an unknown kind, a model that cannot be loaded, or annotations by
            another model.
        PictureError: the folder cannot be written.
    """
    given: dict[str, str | Path] = dict(models or {})
    check_kinds(kinds, given)
    if not kinds or batch_size < 1:
        raise ValueError(f"nothing to make (kinds {list(kinds)}, batch_size {batch_size})")
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one with pictures")
    work = _Work(check_output_folder(folder), tuple(kinds))
    work.claim({kind: name_of(kind, given.get(kind)) for kind in kinds}, overwrite)
    names = work.pictures()
    if not names:
        raise ValueError(f"{folder} holds no pictures; known are {' '.join(EXTENSIONS)}")
    if overwrite:
        work.forget(names)
    outcome, loaded = Outcome(), dict[str, Annotator]()

    def annotator(kind: str) -> Annotator:
        if kind not in loaded:
            loaded[kind] = load_annotator(kind, given.get(kind), device)
        return loaded[kind]

    def done(count: int) -> None:
        outcome.made += count
        if report is not None:
            report(outcome.made + outcome.there + len(outcome.skipped), len(names))

    todo = {name: lacking for name in names if (lacking := work.lacking(name))}
    outcome.there = len(names) - len(todo)
    done(0)
    for batch in _batches(folder, list(todo), batch_size, outcome.skipped):
        before = len(outcome.skipped)
        for kind in kinds:
            wanting = {
                name: batch[name]
                for name in batch
                if kind in todo[name] and name not in outcome.skipped
            }
            for name, made in _made(annotator, kind, wanting, outcome.skipped):
                work.keep(name, kind, made)
        done(len(batch) - (len(outcome.skipped) - before))
    work.finish([name for name in names if name not in outcome.skipped])
    done(0)
    return outcome


def target(kind: str, name: str) -> str:
    """Where a picture's condition lies, relative to the folder.

    >>> target("depth", "a/b.jpg"), target("depth", "c.png")
    ('inverse_depth/a/b.jpg.png', 'inverse_depth/c.png')
    """
    ending = "" if name.lower().endswith(".png") else ".png"
    return f"{kind_of(kind).column}/{name}{ending}"


class _Work:
    """What is on disk.

    Args:
        folder: of the pictures.
        kinds: that are made.
    """

    def __init__(self, folder: Path, kinds: tuple[str, ...]) -> None:
        self.folder, self.kinds = folder, kinds
        path = folder / METADATA
        self.lines = {
            str(line[FILE_NAME]): line for line in (read_metadata(path) if path.exists() else [])
        }
        self.claims: dict[str, str] = {}
        if (folder / CLAIMS).exists():
            self.claims = json.loads((folder / CLAIMS).read_text())
        self.captions = dict(_journal(folder / JOURNAL))

    def claim(self, names: Mapping[str, str], overwrite: bool) -> None:
        """Write down who makes what; raise where another one did, or a folder is in the way."""
        for kind, name in names.items():
            before = self.claims.get(kind, name)
            if before != name and not overwrite:
                raise ValueError(
                    f"{self.folder} holds annotations by {before}, and {name} is asked for: give "
                    f"the same model, or overwrite them"
                )
            place = self.folder / kind_of(kind).column
            strange = kind != CAPTION and kind not in self.claims and place.exists()
            if strange and place.name not in self._taken():
                raise ValueError(f"{place} is in the way: {kind} would be written there; rename it")
        self.claims |= names
        with whole_file(self.folder / CLAIMS) as file:
            file.write(json.dumps(self.claims, indent=1, sort_keys=True).encode())

    def _taken(self) -> set[str]:
        """Folders of conditions: claimed, or named in the metadata."""
        taken = {kind_of(kind).column for kind in self.claims if kind != CAPTION}
        for line in self.lines.values():
            for key, value in line.items():
                if key.endswith(f"_{FILE_NAME}") and isinstance(value, str) and "/" in value:
                    taken.add(value.split("/")[0])
        return taken

    def pictures(self) -> list[str]:
        """Names of all pictures: those of the metadata in its order, then the others sorted."""
        taken = self._taken()
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

    def lacking(self, name: str) -> list[str]:
        """The kinds that a picture lacks."""
        line = self.lines.get(name, {})
        missing: list[str] = []
        for kind in self.kinds:
            if kind == CAPTION:
                there = bool(captions_of(line)) or name in self.captions
            else:
                there = (self.folder / self._place(kind, name)).is_file()
            if not there:
                missing.append(kind)
        return missing

    def _place(self, kind: str, name: str) -> str:
        """Where the metadata says that a condition is, or else where it will be."""
        told = self.lines.get(name, {}).get(f"{kind_of(kind).column}_{FILE_NAME}")
        return told if isinstance(told, str) else target(kind, name)

    def keep(self, name: str, kind: str, made: Tensor | str) -> None:
        """Write one annotation."""
        if isinstance(made, str):
            self.captions[name] = made
            with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
                file.write(json.dumps({FILE_NAME: name, "text": made}) + "\n")
            return
        with whole_file(self.folder / self._place(kind, name)) as file:
            to_pil(made).save(file, "PNG")

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
        self._write()
        (self.folder / JOURNAL).unlink(missing_ok=True)

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


def _batches(
    folder: Path, names: Sequence[str], size: int, skipped: dict[str, str]
) -> Iterator[dict[str, Tensor]]:
    """Pictures that can be read, in batches of one size each."""
    waiting: dict[Size, dict[str, Tensor]] = {}
    for name in names:
        try:
            picture = read_picture(folder / name)
        except PictureError as error:
            skipped[name] = str(error)
            continue
        shape = (picture.shape[-2], picture.shape[-1])
        waiting.setdefault(shape, {})[name] = picture
        fullest = max(waiting, key=lambda shape: len(waiting[shape]))
        held = sum(len(batch) for batch in waiting.values())
        if len(waiting[fullest]) >= size or held >= _HELD * size:
            yield waiting.pop(fullest)
    yield from waiting.values()


def _made(
    annotator: Callable[[str], Annotator],
    kind: str,
    pictures: dict[str, Tensor],
    skipped: dict[str, str],
) -> Iterator[tuple[str, Tensor | str]]:
    """Annotations of one kind; where a batch cannot be made, its pictures one by one."""
    if not pictures:
        return
    try:
        made = annotator(kind)(torch.stack(list(pictures.values())))
        yield from zip(pictures, made, strict=True)
    except PictureError as error:
        if len(pictures) == 1:
            skipped[next(iter(pictures))] = f"{kind}: {error}"
            return
        for name, picture in pictures.items():
            yield from _made(annotator, kind, {name: picture}, skipped)
