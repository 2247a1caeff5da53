"""What guidance shares: the gradient of an energy of what is predicted, and two ways to follow it.

E is one number a sample and depends on the predictions alone, `E(x0_hat(latents))`; the gradient by
the latents runs through the network. A fixed step adds it to the score, so that every solver takes
it as it takes the model's own; an optimiser finds a displacement of the latents, which is added
after the step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unicond.sampling.predictions import Prediction, Predictions, each
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Latents, Move, State

Energy = Callable[[Predictions], Tensor]
Change = Callable[[Predictions], Predictions]
BARE = Variant(guided=False)
"""The prediction under the prompt, before anything is blended: what energies are of."""
_SMALL = 1e-2  # Adam's eps, in units of the gradient's own size: less is not told from rounding


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """An optimiser in the place of a fixed weight; it starts anew in every move.

    Args:
        iterations: steps a move; the first needs no network call of its own, each further one
            takes one (and all of them a backward pass).
        learning_rate: length of its first step in each latent, where the gradient is not small.
        weight_decay: pulls the displacement back to 0.

    Raises:
        ValueError: a number out of range.
    """

    iterations: int = 1
    learning_rate: float = 2e-2
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        if self.iterations < 1 or not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError(
                "an optimiser needs iterations >= 1, learning_rate > 0 and weight_decay >= 0, not "
                f"{self.iterations}, {self.learning_rate}, {self.weight_decay}"
            )


def follow(
    denoiser: Denoiser,
    state: State,
    free: Sequence[str],
    energy: Energy,
    variants: Sequence[Variant],
) -> tuple[list[Predictions], dict[str, Tensor]]:
    """Predict, and differentiate an energy of the bare prediction, in one network call.

    Inside another mechanism's graph (latents that already require a gradient) that graph is kept.

    Args:
        denoiser: all branches in, all predictions out.
        state: where.
        free: the branches whose latents are differentiated by.
        energy: E, (B,), of the bare predictions.
        variants: asked for beside the bare one, which is the last of the call.

    Returns:
        The predictions of the variants, without a graph, and {free branch: grad E (B, C, H, W)}.

    Raises:
        ValueError: the predictions carry no gradient.
    """
    inside = torch.is_grad_enabled() and any(v.requires_grad for v in state.latents.values())
    with torch.inference_mode(False), torch.enable_grad():
        leaves = {
            branch: latents if latents.requires_grad else latents.clone().requires_grad_()
            for branch, latents in state.latents.items()
            if branch in free
        }
        *found, bare = denoiser(state.at({**state.latents, **leaves}, state.t), [*variants, BARE])
        energies = energy(bare)
        if not energies.requires_grad:
            raise ValueError(
                "guidance needs predictions with a gradient, and this denoiser's have none: "
                "something inside it detaches them"
            )
        gradients = torch.autograd.grad(
            energies.sum(), [leaves[b] for b in free], retain_graph=inside, materialize_grads=True
        )
    kept = found if inside else [each(one, lambda _, p: _detached(p)) for one in found]
    return kept, dict(zip(free, gradients, strict=True))


def guided(
    denoiser: Denoiser,
    state: State,
    free: Sequence[str],
    energy: Energy,
    variants: Sequence[Variant],
    changing: Callable[[Latents], Change],
    watching: Denoiser | None = None,
) -> list[Predictions]:
    """Predictions of which the guided ones are changed by the gradient of an energy.

    Args:
        denoiser: all branches in, all predictions out.
        state: where.
        free: the branches whose latents are differentiated by; without any, nothing is changed.
        energy: E, (B,), of the bare predictions.
        variants: those with `guided=False` stay what they are.
        changing: makes the change of predictions of {free branch: grad E (B, C, H, W)}.
        watching: asked in the denoiser's place where predictions are changed.

    Returns:
        The predictions of the variants.
    """
    if not free or not any(variant.guided for variant in variants):
        return denoiser(state, variants)
    found, gradients = follow(watching or denoiser, state, free, energy, variants)
    change = changing(gradients)
    return [change(one) if v.guided else one for v, one in zip(variants, found, strict=True)]


def ascends(move: Move) -> bool:
    """Whether a move inverts something: there guidance rests, so that the way down leads back."""
    return move.kind == "step" and any(move.s[branch] > t for branch, t in move.t.items())


def along_the_score(predictions: Predictions, state: State, gradients: Latents) -> Predictions:
    """Add `g = -grad E` to the score that predictions stand for.

    `x0 += sigma^2 / alpha g`, `eps -= sigma g`: both belong to the same latents as before.

    Args:
        predictions: made at the state.
        state: its times; alpha and sigma of the branches in question must not be 0.
        gradients: {branch: grad E (B, C, H, W)}.

    Returns:
        The predictions of all branches.
    """
    changed = dict(predictions)
    for branch, gradient in gradients.items():
        alpha, sigma = state.scales(branch)
        old, g = predictions[branch], -gradient
        changed[branch] = replace(old, x0=old.x0 + sigma**2 / alpha * g, eps=old.eps - sigma * g)
    return changed


def optimised(
    optimizer: AdamW,
    latents: Latents,
    first: Latents,
    loose: Mapping[str, Tensor | None],
    again: Callable[[Latents], Latents],
) -> dict[str, Tensor]:
    """The displacement of every branch after the optimiser's iterations.

    Args:
        optimizer: its settings.
        latents: where it begins.
        first: gradients there.
        loose: {branch: 1 where it may be moved}; None or absent is everywhere.
        again: gradients at other latents.

    Returns:
        {branch: displacement}, of the branches in `first`.
    """
    shifts = {branch: torch.zeros_like(gradient) for branch, gradient in first.items()}
    scale = _rms(first)
    adamw = torch.optim.AdamW(
        list(shifts.values()),
        lr=optimizer.learning_rate,
        weight_decay=optimizer.weight_decay,
        eps=_SMALL,
    )
    gradients = first
    for iteration in range(optimizer.iterations):
        if iteration:
            gradients = again(
                {b: latents[b] + masked(shift, loose.get(b)) for b, shift in shifts.items()}
            )
        for branch, shift in shifts.items():
            shift.grad = masked(gradients[branch], loose.get(branch)) / scale
        adamw.step()  # pyright: ignore[reportUnknownMemberType] (of torch)
    return {branch: masked(shift, loose.get(branch)) for branch, shift in shifts.items()}


def nudged(predictions: Predictions, state: State, move: Move, shifts: Latents) -> Predictions:
    """A displacement of the latents as a nudge, carried from t to s like noise, by sigma's ratio.

    Args:
        predictions: made at the state.
        state: its times; sigma of the branches in question must not be 0.
        move: where the step goes.
        shifts: {branch: displacement (B, C, H, W)}.

    Returns:
        The predictions of all branches.
    """
    nudges = {
        branch: state.schedule.sigma(move.s[branch]) / state.scales(branch)[1] * shift
        for branch, shift in shifts.items()
    }
    return displaced(predictions, nudges)


def displaced(predictions: Predictions, shifts: Latents) -> Predictions:
    """Ask for displacements of the latents after the step, beside those that are asked for.

    Args:
        predictions: of all branches.
        shifts: {branch: displacement (B, C, H, W)}.

    Returns:
        The predictions of all branches.
    """
    changed = dict(predictions)
    for branch, shift in shifts.items():
        old = predictions[branch]
        changed[branch] = replace(old, nudge=shift if old.nudge is None else old.nudge + shift)
    return changed


def masked(values: Tensor, mask: Tensor | None) -> Tensor:
    """The values where they count; None is everywhere."""
    return values if mask is None else mask.to(values) * values


def _rms(gradients: Latents) -> Tensor:
    """Root mean square of each sample's gradient, all branches together, (B, 1, 1, 1), not 0."""
    rows = torch.cat([gradient.flatten(1) for gradient in gradients.values()], 1)
    rms = rows.square().mean(1).sqrt()[:, None, None, None]
    return torch.where(rms > 0, rms, 1.0)


def _detached(prediction: Prediction) -> Prediction:
    return replace(prediction, x0=prediction.x0.detach(), eps=prediction.eps.detach())
