"""Classifier-free guidance: away from the negative prompt, towards the prompt.

    p = p_negative + g (p_positive - p_negative)      (x0 and eps alike)

`guidance_scale` 1.0 is the conditional model alone and costs no extra rows. The interval of
arXiv:2404.07724 is the `window`.

Source: Ho and Salimans 2022, arXiv:2207.12598, eq. 6 (their w is `g - 1`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from unicond.sampling.predictions import Prediction, Predictions, each
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True)
class ClassifierFree(Mechanism):
    """Guidance by the difference between two prompts; rows a call: 2 a variant instead of 1.

    It asks for bare predictions, so that it goes inside of all that guides or blends. With latent
    models nothing is decoded, and nothing more is approximate.

    Args:
        guidance_scale: g, usually 1 to 10; 1.0 is off.
        window: when it acts; outside, the conditional model runs alone.
        negative: name of the prompt to move away from.
    """

    guidance_scale: float = 1.0
    window: Window = ALWAYS
    negative: str = "negative"

    def acts(self, move: Move) -> bool:
        """Whether it does anything in this move."""
        return self.guidance_scale != 1.0 and self.window.active(move)

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask for both prompts in one call and extrapolate; variants with `guided=False` pass."""
        if not self.acts(move):
            return denoiser

        def guided(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            mine = [variant for variant in variants if variant.guided]
            others = [replace(v, prompt=self.negative, guided=False) for v in mine]
            bare = [replace(variant, guided=False) for variant in variants]
            found = denoiser(state, [*bare, *others])
            negatives = iter(found[len(variants) :])
            return [
                self._extrapolate(positive, next(negatives)) if variant.guided else positive
                for variant, positive in zip(variants, found[: len(variants)], strict=True)
            ]

        return guided

    def _extrapolate(self, positive: Predictions, negative: Predictions) -> Predictions:
        g = self.guidance_scale
        return each(positive, lambda b, p: Prediction.blend([(g, p), (1 - g, negative[b])]))


def check_outside(mechanism: Mechanism, setup: Setup) -> None:
    """Refuse what changes guided predictions inside of text guidance, which asks for bare ones.

    Args:
        mechanism: that acts.
        setup: of its run.

    Raises:
        ValueError: text guidance stands before it.
    """
    why = "which asks for bare predictions, so that it would do nothing"
    setup.goes_around(mechanism, (ClassifierFree,), ClassifierFree.acts, why)
