"""From what a caller gives to tensors of one size: every branch's pictures and masks."""

import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unicond.pictures.decoding import Source as Picture
from unicond.pictures.depth import read_depth
from unicond.pictures.files import PictureError, fingerprint
from unicond.pictures.fitting import Policy, allowed_size, check_size, fit, resized
from unicond.pictures.masks import read_mask
from unicond.pictures.reading import read_picture
from unicond.request import Given, Source


def read_given(given: Given, kind: str | None) -> list[Tensor]:
    """The pictures of a branch, each (3, H, W) in [-1, 1] at its own size.

    Args:
        given: one picture, or one a sample.
        kind: what the branch shows (`JointConfig.kind`); depth maps are read as such, tensors as
            the pictures that they are.

    Returns:
        One a picture, at their own sizes.
    """
    depth = kind is not None and kind.startswith("depth")
    return [
        read_depth(source, given.kind)
        if depth and not isinstance(source, Tensor)
        else read_picture(source)
        for source in _sources(given)
    ]


def size_of(
    size: int | tuple[int, int] | None,
    pictures: Mapping[str, Sequence[Tensor]],
    sample_size: int,
    multiple: int,
) -> tuple[int, int]:
    """The (height, width) of a run.

    Args:
        size: what the caller asks; None takes the proportions of the first given picture at the
            base's own area, or the base's square.
        pictures: {branch: its pictures (3, H, W)}.
        sample_size: side that the base was trained on.
        multiple: sides must be multiples of it.

    Returns:
        (height, width) in pixels.

    Raises:
        PictureError: the latents cannot hold the size; the message says which they can.
    """
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        check_size(height, width, multiple)
        return height, width
    for rows in pictures.values():
        height, width = rows[0].shape[-2:]
        if height == width and height % multiple == 0 and height <= sample_size:
            return height, width
        return allowed_size(height, width, multiple, area=sample_size**2)
    return sample_size, sample_size


def fitted(pictures: Sequence[Tensor], size: tuple[int, int], policy: Policy) -> Tensor:
    """(B, 3, H, W): the pictures of a branch at the run's size."""
    return torch.stack([fit(picture, size, policy=policy) for picture in pictures])


def known_part(given: Given, size: tuple[int, int], latents: Tensor) -> Tensor:
    """The mask of a branch at the latents' size, (1, 1, h, w), 1 is known.

    Args:
        given: with a mask, of the given picture's proportions.
        size: (height, width) of the run, in pixels.
        latents: (B, C, h, w).

    Returns:
        (1, 1, h, w) in [0, 1].

    Raises:
        PictureError: the mask cannot be read, knows nothing, or leaves nothing free.
    """
    assert given.mask is not None
    mask = read_mask(given.mask, invert=given.invert)
    whole = fit(mask, size, policy=given.fit, resample="nearest", fill=0.0)
    height, width = latents.shape[-2:]
    small = resized(whole, (height, width), "nearest")[None].to(latents)
    if small.amin() == 1 or small.amax() == 0:
        what = "everything" if small.amin() == 1 else "nothing"
        raise PictureError(
            f"at the latents' {height} x {width} the mask knows {what}: a latent is "
            f"{size[0] // height} pixels wide; draw the mask larger"
        )
    return small


def source_of(given: Given) -> Source:
    """How a branch was given, with the hashes of its files."""
    return Source(
        files=_fingerprints(_sources(given)),
        mask=None if given.mask is None else _fingerprints([given.mask]),
        noise=given.noise,
        hold=given.hold,
        kind=given.kind,
        fit=given.fit,
        invert=given.invert,
    )


def _sources(given: Given) -> list[Picture]:
    picture = given.picture
    if isinstance(picture, Tensor):
        return list(picture) if picture.ndim == 4 else [picture]
    if isinstance(picture, Sequence) and not isinstance(picture, str):
        if not picture:
            raise PictureError("an empty list of pictures was given; give one, or one a sample")
        return list(picture)
    return [picture]


def _fingerprints(sources: Sequence[Picture]) -> tuple[Mapping[str, str], ...]:
    """Of sources that are files; empty if any is not."""
    paths = [source for source in sources if isinstance(source, str | os.PathLike)]
    return tuple(fingerprint(path) for path in paths) if len(paths) == len(sources) else ()
