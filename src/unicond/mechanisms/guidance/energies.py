"""What guidance by an energy shares: checks of what an energy returns, and one guided call.

    eps <- eps + g sigma grad_{x_t} E,    x0 <- x0 - g sigma^2 / alpha grad_{x_t} E

E is of the predictions, or of what is watched inside the network while they are made.
"""

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.guidance.gradients import BARE, Change, Energy, along_the_score, guided
from unicond.mechanisms.views import BESIDE_VIEWS
from unicond.sampling.controls import Changes, Layer, Recorder, acting
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Rows, Variant
from unicond.sampling.state import Denoiser, Latents, Move, State


class Watch(Recorder):
    """A recorder of one network call: where a prediction takes several, it says so."""

    @override
    def maps(self, layer: Layer, maps: Tensor, rows: Rows) -> Changes:
        self._check(layer)
        return super().maps(layer, maps, rows)

    @override
    def values(self, layer: Layer, values: Tensor, rows: Rows) -> Tensor:
        self._check(layer)
        return super().values(layer, values, rows)

    def _check(self, layer: Layer) -> None:
        if layer in self.found:
            raise ValueError(
                f"{layer.name} runs in several network calls of one prediction: guidance "
                f"{BESIDE_VIEWS}"
            )


def checked(energies: object, count: int, who: str) -> Tensor:
    """The same energies, or ValueError where they are not one number a sample with a gradient."""
    if not isinstance(energies, Tensor):
        raise ValueError(
            f"{who} returned {energies!r}; it must be a tensor ({count},): one number a sample, "
            "computed in torch from what it is given"
        )
    if energies.shape != (count,):
        raise ValueError(
            f"{who} returned shape {tuple(energies.shape)} for {count} samples; it must be "
            f"({count},): one number a sample, not a mean over the batch"
        )
    if not energies.requires_grad:
        raise ValueError(
            f"{who} has no gradient by the latents: something inside it detaches them (no_grad, "
            "numpy, rounding, argmax)"
        )
    if not energies.isfinite().all():
        said = [float(one) for one in energies.detach()]
        raise ValueError(
            f"{who} returned {said}: all must be finite (0 / 0, or the logarithm of 0?)"
        )
    return energies


def grid_at(layer: Layer, size: Sequence[int]) -> tuple[int, int]:
    """(height, width) in places of a layer, in latents of a (height, width)."""
    height, width = (math.ceil(side / 2**layer.level) for side in size)
    return height, width


def tried(energy: Callable[[Tensor], object], like: Tensor, who: str) -> None:
    """Try an energy before the run: its shape, and that a gradient comes back.

    Args:
        energy: (B,) of (B, C, H, W).
        like: what it is tried on, of the right shape.
        who: in messages.

    Raises:
        ValueError: another shape, a value that is not finite, or no gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        latents = like.detach().clone().requires_grad_()
        energies = checked(energy(latents), len(latents), who)
        gradients = torch.autograd.grad(energies.sum(), [latents], allow_unused=True)
    if None in gradients:
        raise ValueError(
            f"{who} has no gradient by its input: something inside it detaches it, and what it "
            "has a gradient by is something else (its own weights?)"
        )


def bare_first(denoiser: Denoiser, watches: Sequence[Watch] = ()) -> Denoiser:
    """A denoiser whose last variant is the first of its call: what is watched is that one's.

    Args:
        denoiser: all branches in, all predictions out.
        watches: look into the network's call.

    Returns:
        The same predictions, in the order that they are asked for.
    """

    def watched(state: State, variants: Sequence[Variant] = (BARE,)) -> list[Predictions]:
        with acting(*watches):
            bare, *rest = denoiser(state, [variants[-1], *variants[:-1]])
        return [*rest, bare]

    return watched


def guided_by(
    denoiser: Denoiser,
    state: State,
    move: Move,
    energy: Energy,
    scale: float,
    variants: Sequence[Variant],
    watches: Sequence[Watch] = (),
    still: Collection[str] = (),
) -> list[Predictions]:
    """Predictions with the energy's gradient added to the score of every branch that moves.

    Args:
        denoiser: all branches in, all predictions out.
        state: where; nothing is added at pure noise (alpha = 0) and at the clean end.
        move: the one of the plan.
        energy: (B,), of the bare predictions and of what is watched.
        scale: g.
        variants: those with `guided=False` stay what they are.
        watches: look into the network's call; new ones for each.
        still: branches that are only looked at.

    Returns:
        The predictions of the variants.
    """
    moving = [branch for branch in move.moving() if branch not in still]
    free = [branch for branch in moving if min(state.scales(branch)) > 0]

    def changing(gradients: Latents) -> Change:
        pulls = {branch: scale * gradient for branch, gradient in gradients.items()}
        return partial(along_the_score, state=state, gradients=pulls)

    watching = bare_first(denoiser, watches)
    return guided(denoiser, state, free, energy, variants, changing, watching)
