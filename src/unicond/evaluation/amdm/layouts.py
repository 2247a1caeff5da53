"""Layouts like COCO-MIG's, of held-out scenes of the world: mini-MIG.

COCO-MIG takes boxes of COCO pictures, drops those with a side below 1/8, sorts what is left into
levels by the number of instances, 160 of each of the levels 2 to 6, and draws a colour for each
instance. Here levels take turns, boxes are those of what is seen of the solids of a scene that
nobody trained on, all sides at least 1/8, and the scene itself, in the colours that were drawn,
is a picture that obeys. The world has all seven colours of COCO-MIG: none is replaced. As there,
colours are independent of each other, so that a label can occur twice.

Source: Zhou et al. 2024, arXiv:2402.05408, section 4.1.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from unicond.evaluation.cases import TABLE_WORLD
from unicond.evaluation.metrics_objects import Box, box_of
from unicond.evaluation.mig.bench import Entry, Instance
from unicond.evaluation.mig.colors import RANGES
from unicond.world.captions import solid_words
from unicond.world.generate import World
from unicond.world.render import render
from unicond.world.scene import Scene

LEVELS = (2, 3, 4, 5, 6)
"""Instances of a layout; they take turns."""
COLORS = tuple(RANGES)
"""The seven colours of COCO-MIG."""
LEAST_SIDE = 1 / 8
"""Of every box, as a share of the picture's."""
LOOKED_AT = 128
"""Pixels a side of the pictures that boxes are taken from."""
TRIES = 2000
"""Scenes that are looked at for one layout."""


@dataclass(frozen=True)
class Layout:
    """What is asked for, and a scene that shows it.

    Attributes:
        entry: caption and boxes, as of COCO-MIG.
        scene: with a solid for each instance, in their order.
    """

    entry: Entry
    scene: Scene


def level_of(number: int) -> int:
    """How many instances a layout has: levels take turns."""
    return LEVELS[number % len(LEVELS)]


def layout(seed: int, number: int) -> Layout:
    """A layout of mini-MIG.

    Args:
        seed: of the table, 0 to 9999.
        number: of the layout, 0 or more; the same one is always the same.

    Returns:
        The layout.

    Raises:
        RuntimeError: no scene with so many large boxes was found.
    """
    level = level_of(number)
    world = World(TABLE_WORLD + seed, "photo", people=False, min_objects=level, max_objects=level)
    for index in range(TRIES * number, TRIES * (number + 1)):
        scene = world[index]
        boxes = _boxes(scene)
        if boxes is not None:
            return _colored(scene, boxes, seed, number)
    raise RuntimeError(f"layout {number} of seed {seed} was not found in {TRIES} scenes")


def _boxes(scene: Scene) -> list[Box] | None:
    """The boxes of what is seen of each solid; None where one is too small."""
    seen = render(scene, LOOKED_AT, smooth=False).instances[0]
    boxes: list[Box] = []
    for number in range(1, len(scene.solids) + 1):
        inside: torch.Tensor = seen == number
        if not inside.any():
            return None
        box = box_of(inside)
        if min(box[2] - box[0], box[3] - box[1]) < LEAST_SIDE:
            return None
        boxes.append(box)
    return boxes


def _colored(scene: Scene, boxes: list[Box], seed: int, number: int) -> Layout:
    """A layout of a scene whose solids get colours by chance."""
    drawn = np.random.default_rng([seed, number, 11]).integers(len(COLORS), size=len(boxes))
    solids = tuple(
        replace(solid, color=COLORS[color])
        for solid, color in zip(scene.solids, drawn, strict=True)
    )
    labels = [solid_words(solid) for solid in solids]
    entry = Entry(
        caption=f"a photo of {' and '.join(labels)}",
        segment=tuple(
            Instance(bbox=box, label=label) for box, label in zip(boxes, labels, strict=True)
        ),
        image_id=f"{seed}-{number}",
    )
    return Layout(entry, replace(scene, solids=solids))
