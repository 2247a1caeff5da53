"""What can be found wrong with a training on one's own pictures before it begins."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from unicond.adapters.config import JointConfig
from unicond.adapters.hub import CONFIG_FILE, half_written
from unicond.adapters.joint import JointAdapter
from unicond.data.blobs import header
from unicond.data.rows import IMAGE
from unicond.data.sources import Pairs, check_mode, check_unchanged, file_of
from unicond.pictures.files import PictureError, make_output_folder
from unicond.training import cards, checkpoints, starting
from unicond.training.budget import Budget
from unicond.training.journal import Report
from unicond.training.own.job import OwnCondition, PictureJob

COPIES = 4
"""Of the adapter's weights in a checkpoint: themselves, their average, AdamW's two moments."""
NAMED = 5
"""Faulty pairs that a message names."""


def check_pairs(source: Pairs, where: str, report: Report) -> None:
    """Look at every pair without decoding it.

    Args:
        source: the pairs.
        where: they are, for messages.
        report: told how many have been looked at, and how many have no caption.

    Raises:
        ValueError: there are fewer than two, or some cannot be trained on.
    """
    if len(source) < 2:
        raise ValueError(
            f"{where} has {len(source)} pairs, which cannot be trained on: give at least 2, better "
            "hundreds"
        )
    faults: list[str] = []
    silent = 0
    for number in range(len(source)):
        silent += not source.rows.row(number).captions
        try:
            _check_pair(source, number)
        except PictureError as error:
            faults.append(str(error))
        if number % 1000 == 999:
            report(0.0, f"pairs looked at: {number + 1} of {len(source)}")
    if faults:
        raise ValueError(
            f"{len(faults)} of {len(source)} pairs in {where} cannot be trained on: "
            f"{'; '.join(faults[:NAMED])}{'; ...' if len(faults) > NAMED else ''} (`unicond data "
            "check` lists all)"
        )
    if silent:
        report(0.0, f"{silent} of {len(source)} pairs have no caption: they get the empty prompt")


def _check_pair(source: Pairs, number: int) -> None:
    """Missing files, modes and sizes of one pair, by its files' headers."""
    row = source.rows.row(number)
    image, other = (file_of(row, column) for column in (IMAGE, source.column))
    check_mode(other)
    one, two = header(image), header(other)
    if source.kind.aligned and (one.height, one.width) != (two.height, two.width):
        raise PictureError(
            f"{row.key}: the picture is {one.width} x {one.height}, its {source.kind.name} "
            f"{two.width} x {two.height}; an aligned pair has one size"
        )


def check_folders(job: PictureJob) -> None:
    """Refuse folders that cannot be written, or hold something else than an adapter.

    One whose writing was killed lacks its configuration, or has it under a temporary name.
    """
    names = {path.name for path in job.out.iterdir()} if job.out.is_dir() else set[str]()
    left = half_written(job.out)
    begun = any(name.startswith(f".{CONFIG_FILE}.") for name in left)
    if not (names <= left or CONFIG_FILE in names or begun):
        raise ValueError(f"{job.out} is not empty, and no adapter's folder: give another --out")
    make_output_folder(job.out)
    make_output_folder(job.folder)


def check_start(job: PictureJob, condition: OwnCondition) -> None:
    """Refuse an adapter to start from that is not there, or has another shape than is asked for."""
    if job.init is None:
        return
    found = starting.found(job.init, condition.shows).config
    wanted = job.recipe.config(condition, job.base)
    parts = ("rank", "y_rank", "post_joint")
    alike = all(getattr(found, part) == getattr(wanted, part) for part in parts)
    if not alike or found.y_conv_rank not in (0, wanted.y_conv_rank):
        raise misfit(job.init, found, wanted)


def misfit(init: Path, found: JointConfig, wanted: JointConfig) -> ValueError:
    """Why a training cannot start from an adapter.

    Args:
        init: the adapter, as it was named.
        found: what it is.
        wanted: what is trained.

    Returns:
        The error.
    """

    def shape(config: JointConfig) -> str:
        beyond = f" ({config.y_conv_rank} beyond attention)" if config.y_conv_rank else ""
        return f"rank {config.rank}, y-rank {config.y_rank}{beyond}, {config.post_joint}"

    return ValueError(
        f"--init {init} does not fit: it has {shape(found)} on {found.base}; asked for are "
        f"{shape(wanted)} on {wanted.base}: give --rank, --y-rank and --y-conv-rank as it has "
        "them, a condition of its kind, and the base that it was made for"
    )


def about(job: PictureJob, condition: OwnCondition, data: str) -> Mapping[str, object]:
    """What a run that goes on must agree with; it may be given more time."""
    loop = replace(job.recipe.loop, budget=Budget(steps=1))
    settings = cards.plain(replace(job.recipe, loop=loop))
    inner = settings.pop("loop")
    assert isinstance(inner, dict)
    settings |= inner | {"base": job.base, "init": str(job.init), "condition": asdict(condition)}
    settings |= {"accumulate": job.setup.accumulate, "eight_bit": job.setup.eight_bit}
    return {"data": data, "settings": settings}


def check_same(job: PictureJob, source: Pairs, about: Mapping[str, object]) -> None:
    """Refuse to go on with a run of other pictures or other settings."""
    recorded = checkpoints.about(job.checkpoint)
    if not job.checkpoint.exists():
        return
    before, now = recorded.get("settings"), about["settings"]
    if not isinstance(before, dict) or not isinstance(now, dict):
        raise ValueError(f"{job.folder} holds a run of something else: give another --out")
    differ = [name for name in now if before.get(name) != now[name]]
    if differ:
        name = differ[0]
        raise ValueError(
            f"the run in {job.folder} was begun with {name} {before.get(name)!r}, and this one has "
            f"{now[name]!r}: give the same, another --out, or --no-resume to begin anew"
        )
    check_unchanged(source, str(recorded["data"]))


def check_room(job: PictureJob, adapter: JointAdapter) -> None:
    """Refuse to begin where the checkpoints will not fit: a new one is written beside the old."""
    each = COPIES * sum(4 * value.numel() for value in adapter.parameters())
    there = 1 if job.checkpoint.exists() else 2
    free = shutil.disk_usage(job.folder).free
    if free < there * each:
        raise ValueError(
            f"checkpoints of this adapter take {there * each / 1e6:.1f} MB, but only "
            f"{free / 1e6:.1f} MB are free for {job.folder}: make room, give other --runs, or a "
            "lower --rank"
        )
