"""Finding out what a dataset is: an imagefolder, tar shards, or what `datasets` reads."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from unicond.data.rows import METADATA, Collection, HubDataset, ImageFolder, Shards

if TYPE_CHECKING:
    from datasets import Dataset

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Place:
    """Where a dataset lies, and what its columns are called.

    Args:
        where: a folder with `metadata.jsonl`; a tar file, a folder of tars, or a name with numbers
            in braces (`shard-{000..012}.tar`); a folder or hub id that `datasets` reads.
        split: of what `datasets` reads.
        subset: of a dataset on the hub, one of its configurations; None where it has but one.
        column: of the condition; None looks for it.
        image_column: of the pictures; None is the usual one.
        caption_column: of the captions; None looks for it.
    """

    where: str
    split: str = "train"
    subset: str | None = None
    column: str | None = None
    image_column: str | None = None
    caption_column: str | None = None

    def options(self) -> list[str]:
        """What differs from what is usual, as `unicond data check` is told it."""
        told: list[str] = []
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name != "where" and value != one.default:
                told += [f"--{one.name.replace('_', '-')}", value]
        return told


def open_rows(place: str | Path | Place) -> Collection:
    """Find out what a dataset is, and open it.

    Args:
        place: where it lies, with the names of its columns or without.

    Returns:
        Its rows.

    Raises:
        ValueError: nothing is there, it is damaged, or it has no such columns.
    """
    place = place if isinstance(place, Place) else Place(str(place))
    where, names = place.where, (place.image_column, place.caption_column)
    path = Path(where).expanduser()
    if (path / METADATA).is_file():
        _check_subset(place)
        return ImageFolder(path, *names)
    tars = _tars(path)
    if tars:
        _check_subset(place)
        return Shards(tars, *names)
    _check_readable(path, where)
    return HubDataset(where, _hub(place), *names)


def _check_subset(place: Place) -> None:
    """Refuse to choose a part of what has none."""
    if place.subset is not None:
        raise ValueError(f"{place.where} has no subsets: leave out --subset {place.subset}")


def _check_readable(path: Path, where: str) -> None:
    """Refuse what the library datasets could not read either."""
    if path.is_dir():
        below = sorted(found.parent for found in path.glob(f"*/{METADATA}"))
        if below:
            raise ValueError(f"{path} has no {METADATA}, but {below[0]} has: give that folder")
        if not any(path.rglob("*.parquet")) and not _saved(path):
            raise ValueError(
                f"{path} holds no dataset: neither {METADATA} (unicond annotate writes it), nor "
                ".tar shards, nor .parquet files"
            )
    elif not _HUB_ID.fullmatch(where):
        raise ValueError(f"the dataset {where} does not exist: give a folder, tars, or a hub id")


def _tars(path: Path) -> list[Path]:
    """The shards that a path means, or none."""
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    match = _BRACES.search(path.name)
    if match is None:
        return [path] if path.suffix == ".tar" and path.is_file() else []
    first, last = match[1], match[2]
    numbers = [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    found = [path.with_name(_BRACES.sub(number, path.name, count=1)) for number in numbers]
    if missing := [shard for shard in found if not shard.is_file()]:
        raise ValueError(f"{len(missing)} of {len(found)} shards are missing, first {missing[0]}")
    return found


def _saved(path: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk`."""
    return any((path / name).exists() for name in ("dataset_info.json", "dataset_dict.json"))


def _hub(place: Place) -> "Dataset":
    where, split, subset = place.where, place.split, place.subset
    try:
        from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
    except ImportError as error:
        raise ValueError(
            f"{where} is read by the library datasets, which is not installed: "
            "pip install 'unicond[data]'"
        ) from error
    try:
        if _saved(Path(where)):
            _check_subset(place)
            found = load_from_disk(where)
        else:
            found = load_dataset(where, subset, split=split)
        if isinstance(found, DatasetDict):
            found = found[split]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{where} is no folder with metadata.jsonl or tars, and the library datasets cannot "
            f"load its split {split!r}{f' of {subset!r}' if subset else ''} (--split, --subset): "
            f"{error}"
        ) from error
    assert isinstance(found, Dataset)
    return found
