"""DDRM: the reverse step in the basis of the measurement, each singular value in its own way.

In the basis V of `A = U S V^T`: `x0 = V^T x0_hat`, `e = V^T eps_hat`, `ybar_i = (U^T y)_i / s_i`;
`sig = sigma / alpha`. The step is `x_s = alpha_s V(.)` of

    s_i = 0:                x0 + sig_s (sqrt(1 - eta^2) e + eta z)
    sig_s < sigma_y / s_i:  x0 + sqrt(1 - eta^2) sig_s (ybar - x0) / (sigma_y / s_i) + eta sig_s z
    else:                   (1 - eta_b) x0 + eta_b ybar + sqrt(sig_s^2 - (eta_b sigma_y / s_i)^2) z

and the run starts at `alpha_T ybar + sqrt(sigma_T^2 - (alpha_T sigma_y / s_i)^2) z` where s_i > 0
and the root is real, at `sigma_T z` elsewhere.

Source: Kawar et al. 2022, arXiv:2201.11793, section 3; eta is a share of sigma_s there, not the eta
of DDIM.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.measurement import Measurement, Pixels
from unicond.mechanisms.process.own_step import begun, check_share, falling, stepped
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.state import Mechanism, Move, Setup, State


@dataclass(frozen=True, eq=False, kw_only=True)
class DDRM(Mechanism):
    """Restoration by singular values; no network call of its own, one noise draw a step.

    It makes the start of its branch and its steps down itself, whichever solver runs (a
    second-order one wastes its calls); so it goes after mechanisms that guide predictions, and
    before those that mend the state. On latent models there is no basis for the noise: the change
    of x0 that the formulas stand for is made on the decoded picture (one decoding and two encodings
    a step), the noise is that of `s_i = 0`, and the start is left as it is.

    Args:
        measurement: y and the linear A.
        eta: share of a step's noise that is new, [0, 1].
        eta_b: weight of the measurement while the state is noisier than it, [0, 1].
        branch: what was measured.

    Raises:
        ValueError: an operator that is not linear, or a share out of range.
    """

    measurement: Measurement
    eta: float = 0.85
    eta_b: float = 1.0
    branch: str = "image"

    def __post_init__(self) -> None:
        self.measurement.linear("DDRM")
        check_share("eta", self.eta)
        check_share("eta_b", self.eta_b)

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held: nothing would be done."""
        setup.needs_motion(self, self.branch)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """Its branch: the steps down are its own."""
        return (self.branch,) if self._steps(move) else ()

    @override
    def begin(self, state: State) -> State:
        """The start, in the basis of the measurement."""
        state = begun(state, self.branch, self, self.measurement)
        alpha, sigma = state.scales(self.branch)
        if sigma == 0 or not isinstance(self.measurement.space, Pixels):
            return state
        latents = state.latents[self.branch]
        operator = self.measurement.linear("DDRM")
        z = operator.to_spectral(state.noise.draw(self.branch, latents))
        seen, level, ybar = self._measured(latents)
        seen = seen & (alpha * level <= sigma)
        spread = (sigma**2 - torch.where(seen, alpha * level, 0.0) ** 2).clamp(min=0.0).sqrt()
        start = operator.from_spectral(torch.where(seen, alpha * ybar, 0.0) + spread * z)
        return replace(state, latents={**state.latents, self.branch: start})

    @override
    def revise(self, predictions: Predictions, state: State, move: Move) -> Predictions:
        """x0 and eps of which `alpha_s x0 + sigma_s eps` is the formula's step."""
        if not falling(state, move, self.branch):
            return predictions
        to = move.s[self.branch]
        level = state.schedule.sigma(to) / state.schedule.alpha(to)
        prediction = predictions[self.branch]
        # nothing is drawn where nothing is noised
        z = state.noise.draw(self.branch, prediction.eps) if level > 0 else prediction.eps
        pixels = isinstance(self.measurement.space, Pixels)
        made = (self._in_pixels if pixels else self._decoded)(prediction, level, z)
        return {**predictions, self.branch: made}

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Make the step."""
        return stepped(state, predictions, self.branch) if self._steps(move) else state

    def _steps(self, move: Move) -> bool:
        return move.kind == "step" and move.falls(self.branch)

    def _in_pixels(self, prediction: Prediction, sig: float, z: Tensor) -> Prediction:
        operator, keep = self.measurement.linear("DDRM"), math.sqrt(1 - self.eta**2)
        x0, e, z = (operator.to_spectral(v) for v in (prediction.x0, prediction.eps, z))
        seen, level, ybar = self._measured(prediction.x0)
        hidden, shown = seen & (sig < level), seen & (sig >= level)
        pull = torch.where(hidden, (ybar - x0) / torch.where(hidden, level, 1.0), e)
        eps = keep * pull + self.eta * z
        if sig > 0:
            root = (1 - (self.eta_b * torch.where(shown, level, 0.0) / sig) ** 2).sqrt()
            eps = torch.where(shown, root * z, eps)
        x0 = torch.where(shown, (1 - self.eta_b) * x0 + self.eta_b * ybar, x0)
        return replace(prediction, x0=operator.from_spectral(x0), eps=operator.from_spectral(eps))

    def _decoded(self, prediction: Prediction, sig: float, z: Tensor) -> Prediction:
        operator, space = self.measurement.linear("DDRM"), self.measurement.space
        keep, picture = math.sqrt(1 - self.eta**2), space.decode(prediction.x0)
        seen, level, ybar = self._measured(picture)
        gain = torch.where(
            sig < level, keep * sig / torch.where(seen & (level > 0), level, 1.0), self.eta_b
        )
        found = operator.to_spectral(picture)
        change = torch.where(seen, gain * (ybar - found), 0.0)
        x0 = space.changed(prediction.x0, picture, picture + operator.from_spectral(change))
        return replace(prediction, x0=x0, eps=keep * prediction.eps + self.eta * z)

    def _measured(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which s_i > 0 (n,), sigma_y / s_i there (n,), and ybar (B, n), 0 where s_i = 0."""
        operator = self.measurement.linear("DDRM")
        singulars = operator.singulars.to(like)
        seen = singulars > 0
        safe = torch.where(seen, singulars, 1.0)
        ybar = operator.measurement_to_spectral(self.measurement.of(like)) / safe
        return seen, self.measurement.noise_std / safe, ybar
