"""DDNM: what was measured is put into the predicted picture, the rest of it is the model's.

    x0' = A^+ y + (I - A^+ A) x0_hat
    x_s = alpha_s x0' + sigma_s (sqrt(1 - eta^2) eps_hat + eta z)

`eps_hat` is kept as it was predicted. A noisy measurement (DDNM+) is trusted as far as the step's
own noise hides its noise, for each singular value s_i, with `sd = eta sigma_s`:

    x0' = x0_hat + l A^+ (y - A x0_hat),    l = min(1, sd s_i / (alpha_s sigma_y)),
    variance of the step's noise: sd^2 - (alpha_s l sigma_y / s_i)^2

Time travel is a plan (`correction.repaint.resampled`); on its way up the predicted picture, not the
state, is noised: `x_t = alpha_t x0' + sigma_t z`.

Source: Wang et al. 2022, arXiv:2212.00490, sections 3.2 and 3.3; eta is a share of sigma_s
there, not the eta of DDIM.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.measurement import Measurement, Pixels
from unicond.mechanisms.process.own_step import begun, check_share, falling, stepped
from unicond.sampling.predictions import Predictions
from unicond.sampling.state import Mechanism, Move, Setup, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, eq=False, kw_only=True)
class DDNM(Mechanism):
    """Restoration by the null space; no network call of its own, one noise draw a step.

    It makes the steps of its branch down itself, whichever solver runs (a second-order one wastes
    its calls); so it goes after mechanisms that guide predictions, and before those that mend the
    state. On latent models the correction is made on decoded pictures (one decoding and two
    encodings a step), the residual is then that of the autoencoder, and the noise is plain, as for
    an exact measurement.

    Args:
        measurement: y and the linear A.
        eta: share of a step's noise that is new, [0, 1]; where the measurement is noisy, 0 trusts
            nothing.
        branch: what was measured.
        window: when it acts; outside, the solver steps.

    Raises:
        ValueError: an operator that is not linear, or eta out of range.
    """

    measurement: Measurement
    eta: float = 0.85
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        self.measurement.linear("DDNM")
        check_share("eta", self.eta)
        if self.eta == 0 and self.measurement.noise_std > 0:
            raise ValueError(
                "eta=0 leaves no noise to hide that of the measurement in, so that DDNM+ would not "
                "look at it; give eta > 0 (usually 0.85)"
            )

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held: nothing would be done."""
        setup.needs_motion(self, self.branch)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """Its branch: the steps down are its own, and so is the noise of time travel."""
        rises = move.kind == "step" and move.rises(self.branch)
        acts = self.branch in move.moving() and not rises and self.window.active(move, self.branch)
        return (self.branch,) if acts else ()

    @override
    def begin(self, state: State) -> State:
        """Only a check: the measurement fits, and no other mechanism makes the steps."""
        return begun(state, self.branch, self, self.measurement)

    @override
    def revise(self, predictions: Predictions, state: State, move: Move) -> Predictions:
        """x0 and eps of which `alpha_s x0 + sigma_s eps` is the formula's step."""
        if not self.window.active(move, self.branch) or not falling(state, move, self.branch):
            return predictions
        alpha, sigma = (
            f(move.s[self.branch]) for f in (state.schedule.alpha, state.schedule.sigma)
        )
        prediction = predictions[self.branch]
        trust, share = self._trust(prediction.x0, alpha, sigma)
        x0, eps = self._corrected(prediction.x0, trust), prediction.eps
        if self.eta > 0 and sigma > 0:
            z = state.noise.draw(self.branch, eps)
            eps = math.sqrt(1 - self.eta**2) * eps + self.eta * self._shaped(z, share)
        return {**predictions, self.branch: replace(prediction, x0=x0, eps=eps)}

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Make the step; on the way up of time travel, noise the last corrected picture."""
        if not self.window.active(move, self.branch) or self.branch not in move.moving():
            return state
        key = f"ddnm {self.branch}"
        if move.kind == "step":
            if move.rises(self.branch):
                return state
            kept = state.remember(key, predictions[self.branch].x0)
            return stepped(kept, predictions, self.branch)
        x0 = cast(Tensor | None, state.memory.get(key))
        if x0 is None:
            return state
        alpha, sigma = state.scales(self.branch)
        latents = alpha * x0 + sigma * state.noise.draw(self.branch, x0)
        return replace(state, latents={**state.latents, self.branch: latents})

    def _trust(self, x0: Tensor, alpha: float, sigma: float) -> tuple[Tensor | None, Tensor | None]:
        """`l` and the standard deviation of new noise as a share of sd, (n,); None is all ones."""
        noise = self.measurement.noise_std
        if noise == 0:
            return None, None
        singulars = self.measurement.linear("DDNM").singulars.to(x0)
        hidden = self.eta * sigma * singulars / (alpha * noise)  # sd / (alpha sigma_y / s_i)
        trust = hidden.clamp(max=1.0)
        used = torch.where(hidden > 0, trust / hidden, 0.0)  # (alpha l sigma_y / s_i) / sd
        return trust, (1 - used.square()).clamp(min=0.0).sqrt()

    def _corrected(self, x0: Tensor, trust: Tensor | None) -> Tensor:
        operator, space = self.measurement.linear("DDNM"), self.measurement.space
        picture = space.decode(x0)
        change = operator.pinv(self.measurement.gap(picture))
        if trust is not None:
            change = operator.from_spectral(trust * operator.to_spectral(change))
        return space.changed(x0, picture, picture + change)

    def _shaped(self, z: Tensor, share: Tensor | None) -> Tensor:
        if share is None or not isinstance(self.measurement.space, Pixels):
            return z
        operator = self.measurement.linear("DDNM")
        return operator.from_spectral(share * operator.to_spectral(z))
