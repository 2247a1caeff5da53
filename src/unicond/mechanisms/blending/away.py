"""Guidance away from a weaker version of the model itself.

    p = p_guided + s (p_positive - p_weaker)                                  (x0 and eps alike)

What is weaker is up to the method. Both are asked for bare, without further guidance, in the same
call; with text guidance g this is `e_u + g (e_c - e_u) + s (e_c - e_weaker)`. One more row a sample
and branch; `s = 0` is off.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True)
class Away(Mechanism):
    """Guidance by a difference that the model makes; goes before text guidance.

    Args:
        scale: s, usually 0 to 3; 0.0 is off.
        window: when it acts.
    """

    scale: float = 0.0
    window: Window = ALWAYS

    @abstractmethod
    def weaker(self, variant: Variant) -> Variant:
        """What is moved away from, in the place of a bare variant."""

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a place inside of text guidance: nothing would be done."""
        if self.scale:
            check_outside(self, setup)

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask for the bare prediction of both versions beside the guided one."""
        if self.scale == 0.0 or not self.window.active(move):
            return denoiser

        def guided(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            mine = [replace(variant, guided=False) for variant in variants if variant.guided]
            others = [self.weaker(variant) for variant in mine]
            found = denoiser(state, [*variants, *mine, *others])
            bare = iter(found[len(variants) : len(variants) + len(mine)])
            weaker = iter(found[len(variants) + len(mine) :])
            return [
                self._add(predictions, next(bare), next(weaker)) if variant.guided else predictions
                for variant, predictions in zip(variants, found[: len(variants)], strict=True)
            ]

        return guided

    def _add(self, guided: Predictions, bare: Predictions, weaker: Predictions) -> Predictions:
        s = self.scale
        return {
            branch: Prediction.blend([(1.0, p), (s, bare[branch]), (-s, weaker[branch])])
            for branch, p in guided.items()
        }
