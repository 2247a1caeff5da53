"""Metric depth as a picture: metres on a logarithmic scale, the same for every picture.

    share = 1 - ln(metres / 1) / ln(40 / 1),    picture = 2 share - 1:  1 m is white, 40 m is black.

Equal steps of grey are equal ratios of depth: one of 255 levels is 1.5 %. What is nearer or
farther is clipped, and what has no depth (sky) is black.
"""

import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unicond.pictures.decoding import Source
from unicond.pictures.depth import ARRAYS, raw_depth
from unicond.pictures.files import FilePath, PictureError, whole_file
from unicond.pictures.metadata import Settings, write_png

METRIC = "metric_depth"
"""What a branch of such pictures shows (`JointConfig.kind`)."""
NEAREST_M, FARTHEST_M = 1.0, 40.0
MILLIMETRES = 65.535
"""Metres of the greatest value of a 16-bit picture."""


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


def read_metres(source: Source) -> Tensor:
    """Read a map of distances as the picture that the branch of metric depth takes.

    Args:
        source: an array, `.npy` or `.npz` of metres, or a grey picture of 16 bit in millimetres;
            0, NaN and infinity are no depth.

    Returns:
        (3, H, W) float32 in [-1, 1].

    Raises:
        PictureError: it cannot be read, is a picture of 8 bit, or holds negative distances.
    """
    values = raw_depth(source)
    if values.shape[-1] != 1:
        raise PictureError(f"metres are one number a pixel, but {_name(source)} has colours")
    metres = values[..., 0] * _unit(source)
    valid = np.isfinite(metres) & (metres != 0)
    if (metres[valid] < 0).any():
        raise PictureError(
            f"{_name(source)} holds negative distances (down to {metres[valid].min():.4g}); mark "
            "pixels without depth by 0 or NaN"
        )
    drawn = draw_metric_depth(torch.from_numpy(metres), torch.from_numpy(valid))
    return drawn.repeat(3, 1, 1)


def write_metres(
    picture: Tensor, path: FilePath, settings: Settings | None = None
) -> tuple[Path, Path]:
    """Write what a picture of metric depth shows where other programs can use it.

    Args:
        picture: (3, H, W) in [-1, 1].
        path: of a 16-bit grey PNG in millimetres; `.npy`, float32 in metres, goes beside it.
        settings: that it was made with, for the picture; see `write_png`.

    Returns:
        The paths of both.

    Raises:
        PictureError: a file cannot be written.
    """
    target, array = Path(path), Path(path).with_suffix(".npy")
    metres = read_metric_depth(picture[None].detach().cpu())[0, 0].numpy()
    write_png(Image.fromarray((metres * 1000).round().astype(np.uint16)), target, settings)
    with whole_file(array) as file:
        np.save(file, metres.astype(np.float32), allow_pickle=False)
    return target, array


def _unit(source: Source) -> float:
    """Metres of 1.0 in what `raw_depth` returns."""
    if isinstance(source, str | os.PathLike) and Path(source).suffix.lower() not in ARRAYS:
        with Image.open(source) as picture:
            mode = picture.mode
    elif isinstance(source, Image.Image):
        mode = source.mode
    else:
        return 1.0
    if mode == "F":
        return 1.0
    if not mode.startswith("I"):
        raise PictureError(
            f"{_name(source)} is a picture of 8 bit ({mode}), which cannot hold metres: give 16 "
            "bit in millimetres, or .npy in metres"
        )
    return MILLIMETRES


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else "the metric depth"
