"""Boxes: checks, waves, the box between two others, and masks of pixels.

A box is (x1, y1, x2, y2) in [0, 1], x to the right and y down.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_fourier_embeds_from_boundingbox
from torch import Tensor

WAVES = 8
"""Frequencies of the embedding: 100 ** (k / 8)."""
POSITION = 2 * 4 * WAVES
"""Numbers that stand for a box: sine and cosine of each coordinate at each frequency."""


def waves(boxes: Tensor) -> Tensor:
    """Sines and cosines of four coordinates, ordered [frequency][sine, cosine][coordinate].

    Args:
        boxes: (B, N, 4), any order of the coordinates.

    Returns:
        (B, N, 64), float32: half precision would lose the high frequencies.
    """
    return get_fourier_embeds_from_boundingbox(WAVES, boxes.float())


def between(one: Tensor, other: Tensor) -> Tensor:
    """The two middle values of the four x and of the four y coordinates.

    It is where two boxes overlap, what lies between two that do not, the inner one of two nested.

    Args:
        one: (..., 4).
        other: (..., 4).

    Returns:
        (..., 4).
    """
    both = torch.stack([one, other], -2)
    x, y = (both[..., axis::2].flatten(-2).sort(-1).values for axis in (0, 1))
    return torch.stack([x[..., 1], y[..., 1], x[..., 2], y[..., 2]], -1)


def check_boxes(what: str, boxes: Tensor, masks: Tensor) -> None:
    """Refuse boxes that are none.

    Args:
        what: they are, for the message.
        boxes: (B, N, 4).
        masks: (B, N), 1 where a box counts.

    Raises:
        ValueError: a box that counts is outside of the picture, empty or inverted.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    fine = (low >= 0).all(-1) & (high <= 1).all(-1) & (low < high).all(-1)
    wrong = (~fine & (masks > 0)).nonzero()
    if len(wrong):
        sample, number = wrong[0].tolist()
        box = [round(place, 4) for place in boxes[sample, number].tolist()]
        raise ValueError(
            f"{what} {number} of sample {sample} is {box}; "
            "a box is (x1, y1, x2, y2) with 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1"
        )


@dataclass(frozen=True)
class Regions:
    """Where instances are, at the latents' size.

    Args:
        instances: (B, N, h, w) in [0, 1].
        background: (B, 1, h, w), 1 where no instance is.
    """

    instances: Tensor
    background: Tensor

    @staticmethod
    def of(
        boxes: Tensor, masks: Tensor, size: tuple[int, int], latents: tuple[int, int]
    ) -> "Regions":
        """The regions of boxes: drawn on the picture's pixels, then made smaller.

        Args:
            boxes: (B, N, 4).
            masks: (B, N); where it is 0, the region is empty.
            size: (height, width) of the picture in pixels.
            latents: (h, w).

        Returns:
            The regions, float32.
        """
        height, width = size
        canvas = torch.zeros(*boxes.shape[:2], height, width)
        for (sample, number), box in zip(_places(masks), boxes[masks > 0].tolist(), strict=True):
            (left, right), (top, bottom) = (
                (_pixel(box[axis], side), _pixel(box[axis + 2], side))
                for axis, side in ((0, width), (1, height))
            )
            canvas[sample, number, top:bottom, left:right] = 1
        union = canvas.sum(1, keepdim=True).clamp(max=1)
        return Regions(_resized(canvas, latents), _resized(1 - union, latents)).to(boxes.device)

    def at(self, grid: tuple[int, int]) -> "Regions":
        """The same on a layer's grid."""
        return Regions(_resized(self.instances, grid), _resized(self.background, grid))

    def to(self, device: torch.device) -> "Regions":
        """The same on a device."""
        return Regions(self.instances.to(device), self.background.to(device))

    def take(self, samples: Tensor) -> "Regions":
        """Those of some samples."""
        return Regions(self.instances[samples], self.background[samples])


def _places(masks: Tensor) -> list[list[int]]:
    return (masks > 0).nonzero().tolist()


def _pixel(place: float, side: int) -> int:
    """The pixel of a coordinate; what float32 takes from a whole number does not count."""
    return math.floor(place * side + 1e-4)


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, list(size), mode="bilinear")
