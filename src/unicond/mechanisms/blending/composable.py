"""Composable diffusion: concepts joined by "and", and others kept out by "not".

    p = p_guided + sum_i w_i (p_i - p_negative)      (x0 and eps alike)

Each concept is an expert of its own and their product is sampled; `w_i < 0` negates one. The run's
own prompt is one of them, with the weight `guidance_scale`: `p_guided = p_negative + g (p_positive
- p_negative)`. So the source's formula is this one with the run's prompt left empty, or with one of
the concepts in its place.

Where the experts do not share a covariance, the sum of their noisy scores is not the score of their
noisy product: what is sampled is near the product, and exactly it where each concept speaks of
coordinates of its own.

Source: Liu et al. 2022, arXiv:2206.01714, concept conjunction and negation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.blending.extending import extended
from unicond.mechanisms.known import check_branch
from unicond.mechanisms.prompted import Prompted, by_text
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Move, Setup, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, kw_only=True)
class Composable(Prompted):
    """Further prompts, each with a weight; one row more a concept, and one for the negative prompt.

    That of the negative prompt is shared with text guidance. No further call, no random draw. With
    latent models the laws that are multiplied are those of latents; nothing is decoded.

    Args:
        concepts: {text: w}, usually 1 to 10 for what should be there, -1 to -10 for what should
            not; 0.0 is off.
        branch: which branch's predictions are combined.
        window: when it acts.

    Raises:
        ValueError: no concept, an empty text, or a weight that is not finite.
    """

    concepts: Mapping[str, float]
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        if not self.concepts or not all(text.strip() for text in self.concepts):
            raise ValueError(
                f"concepts {dict(self.concepts)}: give at least one text with its weight, such as "
                "{'a red ball': 5.0, 'rain': -5.0}"
            )
        for text, weight in self.concepts.items():
            if not math.isfinite(weight):
                raise ValueError(f"the weight of {text!r} is {weight}; it must be a finite number")

    @override
    def prompts(self) -> Mapping[str, str]:
        """The concepts that act."""
        return by_text(text for text, weight in self.concepts.items() if weight)

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held, and a place inside of text guidance: in vain."""
        if any(self.concepts.values()):
            setup.needs_motion(self, self.branch)
            check_outside(self, setup)

    @override
    def begin(self, state: State) -> State:
        """Only a check: the branch is one of the run's."""
        check_branch(state, self.branch, "composition")
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask for every concept's bare prediction beside the guided one, and add them up."""
        acting = {text: weight for text, weight in self.concepts.items() if weight}
        if not acting or not self.window.active(move, self.branch):
            return denoiser

        def ask(variant: Variant) -> list[Variant]:
            names = ["negative", *acting]
            return [replace(variant, prompt=name, guided=False) for name in names]

        def combine(
            _variant: Variant, _state: State, guided: Predictions, further: Sequence[Predictions]
        ) -> Predictions:
            negative, *concepts = (one[self.branch] for one in further)
            terms = [(1.0, guided[self.branch]), (-sum(acting.values()), negative)]
            terms += zip(acting.values(), concepts, strict=True)
            return {**guided, self.branch: Prediction.blend(terms)}

        return extended(denoiser, self.branch, ask, combine)
