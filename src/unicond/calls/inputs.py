"""From what a caller gives to tensors of one size: every branch's pictures and masks."""

import math
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.backbones.base import Backbone
from unicond.calls.record import Source
from unicond.calls.request import Given
from unicond.conditions import CONDITIONS
from unicond.pictures.decoding import Source as Picture
from unicond.pictures.depth import DepthKind, read_depth
from unicond.pictures.files import PictureError, fingerprint
from unicond.pictures.fitting import Policy, Size, allowed_size, check_size, fit, proportional
from unicond.pictures.masks import in_blocks, left_out, on_latents, read_mask
from unicond.pictures.metric_depth import METRIC, read_metres
from unicond.pictures.reading import read_colours, read_picture

COLOURED = frozenset(condition.shows for condition in CONDITIONS if condition.coloured)
"""What is said by colours (`JointConfig.kind`), so that a grey picture says nothing."""
NEARLY = 0.75
"""Of the base's side, at least, is a square picture whose size is taken for the run's."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything given, read and brought to size.

    Args:
        given: {branch: how}.
        pictures: {branch: (B or 1, 3, H, W) in [-1, 1]}.
        masks: {branch: (1, 1, h, w) in [0, 1] at the latents' size, 1 is known}.
        size: (H, W) of the run, in pixels.
    """

    given: Mapping[str, Given]
    pictures: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    size: Size

    def counts(self) -> dict[str, int]:
        """{branch: how many pictures of it are given}."""
        return {branch: len(pictures) for branch, pictures in self.pictures.items()}


def read_inputs(
    given: Mapping[str, Given],
    kinds: Mapping[str, str],
    size: int | Size | None,
    backbone: Backbone,
    aligned: Collection[str] = (),
) -> Inputs:
    """Read all that is given, before anything runs.

    Args:
        given: {branch: how}.
        kinds: {branch: what it shows (`JointConfig.kind`)}, in the model's order.
        size: what the caller asks for.
        backbone: says which sizes can be.
        aligned: branches that show the image's own view.

    Returns:
        The pictures and masks.

    Raises:
        PictureError: a file cannot be read, does not fit, or shows the view of another picture, or
            has the mask of another one, in other proportions.

    Warns:
        UserWarning: a mask says what is finer than latents.
    """
    raw = {b: _read(known, kinds.get(b)) for b, known in given.items()}
    _check_one_view(raw, aligned, given)
    for branch, known in given.items():
        if known.mask is not None and known.fit in ("crop", "pad"):
            _check_one_mask(branch, raw[branch])
    order = [b for b in dict.fromkeys(("image", *kinds, *given)) if b in raw]
    goal = size_of(size, {b: raw[b] for b in order}, backbone.sample_size, backbone.multiple)
    pictures = {b: _fitted(rows, goal, given[b].fit, kinds.get(b)) for b, rows in raw.items()}
    masks = dict[str, Tensor]()
    for branch, known in given.items():
        if known.mask is not None:
            masks[branch], untold = _mask(known, raw[branch][0], goal, backbone.factor)
            if untold:  # for the caller of `Model.__call__`
                warnings.warn(f"the mask of {branch!r}: {untold}", stacklevel=4)
    return Inputs(given, pictures, masks, goal)


def _read(given: Given, kind: str | None) -> list[Tensor]:
    """The pictures of a branch, each (3, H, W) in [-1, 1] at its own size.

    Depth maps are read as such; tensors as the pictures that they are. A file of a kind whose
    colours carry the meaning must have some.
    """
    return [_read_one(source, given.kind, kind) for source in pictures_of(given.picture)]


def _read_one(source: Picture, depth_kind: DepthKind, kind: str | None) -> Tensor:
    if isinstance(source, Tensor):
        return read_picture(source)
    if kind == METRIC and depth_kind == "metric":
        return read_metres(source)
    if kind in COLOURED:
        return read_colours(source, kind)
    return read_depth(source, depth_kind) if is_depth(kind) else read_picture(source)


def _alike(one: Size, two: Size) -> bool:
    """Whether two sizes have one shape, whichever is the larger."""
    return proportional(*sorted((one, two), key=math.prod))


def _check_one_view(
    pictures: Mapping[str, Sequence[Tensor]], aligned: Collection[str], given: Mapping[str, Given]
) -> None:
    """Raise unless what shows one view, and is cut or padded to the run's size, has one shape."""
    seen = [b for b in ("image", *aligned) if b in pictures and given[b].fit in ("crop", "pad")]
    for other in seen[1:]:
        ours, theirs = pictures[seen[0]], pictures[other]
        for n in range(max(len(ours), len(theirs))):
            one, two = (_shape(rows[min(n, len(rows) - 1)]) for rows in (ours, theirs))
            if not _alike(one, two):
                raise PictureError(
                    f"{seen[0]!r} has height {one[0]}, width {one[1]}, but {other!r} {two[0]}, "
                    f"{two[1]}: they show one view, and in other proportions each would be brought "
                    "to the run's size by itself, so that their places no longer match, whichever "
                    "size is asked for; crop them alike first"
                )


