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

from unicond.evaluation.metrics_boxes import Box, Spot, seen_spots
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


def look(entries: Sequence[Entry], classes: Tensor, colors: Tensor) -> list[list[Seen]]:
    """Look for the instances of entries in pictures.

    Args:
        entries: one a picture.
        classes: (B, H, W), indices into `CLASSES`.
        colors: (B, H, W), indices into `COLOR_NAMES`.

    Returns:
        For each picture its entry's instances, in their order.
    """
    apart = seen_spots(classes, colors)
    whole = seen_spots(classes, torch.zeros_like(colors))
    found: list[list[Seen]] = []
    for row, entry in enumerate(entries):
        spots = [*whole[row], *apart[row]]
        found.append(
            [
                Seen(
                    best_iou(one.bbox, _detections(one.thing, spots)),
                    _share(classes[row], colors[row], one.bbox, one.thing, one.color),
                )
                for one in entry.segment
            ]
        )
    return found


def _detections(thing: str, spots: Sequence[Spot]) -> list[Detection]:
    """The areas of a class."""
    cls = CLASSES.index(thing)
    return [Detection(spot.box, 1.0) for spot in spots if spot.cls == cls]


def _share(classes: Tensor, colors: Tensor, box: Box, thing: str, color: str) -> float:
    """How much of the class in a box has a colour; 0 of nothing."""
    height, width = classes.shape
    left, top, right, bottom = box
    rows = slice(round(top * height), round(bottom * height))
    columns = slice(round(left * width), round(right * width))
    mask = classes[rows, columns] == CLASSES.index(thing)
    hits = mask & (colors[rows, columns] == COLOR_NAMES.index(color))
    return int(hits.sum()) / max(int(mask.sum()), 1)
