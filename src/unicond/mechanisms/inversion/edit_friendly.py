"""Edit-friendly DDPM inversion: the noises of a stochastic sampler that lead to the given picture.

    x_t = alpha_t x_0 + sigma_t n_t                         independent n_t, for every t
    r_s = x_s - mu_t(x_t)        (= sigma_eta z_t)           under the source's prompt
    y_s = mu_t(y_t) + r_s                                    under the target's

    mu_t = alpha_s x0 + sqrt(sigma_s^2 - sigma_eta^2) eps,   sigma_eta of `solvers`

The residual of the last move, to the clean end, is kept too: under the source's prompt, guided or
not, the target is the source, up to rounding. The z have more variance than a sampler's own, and
neighbours in time are anticorrelated, which is what makes them keep the picture's layout.

Nothing needs to be inverted first: source and target go down in the same network calls, and each
residual is used where it is found.

Source: Huberman-Spiegelglas et al. 2023, arXiv:2304.06140, section 3.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import cast

from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.inversion.ascent import follow
from unicond.mechanisms.inversion.paths import check_first_order, check_landed, falls, level
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.state import Mechanism, Move, Setup, State

_KEY = "edit_friendly"


@dataclass(frozen=True, kw_only=True)
class EditFriendly(Mechanism):
    """Residuals of the source's random way, replayed on the target.

    Both branches start clean at t = 0 and jump up (`paths.jump_and_down`, usually the last 0.64 of
    the times). No call beside the source's rows; one noise draw of the source a move. With latent
    models the picture is the decoded one: what the autoencoder loses stays lost.

    Args:
        source: the branch of the given picture, (B, C, H, W).
        target: the branch that is edited.
        eta: scale of the noise's standard deviation, in (0, 1], usually 1; the solver's own must
            be 0.

    Raises:
        ValueError: an eta out of range, or one branch for both.
    """

    source: str = "source"
    target: str = "target"
    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.eta <= 1.0:
            raise ValueError(f"eta must be in (0, 1], got {self.eta}; 0 is DDIMInversion's way")
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; give two branches")

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a source that is held, and a solver that takes no deterministic step."""
        setup.needs_motion(self, self.source)
        check_first_order(self, setup.solver)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """Both branches: the target's steps are replayed, the source's are its random way."""
        acts = move.kind == "renoise" or move.falls(self.source)
        return (self.source, self.target) if acts else ()

    @override
    def begin(self, state: State) -> State:
        """Put the source's picture into the target, and remember it."""
        if state.t.get(self.source) != 0.0:
            raise ValueError(
                f"branch {self.source!r} has to start clean, at t=0; this run starts at "
                f"{dict(state.t)} (see inversion.paths.jump_and_down)"
            )
        state = follow(state, self.source, self.target)
        return state.remember(_KEY, state.latents[self.source])

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """After the jump the target is the source; after each move down it gets the residual."""
        if move.kind == "renoise":
            return follow(state, self.source, self.target)
        if not falls(move, self.source):
            return state
        check_landed(self, state, predictions, move, self.source)
        alpha, sigma = level(state, move.s, self.source)
        known, latents = cast(Tensor, state.memory[_KEY]), dict(state.latents)
        there = alpha * known
        if sigma > 0:
            there = there + sigma * state.noise.draw(self.source, known)
        less = self._less(state, move)
        residual = there - (latents[self.source] + _shift(predictions[self.source], less))
        latents[self.source] = there
        latents[self.target] = (
            latents[self.target] + _shift(predictions[self.target], less) + residual
        )
        return replace(state, latents=latents)

    def _less(self, state: State, move: Move) -> float:
        """`sqrt(sigma_s^2 - sigma_eta^2) - sigma_s`: by how much less of eps the mean has."""
        (alpha, sigma), (to_alpha, to_sigma) = (
            level(state, at, self.source) for at in (move.t, move.s)
        )
        tau = self.eta**2 * (1 - (alpha * to_sigma / (to_alpha * sigma)) ** 2)
        return to_sigma * (math.sqrt(1 - tau) - 1)


def _shift(prediction: Prediction, less: float) -> Tensor:
    """From where the deterministic step leads to the mean of the stochastic one."""
    return less * prediction.eps
