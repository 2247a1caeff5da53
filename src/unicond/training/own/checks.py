"""What can be found wrong with a training on one's own pictures before it begins."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from unicond.adapters.config import JointConfig
from unicond.adapters.hub import CONFIG_FILE, half_written
from unicond.backbones.files import Folder, locate
from unicond.backbones.pixels import UNSHUFFLE
from unicond.backbones.single_file import SUFFIXES
from unicond.data.sources import Fingerprinted, check_unchanged
from unicond.pictures.files import make_output_folder
from unicond.training import cards, checkpoints, starting
from unicond.training.budget import Budget
from unicond.training.own.job import OwnCondition, OwnJob, PictureJob

COPIES = 4
"""Of the adapter's weights in a checkpoint: themselves, their average, AdamW's two moments."""


def check_folders(job: OwnJob) -> None:
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
    return about_run(job, data, {"condition": asdict(condition)})


def about_run(job: OwnJob, data: str, more: Mapping[str, object]) -> Mapping[str, object]:
    """What a run that goes on must agree with.

    Args:
        job: what is asked for.
        data: the fingerprint of its pictures.
        more: settings that are not the recipe's; plain data.

    Returns:
        The fingerprint, and all settings but how long it is.
    """
    recipe = job.how
    loop = replace(recipe.loop, budget=Budget(steps=1))
    settings = cards.plain(recipe)
    settings |= cards.plain(loop) | {"base": job.base, "init": str(job.init), **more}
    settings |= {"accumulate": job.setup.accumulate, "eight_bit": job.setup.eight_bit}
    del settings["loop"]
    return {"data": data, "settings": settings}


def check_same(
    job: OwnJob, source: Fingerprinted, about: Mapping[str, object]
) -> Mapping[str, object]:
    """Refuse to go on with a run of other settings, or of other pictures unless that is wanted.

    Args:
        job: what is asked for.
        source: the rows.
        about: the run as it would begin now.

    Returns:
        What the run is to agree with from now on; `changed` has the steps at which its pictures
        changed.

    Raises:
        ValueError: it is another run.
    """
    recorded = checkpoints.about(job.checkpoint)
    if not job.checkpoint.exists():
        return about
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
    changed = steps_of_changes(recorded)
    try:
        check_unchanged(source, str(recorded["data"]), job.ROWS)
    except ValueError as error:
        if not job.accept_changed:
            raise ValueError(
                f"{error}; --accept-changed-data goes on with it as it is, and the card says so"
            ) from error
        changed = [*changed, checkpoints.position(job.checkpoint).step]
    return {**about, "changed": changed}


def steps_of_changes(about: Mapping[str, object]) -> list[int]:
    """The steps after which a run went on with other pictures."""
    found = about.get("changed")
    return cast("list[int]", found) if isinstance(found, list) else []


def check_base(job: PictureJob, condition: OwnCondition) -> None:
    """Refuse, by a base's configurations, a size or a rank that could not be trained.

    Args:
        job: what is asked for.
        condition: of the adapter.

    Raises:
        ValueError: the base is not there, or something does not fit.
    """
    found = told_of(job)
    if found is not None:
        check_room(job, job.recipe.adapter(found, condition, job.base))


def told_of(job: OwnJob) -> UNet2DConditionModel | None:
    """A base's network without its weights, by the base's configurations; its size is checked.

    Args:
        job: what is asked for.

    Returns:
        The network; None of a single file, which has no folder of its own and is looked at when it
        is loaded, and of what is no base: what is wrong with it is told by who loads it.

    Raises:
        ValueError: the base is not there, or does not take pictures of the size.
    """
    single = "@" in job.base or Path(job.base).suffix in SUFFIXES
    if single and not Path(job.base).is_dir():
        return None
    base = Folder(job.base, locate(job.base, weights=False))
    try:
        config = dict(base.json("unet/config.json"))
        factor = base.json("model_index.json", optional=True).get(UNSHUFFLE)
        if not isinstance(factor, int):
            factor = 2 ** _halvings(base.json("vae/config.json"))
        multiple = factor * 2 ** _halvings(config)
        with torch.device("meta"):
            network = UNet2DConditionModel.from_config(config)
    except (ValueError, KeyError, TypeError):
        return None
    assert isinstance(network, UNet2DConditionModel)
    check_side(job.how.side, multiple, job.base)
    return network


def _halvings(config: Mapping[str, object]) -> int:
    """How often a network halves what it is given."""
    return len(cast("list[int]", config["block_out_channels"])) - 1


def check_side(side: int | None, multiple: int, base: str) -> None:
    """Refuse pictures of a side that a base cannot take; None is its own.

    Args:
        side: in pixels.
        multiple: what it must be a multiple of.
        base: its name.

    Raises:
        ValueError: the side is none.
    """
    if side is not None and (side < 1 or side % multiple):
        raise ValueError(
            f"pictures of {side} pixels do not fit {base}: give a --size that is a multiple of "
            f"{multiple}"
        )


def check_room(job: OwnJob, adapter: nn.Module) -> None:
    """Refuse to begin where the checkpoints will not fit: a new one is written beside the old."""
    each = COPIES * sum(4 * value.numel() for value in adapter.parameters())
    there = 1 if job.checkpoint.exists() else 2
    free = shutil.disk_usage(job.folder).free
    if free < there * each:
        raise ValueError(
            f"checkpoints of this adapter take {there * each / 1e6:.1f} MB, but only "
            f"{free / 1e6:.1f} MB are free for {job.folder}: {job.ROOM}"
        )
