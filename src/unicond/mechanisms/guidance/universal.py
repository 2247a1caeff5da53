"""Universal guidance: along the gradient of any energy of the predicted picture.

    forward:     eps <- eps + g sigma_t grad_{x_t} E(x0_hat(x_t))
                 x0  <- x0 - g sigma_t^2 / alpha_t grad_{x_t} E(x0_hat(x_t))
    backward:    D = argmin E(x0 + D) by some steps of gradient descent,
                 x0 <- x0 + D,    eps <- eps - alpha_t / sigma_t D
    time travel: the middle moves are gone several times, noised again between (`travelled`)

The forward gradient runs through the network, the backward one does not, and takes the prediction
as all guidance has made it. With `E = -log p(c | x0_hat)` forward is classifier guidance.

Source: Bansal et al. 2023 (universal guidance), arXiv:2302.07121, algorithm 1 and eq. 7 to 10; Yu
et al. 2023 (FreeDoM), arXiv:2303.09833, algorithms 1 and 2. Deviates: FreeDoM moves x_s by
`rho_t grad E` with rho_t chosen by hand; here the gradient is one of the score, of which every
solver makes its own step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.correction.repaint import resampled
from unicond.mechanisms.guidance.energies import checked, guided_by, tried
from unicond.mechanisms.guidance.gradients import ascends
from unicond.mechanisms.known import check_branch, check_scale
from unicond.mechanisms.measurement import Pixels, Space
from unicond.sampling.plans import Plan
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, Sight, State
from unicond.sampling.window import ALWAYS, Window

PictureEnergy = Callable[[Tensor], Tensor]
_WHO = "the energy of universal guidance"


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Backward guidance: gradient descent on the predicted clean latents.

    Args:
        iterations: steps a move, usually 1 to 20.
        learning_rate: of each; too large where it exceeds 2 over the energy's curvature.

    Raises:
        ValueError: a number out of range.
    """

    iterations: int = 5
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.learning_rate > 0:
            raise ValueError(
                "backward guidance needs iterations >= 1 and learning_rate > 0, not "
                f"{self.iterations} and {self.learning_rate}"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class Universal(Mechanism):
    """Guidance by any energy of the predicted picture, low where it is as wanted.

    Forward: one network call a move, with a graph and a backward pass, through the decoder too on
    latent models; it goes outside of all that blends predictions (x0_hat is the bare prediction
    under the prompt), and every branch that moves is moved, as far as joint attention ties it to
    this one. Backward: `iterations` calls of the energy (and decoder), none of the network. No
    random draw. x0_hat is the mean of what may come, and blurred at high noise: energies of sharp
    pictures say little there.

    Args:
        energy: (B,) of predicted pictures (B, C, H, W), not clipped; differentiable, each sample's
            own. It is tried once before the run.
        scale: g of the forward gradient; 1.0 is Bayes' rule for `-log p`; 0.0 is off.
        backward: moves the prediction itself; None is off.
        space: `Pixels()`, or `Decoded(backbone)` for an energy of pixels on a latent model.
        branch: whose picture.
        window: when it acts.

    Raises:
        ValueError: a scale that is negative or infinite.
    """

    energy: PictureEnergy
    scale: float = 1.0
    backward: Descent | None = None
    space: Space = field(default_factory=Pixels)
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        check_scale(self.scale)

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch whose prediction is what it is, or a place inside of text guidance."""
        if self.scale or self.backward:
            setup.needs_motion(self, self.branch, noisy=self.scale > 0)
        if self.scale:
            check_outside(self, setup)

    @override
    def sees(self, move: Move) -> Sight:
        """All of the picture, where the forward gradient acts."""
        return "whole" if self._forward(move) else "part"

    @override
    def begin(self, state: State) -> State:
        """Only a check: there is such a branch, and the energy returns what it must."""
        if self.scale or self.backward:
            check_branch(state, self.branch, "universal guidance")
            tried(self._of_latents, state.latents[self.branch], _WHO)
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Forward: predict with a graph, and add the gradient to the score."""
        if not self._forward(move):
            return denoiser

        def guided(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            if state.scales(self.branch)[1] == 0:  # then its prediction is what it is
                return denoiser(state, variants)

            def energy(predictions: Predictions) -> Tensor:
                return self._of_latents(predictions[self.branch].x0)

            return guided_by(denoiser, state, move, energy, self.scale, variants)

        return guided

    @override
    def revise(self, predictions: Predictions, state: State, move: Move) -> Predictions:
        """Backward: move x0, and eps so that both belong to the same latents."""
        moves = self.branch in move.moving() and not ascends(move)
        if self.backward is None or not moves or not self.window.active(move, self.branch):
            return predictions
        alpha, sigma = state.scales(self.branch)
        if sigma == 0:
            return predictions
        old = predictions[self.branch]
        shift = self._descended(old.x0, self.backward)
        new = replace(old, x0=old.x0 + shift, eps=old.eps - alpha / sigma * shift)
        return {**predictions, self.branch: new}

    def _forward(self, move: Move) -> bool:
        return self.scale != 0 and not ascends(move) and self.window.active(move, self.branch)

    def _descended(self, x0: Tensor, descent: Descent) -> Tensor:
        """D, (B, C, H, W)."""
        with torch.inference_mode(False), torch.enable_grad():
            start = x0.detach().clone()
            shift = torch.zeros_like(start)
            for _ in range(descent.iterations):
                shift.requires_grad_()
                energies = self._of_latents(start + shift)
                (gradient,) = torch.autograd.grad(energies.sum(), shift)
                shift = shift.detach() - descent.learning_rate * gradient
        return shift

    def _of_latents(self, x0: Tensor) -> Tensor:
        return checked(self.energy(self.space.decode(x0)), len(x0), _WHO)


def travelled(plan: Plan, repeats: int = 2, start: float = 0.3, stop: float = 0.7) -> list[Move]:
    """A plan of which the middle moves are gone several times, each on its own: time travel.

    One network call more for each time that a move is gone again, and one noise draw. It is the
    same with latent models: a plan knows no pixels.

    Args:
        plan: n moves that fall; a branch may be held.
        repeats: how often each is gone, usually 2 or 3; 1 is the same plan.
        start: share of the plan's moves where it begins.
        stop: where it ends; the last move of all is gone once.

    Returns:
        The moves, with a noising move between two goes.

    Raises:
        ValueError: shares out of order or that leave no move, no repeat, or a plan that goes up.

    >>> plan = [Move({"image": t}, {"image": t - 1 / 4}) for t in (1.0, 0.75, 0.5, 0.25)]
    >>> [(move.t["image"], move.s["image"]) for move in travelled(plan, 2, 0.25, 0.5)]
    [(1.0, 0.75), (0.75, 0.5), (0.5, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]
    """
    if not 0.0 <= start < stop <= 1.0:
        raise ValueError(f"time travel needs shares 0 <= start < stop <= 1, not {start}, {stop}")
    first, last = round(start * len(plan)), min(round(stop * len(plan)), len(plan) - 1)
    if first >= last:
        raise ValueError(f"no move of {len(plan)} lies in the shares {start} to {stop} of the plan")
    middle = resampled(plan[first : last + 1], 1, repeats)
    return [*plan[:first], *middle, *plan[last + 1 :]]
