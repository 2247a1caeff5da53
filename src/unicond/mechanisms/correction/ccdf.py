"""CCDF: come closer, diffuse faster. Begin at a noised estimate, and project after each step.

    x_{t0} = alpha_{t0} x_est + sigma_{t0} z,    t0 < 1
    x_s <- (I - A^+ A) x_s + A^+ (alpha_s y + sigma_s A z)

A good estimate (a bicubic enlargement, a one-step restoration) needs little noise to be mended, so
that few steps do.

Source: Chung et al. 2022, arXiv:2112.05146, algorithms 1 to 3.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.inversion.paths import rises
from unicond.mechanisms.measurement import Measurement
from unicond.mechanisms.process.own_step import mends
from unicond.sampling.predictions import Predictions
from unicond.sampling.state import Mechanism, Move, Setup, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, eq=False, kw_only=True)
class CCDF(Mechanism):
    """A late start and a projection; no network call, one noise draw a step and one at the start.

    t0 is the plan's: `plans.descend(times, {"image": 0.3})` starts there. What is measured is taken
    as exact: noise in y comes out as it went in. It rests while its branch is inverted. On latent
    models the projection is made on the predicted clean picture (one decoding and two encodings a
    step, see `Measurement.projected`), so that y is met only nearly.

    Args:
        measurement: y and the linear A; the noise level does not enter.
        estimate: (B or 1, C, H, W) clean latents.
        branch: what was measured.
        window: when it projects.

    Raises:
        ValueError: an operator that is not linear.
    """

    restores: ClassVar[bool] = True

    measurement: Measurement
    estimate: Tensor
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        self.measurement.linear("CCDF")

    @property
    @override
    def starts(self) -> Collection[str]:
        """Its branch, from the estimate."""
        return (self.branch,)

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held: nothing would be mended."""
        setup.needs_motion(self, self.branch)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """Its branch, where it acts."""
        return (self.branch,) if self._acts(move) else ()

    @override
    def begin(self, state: State) -> State:
        """Noise the estimate to where the plan starts."""
        self.measurement.check(state, self.branch)
        latents, t = state.latents[self.branch], state.t[self.branch]
        shape = (len(self.estimate), *latents.shape[1:])
        if self.estimate.shape != shape or len(self.estimate) not in (1, len(latents)):
            raise ValueError(
                f"the estimate has shape {tuple(self.estimate.shape)}, the latents of "
                f"{self.branch!r} {tuple(latents.shape)}"
            )
        if not 0 < t < 1:
            raise ValueError(
                f"CCDF starts at 0 < t < 1 (usually 0.2 to 0.5), but the plan starts "
                f"{self.branch!r} at t={t}; use plans.descend(times, {{{self.branch!r}: 0.3}})"
            )
        alpha, sigma = state.scales(self.branch)
        start = alpha * self.estimate.to(latents) + sigma * state.noise.draw(self.branch, latents)
        noised = replace(state, latents={**state.latents, self.branch: start})
        return mends(noised, self.branch, self)

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Put the measured part in place."""
        if not self._acts(move):
            return state
        return self.measurement.projected(state, predictions, self.branch)

    def _acts(self, move: Move) -> bool:
        moves = self.branch in move.moving() and not rises(move, self.branch)
        return moves and self.window.active(move, self.branch)
