"""COCO-MIG's rule, with the probe in the place of Grounding DINO and SAM.

The probe reads a class and a colour for every pixel of a picture. Of an instance,

    detections    the connected areas of its class, and those of its class and one colour, which
                  part touching things; whatever their colour, every one counts
    mask          the pixels of its class in its box
    share         of the mask, what is read as its colour

and `mig.rule` says the rest: the best detection's IoU must be 0.5, the share 0.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.evaluation.metrics_objects import Spot, seen_spots
from unicond.evaluation.mig.bench import Entry
from unicond.evaluation.mig.rule import (
    LEAST_IOU,
    LEAST_SHARE,
    Detection,
    Verdict,
    best_iou,
    verdict,
)
from unicond.world.vocabulary import CLASSES, COLOR_NAMES


@dataclass(frozen=True)
class Seen:
    """What is seen of an instance.

    Attributes:
        iou: of its box with the detection that lies on it best, 0 without any.
        share: of what is in its box and of its class, as much as has its colour.
    """

    iou: float
    share: float

    @property
    def placed(self) -> bool:
        """Whether it is in its box, whatever its colour."""
        return self.iou >= LEAST_IOU

    @property
    def colored(self) -> bool:
        """Whether what is in its box has its colour."""
        return self.share >= LEAST_SHARE

    @property
    def verdict(self) -> Verdict:
        """By COCO-MIG's rule."""
        return verdict(self.iou, self.share)


def spots_of(entry: Entry) -> tuple[Spot, ...]:
    """An entry's instances, in their order."""
    return tuple(
        Spot(CLASSES.index(one.thing), COLOR_NAMES.index(one.color), one.bbox)
        for one in entry.segment
    )


def look(asked: Sequence[Sequence[Spot]], classes: Tensor, colors: Tensor) -> list[list[Seen]]:
    """Look for things in pictures.

    Args:
        asked: of each picture, with the boxes asked for.
        classes: (B, H, W), indices into `CLASSES`.
        colors: (B, H, W), indices into `COLOR_NAMES`.

    Returns:
        For each picture what is seen of its things, in their order.
    """
    apart = seen_spots(classes, colors)
    whole = seen_spots(classes, torch.zeros_like(colors))
    found: list[list[Seen]] = []
    for row, spots in enumerate(asked):
        areas = [*whole[row], *apart[row]]
        found.append([])
        for spot in spots:
            seen = [Detection(one.box, 1.0) for one in areas if one.cls == spot.cls]
            share = _share(spot, classes[row], colors[row])
            found[-1].append(Seen(best_iou(spot.box, seen), share))
    return found


def _share(spot: Spot, classes: Tensor, colors: Tensor) -> float:
    """How much of a thing's class in its box has its colour, 0 of nothing; maps (H, W)."""
    height, width = classes.shape
    left, top, right, bottom = spot.box
    rows = slice(round(top * height), round(bottom * height))
    columns = slice(round(left * width), round(right * width))
    mask = classes[rows, columns] == spot.cls
    hits = mask & (colors[rows, columns] == spot.color)
    return int(hits.sum()) / max(int(mask.sum()), 1)
