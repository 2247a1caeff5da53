"""Readout guidance: a small head reads a map from the network's features; its error is the energy.

    E = 1/2 || m (R(features_t, t) - y) ||^2,    eps <- eps + g sigma_t grad_{x_t} E

R is trained beside the frozen network (`adapters.readout`) to read depth, edges or a pose from what
the way up computes of noisy latents, so that it says what x0 will show long before x0_hat does.

Source: Luo et al. 2023 (Readout Guidance), arXiv:2312.02150, section 3. Deviates: the gradient is
one of the score, of which every solver makes its own step; the source moves the latents by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.guidance.energies import Watch, checked, guided_by
from unicond.mechanisms.guidance.gradients import ascends
from unicond.mechanisms.known import check_branch, check_scale
from unicond.sampling.controls import Layer
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, Sight, State
from unicond.sampling.window import ALWAYS, Window


class Head(Protocol):
    """What is asked of a readout head."""

    @property
    def channels(self) -> int:
        """Of the maps that it reads."""
        ...

    def __call__(self, features: Sequence[Tensor], t: Tensor) -> Tensor:
        """A map (B, C, h, w) of the features of the blocks of the way up, at times t (B,)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Readout(Mechanism):
    """Guidance towards a map that a head reads from the network's features.

    One network call a move, with a graph and a backward pass through the way up and all before it
    while the window is open; no random draw. It goes outside of all that blends predictions: what
    is read is the bare prediction under the prompt. Every branch that moves is moved, as far as
    joint attention ties it to this one. Not approximate with latent models: the head reads maps of
    pictures from features.

    Args:
        head: R, for instance a `ReadoutHead`, on the network's device; its weights stay.
        wanted: y, (B or 1, C, H, W), in the range that the head was trained for; brought to the
            reading's size by averaging, or bilinear where that is finer.
        mask: (B or 1, 1, H, W) in [0, 1], 1 is wanted; None is everywhere.
        scale: g; as places go together, less than 1 over the variance of the head's error; 0.0 is
            off.
        branch: whose features.
        window: when it acts.

    Raises:
        ValueError: a scale out of range, a map of another shape than the head's, or an empty mask.
    """

    head: Head
    wanted: Tensor
    mask: Tensor | None = None
    scale: float = 1.0
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if self.wanted.ndim != 4 or not self.wanted.isfinite().all():
            raise ValueError(
                f"what is wanted has shape {tuple(self.wanted.shape)}; it must be finite, "
                "(B or 1, C, H, W)"
            )
        if self.wanted.shape[1] != self.head.channels:
            raise ValueError(
                f"what is wanted has shape {tuple(self.wanted.shape)}, but the head reads maps of "
                f"{self.head.channels} channels: is it a head of this kind of map?"
            )
        if self.mask is not None and (
            self.mask.ndim != 4
            or self.mask.shape[1] != 1
            or not (self.mask.amin() >= 0 and 0 < self.mask.amax() <= 1)
        ):
            raise ValueError("a mask is (B or 1, 1, H, W), in [0, 1] and 1 (white) somewhere")

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held, and a place inside of text guidance: in vain."""
        if self.scale:
            setup.needs_motion(self, self.branch)
            check_outside(self, setup)

    @override
    def sees(self, move: Move) -> Sight:
        """The network's inside, where it acts."""
        return "network" if self._acts(move) else "part"

    @override
    def begin(self, state: State) -> State:
        """Only a check: there is such a branch, and a map for each sample."""
        if self.scale == 0:
            return state
        check_branch(state, self.branch, "readout guidance")
        batch = len(state.latents[self.branch])
        for name, given in (("maps", self.wanted), ("masks", self.mask)):
            if given is not None and len(given) not in (1, batch):
                raise ValueError(f"{len(given)} {name} are wanted of {batch} samples")
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Predict with a graph and watch, and add the gradient to the score."""
        if not self._acts(move):
            return denoiser

        def guided(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            watch = Watch(self.branch, where=upward)

            def energy(_: Predictions) -> Tensor:
                latents = state.latents[self.branch]
                t = torch.full((len(latents),), state.t[self.branch], device=latents.device)
                return self._energy(list(watch.found.values()), t)

            return guided_by(denoiser, state, move, energy, self.scale, variants, [watch])

        return guided

    def _acts(self, move: Move) -> bool:
        moves = self.branch in move.moving() and not ascends(move)
        return self.scale != 0 and moves and self.window.active(move, self.branch)

    def _energy(self, features: Sequence[Tensor], t: Tensor) -> Tensor:
        """(B,)."""
        if not features:
            raise ValueError("readout guidance needs a network with blocks on the way up")
        read = self.head(features, t)
        gap = read - resized(self.wanted, read)
        if self.mask is not None:
            gap = resized(self.mask, read) * gap
        return checked(0.5 * gap.square().flatten(1).sum(1), len(read), "the readout's error")


def upward(layer: Layer) -> bool:
    """The features that heads read: the outputs of the blocks of the way up."""
    return layer.kind == "block" and layer.part == "up"


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Maps (B or 1, C, H, W) in the size, dtype and on the device of others (B, C, h, w)."""
    maps = maps.to(like).clone()  # tensors of inference mode cannot be saved for a gradient
    size = (like.shape[-2], like.shape[-1])
    if maps.shape[-2] < size[0] or maps.shape[-1] < size[1]:
        return F.interpolate(maps, size, mode="bilinear")
    return F.adaptive_avg_pool2d(maps, size)
