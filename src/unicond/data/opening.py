"""Finding out what a dataset is: an imagefolder, tar shards, or what `datasets` reads."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from unicond.data.rows import METADATA, Collection, HubDataset, ImageFolder, Shards

if TYPE_CHECKING:
    from datasets import Dataset

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def open_rows(where: str | Path, split: str = "train") -> Collection:
    """Find out what a dataset is, and open it.

    Args:
        where: a folder with `metadata.jsonl`; a tar file, a folder of tars, or a name with numbers
            in braces (`shard-{000..012}.tar`); a folder or hub id that `datasets` reads.
        split: of what `datasets` reads.

    Returns:
        Its rows.

    Raises:
        ValueError: nothing is there, or it is damaged.
    """
    path = Path(where).expanduser()
    if (path / METADATA).is_file():
        return ImageFolder(path)
    tars = _tars(path)
    if tars:
        return Shards(tars)
    if path.is_dir():
        below = sorted(found.parent for found in path.glob(f"*/{METADATA}"))
        if below:
            raise ValueError(f"{path} has no {METADATA}, but {below[0]} has: give that folder")
        if not any(path.rglob("*.parquet")) and not _saved(path):
            raise ValueError(
                f"{path} holds no dataset: neither {METADATA} (unicond annotate writes it), nor "
                ".tar shards, nor .parquet files"
            )
    elif not _HUB_ID.fullmatch(str(where)):
        raise ValueError(f"the dataset {where} does not exist: give a folder, tars, or a hub id")
    return HubDataset(str(where), _hub(str(where), split))


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


def _hub(where: str, split: str) -> "Dataset":
    try:
        from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
    except ImportError as error:
        raise ValueError(
            f"{where} is read by the library datasets, which is not installed: "
            "pip install 'unicond[data]'"
        ) from error
    try:
        saved = _saved(Path(where))
        found = load_from_disk(where) if saved else load_dataset(where, split=split)
        if isinstance(found, DatasetDict):
            found = found[split]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{where} is no folder with metadata.jsonl or tars, and the library datasets cannot "
            f"load its split {split!r}: {error}"
        ) from error
    assert isinstance(found, Dataset)
    return found
