"""Where things are, as mechanisms of a run: one for each grounding adapter of the model.

Phrases become the pooled output of the base's text encoder, as its authors' adapters were trained
with; MIGC's words are its whole output. Windows count the image's moves: where a plan lets it rest,
nothing is counted.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unicond.adapters.during import Attached
from unicond.adapters.grounding.adapter import GroundingAdapter, Inputs
from unicond.adapters.grounding.attach import Attachment, until_share, until_step
from unicond.adapters.grounding.inputs import Boxes, Instances, Interactions, Seeded
from unicond.backbones.base import Backbone
from unicond.calls.record import Record
from unicond.grounding import Box, Grounding
from unicond.sampling.plans import Plan
from unicond.sampling.state import numbered
from unicond.sampling.window import Window

_MIGC_SHARE = 0.4
"""Of the moves: published are 20 of 50."""
HEARD: Mapping[str, frozenset[str]] = {
    "gligen": frozenset({"scale", "beta"}),
    "interact": frozenset({"scale", "beta", "interactions"}),
    "migc": frozenset(
        {"migc_steps", "naive_fuser_steps", "repeat", "ca_scale", "ea_scale", "sac_scale"}
    ),
}
"""What methods take of a grounding besides phrases and boxes; others take nothing more."""


def each(said: Grounding | Sequence[Grounding] | None) -> tuple[Grounding, ...]:
    """One grounding or one a sample, or none, as a tuple."""
    if said is None:
        return ()
    return (said,) if isinstance(said, Grounding) else tuple(said)


def counts(said: Sequence[Grounding]) -> dict[str, int]:
    """How many samples groundings are for (see `request.seeds_of`)."""
    return {"grounding": len(said)} if said else {}


def in_vain(said: Sequence[Grounding], methods: Collection[str]) -> str:
    """What groundings say and none of some methods takes, as a sentence.

    Args:
        said: by the caller; what is as it always is does not count.
        methods: that are told.

    Returns:
        It; "" where all is taken.
    """
    heard = {name for method in methods for name in HEARD.get(method, ())}
    lost = dict.fromkeys(name for one in said for name in _more(one) if name not in heard)
    if not lost:
        return ""
    who = ", ".join(map(repr, dict.fromkeys(methods)))
    who = f"method {who} takes" if len({*methods}) == 1 else f"methods {who} take"
    return f"{who} no {', '.join(lost)}: what the boxes say of that does nothing"


def _more(grounding: Grounding) -> list[str]:
    """Fields of a grounding and its boxes, beside phrases and boxes, that are not as usual."""
    whole = [each for each in fields(Grounding) if each.name not in ("boxes", "cut")]
    found = [each.name for each in whole if getattr(grounding, each.name) != each.default]
    single = [each for each in fields(Box) if each.name not in ("phrase", "box")]
    return found + [
        each.name
        for each in single
        if any(getattr(box, each.name) != each.default for box in grounding.boxes)
    ]


def mechanisms(
    backbone: Backbone, adapters: Mapping[str, GroundingAdapter], record: Record, plan: Plan
) -> list[Attached]:
    """What puts the grounding adapters into a run.

    Args:
        backbone: of the run.
        adapters: {name: adapter} of the model.
        record: what was asked for.
        plan: the moves.

    Returns:
        One for each adapter; none where nothing is grounded.

    Raises:
        ValueError: a grounding without an adapter that could take it, without an image that is
            made, for another number of samples, with settings that differ between samples, or with
            a share of the moves that is none of them.
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
    way = _Way.of(plan)
    return [Attached(_attachment(backbone, one, record, way)) for one in adapters.values()]


def check(backbone: Backbone, adapter: GroundingAdapter, said: Grounding) -> None:
    """Refuse what an adapter cannot be told; nothing is encoded.

    Args:
        backbone: of the run.
        adapter: that is told.
        said: where things are.

    Raises:
        ValueError: more things than it has slots for, or a phrase that is too long.
    """
    method, count = adapter.config.method, len(said.boxes)
    phrases = _phrases(said, said.repeat if method == "migc" else 1)
    if method == "interact":
        told = said.told()
        count, phrases = len(told), [*phrases, *(action for _, action, _ in told)]
    if count > adapter.config.slots:
        raise ValueError(
            f"there are {count} things in a sample, but this {method} adapter takes at most "
            f"{adapter.config.slots}"
        )
    if not said.cut:
        backbone.check_phrases(phrases)


@dataclass(frozen=True)
class _Way:
    """The image's moves among all of a plan.

    Args:
        levels: of each of its moves down, the numbers of the plan's moves there; several where a
            plan goes a part of the way again.
    """

    levels: Sequence[Sequence[int]]

    @classmethod
    def of(cls, plan: Plan) -> "_Way":
        found: dict[float, list[int]] = {}
        for move in numbered(plan):
            if "image" in move.shares:
                found.setdefault(move.shares["image"], []).append(move.number)
        return cls([found[share] for share in sorted(found)])

    def window(self, counted: Window) -> Window:
        """The moves of the plan that a window of the image's moves means."""
        start, stop = int(counted.from_t), int(counted.to_t)
        numbers = [number for level in self.levels[start:stop] for number in level]
        return Window.steps(min(numbers), max(numbers) + 1) if numbers else Window.steps(0, 0)


def _attachment(
    backbone: Backbone, adapter: GroundingAdapter, record: Record, way: _Way
) -> Attachment:
    said, count = record.grounding[0], len(way.levels)
    inputs = _inputs(adapter, record, backbone)
    inputs = inputs.to(backbone.device)
    if adapter.config.method != "migc":
        counted = until_share(said.beta, count)
        if said.scale and said.beta and not counted.to_t:
            raise ValueError(
                f"beta is {said.beta:g}, and of the image's {count} moves that is none, so that "
                f"{adapter.config.method} would do nothing: give at least {1 / count:.2g}, take "
                "more steps, or say 0.0 for off"
            )
        window = way.window(counted)
        return Attachment(backbone.network, adapter, inputs, window=window, scale=said.scale)
    last = int(_MIGC_SHARE * count) if said.migc_steps is None else said.migc_steps
    window, naive = (way.window(until_step(n)) for n in (last, said.naive_fuser_steps))
    if said.naive_fuser_steps < 0:
        naive = None
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
    phrases = [_phrases(each, times) for each in groundings]
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


def _phrases(said: Grounding, times: int) -> list[str]:
    """Each box's phrase, so many times over."""
    return [", and ".join([one.phrase] * times) for one in said.boxes]


def _flat(phrases: Sequence[Sequence[str]]) -> list[str]:
    return [phrase for each in phrases for phrase in each]


def _rows(values: Tensor, phrases: Sequence[Sequence[str]]) -> Tensor:
    """Values of all phrases in one row, as one row a sample, filled up with zeros."""
    return _padded(values.split([len(each) for each in phrases]))


def _padded(values: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True)
