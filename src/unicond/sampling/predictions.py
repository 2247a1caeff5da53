"""A prediction carries both `x0` and `eps` of a branch, whatever the network was trained to output.

Both are kept because methods differ in what they move: DDNM replaces `x0` and keeps `eps`, DiffPIR
recomputes `eps`. This module is the only place that converts between a network's output and them:

    eps:  x0 = (latents - sigma eps) / alpha
    x0:   eps = (latents - alpha x0) / sigma
    v:    x0 = alpha latents - sigma v,   eps = alpha v + sigma latents   (variance preserving)
    flow: x0 = latents - sigma v,         eps = latents + alpha v         (alpha + sigma = 1)

Source: arXiv:2202.00512, section 4 and appendix D (v); arXiv:2210.02747 (flow).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.sampling.schedules import PredictionType


@dataclass(frozen=True)
class Prediction:
    """What the model believes about one branch; all tensors (B, C, H, W) float32.

    Args:
        x0: predicted clean latents.
        eps: predicted unit noise.
        nudge: displacement that is added to the latents after the step, or None.
    """

    x0: Tensor
    eps: Tensor
    nudge: Tensor | None = None

    def detached(self) -> "Prediction":
        """The same, and no gradient leads through it."""
        return Prediction(self.x0.detach(), self.eps.detach())

    @staticmethod
    def blend(terms: "Sequence[tuple[float, Prediction]]") -> "Prediction":
        """`sum_i w_i p_i`, for x0, eps and nudges alike.

        At zero terminal SNR eps is the same for every prompt: combining it alone guides nothing.
        Where the weights sum to 1 the result is consistent with the latents that the terms belong
        to.
        """
        x0 = torch.stack([weight * term.x0 for weight, term in terms]).sum(0)
        eps = torch.stack([weight * term.eps for weight, term in terms]).sum(0)
        return Prediction(x0, eps, nudges(terms))


def nudges(terms: Sequence[tuple[float | Tensor, Prediction]]) -> Tensor | None:
    """`sum_i w_i nudge_i`, where a prediction without a nudge has one of 0.

    Args:
        terms: weights, numbers or maps (B or 1, 1, H, W), and predictions.

    Returns:
        (B, C, H, W), or None where no nudge is asked for.
    """
    asked = [weight * term.nudge for weight, term in terms if term.nudge is not None]
    return torch.stack(asked).sum(0) if asked else None


Predictions = Mapping[str, Prediction]


def each(predictions: Predictions, change: Callable[[str, Prediction], Prediction]) -> Predictions:
    """The same predictions with every branch's changed."""
    return {branch: change(branch, prediction) for branch, prediction in predictions.items()}


def from_output(
    output: Tensor, latents: Tensor, alpha: float, sigma: float, prediction_type: PredictionType
) -> Prediction:
    """Read a network's output as a prediction.

    Args:
        output: (B, C, H, W), what the network returned for `latents`.
        latents: (B, C, H, W), its input.
        alpha: signal scale of the input.
        sigma: noise scale of the input; at 0 the input itself is the clean image.
        prediction_type: what `output` means.

    Returns:
        x0 and eps, float as the inputs.

    Raises:
        ValueError: `"eps"` at alpha = 0, where it says nothing about x0.
    """
    if prediction_type == "eps":
        if alpha == 0:
            raise ValueError(
                "an eps prediction at alpha = 0 says nothing about x0; use a 'v' or 'x0' model"
            )
        return Prediction((latents - sigma * output) / alpha, output)
    if prediction_type == "x0":
        if sigma == 0:
            return Prediction(latents, torch.zeros_like(latents))
        return Prediction(output, (latents - alpha * output) / sigma)
    if prediction_type == "v":
        return Prediction(alpha * latents - sigma * output, alpha * output + sigma * latents)
    return Prediction(latents - sigma * output, latents + alpha * output)


def target(
    x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, prediction_type: PredictionType
) -> Tensor:
    """What a network of this type is trained to output; alpha and sigma broadcast against x0."""
    if prediction_type == "eps":
        return eps
    if prediction_type == "x0":
        return x0
    return alpha * eps - sigma * x0 if prediction_type == "v" else eps - x0
