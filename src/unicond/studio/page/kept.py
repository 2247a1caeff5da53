"""What was put on the page, and is said again exactly so wherever it was not touched.

A page shows less than a form can say: 8 bits a value, masks without grey, one seed of several. So
what a form said is kept beside it, and each part that still shows what it was filled with says what
was kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image

from unicond.studio.page.fields import Part, Values
from unicond.studio.page.painted import viewable
from unicond.studio.page.told import Told

LEVEL = 2
"""Of 255: browsers round what they draw on a canvas and read back."""


@dataclass(frozen=True)
class Kept:
    """A picture of a job, which is opened when it is looked at.

    Args:
        job: its id.
        name: of the file, among those that were given.
    """

    job: str
    name: str


Open = Callable[[Kept], Image.Image | None]


def pictured(told: Told, open_one: Open) -> dict[str, object]:
    """What was kept, with its pictures.

    Args:
        told: {field: value}.
        open_one: gives a picture; None is gone.

    Returns:
        The same, each `Kept` opened.
    """

    def opened(value: object) -> object:
        if isinstance(value, Kept):
            return open_one(value)
        if isinstance(value, Mapping):
            items = cast("Mapping[str, object]", value).items()
            return {key: opened(one) for key, one in items}
        if isinstance(value, list):
            return [opened(one) for one in cast("list[object]", value)]
        return value

    return {name: opened(value) for name, value in told.items()}


def said(
    parts: Sequence[Part], values: Values, before: Told | None, branches: Sequence[str]
) -> dict[str, object]:
    """What stands on the page.

    Args:
        parts: of a tab.
        values: of all their components.
        before: {field: value} that the tab was filled with, with pictures; None was not filled.
        branches: of the model.

    Returns:
        {field: value}.

    Raises:
        ValueError: a component's value is none.
    """
    found, start = dict[str, object](), 0
    for part in parts:
        end = start + len(part.components)
        read = part.read(values[start:end])
        if before is not None and same(read, part.read(part.show(before, branches))):
            read = {name: before[name] for name in part.names if name in before} or read
        found |= read
        start = end
    return found


def same(one: object, other: object) -> bool:
    """Whether two values are equal; pictures are where they look the same."""
    if isinstance(one, Image.Image) and isinstance(other, Image.Image):
        return _looks_same(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        first, second = cast("Told", one), cast("Told", other)
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        both = cast("Sequence[object]", one), cast("Sequence[object]", other)
        return len(both[0]) == len(both[1]) and all(map(same, *both))
    return one == other


def there(told: Told) -> tuple[dict[str, object], list[str]]:
    """What is left of a form some of whose pictures are gone.

    Args:
        told: {field: value}; what is gone is None.

    Returns:
        The same without them and what belongs to them, and their names.
    """
    lost = [name for name in ("image", "depth", "picture", "style") if told.get(name, "") is None]
    gone = [branch for branch, one in _mapping(told, "give").items() if one is None]
    found = {name: value for name, value in told.items() if value is not None}
    for name in ("give", "mask", "noise"):
        if isinstance(found.get(name), Mapping):
            found[name] = {
                branch: one
                for branch, one in _mapping(found, name).items()
                if one is not None and branch not in (*gone, *lost)
            }
    for name in ("hold", "guide"):
        if name in found:
            known = cast("Sequence[str]", found[name])
            found[name] = [branch for branch in known if branch not in (*gone, *lost)]
    if "image_prompt" in found:
        prompts = cast("Sequence[object]", found["image_prompt"])
        found["image_prompt"] = [one for one in prompts if one is not None]
        lost += ["image prompt"] * (None in prompts)
    if "region" in found:
        regions = cast("Sequence[Mapping[str, object]]", found["region"])
        found["region"] = [one for one in regions if one.get("mask", "") is not None]
        lost += [str(one["text"]) for one in regions if one.get("mask", "") is None]
    for one in cast("Sequence[Mapping[str, object]]", found.get("model", ())):
        lost += [str(one["name"])] * (one.get("picture", "") is None)
    return found, [*lost, *gone]


def _looks_same(one: Image.Image, other: Image.Image) -> bool:
    if one.size != other.size:
        return False
    both = [np.asarray(viewable(x).convert("RGBA"), dtype=np.int16) for x in (one, other)]
    return int(np.abs(both[0] - both[1]).max()) <= LEVEL


def _mapping(told: Told, name: str) -> Mapping[str, object]:
    return cast("Mapping[str, object]", told.get(name, {}))
