"""Replacement: the known part of a branch is put back after every step, at the step's noise level.

    latents_s = m (alpha_s x_known + sigma_s z) + (1 - m) latents_s

m is 1 (white) where the picture is known; soft values blend. Other names: blended diffusion,
inpainting without a special model.

Source: Song et al. 2021, arXiv:2011.13456, section 5 (imputation); Avrahami et al. 2022,
arXiv:2206.02779 (blended latents); UniCon, arXiv:2410.11439, formula (3).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.inversion.paths import rises
from unicond.mechanisms.known import check_known
from unicond.mechanisms.process.own_step import mends
from unicond.sampling.predictions import Predictions
from unicond.sampling.state import Mechanism, Move, State


@dataclass(frozen=True, eq=False)
class Replacement(Mechanism):
    """Keep a part of one branch. No network call; one noise draw a step unless `noise` is given.

    It rests while its branch is inverted along the flow, so that the inversion is of the picture
    alone and the way down starts where it leads; from the first step down on the part is put back.

    With latent models what is kept is the latents: a place of theirs stands for a block of pixels,
    and the decoder mixes neighbours, so that pixels of the known part near its border, and the
    autoencoder's own loss everywhere in it, come out a little changed. Of a mask in pixels a call
    makes one of latents, known where at least half of their pixels are (`pictures.masks`).

    Args:
        branch: whose part is known.
        known: (B or 1, C, H, W) clean latents.
        mask: (B or 1, 1, H, W) in [0, 1]; 1 is known, 0 is free. Nothing known is off: no draw.
        until: the part is known up to this time only: it is put back while `s >= until` (formula
            (3)).
        noise: z, (B, C, H, W), the same at every step; None draws it anew.
        levels: {t: level} that the part is noised to after a move from t; None is the move's own s.
            UniCon's published pipeline takes the next index of the plan even where the branch is
            held.
    """

    restores: ClassVar[bool] = True

    branch: str
    known: Tensor
    mask: Tensor
    until: float = 0.0
    noise: Tensor | None = None
    levels: Mapping[float, float] | None = None

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """Its branch, while the part is known and the branch is not inverted."""
        here = self.branch in move.t and not rises(move, self.branch)
        return (self.branch,) if here and self._is_known(self._level(move)) else ()

    @override
    def begin(self, state: State) -> State:
        """Put the known part in place before the first move (the published pipeline does not)."""
        check_known(state, self.branch, self.known, self.mask, "replacement")
        if self.noise is not None:
            check_known(state, self.branch, self.noise, None, "replacement's noise")
        if not self.mask.any():
            return state
        noted = mends(state, self.branch, self)
        return noted if self.levels is not None else self._replace(noted, state.t[self.branch])

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Put the known part back after the move."""
        resting = rises(move, self.branch)
        return state if resting else self._replace(state, self._level(move))

    def _level(self, move: Move) -> float:
        return move.s[self.branch] if self.levels is None else self.levels[move.t[self.branch]]

    def _is_known(self, level: float) -> bool:
        return level >= self.until and bool(self.mask.any())

    def _replace(self, state: State, level: float) -> State:
        if not self._is_known(level):
            return state
        latents = state.latents[self.branch]
        alpha, sigma = state.schedule.alpha(level), state.schedule.sigma(level)
        known = alpha * self.known.to(latents)
        if sigma > 0:
            z = state.noise.draw(self.branch, latents) if self.noise is None else self.noise
            known = known + sigma * z
        mask = self.mask.to(latents)
        kept = mask * known + (1 - mask) * latents
        return replace(state, latents={**state.latents, self.branch: kept})
