"""Scores of dense maps: mean IoU of class maps, mean angle between normals.

mIoU of one picture is the mean over classes of `|P and R| / |P or R|`, over the classes that the
reference shows by at least `MIN_PIXELS`. The angle between unit normals is `acos(n . m)`, its mean
over the pixels that have a normal; what has none (a zero vector) is a right angle off.
"""

import torch
from torch import Tensor

MIN_PIXELS = 24
"""At 128 x 128: a class that a reference shows less of is a stray."""


def mean_iou(
    classes: Tensor, references: Tensor, counted: range, min_pixels: int | None = None
) -> Tensor:
    """Mean intersection over union of class maps.

    Args:
        classes: (B, H, W) integers.
        references: (B, H, W) integers.
        counted: the classes that count.
        min_pixels: of a class that counts in a reference; default `MIN_PIXELS`, proportionally.

    Returns:
        (B,) float64 in [0, 1]; NaN where no class counts.

    Raises:
        ValueError: the shapes differ.
    """
    if classes.shape != references.shape or classes.ndim != 3:
        raise ValueError(
            "class maps must share one shape (B, H, W); these are "
            f"{tuple(classes.shape)} and {tuple(references.shape)}"
        )
    least = MIN_PIXELS / 128**2 * classes[0].numel() if min_pixels is None else min_pixels
    total = torch.zeros(len(classes), dtype=torch.float64, device=classes.device)
    times = torch.zeros_like(total)
    for number in counted:
        ours, theirs = classes == number, references == number
        counts = theirs.sum((1, 2)) >= max(least, 1)
        shared = (ours & theirs).sum((1, 2)).double()
        either = (ours | theirs).sum((1, 2)).clamp_min(1)
        total += torch.where(counts, shared / either, 0.0)
        times += counts
    return total / torch.where(times > 0, times, torch.nan)


def mean_angle(normals: Tensor, references: Tensor, valid: Tensor) -> Tensor:
    """Mean angle between normals in degrees.

    Args:
        normals: (B, 3, H, W), any length.
        references: (B, 3, H, W), any length.
        valid: (B, 1, H, W) bool, which pixels count.

    Returns:
        (B,) float64, 0 to 180; NaN where nothing counts.

    Raises:
        ValueError: the shapes differ.
    """
    if normals.shape != references.shape or valid.shape != normals[:, :1].shape:
        raise ValueError(
            "normals must share one shape (B, 3, H, W) and the mask be (B, 1, H, W); these are "
            f"{tuple(normals.shape)}, {tuple(references.shape)} and {tuple(valid.shape)}"
        )
    ours, theirs = (_unit(each.double()) for each in (normals, references))
    # atan2 keeps small angles exact, where acos of a rounded 1 does not
    cross = torch.linalg.cross(ours, theirs, dim=1).norm(dim=1, keepdim=True)
    dot = (ours * theirs).sum(1, keepdim=True)
    angle = torch.rad2deg(torch.atan2(cross, dot))
    empty = (cross == 0) & (dot == 0)
    angle = torch.where(empty, 90.0, angle)
    count = valid.sum((1, 2, 3)).double()
    total = torch.where(valid, angle, 0.0).sum((1, 2, 3))
    return total / torch.where(count > 0, count, torch.nan)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1; what is (almost) 0 stays 0."""
    length = vectors.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-6, vectors / length.clamp_min(1e-6), 0.0)
