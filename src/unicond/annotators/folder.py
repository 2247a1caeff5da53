"""A folder of photographs to a dataset: conditions beside the pictures, `metadata.jsonl` over all.

    photos/a.jpg, photos/b.png                     what was there
    photos/inverse_depth/a.jpg.png, .../b.png      one folder for each condition
    photos/metadata.jsonl                          file_name, inverse_depth_file_name, ..., text
    photos/annotations.json                        which annotator made what
    photos/annotated.jsonl                         of which picture, by length and hash

Every file is written whole or not at all, so that what has its name is done: a run that was stopped
goes on where it was, and what was made of a picture that was replaced is made anew. Captions wait
in `.captions.jsonl` until the metadata is written, at the end.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from unicond.annotators.base import Annotator
from unicond.annotators.ledger import Ledger
from unicond.annotators.registry import check_kinds, load_annotator, name_of
from unicond.pictures.decoding import EXTENSIONS
from unicond.pictures.files import PictureError, check_output_folder
from unicond.pictures.fitting import Size

_HELD = 4
"""So many batches of pictures are read while they wait for others of their size."""


@dataclass
class Outcome:
    """What a run did.

    Args:
        made: pictures that were annotated.
        there: pictures that had everything before.
        skipped: {picture: why nothing could be made of it}.
        changed: pictures of those made that had been annotated when they were others.
        gone: pictures whose lines were removed, since they are not there any more.
        left_out: {kind: lines that it was taken out of, since it is of another picture and was not
            made anew}.
    """

    made: int = 0
    there: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass
class _Annotators:
    """Annotators, each loaded when it is first needed.

    Args:
        models: {kind: hub id or folder} in place of the defaults.
        device: where they run.
        loaded: those that are.
    """

    models: Mapping[str, str | Path]
    device: str | torch.device | None
    loaded: dict[str, Annotator] = field(default_factory=dict)

    def of(self, kind: str) -> Annotator:
        """The one that makes a kind."""
        if kind not in self.loaded:
            self.loaded[kind] = load_annotator(kind, self.models.get(kind), self.device)
        return self.loaded[kind]


def annotate_folder(
    folder: Path,
    kinds: Sequence[str],
    models: Mapping[str, str | Path] | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 8,
    overwrite: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Annotate every picture of a folder and those below it; what is there of it is kept.

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
    work = Ledger(
        check_output_folder(folder), {kind: name_of(kind, given.get(kind)) for kind in kinds}
    )
    work.check(overwrite)
    names = work.pictures()
    if not names:
        raise ValueError(f"{folder} holds no pictures; known are {' '.join(EXTENSIONS)}")
    annotators = _Annotators(given, device)
    if overwrite:
        for kind in kinds:
            annotators.of(kind)  # nothing is removed before there is what makes it anew
        work.forget(names)
    outcome = _work_through(work, names, annotators, batch_size, report)
    kept = [name for name in names if name not in outcome.skipped]
    work.finish(kept)
    outcome.changed = [name for name in kept if name in work.changed]
    outcome.gone, outcome.left_out = work.gone, work.left_out
    return outcome


def _work_through(
    work: Ledger,
    names: Sequence[str],
    annotators: _Annotators,
    batch_size: int,
    report: Callable[[int, int], None] | None,
) -> Outcome:
    """Make what is missing, batch by batch."""
    todo = {name: lacking for name in names if (lacking := work.lacking(name))}
    outcome = Outcome(there=len(names) - len(todo))

    def tell() -> None:
        if report is not None:
            report(outcome.made + outcome.there + len(outcome.skipped), len(names))

    tell()
    for batch in _batches(work.read, list(todo), batch_size, outcome.skipped):
        for kind in work.kinds:
            wanting = {
                name: picture
                for name, picture in batch.items()
                if kind in todo[name] and name not in outcome.skipped
            }
            for name, made in _made(annotators, kind, wanting, outcome.skipped):
                work.keep(name, kind, made)
        outcome.made += sum(name not in outcome.skipped for name in batch)
        tell()
    tell()
    return outcome


def _batches(
    read: Callable[[str], Tensor], names: Sequence[str], size: int, skipped: dict[str, str]
) -> Iterator[dict[str, Tensor]]:
    """Pictures that can be read, in batches of one size each."""
    waiting: dict[Size, dict[str, Tensor]] = {}
    for name in names:
        try:
            picture = read(name)
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
    annotators: _Annotators,
    kind: str,
    pictures: dict[str, Tensor],
    skipped: dict[str, str],
) -> Iterator[tuple[str, Tensor | str]]:
    """Annotations of one kind; where a batch cannot be made, its pictures one by one."""
    if not pictures:
        return
    try:
        made = annotators.of(kind)(torch.stack(list(pictures.values())))
    except PictureError as error:
        if len(pictures) == 1:
            skipped[next(iter(pictures))] = f"{kind}: {error}"
            return
        for name, picture in pictures.items():
            yield from _made(annotators, kind, {name: picture}, skipped)
    else:
        yield from zip(pictures, made, strict=True)
