"""COCO-MIG's rule: is each instance there, in its box and of its colour?

The picture is looked at in 512 x 512. An instance's detections are those of its thing, whatever
its colour; every one of them counts for every instance of that thing.

    iou     of the box asked for with the detection that lies on it best, 0 without detection
    share   of the mask that the box alone prompts, as much as has the colour

    iou < 0.5                   no success, counts its iou; the colour is not looked at
    share < 0.2, or no mask     no success, counts 0
    else                        success, counts its iou

The instance success rate is the mean of the successes, mIoU that of what counts, both over
instances: of two levels, the one of more instances weighs more.

Source: official evaluation of COCO-MIG (Zhou et al. 2024, arXiv:2402.05408, section 4.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unicond.evaluation.metrics_boxes import box_iou
from unicond.evaluation.metrics_objects import Box
from unicond.evaluation.mig.bench import Entry
from unicond.evaluation.mig.colors import color_share
from unicond.pictures.reading import read_picture, to_pil

SIDE = 512
"""Of the picture that is looked at."""
LEAST_SCORE = 0.25
"""Detections count above it."""
SAME = 0.8
"""Of two detections with a greater IoU, the one of lower score is dropped."""
LEAST_IOU = 0.5
LEAST_SHARE = 0.2


@dataclass(frozen=True)
class Detection:
    """Where a thing is seen.

    Attributes:
        box: around it.
        score: how certain it is, 0 to 1.
    """

    box: Box
    score: float


class Detector(Protocol):
    """What finds things, and what belongs to the thing in a box."""

    def detections(self, picture: Tensor, thing: str) -> Sequence[Detection]:
        """Find a thing.

        Args:
            picture: (3, H, W) in [-1, 1].
            thing: in words.

        Returns:
            Wherever it may be, however uncertain.
        """
        ...

    def masks(self, picture: Tensor, boxes: Sequence[Box]) -> Tensor:
        """The pixels of what is in boxes.

        Args:
            picture: (3, H, W) in [-1, 1].
            boxes: one or more.

        Returns:
            (B, H, W) bool on the CPU, one mask a box.
        """
        ...


@dataclass(frozen=True)
class Verdict:
    """What is said of an instance.

    Attributes:
        success: it is there, in its box and of its colour.
        iou: what counts for mIoU, 0 to 1.
    """

    success: bool
    iou: float


def judged(picture: Tensor, entry: Entry, detector: Detector) -> list[Verdict]:
    """Judge a picture.

    Args:
        picture: (3, H, W) in [-1, 1], of any size.
        entry: what was asked for.
        detector: looks at it.

    Returns:
        One verdict an instance, in their order.
    """
    seen = squared(picture)
    things = dict.fromkeys(instance.thing for instance in entry.segment)
    found = {thing: kept(detector.detections(seen, thing)) for thing in things}
    ious = [best_iou(instance.bbox, found[instance.thing]) for instance in entry.segment]
    there = [number for number, iou in enumerate(ious) if iou >= LEAST_IOU]
    shares = dict.fromkeys(range(entry.level), 0.0)
    if there:
        levels = torch.from_numpy(np.array(to_pil(seen))).permute(2, 0, 1)
        masks = detector.masks(seen, [entry.segment[number].bbox for number in there])
        for number, mask in zip(there, masks, strict=True):
            shares[number] = color_share(levels, mask, entry.segment[number].color)
    return [verdict(iou, shares[number]) for number, iou in enumerate(ious)]


def verdict(iou: float, share: float) -> Verdict:
    """The verdict on an instance.

    Args:
        iou: of the best detection, 0 without one.
        share: of its colour, 0 of an empty mask.

    Returns:
        It, by the table above.
    """
    if iou < LEAST_IOU:
        return Verdict(False, iou)
    if share < LEAST_SHARE:
        return Verdict(False, 0.0)
    return Verdict(True, iou)


def kept(detections: Sequence[Detection]) -> list[Detection]:
    """Detections that count: certain enough, and each thing once (non-maximum suppression).

    Args:
        detections: of one thing in one picture.

    Returns:
        Some of them, the most certain first.
    """
    certain = [one for one in detections if one.score > LEAST_SCORE]
    chosen: list[Detection] = []
    for one in sorted(certain, key=lambda detection: -detection.score):
        if all(box_iou(one.box, other.box) <= SAME for other in chosen):
            chosen.append(one)
    return chosen


def best_iou(box: Box, detections: Sequence[Detection]) -> float:
    """The greatest IoU of a box with a detection; 0 without any."""
    return max((box_iou(box, one.box) for one in detections), default=0.0)


def squared(picture: Tensor) -> Tensor:
    """A picture (3, H, W) in [-1, 1] as it is looked at, (3, `SIDE`, `SIDE`), stretched."""
    return read_picture(to_pil(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
