"""Augmentations that keep a picture and its condition aligned.

One crop and one mirroring serve both; colours change on the picture only. Every draw comes from the
seed and the place in the run, and each augmentation from a stream of its own, so that one that is
off changes nothing of the others.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unicond.data.conditions import ConditionKind, condition_part, mirrored
from unicond.data.sources import Pair
from unicond.pictures.fitting import Size, resized

_SIDES = re.compile(
    r"\b(left|right)(s|most|ward|wards|hand|handed|side)?\b|\b(counter|anti)?-?clockwise\b",
    re.IGNORECASE,
)
_CROP, _FLIP, _COLOR = range(3)
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How much.

    Args:
        crop: `"random"` cuts the bucket's proportions out anywhere, `"center"` out of the middle.
        zoom: the cut-out is smaller than the largest possible by a factor of up to this, >= 1.
        flip: probability of mirroring, where the caption names no side and the kind allows it.
        color: brightness, contrast and saturation each change by a factor of up to 1 + color, or
            down to its inverse; never the hue, which captions name. 0 leaves colours alone.
    """

    crop: Literal["random", "center"] = "random"
    zoom: float = 1.0
    flip: float = 0.0
    color: float = 0.0

    def __post_init__(self) -> None:
        if self.crop not in ("random", "center"):
            raise ValueError(f"crop {self.crop!r} is neither 'random' nor 'center'")
        if self.zoom < 1 or not 0 <= self.flip <= 1 or self.color < 0:
            raise ValueError(
                f"zoom must be at least 1, flip in [0, 1], color not below 0; got {self.zoom}, "
                f"{self.flip}, {self.color}"
            )


def names_a_side(caption: str) -> bool:
    """Whether a caption would be wrong of the mirrored picture.

    >>> names_a_side("a ball left of a box"), names_a_side("a bright cleft")
    (True, False)
    """
    return _SIDES.search(caption) is not None


def augmented(
    pair: Pair,
    caption: str,
    size: Size,
    kind: ConditionKind,
    config: AugmentConfig,
    seed: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """A pair at a bucket's size.

    Args:
        pair: as it was read.
        caption: the one of its captions that goes with it.
        size: height and width.
        kind: of the condition; one that is not aligned is cropped on its own.
        config: how much.
        seed: of all draws: the run's, and the place in it.

    Returns:
        Picture and condition, each (3, height, width) float32 in [-1, 1].
    """
    window = _window(pair.size, size, config, [*seed, _CROP])
    image = resized(_cut(pair.image, window), size)
    other = window
    if not kind.aligned:
        shape = (pair.condition.shape[-2], pair.condition.shape[-1])
        other = _window(shape, size, config, [*seed, _CROP, 1])
    condition = condition_part(_cut(pair.condition, other), size, kind)
    may = kind.mirror != "never" and not names_a_side(caption)
    if may and config.flip and np.random.default_rng([*seed, _FLIP]).random() < config.flip:
        image, condition = image.flip(-1), mirrored(condition, kind)
    if config.color:
        image = _recolored(image, config.color, [*seed, _COLOR])
    return image.contiguous(), condition.contiguous()


def _window(
    size: Size, goal: Size, config: AugmentConfig, seed: list[int]
) -> tuple[int, int, int, int]:
    """Top, left, rows, columns of the part of a picture that becomes the goal."""
    rng = np.random.default_rng(seed)
    scale = min(size[0] / goal[0], size[1] / goal[1])
    if config.zoom > 1:
        scale /= config.zoom ** rng.random()
    rows = min(max(1, round(goal[0] * scale)), size[0])
    columns = min(max(1, round(goal[1] * scale)), size[1])
    free = size[0] - rows, size[1] - columns
    if config.crop == "center":
        return free[0] // 2, free[1] // 2, rows, columns
    return int(rng.integers(free[0] + 1)), int(rng.integers(free[1] + 1)), rows, columns


def _cut(picture: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    top, left, rows, columns = window
    return picture[:, top : top + rows, left : left + columns]


def _recolored(image: Tensor, amount: float, seed: list[int]) -> Tensor:
    """Other brightness, contrast and saturation of a picture in [-1, 1]."""
    bounds = np.log1p(amount)
    draws = np.exp(np.random.default_rng(seed).uniform(-bounds, bounds, 3))
    brightness, contrast, saturation = (float(value) for value in draws)
    values = (image + 1) / 2 * brightness
    values = (values - values.mean()) * contrast + values.mean()
    grey = torch.einsum("chw,c->hw", values, torch.tensor(_LUMA))
    return ((grey + saturation * (values - grey)).clamp(0, 1)) * 2 - 1
