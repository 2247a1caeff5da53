"""DDIM inversion: the sampler's own ODE, followed from the picture up to noise.

    e = eps(latents_t, t)
    latents_s = alpha_s (latents_t - sigma_t e) / alpha_t + sigma_s e,    s > t

It is the solver's step, upward. The noise prediction belongs to the wrong end of the move, so that
the way down misses by the difference: the error of a round trip falls as 1 / steps.

Source: Song et al. 2021, arXiv:2010.02502, section 4.3; Dhariwal and Nichol 2021, arXiv:2105.05233.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from unicond.mechanisms.inversion.ascent import Ascent
from unicond.mechanisms.inversion.paths import level
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Move, State


@dataclass(frozen=True, kw_only=True)
class DDIMInversion(Ascent):
    """Walk up by any deterministic solver; one network call a move, of the source's rows alone.

    With latent models the picture is the decoded one: what the autoencoder loses stays lost.

    Args:
        source: see `Ascent`.
        target: see `Ascent`.
        prompt: see `Ascent`.
        guided: see `Ascent`.
        ahead: tell the network the time at the end of the move, `e = eps(latents_t, s)`, as
            prompt-to-prompt's published code does; off is the paper's.
    """

    ahead: bool = False

    @override
    def upward(
        self, denoiser: Denoiser, state: State, move: Move, variants: Sequence[Variant]
    ) -> list[Predictions]:
        """The denoiser's predictions, at the start of the move or as if at its end."""
        if not self.ahead or dict(state.t) != {b: move.t[b] for b in state.t}:
            return denoiser(state, variants)
        there = state.at(state.latents, {branch: move.s[branch] for branch in state.t})
        return [
            {b: self._at_start(p, state, move, b) for b, p in found.items()}
            for found in denoiser(there, variants)
        ]

    def _at_start(self, found: Prediction, state: State, move: Move, branch: str) -> Prediction:
        if branch not in move.moving():
            return found
        alpha, sigma = level(state, move.t, branch)
        return replace(found, x0=(state.latents[branch] - sigma * found.eps) / alpha)
