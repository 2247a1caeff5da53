"""Whether two prepared calls are one model that is asked the same thing.

Only what is certain counts as the same: weights, pictures and masks value by value, mechanisms of
the caller's own by their fields where they are dataclasses, all else by identity.
"""

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from unicond.calls.image_prompts import ImagePrompt
from unicond.calls.prepared import Prepared
from unicond.calls.record import Record
from unicond.pictures.reading import read_picture


def ask_the_same(one: Prepared, other: Prepared) -> bool:
    """Whether two calls ask the same of equal networks, whatever their noise and MIGC's last move.

    Args:
        one: a call.
        other: to be compared with it.

    Returns:
        False where they differ, or where that cannot be told.
    """
    same = {"seeds": one.record.seeds, "base": one.record.base}
    alike = _unlimited(replace(other.record, **same)) == _unlimited(one.record)
    return alike and all(
        _is_same(mine, theirs) for mine, theirs in zip(_told(one), _told(other), strict=True)
    )


def _unlimited(record: Record) -> Record:
    """A record without the move until which MIGC acts: asked longer it is no other model."""
    endless = tuple(replace(one, migc_steps=None) for one in record.grounding)
    return replace(record, grounding=endless)


def _told(call: Prepared) -> tuple[object, ...]:
    """What a call is told and no record holds, the quickest to compare first."""
    given = call.inputs.pictures, call.inputs.masks, _looked_at(call.image_prompt)
    return *given, call.own, call.denoiser.prompts, call.adapters, call.backbone.network


def _looked_at(prompt: ImagePrompt | None) -> list[Tensor]:
    return [] if prompt is None else [read_picture(one) for one in prompt.pictures()]


def _is_same(one: object, other: object) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        there = cast(Tensor, other).to(one)
        return one.shape == there.shape and torch.equal(one, there)
    if isinstance(one, nn.Module):
        return _is_same(one.state_dict(), cast(nn.Module, other).state_dict())
    if isinstance(one, Mapping):
        ours, theirs = cast(Mapping[object, object], one), cast(Mapping[object, object], other)
        return ours.keys() == theirs.keys() and all(_is_same(ours[k], theirs[k]) for k in ours)
    if isinstance(one, list | tuple):
        rows, others = cast(tuple[object, ...], one), cast(tuple[object, ...], other)
        return len(rows) == len(others) and all(map(_is_same, rows, others))
    if is_dataclass(one):
        names = [each.name for each in fields(one)]
        return all(_is_same(getattr(one, name), getattr(other, name)) for name in names)
    return isinstance(one, Hashable) and one == other
