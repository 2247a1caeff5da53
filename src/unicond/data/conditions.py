"""What the kinds of conditions are called on disk, and what may be done to their pictures.

Names on disk are those of `unicond world export`, so that exported scenes and annotated photographs
are read by the same code: a row's `file_name` is the picture, `<column>_file_name` the condition.
A picture of a condition is no photograph: values of a depth map may be averaged, those of a
segmentation may not, and a mirrored normal points to the other side.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unicond.pictures.fitting import Resample, Size, resized
from unicond.world.annotate import quantised

Mirror = Literal["plain", "normals", "never"]

_SOLID = 0.5
"""Shorter normals are those of the sky, which has none, or lie between it and a surface."""


@dataclass(frozen=True, kw_only=True)
class ConditionKind:
    """One kind of condition.

    Args:
        name: as adapters and the command line call it.
        column: as files call it.
        resample: how its pictures are resized, as in `pictures.fit`.
        mirror: what a mirrored picture of it is: `"plain"` the mirrored pixels; `"normals"` those
            with the x channel negated; `"never"` none can be made of pixels (a skeleton's colours
            say which side of the body a limb is on).
        levels: pixels take only the values of soft edges.
        spans: values reach from -1 to 1 in every picture, as those of a depth map.
        aligned: the picture's pixels and the condition's show the same places.
        annotated: `unicond annotate` makes it of a picture.
    """

    name: str
    column: str
    resample: Resample = "smooth"
    mirror: Mirror = "plain"
    levels: bool = False
    spans: bool = False
    aligned: bool = True
    annotated: bool = True


KINDS = {
    kind.name: kind
    for kind in (
        ConditionKind(name="depth", column="inverse_depth", resample="linear", spans=True),
        ConditionKind(
            name="depth-metric", column="metric_depth", resample="linear", annotated=False
        ),
        ConditionKind(name="softedge", column="edges", resample="linear", levels=True),
        ConditionKind(name="pose", column="skeleton", resample="linear", mirror="never"),
        ConditionKind(name="segmentation", column="segmentation", resample="nearest"),
        ConditionKind(name="normals", column="normals", resample="linear", mirror="normals"),
        ConditionKind(name="identity", column="identity", aligned=False, annotated=False),
        ConditionKind(name="appearance", column="appearance", aligned=False, annotated=False),
    )
}


def kind_of(name: str) -> ConditionKind:
    """A kind by its name; a name that is not known is an aligned picture in a column of its name.

    >>> kind_of("depth").column, kind_of("scribble").column
    ('inverse_depth', 'scribble')
    """
    return KINDS.get(name) or ConditionKind(name=name, column=name)


def condition_part(picture: Tensor, size: Size, kind: ConditionKind) -> Tensor:
    """Bring a part of a condition's picture to a size, so that it stays one of its kind.

    Args:
        picture: (3, H, W) in [-1, 1].
        size: height and width.
        kind: soft edges keep their levels, normals their unit length, depth its span; a
            segmentation gets no new colours.

    Returns:
        (3, height, width) in [-1, 1].
    """
    out = resized(picture, size, kind.resample)
    if kind.levels:
        return quantised((out[None].mean(1, keepdim=True) + 1) / 2)[0]
    if kind.mirror == "normals":
        length = out.norm(dim=0, keepdim=True)
        return torch.where(length > _SOLID, out / length.clamp_min(_SOLID), out)
    low, high = out.min(), out.max()
    if kind.spans and high > low and (low > -1 or high < 1):
        return (out - low) / (high - low) * 2 - 1
    return out


def mirrored(picture: Tensor, kind: ConditionKind) -> Tensor:
    """What the condition would be of the mirrored picture.

    Args:
        picture: (3, H, W) in [-1, 1].
        kind: its kind.

    Returns:
        (3, H, W).

    Raises:
        ValueError: it cannot be made of these pixels.
    """
    if kind.mirror == "never":
        raise ValueError(f"a picture of {kind.name} says which side is which; it is not mirrored")
    out = picture.flip(-1)
    if kind.mirror == "normals":
        out = out * torch.tensor([-1.0, 1.0, 1.0], device=out.device)[:, None, None]
    return out
