"""Weights that a training starts from: those of an earlier run of the same stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from unicond.adapters import tensors
from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.joint import JointAdapter
from unicond.adapters.readout import ReadoutHead
from unicond.backbones.files import EMBEDDED

Made = TypeVar("Made", ReadoutHead, GroundingAdapter)


def found(where: Path, kind: str) -> JointAdapter:
    """The joint adapter that a training is to start from.

    Args:
        where: a folder, the name of a shipped adapter, or a hub id.
        kind: what its condition shows, for released folders whose name does not tell.

    Returns:
        The adapter, on the CPU.

    Raises:
        ValueError: there is none, or it cannot be read.
    """
    shipped = EMBEDDED / "adapters" / where
    here = shipped if shipped.is_dir() and not where.is_dir() else where
    try:
        return JointAdapter.from_pretrained(here, kind=kind)
    except FileNotFoundError as error:
        names = ", ".join(sorted(path.name for path in (EMBEDDED / "adapters").glob("*")))
        raise ValueError(
            f"--init {where}: {error}; give a folder, a hub id, or one of those that ship: {names}"
        ) from error


def go_on_from_part(fresh: JointAdapter, old: JointAdapter, source: str) -> None:
    """Give a fresh joint adapter the values of one that may lack y-LoRA beyond attention.

    What it lacks adds nothing at the start.

    Args:
        fresh: gets the values.
        old: has them.
        source: where it came from, for messages.

    Raises:
        ValueError: it has other ranks, or was made for another network.
    """
    values, wanted = old.state_dict(), fresh.state_dict()
    if not old.config.y_conv_rank:
        beyond = {f"{name}.y.{part}" for name, _ in fresh.maps() for part in ("A", "B")}
        values |= {name: wanted[name] for name in beyond}
    tensors.check(wanted, values, source, "the ranks that are trained, and the base,")
    fresh.load_state_dict(values)


def go_on(fresh: Made, start: Path, fields: Sequence[str]) -> None:
    """Give fresh weights the values of earlier ones.

    Args:
        fresh: gets the values.
        start: the folder of the earlier ones.
        fields: of their configurations, which must agree.

    Raises:
        ValueError: there is something else in the folder, or nothing.
    """
    try:
        old = type(fresh).from_pretrained(start)
    except FileNotFoundError as error:
        raise ValueError(f"--init: {error}") from error
    differ = [
        f"{field} {getattr(old.config, field)!r}, not {getattr(fresh.config, field)!r}"
        for field in fields
        if getattr(old.config, field) != getattr(fresh.config, field)
    ]
    if differ:
        raise ValueError(f"--init {start} is not the same kind: {'; '.join(differ)}")
    fresh.load_state_dict(old.state_dict())
