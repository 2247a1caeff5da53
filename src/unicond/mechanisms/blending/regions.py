"""Regions of a picture, each with its own prompt: MultiDiffusion and NoiseCollage share them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unicond.mechanisms.known import check_scale
from unicond.sampling.state import State

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in shares of the picture's width and height, 0 to 1."""

MOST_REGIONS = 16
"""Every region is one more row a sample (two with text guidance) in each network call."""

_ROUNDING = 1e-6  # shares such as 1/3 fall on the border of a latent


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """A prompt and its place: a box, or a mask.

    Args:
        prompt: what is to be seen there.
        box: (left, top, right, bottom) in [0, 1]; every latent that it touches is in it.
        mask: (B or 1, 1, H, W) in [0, 1], 1 is inside; of any size, brought to the latents' by
            averaging.
        weight: where regions overlap, above 0; 0.0 leaves the region out.

    Raises:
        ValueError: an empty prompt, neither or both of box and mask, a box that is empty or leaves
            the picture, a mask that is empty or of another shape or range, a negative weight.
    """

    prompt: str
    box: Box | None = None
    mask: Tensor | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError("a region needs a prompt: say what is to be seen there")
        if (self.box is None) == (self.mask is None):
            raise ValueError(f"region {self.prompt!r} needs a box or a mask, one of them")
        check_scale(self.weight, f"the weight of region {self.prompt!r}")
        if self.box is not None:
            _check_box(self.prompt, self.box)
        if self.mask is not None:
            _check_mask(self.prompt, self.mask)

    def inside(self, latents: Tensor) -> Tensor:
        """Where the region is.

        Args:
            latents: (B, C, h, w).

        Returns:
            (B or 1, 1, h, w) in [0, 1], of the latents' dtype.
        """
        height, width = latents.shape[-2:]
        if self.mask is not None:
            return F.interpolate(self.mask.to(latents), (height, width), mode="area")
        assert self.box is not None
        left, top, right, bottom = self.box
        found = torch.zeros(1, 1, height, width, dtype=latents.dtype, device=latents.device)
        found[..., _touched(top, bottom, height), _touched(left, right, width)] = 1
        return found


def acting(regions: Sequence[Region]) -> list[Region]:
    """The regions whose weight is not 0."""
    return [region for region in regions if region.weight > 0]


def check(regions: Sequence[Region], boxed: bool = False) -> None:
    """Refuse a list of regions before anything runs.

    Args:
        regions: of one mechanism.
        boxed: whether every region must be a box.

    Raises:
        ValueError: none, more than `MOST_REGIONS`, or one without a box.
    """
    if not 1 <= len(regions) <= MOST_REGIONS:
        raise ValueError(
            f"{len(regions)} regions; give 1 to {MOST_REGIONS} (each is one more row a sample in "
            "every network call)"
        )
    for region in regions:
        if boxed and region.box is None:
            raise ValueError(f"region {region.prompt!r} needs a box here, not a mask")


def check_masks(regions: Sequence[Region], state: State, branch: str) -> None:
    """Refuse masks that do not fit a run: another number of samples.

    Args:
        regions: of one mechanism.
        state: of the run.
        branch: that the regions are of.

    Raises:
        ValueError: a mask of B rows for another number of samples.
    """
    count = len(state.latents[branch])
    for region in regions:
        if region.mask is not None and len(region.mask) not in (1, count):
            raise ValueError(
                f"the mask of region {region.prompt!r} has {len(region.mask)} rows, but there are "
                f"{count} samples; give 1 or {count}"
            )


def _touched(low: float, high: float, count: int) -> slice:
    return slice(math.floor(low * count + _ROUNDING), math.ceil(high * count - _ROUNDING))


def _check_box(prompt: str, box: Box) -> None:
    left, top, right, bottom = box
    if not all(0.0 <= side <= 1.0 for side in box):
        raise ValueError(
            f"the box {box} of region {prompt!r} leaves the picture: sides are shares of its width "
            "and height, 0 to 1 (divide pixels by them)"
        )
    if right - left <= 2 * _ROUNDING or bottom - top <= 2 * _ROUNDING:
        raise ValueError(
            f"the box {box} of region {prompt!r} is empty; give (left, top, right, bottom) with "
            "left < right and top < bottom"
        )


def _check_mask(prompt: str, mask: Tensor) -> None:
    if mask.ndim != 4 or mask.shape[1] != 1:
        raise ValueError(
            f"the mask of region {prompt!r} has shape {tuple(mask.shape)}; it must be (B or 1, 1, "
            "height, width)"
        )
    if not (float(mask.min()) >= 0 and float(mask.max()) <= 1):
        raise ValueError(
            f"the mask of region {prompt!r} has values from {float(mask.min())} to "
            f"{float(mask.max())}; they must be in [0, 1]"
        )
    if not bool(mask.flatten(1).amax(1).gt(0).all()):
        raise ValueError(f"the mask of region {prompt!r} is empty: nothing of it is inside")
