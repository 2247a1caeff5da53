"""What aggregation is compared with: two models in one process, at the same number of calls.

score_sum       p = w p_1 + (1 - w) p_2 of the guided predictions at the first one's state
magic_fusion    each pixel from the model whose prompt moves it more (`MagicFusion`)
both            both adapters in the network, in every call
averaged        one adapter, whose weights are the mean of both where both have the same
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from unicond.adapters.during import Attached
from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.calls.output import Output
from unicond.calls.prepared import Prepared
from unicond.evaluation.amdm.models import INTERACT, Wanted, prepare
from unicond.evaluation.subject import Sampling
from unicond.mechanisms.blending.extending import extended
from unicond.mechanisms.blending.magic_fusion import MagicFusion
from unicond.model import Loaded, Model
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, State
from unicond.sampling.window import Window

Blend = Callable[[Prepared, Prepared, Window], Mechanism]
"""From the first call, the other and when it acts to what blends them."""


@dataclass(frozen=True, eq=False)
class ScoreSum(Mechanism):
    """The other call's guided prediction of the image is averaged with this one's.

    Attributes:
        other: a call with the same latents.
        weight: w of this one, in [0, 1].
        window: when it acts.
    """

    other: Prepared
    weight: float
    window: Window

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask both with the same state, and average."""
        if not self.window.active(move):
            return denoiser
        theirs = wrapped(self.other, self.other.mechanisms, move)

        def nothing_more(_variant: Variant) -> Sequence[Variant]:
            return ()

        def combine(
            variant: Variant, state: State, own: Predictions, _further: Sequence[Predictions]
        ) -> Predictions:
            [found] = theirs(state, [variant])
            terms = [(self.weight, own["image"]), (1 - self.weight, found["image"])]
            return {**own, "image": Prediction.blend(terms)}

        return extended(denoiser, "image", nothing_more, combine)


@dataclass(frozen=True, eq=False)
class Fused(Mechanism):
    """`MagicFusion` with another call, whose adapters are in the network while it is asked.

    Attributes:
        other: a call with the same latents.
        window: when it acts.
    """

    other: Prepared
    window: Window

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask both, and take each pixel from one of them."""
        adapters = [one for one in self.other.mechanisms if isinstance(one, Attached)]
        theirs = wrapped(self.other, adapters, move)
        guidance = self.other.record.guidance_scale
        fusion = MagicFusion(other=theirs, guidance_scale=guidance, window=self.window)
        return fusion.wrap(denoiser, move)


def wrapped(call: Prepared, mechanisms: Sequence[Mechanism], move: Move) -> Denoiser:
    """A call's denoiser under some of its mechanisms, during a move."""
    denoiser: Denoiser = call.denoiser
    for mechanism in reversed(mechanisms):
        denoiser = mechanism.wrap(denoiser, move)
    return denoiser


def score_sum(_one: Prepared, other: Prepared, window: Window) -> Mechanism:
    """Both count the same."""
    return ScoreSum(other, 0.5, window)


def magic_fusion(_one: Prepared, other: Prepared, window: Window) -> Mechanism:
    """As its authors have it, but for the adapters."""
    return Fused(other, window)


def blended(
    blend: Blend,
    model: Model,
    names: tuple[str, str],
    wanted: Wanted,
    seeds: Sequence[int],
    sampling: Sampling,
    window: Window,
) -> Output:
    """A picture by two models in one process.

    Args:
        blend: how.
        model: with the adapters of both.
        names: of both; the first one's process it is.
        wanted: the picture.
        seeds: one a sample.
        sampling: of both.
        window: the moves in which both are asked.

    Returns:
        The output.
    """
    one, other = (
        prepare(model, name, wanted, seeds, sampling, beside=slot > 0)
        for slot, name in enumerate(names)
    )
    return replace(one, mechanisms=[blend(one, other, window), *one.mechanisms]).run()


def both(
    model: Model,
    names: tuple[str, str],
    wanted: Wanted,
    seeds: Sequence[int],
    sampling: Sampling,
) -> Output:
    """A picture by a network with two adapters, each with what it takes; as `blended`."""
    one, other = (prepare(model, name, wanted, seeds, sampling) for name in names)
    theirs = [each for each in other.mechanisms if isinstance(each, Attached)]
    return replace(one, mechanisms=[*one.mechanisms, *theirs]).run()


def averaged(
    one: GroundingAdapter, other: GroundingAdapter, share: float = 0.5
) -> GroundingAdapter:
    """An adapter between two: `share * one + (1 - share) * other`, weight by weight.

    Args:
        one: says what the adapter is; weights that the other does not have stay its own.
        other: of the same network.
        share: of the first, in [0, 1].

    Returns:
        A new adapter, for inference.

    Raises:
        ValueError: the two have no weight in common, as of InteractDiffusion and MIGC.
    """
    theirs = other.state_dict()
    values = dict(one.state_dict())
    same = [
        name
        for name, value in values.items()
        if name in theirs and theirs[name].shape == value.shape
    ]
    if not same:
        raise ValueError(
            f"{one.config.method} and {other.config.method} have no weight in common: there is "
            "nothing to average"
        )
    for name in same:
        values[name] = share * values[name] + (1 - share) * theirs[name]
    adapter = GroundingAdapter.from_tensors(one.config, values, "the mean of two adapters")
    return adapter.requires_grad_(False).eval()


def with_averaged(model: Model, other: str) -> Model:
    """A model whose InteractDiffusion is averaged with another of its adapters."""
    mine, theirs = model.grounders[INTERACT], model.grounders[other]
    mean = Loaded(
        f"mean of {mine.source} and {theirs.source}", averaged(mine.adapter, theirs.adapter)
    )
    return replace(model, grounders={**model.grounders, INTERACT: mean})
