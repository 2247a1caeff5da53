"""Where things are, as mechanisms of a run: one for each grounding adapter of the model.

Phrases become the pooled output of the base's text encoder, as its authors' adapters were trained
with; MIGC's words are its whole output.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unicond.adapters.during import Attached
from unicond.adapters.grounding.adapter import GroundingAdapter, Inputs
from unicond.adapters.grounding.attach import Attachment, until_share, until_step
from unicond.adapters.grounding.inputs import Boxes, Instances, Interactions, Seeded
from unicond.backbones.base import Backbone
from unicond.calls.record import Record
from unicond.grounding import Grounding

_MIGC_SHARE = 0.4
"""Of the moves: published are 20 of 50."""


def each(said: Grounding | Sequence[Grounding] | None) -> tuple[Grounding, ...]:
    """One grounding or one a sample, or none, as a tuple."""
    if said is None:
        return ()
    return (said,) if isinstance(said, Grounding) else tuple(said)


def counts(said: Sequence[Grounding]) -> dict[str, int]:
    """How many samples groundings are for (see `request.seeds_of`)."""
    return {"grounding": len(said)} if said else {}


def mechanisms(
    backbone: Backbone, adapters: Mapping[str, GroundingAdapter], record: Record
) -> list[Attached]:
    """What puts the grounding adapters into a run.

    Args:
        backbone: of the run.
        adapters: {name: adapter} of the model.
        record: what was asked for.

    Returns:
        One for each adapter; none where nothing is grounded.

    Raises:
        ValueError: a grounding without an adapter that could take it, without an image that is
            made, for another number of samples, or with settings that differ between samples.
    """
    said, samples = record.grounding, len(record.seeds)
    if not said:
        return []
    if not adapters:
        raise ValueError(
            "a grounding says where things are, but no adapter of this model takes it: load "
            "gligen, interact or migc (unicond.load(base, adapters=[...]))"
        )
    if "image" not in record.generated:
        raise ValueError("a grounding says where to draw things, but the image is given, not made")
    if len(said) not in (1, samples):
        raise ValueError(
            f"{len(said)} groundings are given for {samples} samples; give one, or all"
        )
    if len({_settings(one) for one in said}) > 1:
        raise ValueError(
            "the samples' groundings differ in their settings; boxes and interactions are a "
            "sample's own, all else is of the run"
        )
    return [Attached(_attachment(backbone, one, record)) for one in adapters.values()]


def _attachment(backbone: Backbone, adapter: GroundingAdapter, record: Record) -> Attachment:
    said = record.grounding[0]
    inputs = _inputs(adapter, record, backbone)
    inputs = inputs.to(backbone.device)
    if adapter.config.method != "migc":
        window = until_share(said.beta, record.num_inference_steps)
        return Attachment(backbone.network, adapter, inputs, window=window, scale=said.scale)
    usual = int(_MIGC_SHARE * record.num_inference_steps)
    window = until_step(usual if said.migc_steps is None else said.migc_steps)
    naive = None if said.naive_fuser_steps < 0 else until_step(said.naive_fuser_steps)
    return Attachment(backbone.network, adapter, inputs, window=window, naive=naive)


def _settings(one: Grounding) -> Sequence[object]:
    return (one.scale, one.beta, one.migc_steps, one.naive_fuser_steps, one.repeat, one.cut)


def _inputs(adapter: GroundingAdapter, record: Record, backbone: Backbone) -> Inputs:
    """What an adapter takes, of every sample or of one for all.

    MIGC's is of every sample: each has a shuffle of its own.
    """
    groundings = record.grounding
    cut = groundings[0].cut
    if adapter.config.method == "interact":
        return _interactions(groundings, backbone, cut)
    times = groundings[0].repeat if adapter.config.method == "migc" else 1
    phrases = [[", and ".join([one.phrase] * times) for one in each.boxes] for each in groundings]
    pooled, words = backbone.encode_phrases(_flat(phrases), cut)
    boxes = _padded([torch.tensor([one.box for one in each.boxes]) for each in groundings])
    masks = _padded([torch.ones(len(each.boxes)) for each in groundings])
    told = _rows(pooled, phrases)
    if adapter.config.method == "gligen":
        return Boxes(masks=masks, boxes=boxes, phrases=told)

    def scale(name: str) -> Tensor:
        return _padded(
            [torch.tensor([getattr(o, name) for o in each.boxes]) for each in groundings]
        )

    return Instances(
        masks=masks,
        boxes=boxes,
        phrases=told,
        words=_rows(words, phrases),
        size=record.size,
        latents=backbone.latent_shape(record.size)[1:],
        ca_scale=scale("ca_scale"),
        ea_scale=scale("ea_scale"),
        sac_scale=scale("sac_scale"),
        shuffle=Seeded(record.seeds),
    ).of_each(len(record.seeds))


def _interactions(groundings: Sequence[Grounding], backbone: Backbone, cut: bool) -> Interactions:
    told = [each.told() for each in groundings]

    def phrases(texts: Sequence[Sequence[str]]) -> Tensor:
        return _rows(backbone.encode_phrases(_flat(texts), cut)[0], texts)

    return Interactions(
        masks=_padded([torch.ones(len(each)) for each in told]),
        subject_boxes=_padded([torch.tensor([one.box for one, _, _ in each]) for each in told]),
        object_boxes=_padded([torch.tensor([one.box for _, _, one in each]) for each in told]),
        subjects=phrases([[one.phrase for one, _, _ in each] for each in told]),
        actions=phrases([[action for _, action, _ in each] for each in told]),
        objects=phrases([[one.phrase for _, _, one in each] for each in told]),
    )


def _flat(phrases: Sequence[Sequence[str]]) -> list[str]:
    return [phrase for each in phrases for phrase in each]


def _rows(values: Tensor, phrases: Sequence[Sequence[str]]) -> Tensor:
    """Values of all phrases in one row, as one row a sample, filled up with zeros."""
    return _padded(values.split([len(each) for each in phrases]))


def _padded(values: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True)
