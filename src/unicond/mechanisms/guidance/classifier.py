"""Classifier guidance: along the gradient of what a classifier of noisy latents says of a class.

    eps_hat <- eps_hat - g sigma_t grad_{x_t} log p(c | x_t)
    x0_hat  <- x0_hat + g sigma_t^2 / alpha_t grad_{x_t} log p(c | x_t)

Both say the same of the same latents. The classifier is trained on noisy latents and told their
time; its gradient does not run through the denoising network.

Source: Dhariwal and Nichol 2021, arXiv:2105.05233, algorithm 2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.guidance.energies import checked, tried
from unicond.mechanisms.guidance.gradients import along_the_score, ascends
from unicond.mechanisms.known import check_branch, check_scale
from unicond.sampling.predictions import Predictions
from unicond.sampling.state import Mechanism, Move, Setup, State
from unicond.sampling.window import ALWAYS, Window

LogProbability = Callable[[Tensor, float], Tensor]
_WHO = "log_probability"


@dataclass(frozen=True, eq=False, kw_only=True)
class Classifier(Mechanism):
    """Guidance by a classifier; one call of it and one backward pass a step, none of the network's.

    It acts on what other guidance has made of the prediction, and on latents as they are: for
    latent models the classifier is one of latents. Nothing is moved at pure noise (alpha = 0).

    Args:
        log_probability: `log p(c | x_t)` of the wanted class, (B,), of latents (B, C, H, W) and
            their time t in [0, 1]; differentiable, each sample's own; tried once before the run.
            For any classifier of latents and times,
            `lambda x, t: classifier(x, t).log_softmax(-1)[:, c]`.
        scale: g; 1.0 is Bayes' rule, usually 1 to 10; 0.0 is off.
        branch: what is classified.
        window: when it acts.

    Raises:
        ValueError: a scale that is negative or infinite.
    """

    log_probability: LogProbability
    scale: float = 1.0
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        check_scale(self.scale)

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held: nothing would be done."""
        if self.scale:
            setup.needs_motion(self, self.branch)

    @override
    def begin(self, state: State) -> State:
        """Only a check: there is such a branch, and the classifier returns what it must."""
        if self.scale:
            check_branch(state, self.branch, "classifier guidance")
            t = state.t[self.branch]
            tried(lambda x: self.log_probability(x, t), state.latents[self.branch], _WHO)
        return state

    @override
    def revise(self, predictions: Predictions, state: State, move: Move) -> Predictions:
        """Add the classifier's gradient to the score."""
        moves = self.branch in move.moving() and not ascends(move)
        if self.scale == 0 or not moves or not self.window.active(move, self.branch):
            return predictions
        if min(state.scales(self.branch)) == 0:
            return predictions
        with torch.inference_mode(False), torch.enable_grad():
            latents = state.latents[self.branch].detach().clone().requires_grad_()
            said = self.log_probability(latents, state.t[self.branch])
            checked(said, len(latents), _WHO)
            (gradient,) = torch.autograd.grad(said.sum(), latents)
        return along_the_score(predictions, state, {self.branch: -self.scale * gradient})
