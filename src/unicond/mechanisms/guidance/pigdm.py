"""PiGDM: the score of the measurement, as if what is known of x0 were Gaussian about x0_hat.

    g = (y - A x0_hat)^T (r^2 A A^T + sigma_y^2 I)^-1 A dx0_hat/dx_t
    x0_hat += sigma^2 / alpha g,    eps_hat -= sigma g

`r^2 = sigma^2 / (alpha^2 + sigma^2)` is the variance of x0 given x_t under a unit prior: there it
is exact, mean and variance, for every linear A and noise. The published code, for exact
measurements, moves the state instead:

    x_s += alpha_s alpha_t r^2 g

Source: Song et al. 2023, "Pseudoinverse-guided diffusion models for inverse problems", openreview
9_gsMA8MRKQ, section 3 and algorithm 1.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.guidance.gradients import (
    Change,
    along_the_score,
    ascends,
    displaced,
    guided,
)
from unicond.mechanisms.known import check_scale
from unicond.mechanisms.measurement import Measurement
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Latents, Mechanism, Move, Setup, Sight, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, eq=False, kw_only=True)
class PiGDM(Mechanism):
    """Guidance by a linear measurement; the noise level sets how far it is trusted.

    One network call a move, with a graph and a backward pass while the window is open; no random
    draw. It goes outside of all that blends predictions: x0_hat is the bare prediction under the
    prompt, and every branch that moves is moved, as far as joint attention ties it to the measured
    one. Nothing is moved at pure noise (alpha = 0), where x0_hat says nothing of the latents. On
    latent models A acts on decoded pictures and the gradient runs through the decoder: r^2 is then
    of latents, while it stands for pictures.

    Args:
        measurement: y, the linear A, and how noisy y is.
        scale: weight of g; 1.0 is the formula, 0.0 is off.
        published: the second form, for exact measurements.
        branch: what was measured.
        window: when it acts.

    Raises:
        ValueError: an operator that is not linear, a scale that is negative or infinite, or the
            published form with a noisy measurement.
    """

    measurement: Measurement
    scale: float = 1.0
    published: bool = False
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        self.measurement.linear("PiGDM")
        check_scale(self.scale)
        if self.published and self.measurement.noise_std > 0:
            raise ValueError(
                f"the published form is for exact measurements, and noise_std is "
                f"{self.measurement.noise_std}; drop published=True"
            )

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held clean, or a place inside of text guidance."""
        if self.scale:
            setup.needs_motion(self, self.branch, noisy=True)
            check_outside(self, setup)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """In the published form every branch that moves; the other only guides the step."""
        return move.moving() if self.published and self._acts(move) else ()

    @override
    def sees(self, move: Move) -> Sight:
        """All of the picture, where it acts."""
        return "whole" if self._acts(move) else "part"

    @override
    def begin(self, state: State) -> State:
        """Only a check: the measurement fits."""
        return self.measurement.check(state, self.branch) if self.scale else state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Predict with a graph from the latents that move, and follow g."""
        if not self._acts(move):
            return denoiser

        def towards(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            free = [branch for branch in move.moving() if min(state.scales(branch)) > 0]
            late = self.published and dict(state.t) != dict(move.t)
            if late or state.scales(self.branch)[1] == 0:  # clean: its prediction is what it is
                return denoiser(state, variants)

            def energy(predictions: Predictions) -> Tensor:
                return self._energy(predictions[self.branch].x0, *state.scales(self.branch))

            changing = partial(self._changing, state, move)
            return guided(denoiser, state, free, energy, variants, changing)

        return towards

    def _acts(self, move: Move) -> bool:
        return self.scale != 0 and not ascends(move) and self.window.active(move, self.branch)

    def _energy(self, x0: Tensor, alpha: float, sigma: float) -> Tensor:
        """(B,): minus the derivative of it is `w^T A dx0_hat`, with w held fixed."""
        measurement, operator = self.measurement, self.measurement.linear("PiGDM")
        picture = measurement.space.decode(x0)
        with torch.no_grad():
            gap = operator.measurement_to_spectral(measurement.gap(picture.detach()))
            s = operator.singulars.to(gap)
            variance = sigma**2 / (alpha**2 + sigma**2) * s**2 + measurement.noise_std**2
            weight = torch.where(s > 0, s / torch.where(s > 0, variance, 1.0), 0.0)
            pull = operator.from_spectral(weight * gap)
        return -(pull * picture).flatten(1).sum(1)

    def _changing(self, state: State, move: Move, gradients: Latents) -> Change:
        scaled = {branch: self.scale * gradient for branch, gradient in gradients.items()}
        if not self.published:
            return partial(along_the_score, state=state, gradients=scaled)
        shifts = dict[str, Tensor]()
        for branch, gradient in scaled.items():
            alpha, sigma = state.scales(branch)
            length = state.schedule.alpha(move.s[branch]) * alpha * sigma**2
            shifts[branch] = -length / (alpha**2 + sigma**2) * gradient
        return partial(displaced, shifts=shifts)
