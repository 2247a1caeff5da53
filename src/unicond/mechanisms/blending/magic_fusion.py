"""MagicFusion: two models make one picture, each where its prompt has more to say.

    S = blur(mean over channels of abs(p(c) - p_negative)),      M = softmax(S / T) over space
    p = p_other where w M_other > M_own, else p_own      (x0 and eps alike)

A model's saliency S is where the prompt moves its prediction; the softmax gives both models the
same budget of it, so that each wins where it cares most, as an expert for faces does in a landscape
that a general model paints.

The saliency is measured on x0, which says the same as eps up to a factor and also from pure noise
(at zero terminal SNR eps is the same for every prompt), and is divided by its mean over space, so
that T means the same at every noise level; the source scales raw eps.

Source: Zhao et al. 2023, arXiv:2303.13126, saliency-aware noise blending.
"""

import math
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.blending.classifier_free import ClassifierFree, check_outside
from unicond.mechanisms.blending.extending import extended
from unicond.mechanisms.blending.multidiffusion import Regions
from unicond.mechanisms.blending.noise_collage import NoiseCollage
from unicond.mechanisms.known import check_branch, check_scale
from unicond.sampling.predictions import Prediction, Predictions, nudges
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, kw_only=True, eq=False)
class MagicFusion(Mechanism):
    """A second model beside the run's; one call of each a step, of 2 rows a sample and more.

    Both must share the latents (the autoencoder), the noise schedule and what the network's output
    means. The second sees one branch alone, and has prompts "positive" and "negative" of its own.
    Mechanisms that reach into the run's network do not reach into it. No random draw. With
    latent models a pixel is a place of the latents; nothing is decoded.

    Args:
        other: the second model's denoiser.
        guidance_scale: of the second model's text guidance; 1.0 is off.
        weight: w, of the second model's saliency against the run's own, usually 1; more gives it
            more of the picture, 0.0 is off.
        temperature: T, above 0; small lets the peaks of saliency decide, large the weight alone.
        blur: standard deviation of the blur, in latents; 0.0 does not blur.
        branch: which branch's predictions are fused.
        window: when it acts; outside, the run's own model is alone.

    Raises:
        ValueError: a weight or blur that is negative or infinite, or a temperature that is not
            positive.
    """

    other: Denoiser
    guidance_scale: float = 1.0
    weight: float = 1.0
    temperature: float = 1.0
    blur: float = 1.0
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        check_scale(self.weight, "the weight of the second model")
        check_scale(self.blur, "blur")
        if not self.temperature > 0:
            raise ValueError(f"fusion needs temperature > 0, not {self.temperature}")

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held, or a place where prompts are asked for that it has not."""
        if not self.weight:
            return
        setup.needs_motion(self, self.branch)
        check_outside(self, setup)
        why = "which asks for prompts of its own that the second model does not have"
        setup.goes_around(self, (Regions, NoiseCollage), self._meets, why)

    @override
    def begin(self, state: State) -> State:
        """Only a check: the branch is one of the run's."""
        check_branch(state, self.branch, "fusion")
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask both models with the prompt, and without; take each pixel from one of them."""
        if not self._acts(move):
            return denoiser
        other = ClassifierFree(self.guidance_scale).wrap(self.other, move)

        def bare(variant: Variant) -> list[Variant]:
            plain = replace(variant, guided=False)
            return [plain, replace(plain, prompt="negative")]

        def combine(
            variant: Variant, state: State, own: Predictions, further: Sequence[Predictions]
        ) -> Predictions:
            branch = self.branch
            latents, t = {branch: state.latents[branch]}, {branch: state.t[branch]}
            alone = State(latents, t, state.schedule, state.noise)  # memories are of the run's own
            # in a context of its own: controls of the run's network do not look into the other's
            asked = Context().run(other, alone, [variant, *bare(variant)])
            theirs, *rest = (one[branch] for one in asked)
            mine = self._saliency(*(one[branch] for one in further))
            pick = self.weight * self._saliency(*rest) > mine
            first = own[branch]
            fused = Prediction(
                torch.where(pick, theirs.x0, first.x0),
                torch.where(pick, theirs.eps, first.eps),
                nudges([(~pick, first), (pick, theirs)]),
            )
            return {**own, branch: fused}

        return extended(denoiser, self.branch, bare, combine)

    def _acts(self, move: Move) -> bool:
        return self.weight != 0 and self.window.active(move, self.branch)

    def _meets(self, other: Mechanism, move: Move) -> bool:
        return self._acts(move) and other.sees(move) == "whole"

    def _saliency(self, positive: Prediction, negative: Prediction) -> Tensor:
        """`softmax(S / T)` over space, (B, 1, H, W); each sample's own."""
        found = blurred((positive.x0 - negative.x0).abs().mean(1, keepdim=True), self.blur)
        mean = found.mean((2, 3), keepdim=True)
        scaled = found / torch.where(mean > 0, mean, 1.0) / self.temperature
        return scaled.flatten(1).softmax(1).view_as(found)


def blurred(maps: Tensor, deviation: float) -> Tensor:
    """A Gaussian blur; the border is continued.

    Args:
        maps: (B, 1, H, W).
        deviation: standard deviation in pixels; 0.0 returns the maps.

    Returns:
        (B, 1, H, W).
    """
    if deviation == 0:
        return maps
    reach = math.ceil(3 * deviation)
    places = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = (-0.5 * (places / deviation) ** 2).exp()
    kernel = kernel / kernel.sum()
    padded = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
