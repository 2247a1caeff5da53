"""What is where in rendered scenes: names, exact boxes, relations; on disk beside the renders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unicond.data import texts
from unicond.data.renders import Recipe, Told
from unicond.world.annotate import boxes_in
from unicond.world.captions import phrases
from unicond.world.scene import Scene


@dataclass(frozen=True)
class Things:
    """What a scene holds, entity by entity; from JSON tuples come back as lists.

    Args:
        phrases: of each, what it is called (see `captions.phrases`).
        boxes: of each, what is seen of it: left, upper, right, lower in pixels, the last two
            exclusive; all 0 where nothing is seen.
        pixels: of each, how many are seen.
        relations: all that hold: subject, name, target.
    """

    phrases: list[list[str]]
    boxes: list[list[int]]
    pixels: list[int]
    relations: list[tuple[int, str, int]]


def things(folder: Path, recipe: Recipe, count: int, report: Told | None = None) -> list[Things]:
    """What the first `count` scenes hold.

    Args:
        folder: of the renders (`renders.draw`), with their instances.
        recipe: of the renders.
        count: how many scenes.
        report: as of `texts.captions`.

    Returns:
        One a scene.
    """
    found = texts.kept(folder, recipe, count, "things.json", _told, report)
    return [Things(**told) for told in found]


def _told(scenes: list[Scene], place: Path) -> list[dict[str, Any]]:
    """`Things` of each scene, as JSON has them."""
    maps = torch.from_numpy(np.load(place / "instances.npy"))
    most = max(len(scene) for scene in scenes)
    # the map counts sky 0, ground 1, then entities
    seen = [boxes_in(part.short() - 1, most) for part in maps.split(64)]
    corners = torch.cat([part.corners for part in seen]).tolist()
    pixels = torch.cat([part.pixels for part in seen]).tolist()
    return [
        {
            "phrases": [phrases(scene.entity(number)) for number in range(len(scene))],
            "boxes": boxes[: len(scene)],
            "pixels": counts[: len(scene)],
            "relations": [(each.subject, each.name, each.target) for each in scene.relations],
        }
        for scene, boxes, counts in zip(scenes, corners, pixels, strict=True)
    ]
