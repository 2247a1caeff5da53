"""Condition guidance: away from the model that does not see the condition, or sees less of it.

    p = p_guided + g_c (p_positive - p_positive with weights a w)             (x0 and eps alike)

w are the weights of joint attention; a = 0 switches it off. With `guidance_scale` g it is UniCon's
`e_u + g (e_c - e_u) + g_c (e_c - e_c_off)`: all terms but the last with joint attention on. One
more row a sample and branch, in the same call; `g_c = 0` is off.

Source: UniCon, arXiv:2410.11439, section 3.3 (loosely aligned conditions), after formula (8).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True)
class ConditionGuidance(Mechanism):
    """Guidance by the difference that joint attention makes; goes before text guidance.

    Args:
        scale: g_c, usually 0 to 3; 0.0 is off.
        window: when it acts.
        against: a, the share of the weights of joint attention in what is moved away from.

    Raises:
        ValueError: `against` is 1, which leaves no difference.
    """

    scale: float = 0.0
    window: Window = ALWAYS
    against: float = 0.0

    def __post_init__(self) -> None:
        if self.scale != 0.0 and self.against == 1.0:
            raise ValueError(
                "condition guidance against 1.0 compares the model with itself: give another "
                "share of the weights, usually 0.0 to 0.7, or condition_guidance=0.0"
            )

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask for the bare prediction with both sets of weights beside the guided one."""
        if self.scale == 0.0 or not self.window.active(move):
            return denoiser

        def guided(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            mine = [replace(variant, guided=False) for variant in variants if variant.guided]
            off = [replace(variant, joint=self.against) for variant in mine]
            found = denoiser(state, [*variants, *mine, *off])
            ons = iter(found[len(variants) : len(variants) + len(mine)])
            offs = iter(found[len(variants) + len(mine) :])
            return [
                self._add(predictions, next(ons), next(offs)) if variant.guided else predictions
                for variant, predictions in zip(variants, found[: len(variants)], strict=True)
            ]

        return guided

    def _add(self, guided: Predictions, on: Predictions, off: Predictions) -> Predictions:
        c = self.scale
        return {
            branch: Prediction.blend([(1.0, p), (c, on[branch]), (-c, off[branch])])
            for branch, p in guided.items()
        }
