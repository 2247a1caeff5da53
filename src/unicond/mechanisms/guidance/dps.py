"""DPS: after the step, down the gradient of how far the predicted picture is from the measurement.

    x_s <- x_s - zeta grad_{x_t} || y - A x0_hat(x_t) ||

The norm is each sample's own and not squared, which is the published code's form; the paper's
`zeta / ||y - A x0_hat|| grad ||y - A x0_hat||^2` is twice it: its zeta is half of this one.

Source: Chung et al. 2023, arXiv:2209.14687, algorithm 1.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.guidance.gradients import Change, ascends, displaced, guided
from unicond.mechanisms.known import check_scale
from unicond.mechanisms.measurement import Measurement
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Latents, Mechanism, Move, Setup, Sight, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, eq=False, kw_only=True)
class DPS(Mechanism):
    """Guidance towards a measurement; any operator with a gradient, linear or not.

    One network call a move, with a graph and a backward pass while the window is open; no random
    draw. It goes outside of all that blends predictions: x0_hat is the bare prediction under the
    prompt, and every branch that moves is moved, as far as joint attention ties it to the measured
    one. On latent models the gradient runs through the decoder too, and A sees the decoded mean of
    latents, which is not the mean of pictures. The step's length does not follow from the noise
    level: the mean comes out right, the spread depends on zeta.

    Args:
        measurement: y and A; the noise level does not enter.
        scale: zeta, usually 0.3 (x4 super-resolution) to 1; 0.0 is off.
        branch: what was measured.
        window: when it acts.

    Raises:
        ValueError: a scale that is negative or infinite.
    """

    measurement: Measurement
    scale: float = 0.5
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        check_scale(self.scale)

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held clean, or a place inside of text guidance."""
        if self.scale:
            setup.needs_motion(self, self.branch, noisy=True)
            check_outside(self, setup)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """Every branch that moves, as far as joint attention ties it to this one."""
        return move.moving() if self._acts(move) else ()

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
        """Predict with a graph, and ask for a displacement after the step."""
        if not self._acts(move):
            return denoiser

        def towards(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            free = [branch for branch in move.moving() if state.scales(branch)[1] > 0]
            # a solver's second call, at the end of the move, displaces nothing
            late = dict(state.t) != dict(move.t)
            if late or state.scales(self.branch)[1] == 0:  # clean: its prediction is what it is
                return denoiser(state, variants)
            return guided(denoiser, state, free, self._distance, variants, self._changing)

        return towards

    def _acts(self, move: Move) -> bool:
        return self.scale != 0 and not ascends(move) and self.window.active(move, self.branch)

    def _changing(self, gradients: Latents) -> Change:
        shifts = {branch: -self.scale * gradient for branch, gradient in gradients.items()}
        return partial(displaced, shifts=shifts)

    def _distance(self, predictions: Predictions) -> Tensor:
        gap = self.measurement.gap(self.measurement.space.decode(predictions[self.branch].x0))
        square = gap.flatten(1).square().sum(1)
        # the root has no gradient at 0: there, none is taken
        return torch.where(square > 0, square, 1.0).sqrt()
