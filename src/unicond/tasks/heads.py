"""Following a map by a readout head that reads the network's features, in an adapter's place."""

import warnings
from dataclasses import replace
from functools import lru_cache

from torch import nn

from unicond.adapter_loading import other_weights
from unicond.adapters.readout import ReadoutHead, channels_of
from unicond.backbones.files import EMBEDDED
from unicond.calls.inputs import read_inputs
from unicond.calls.output import Output
from unicond.calls.request import Given
from unicond.loading import load_readout
from unicond.mechanisms.guidance.readout import Readout
from unicond.model import Model
from unicond.pictures.fitting import Size

READ = 10.0
"""Usual scale of a head whose error was not measured."""
SHARE = 0.25
"""Usual scale of others, times the variance of the head's error."""
_other_weights = lru_cache(maxsize=16)(other_weights)  # bases of full size take long to read


def fits(head: ReadoutHead, network: nn.Module) -> bool:
    """Whether a head reads the blocks that a network has."""
    return head.config.blocks == channels_of(network)


def has_head(kind: str, model: Model) -> bool:
    """Whether a head ships that reads a kind of map off this model.

    Args:
        kind: of the map, as `"depth"`.
        model: whose network it would read.

    Returns:
        The answer.
    """
    there = (EMBEDDED / "readout" / kind).is_dir()
    return there and fits(load_readout(kind), model.backbone.network)


def follow(
    model: Model, branch: str, known: Given, size: Size, head: str, scale: float | None
) -> Readout:
    """What makes a model follow a map by a head.

    Args:
        model: whose network is read.
        branch: the condition that the map is of.
        known: the map, wholly or where a mask is white.
        size: (height, width) of the run in pixels.
        head: as `load_readout` takes it; "" is the embedded one of the condition.
        scale: None is the head's `usual_scale`, 0.0 is off.

    Returns:
        The mechanism.

    Raises:
        ValueError: there is no such head, or it was made for another network.
        PictureError: a file cannot be read, or does not fit.

    Warns:
        UserWarning: it was made for other weights than the model's, as those that they were
            fine-tuned from: it then reads, if less well.
    """
    backbone, name = model.backbone, head or branch
    loaded = load_readout(name)
    if not fits(loaded, backbone.network):
        raise ValueError(
            f"the readout head {name!r} was made for {loaded.config.base!r}, whose blocks have "
            f"{loaded.config.blocks} channels, not for {backbone.name}: train one of this base, or "
            "choose another method"
        )
    here = _other_weights(backbone.name, loaded.config.base)
    if here is not None:
        warnings.warn(
            f"the readout head {name!r} was made for {loaded.config.base}, and {backbone.name} has "
            f"other weights ({here}): if it is not fine-tuned from that base, the head will not "
            "read well",
            stacklevel=2,
        )
    inputs = read_inputs({branch: known}, {branch: loaded.config.kind}, size, backbone)
    wanted = inputs.pictures[branch]
    if loaded.config.channels == 1:
        wanted = wanted.mean(1, keepdim=True)
    return Readout(
        head=loaded.to(backbone.device),
        wanted=wanted,
        mask=inputs.masks.get(branch),
        scale=usual_scale(loaded) if scale is None else scale,
        branch="image",
    )


def usual_scale(head: ReadoutHead) -> float:
    """How strongly a head is followed where nothing is said: the surer it is, the more."""
    return READ if head.config.error is None else SHARE / head.config.error


def with_map(out: Output, branch: str, guide: Readout) -> Output:
    """A result with the map that a head followed among what was given."""
    return replace(out, given={**out.given, branch: guide.wanted.expand(-1, 3, -1, -1)})
