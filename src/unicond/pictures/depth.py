"""Depth maps in and out.

Inside, depth is a grey picture of inverse depth: each map is scaled so that its nearest pixel is
white (1) and its farthest black (-1); pixels without depth, such as the sky, are black too,

    picture = 2 (r - min r) / (max r - min r) - 1,    r = 1 / metres, or the map's own grey value,

minimum and maximum over the pixels that have a depth.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from unicond.pictures.decoding import EXTENSIONS, MAX_SIDE, Source, pixels
from unicond.pictures.files import FilePath, PictureError, existing_file, whole_file
from unicond.pictures.metadata import Settings, write_png

DepthKind = Literal["near-white", "near-black", "metric"]
ARRAYS = (".npy", ".npz")

_COLOURED = 0.15
_COLOURED_SHARE = 0.05
"""More than this share of pixels with channels further apart than `_COLOURED` are no grey map."""


@dataclass(frozen=True)
class DepthMap:
    """A depth map that was read.

    Args:
        picture: (3, H, W) float32 in [-1, 1], near is 1; pixels without depth are -1.
        valid: (H, W) bool, which pixels have a depth.
        border: width in pixels of a frame of one constant value around the map, 0 where none. It
            is kept: only its owner knows whether it is part of the scene.
    """

    picture: Tensor
    valid: Tensor
    border: int


def read_depth(source: Source, kind: DepthKind = "near-white", max_side: int = MAX_SIDE) -> Tensor:
    """Read a depth map as the picture that the depth branch takes; see `read_depth_map`.

    Args:
        source: as in `read_depth_map`.
        kind: as in `read_depth_map`.
        max_side: as in `read_depth_map`.

    Returns:
        (3, H, W) float32 in [-1, 1], near is 1.
    """
    return read_depth_map(source, kind, max_side).picture


def read_depth_map(
    source: Source, kind: DepthKind = "near-white", max_side: int = MAX_SIDE
) -> DepthMap:
    """Read a depth map of any kind.

    Args:
        source: a path (a picture of 8 or 16 bit or float, `.npy`, `.npz`), a PIL image, or an array
            or tensor of depths (H, W). Transparent pixels, NaN and infinity have no depth.
        kind: `"near-white"`: inverse depth, as estimators give it; black is farthest.
            `"near-black"`: the same turned round. `"metric"`: distances in metres, or in any
            other unit; 0 is no depth.
        max_side: files and PIL images with a longer side are reduced to it, by leaving pixels
            out, since a mean of two depths is neither.

    Returns:
        The picture, which of its pixels have a depth, and the width of its border.

    Raises:
        PictureError: it cannot be read, is coloured, constant, negative, or has no depth anywhere.
        ValueError: the kind is unknown.
    """
    if kind not in get_args(DepthKind):
        raise ValueError(f"depth kind {kind!r} is not known; choose one of {get_args(DepthKind)}")
    values = raw_depth(source, max_side)
    grey = values[..., :3].mean(-1)
    valid = np.isfinite(grey)
    if values.shape[-1] == 4:
        valid &= values[..., 3] >= 0.5
    _check_grey(values[..., :3])
    if kind == "metric":
        grey, valid = _inverse(grey, valid)
    share = _scaled(-grey if kind == "near-black" else grey, valid)
    picture = torch.from_numpy(share * 2 - 1).float()
    return DepthMap(picture.repeat(3, 1, 1), torch.from_numpy(valid), _border(grey))


def write_depth(
    depth: Tensor, path: FilePath, settings: Settings | None = None
) -> tuple[Path, Path]:
    """Write a generated depth map where other programs can use it.

    Args:
        depth: (H, W) inverse depth in [0, 1], near is 1; what is beyond is clipped.
        path: of the picture, ending in `.png`; the array goes beside it.
        settings: that it was made with, for the picture; see `write_png`.

    Returns:
        The paths of a 16-bit grey PNG and of a `.npy` of float32 in [0, 1].

    Raises:
        PictureError: a file cannot be written, or a value is not finite.
        ValueError: the shape or the file's ending is another.
    """
    target = Path(path)
    if depth.ndim != 2 or target.suffix.lower() != ".png":
        raise ValueError(
            f"depth of shape {tuple(depth.shape)}, file {target}: give (H, W) and a name in .png"
        )
    if not depth.isfinite().all():
        raise PictureError(f"the depth holds values that are not finite; {target} is not written")
    values = depth.detach().float().cpu().clamp(0, 1).numpy()
    write_png(Image.fromarray((values * 65535).round().astype(np.uint16)), target, settings)
    array_path = target.with_suffix(".npy")
    with whole_file(array_path) as file:
        np.save(file, values, allow_pickle=False)
    return target, array_path


def raw_depth(source: Source, max_side: int = MAX_SIDE) -> np.ndarray:
    """(H, W, C) float32 as it was stored; integers of pictures are in [0, 1]."""
    if isinstance(source, str | os.PathLike):
        path = existing_file(source, (*EXTENSIONS, *ARRAYS), "depth map")
        if path.suffix.lower() not in ARRAYS:
            return pixels(path, max_side, Image.Resampling.NEAREST)
        source = _load_array(path)
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        source = (source.float() if source.is_floating_point() else source).numpy()
    if not isinstance(source, np.ndarray):
        return pixels(source, max_side, Image.Resampling.NEAREST)
    if source.ndim == 3 and source.shape[-1] in (3, 4) and source.dtype == np.uint8:
        return pixels(source)
    depth = source
    while depth.ndim > 2 and 1 in (depth.shape[0], depth.shape[-1]):
        depth = depth[0] if depth.shape[0] == 1 else depth[..., 0]
    if depth.ndim != 2 or depth.size == 0 or depth.dtype.kind not in "biuf":
        raise PictureError(
            f"the depth array has shape {source.shape} of {source.dtype}; give numbers (H, W)"
        )
    return depth[..., None].astype(np.float32)


def _load_array(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = loaded.files
            if len(names) != 1 and "depth" not in names:
                raise PictureError(
                    f"{path} holds the arrays {', '.join(names) or 'none'}; name one of them depth"
                )
            return loaded["depth" if "depth" in names else names[0]]
    except PictureError:
        raise
    except Exception as error:  # numpy raises nearly anything for a damaged file
        if "allow_pickle" in str(error):
            raise PictureError(
                f"{path} holds Python objects (a pickle, which could run code) or no array at all, "
                "and is refused; save the depth as an array of numbers"
            ) from error
        raise PictureError(f"{path} is damaged, or no numpy file ({error})") from error


def _check_grey(colours: np.ndarray) -> None:
    if colours.shape[-1] < 3:
        return
    share = float(((colours.max(-1) - colours.min(-1)) > _COLOURED).mean())
    if share > _COLOURED_SHARE:
        raise PictureError(
            f"{share:.0%} of the depth map's pixels are coloured: it is a photograph, or depth "
            "drawn with a colour map, whose order cannot be known; export it as grey, or as .npy"
        )


def _inverse(metres: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if (metres[valid] < 0).any():
        raise PictureError(
            f"the metric depth holds negative distances (down to {metres[valid].min():.4g}); mark "
            "pixels without depth by 0 or NaN"
        )
    near = 1 / np.where(valid & (metres > 0), metres, np.inf)
    return near, valid & (metres > 0) & np.isfinite(near)


def _scaled(near: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Scale to [0, 1] over valid pixels, 0 elsewhere; a flat shape before nothing is all near."""
    if not valid.any():
        raise PictureError("the depth map has no pixel with a depth (all transparent, 0 or NaN)")
    low, high = near[valid].min(), near[valid].max()
    if low == high and valid.all():
        raise PictureError(
            "the depth map is constant: it says nothing about the scene; leave it out instead"
        )
    share = (near - low) / (high - low) if high > low else np.ones_like(near)
    return np.where(valid, share, 0.0)


def _border(values: np.ndarray) -> int:
    rows, columns = np.nonzero(values != values[0, 0])
    if len(rows) == 0:
        return 0
    height, width = values.shape
    return int(min(rows.min(), height - 1 - rows.max(), columns.min(), width - 1 - columns.max()))
