"""Depth, scored after an affine fit in disparity.

A condition picture is inverse depth stretched to [0, 1] by its own least and greatest value, so
that scale and shift are lost. They are fitted back by least squares in disparity over the valid
pixels, per picture,

    (a, b) = argmin sum_valid (a p + b - 1 / d*)^2,    d = max(1 / (a p + b), 1e-6),

and the scores are taken in depth: `AbsRel = mean(|d - d*| / d*)`, delta1 the share of pixels with
`max(d / d*, d* / d) < 1.25`. Where `a p + b` is negative the pixel is behind the camera; the clip
makes it wrong (AbsRel 1) instead of letting a negative depth pass delta1.

The reference `d*` is in metres. Exact depth is; a probe's picture of inverse depth is brought there
by the same fit against the exact depth of the real scene (`align_depth`), or, where no real scene
exists (joint generation), by the world's usual span of disparities (`nominal_depth`). Valid is what
a ray hits and what the reference puts within `DEPTH_RANGE_M`.

Source: the fit in disparity is that of MiDaS, arXiv:1907.01341, eq. 4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

DEPTH_RANGE_M = (1.0, 20.0)
"""The stated range: nothing is nearer, and beyond it one grey level is several metres."""

NOMINAL_DISPARITY = (0.044, 0.45)
"""Disparity (1 / m) at values 0 and 1 of a picture that belongs to no scene: the mean of the least
and of the greatest 1 / depth of 300 scenes."""

MIN_DEPTH_M = 1e-6


@dataclass(frozen=True)
class DepthScores:
    """Scores of B pictures.

    Attributes:
        abs_rel: (B,) float64, 0 is perfect.
        delta1: (B,) float64 in [0, 1], 1 is perfect.
    """

    abs_rel: Tensor
    delta1: Tensor


def valid_pixels(
    depth: Tensor, hit: Tensor | None = None, range_m: tuple[float, float] = DEPTH_RANGE_M
) -> Tensor:
    """What counts: pixels that a ray hits, with a depth within the range (both ends included).

    Args:
        depth: (B, 1, H, W) metres.
        hit: (B, 1, H, W) bool, False where there is sky; None where every pixel is hit.
        range_m: nearest and farthest depth that count.

    Returns:
        (B, 1, H, W) bool.
    """
    inside = (depth >= range_m[0]) & (depth <= range_m[1])
    return inside if hit is None else inside & hit


def align_depth(inverse_depth: Tensor, depth: Tensor, valid: Tensor) -> Tensor:
    """Metric depth of inverse-depth pictures, by least squares in disparity over the valid pixels.

    A constant picture has no scale: it gets scale 0 and the mean disparity as shift.

    Args:
        inverse_depth: (B, 1, H, W), any affine scale, near is large.
        depth: (B, 1, H, W) reference in metres, positive where valid.
        valid: (B, 1, H, W) bool, at least two pixels a picture.

    Returns:
        (B, 1, H, W) float64 metres, at least 1e-6.

    Raises:
        ValueError: shapes differ, values are not finite, a picture has fewer than two valid pixels,
            or a valid depth is not positive.
    """
    _check(inverse_depth, depth, valid)
    weight = valid.double()
    count = weight.sum((1, 2, 3), keepdim=True)
    p = inverse_depth.double()
    disparity = torch.where(valid, 1 / depth.double().clamp_min(MIN_DEPTH_M), 0.0)

    def mean(values: Tensor) -> Tensor:
        return (values * weight).sum((1, 2, 3), keepdim=True) / count

    mean_p, mean_d = mean(p), mean(disparity)
    variance = mean((p - mean_p) ** 2)
    covariance = mean((p - mean_p) * (disparity - mean_d))
    flat = variance <= 1e-12 * (1 + mean_p**2)
    scale = torch.where(flat, 0.0, covariance / torch.where(flat, 1.0, variance))
    return _invert(scale * (p - mean_p) + mean_d)


def nominal_depth(
    inverse_depth: Tensor, disparity: tuple[float, float] = NOMINAL_DISPARITY
) -> Tensor:
    """Metric depth of inverse-depth pictures that belong to no scene: `1 / (low + p (high - low))`.

    Args:
        inverse_depth: (B, 1, H, W) in [0, 1].
        disparity: (low, high), 1 / m, at 0 and at 1.

    Returns:
        (B, 1, H, W) float64 metres.

    Raises:
        ValueError: not 0 < low < high.
    """
    low, high = disparity
    if not 0 < low < high:
        raise ValueError(f"disparity {disparity} must be (low, high) with 0 < low < high")
    return _invert(low + inverse_depth.double() * (high - low))


def score_depth(inverse_depth: Tensor, depth: Tensor, valid: Tensor) -> DepthScores:
    """AbsRel and delta1 of inverse-depth pictures against a reference, after alignment.

    Args:
        inverse_depth: (B, 1, H, W), any affine scale, near is large.
        depth: (B, 1, H, W) reference in metres, positive where valid.
        valid: (B, 1, H, W) bool.

    Returns:
        One score a picture, each its mean over the valid pixels.

    Raises:
        ValueError: as `align_depth`.
    """
    return _score(align_depth(inverse_depth, depth, valid), depth, valid)


def score_metres(metres: Tensor, depth: Tensor, valid: Tensor) -> DepthScores:
    """AbsRel and delta1 of metric depth against a reference, as it is.

    Args:
        metres: (B, 1, H, W), positive.
        depth: (B, 1, H, W) reference in metres, positive where valid.
        valid: (B, 1, H, W) bool, at least two pixels a picture.

    Returns:
        One score a picture, each its mean over the valid pixels.

    Raises:
        ValueError: as `align_depth`.
    """
    _check(metres, depth, valid)
    return _score(metres.double(), depth, valid)


def _score(metres: Tensor, depth: Tensor, valid: Tensor) -> DepthScores:
    """The scores of metres, which may be infinite."""
    reference = torch.where(valid, depth.double(), 1.0)
    count = valid.sum((1, 2, 3)).double()
    error = (metres - reference).abs() / reference
    ratio = torch.maximum(metres / reference, reference / metres)
    return DepthScores(
        abs_rel=torch.where(valid, error, 0.0).sum((1, 2, 3)) / count,
        delta1=(valid & (ratio < 1.25)).sum((1, 2, 3)).double() / count,
    )


def _invert(disparity: Tensor) -> Tensor:
    """`max(1 / disparity, 1e-6)`; zero disparity is infinitely far."""
    return (1 / disparity).clamp_min(MIN_DEPTH_M)


def _check(inverse_depth: Tensor, depth: Tensor, valid: Tensor) -> None:
    shapes = [tuple(each.shape) for each in (inverse_depth, depth, valid)]
    if len(set(shapes)) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 1:
        raise ValueError(
            f"picture, depth and mask must share one shape (B, 1, H, W); these are {shapes}"
        )
    if not inverse_depth.isfinite().all():
        raise ValueError("the picture of depth has values that are not finite")
    few = [row for row, n in enumerate(valid.sum((1, 2, 3)).tolist()) if n < 2]
    if few:
        raise ValueError(
            f"pictures {few} have fewer than two valid pixels, which no scale and shift can be "
            "fitted to and no mean be taken of; leave them out or widen the range"
        )
    if not (depth[valid] > 0).all():
        raise ValueError("a valid pixel has a depth of 0 or less; mask the sky out")