def _check_one_mask(branch: str, pictures: Sequence[Tensor]) -> None:
    """Raise unless pictures that are cut or padded, and have one mask, have one shape."""
    one = _shape(pictures[0])
    for number, picture in enumerate(pictures[1:], start=2):
        two = _shape(picture)
        if not _alike(one, two):
            raise PictureError(
                f"{branch!r} has one mask for {len(pictures)} pictures, but the first has height "
                f"{one[0]}, width {one[1]}, and number {number} {two[0]}, {two[1]}: in other "
                "proportions each would be brought to the run's size by itself, so that the mask "
                "no longer lies where it was drawn; crop them alike first, or give each in a call "
                "of its own, with its own mask"
            )


def _shape(picture: Tensor) -> Size:
    return picture.shape[-2], picture.shape[-1]


def is_depth(kind: str | None) -> bool:
    """Whether a branch of this `JointConfig.kind` shows inverse depth."""
    return kind is not None and kind.startswith("depth")


def size_of(
    size: int | Size | None,
    pictures: Mapping[str, Sequence[Tensor]],
    sample_size: int,
    multiple: int,
) -> Size:
    """The (height, width) of a run.

    Args:
        size: what the caller asks; None takes the proportions of the first picture at the base's
            own area, or the base's square. A square picture a little smaller stays as it is.
        pictures: {branch: its pictures (3, H, W)}; the first branch counts.
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
        near = NEARLY * sample_size <= height <= sample_size
        if height == width and height % multiple == 0 and near:
            return height, width
        return allowed_size(height, width, multiple, area=sample_size**2)
    return sample_size, sample_size


def _fitted(pictures: Sequence[Tensor], size: Size, policy: Policy, kind: str | None) -> Tensor:
    """The pictures of a branch at the run's size, (B, 3, H, W); depth does not overshoot."""
    resample = "linear" if is_depth(kind) or kind == METRIC else "smooth"
    fits = [fit(picture, size, policy=policy, resample=resample) for picture in pictures]
    return torch.stack(fits)


def _mask(given: Given, picture: Tensor, size: Size, factor: int) -> tuple[Tensor, str]:
    """The mask of a branch at the latents' size, (1, 1, h, w), 1 is known; what it leaves out."""
    assert given.mask is not None
    mask = read_mask(given.mask, _shape(picture), given.invert, given.threshold)
    latents = (size[0] // factor, size[1] // factor)
    whole = in_blocks(mask, latents, factor, given.fit)
    small = on_latents(whole, latents)
    if small.amin() == 1 or small.amax() == 0:
        what = "everything" if small.amin() == 1 else "nothing"
        raise PictureError(
            f"at the latents' size, {tuple(small.shape[-2:])}, the mask knows {what}: a latent is "
            f"{factor} pixels wide; draw what is {'free' if what == 'everything' else 'known'} "
            "larger"
        )
    return small[None], left_out(whole, small)


def source_of(given: Given) -> Source:
    """How a branch was given, with the hashes of its files."""
    return Source(
        files=fingerprints(pictures_of(given.picture)),
        mask=None if given.mask is None else fingerprints([given.mask]),
        noise=given.noise,
        hold=given.hold,
        kind=given.kind,
        fit=given.fit,
        invert=given.invert,
        threshold=given.threshold,
        guide=given.guide,
    )


def pictures_of(picture: Picture | Sequence[Picture]) -> list[Picture]:
    """One picture or several, as a list.

    Args:
        picture: one, a list, or a tensor (B, 3, H, W).

    Returns:
        Each by itself.

    Raises:
        PictureError: the list is empty.
    """
    if isinstance(picture, Tensor):
        return list(picture) if picture.ndim == 4 else [picture]
    if isinstance(picture, Sequence) and not isinstance(picture, str):
        if not picture:
            raise PictureError("an empty list of pictures was given; give one, or one a sample")
        return list(picture)
    return [picture]


def fingerprints(sources: Sequence[Picture]) -> tuple[Mapping[str, str], ...]:
    """What is recorded of sources that are files; empty if any is not.

    Args:
        sources: pictures.

    Returns:
        Path and sha256 of each.
    """
    paths = [source for source in sources if isinstance(source, str | os.PathLike)]
    return tuple(fingerprint(path) for path in paths) if len(paths) == len(sources) else ()
