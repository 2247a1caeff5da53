"""Metric depth as a picture: metres on a logarithmic scale, the same for every picture.

    share = 1 - ln(metres / 1) / ln(40 / 1),    picture = 2 share - 1:  1 m is white, 40 m is black.

Equal steps of grey are equal ratios of depth: one of 255 levels is 1.5 %. What is nearer or
farther is clipped, and what has no depth (sky) is black.
"""

import math

import torch
from torch import Tensor

NEAREST_M, FARTHEST_M = 1.0, 40.0


def draw_metric_depth(metres: Tensor, valid: Tensor) -> Tensor:
    """Depth as a picture.

    Args:
        metres: any shape, distance along the camera's axis.
        valid: the same shape, bool: what has a depth.

    Returns:
        The same shape, float32 in [-1, 1].
    """
    inside = torch.where(valid, metres, FARTHEST_M).float().clamp(NEAREST_M, FARTHEST_M)
    return 1 - 2 * (inside / NEAREST_M).log() / math.log(FARTHEST_M / NEAREST_M)


def read_metric_depth(pictures: Tensor) -> Tensor:
    """The metres that a picture shows.

    Args:
        pictures: (B, C, H, W) in [-1, 1]; channels are averaged.

    Returns:
        (B, 1, H, W) float64, `NEAREST_M` to `FARTHEST_M`.
    """
    share = (pictures.double().mean(1, keepdim=True).clamp(-1, 1) + 1) / 2
    return NEAREST_M * (FARTHEST_M / NEAREST_M) ** (1 - share)
