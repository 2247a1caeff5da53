"""Weights that a training starts from: those of an earlier run of the same stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.readout import ReadoutHead

Made = TypeVar("Made", ReadoutHead, GroundingAdapter)


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
