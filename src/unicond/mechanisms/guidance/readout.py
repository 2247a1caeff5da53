"""Readout guidance: a small head reads a map from the network's features; its error is the energy.

    E = 1/2 || m (R(features_t, t) - y) ||^2,    eps <- eps + g sigma_t grad_{x_t} E

R is trained beside the frozen network (`adapters.readout`) to read depth, edges or a pose from what
the way up computes of noisy latents, so that it says what x0 will show long before x0_hat does.

Source: Luo et al. 2023 (Readout Guidance), arXiv:2312.02150, section 3. Deviates: the gradient is
one of the score, of which every solver makes its own step; the source moves the latents by it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.guidance.energies import Watch, checked, guided_by, tried
from unicond.mechanisms.guidance.gradients import ascends
from unicond.mechanisms.known import check_branch, check_scale
from unicond.sampling.controls import Layer
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, Sight, State
from unicond.sampling.window import ALWAYS, Window

_WHO = "the readout's error"


class Head(Protocol):
    """What is asked of a readout head."""

    @property
    def channels(self) -> int:
        """Of the maps that it reads."""
        ...

    def __call__(self, features: Sequence[Tensor], t: Tensor) -> Tensor:
        """A map (B, C, h, w) of the features of the blocks of the way up, at times t (B,)."""
        ...


@runtime_checkable
class Configured(Protocol):
    """A head with a configuration."""

    @property
    def config(self) -> object:
        """What it was made by."""
        ...


@runtime_checkable
class OfBlocks(Protocol):
    """A configuration that says which blocks a head reads."""

    @property
    def blocks(self) -> Sequence[int]:
        """Their channels, in running order."""
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
        head: R, for instance a `ReadoutHead`, on the network's device; its weights stay. One that
            says which blocks it reads (`head.config.blocks`) is tried once before the run.
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

    @property
    def blocks(self) -> tuple[int, ...] | None:
        """Channels of the blocks that the head says it reads; None where it says nothing."""
        config = self.head.config if isinstance(self.head, Configured) else None
        return tuple(config.blocks) if isinstance(config, OfBlocks) else None

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
        """Only a check: there is such a branch, a map for each sample, and the head reads."""
        if self.scale == 0:
            return state
        check_branch(state, self.branch, "readout guidance")
        batch = len(state.latents[self.branch])
        for name, given in (("maps", self.wanted), ("masks", self.mask)):
            if given is not None and len(given) not in (1, batch):
                raise ValueError(f"{len(given)} {name} are wanted of {batch} samples")
        if self.blocks is not None:
            self._try(self.blocks, state)
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
        read = self._checked(self.head(features, t), len(t))
        gap = read - resized(self.wanted, read)
        if self.mask is not None:
            gap = resized(self.mask, read) * gap
        return checked(0.5 * gap.square().flatten(1).sum(1), len(read), _WHO)

    def _checked(self, read: object, count: int) -> Tensor:
        """The same reading, or ValueError where it is no map a sample, of the wanted channels."""
        channels = self.wanted.shape[1]
        shape = read.shape if isinstance(read, Tensor) else ()
        if not isinstance(read, Tensor) or len(shape) != 4 or shape[:2] != (count, channels):
            what = f"shape {tuple(shape)}" if isinstance(read, Tensor) else repr(read)
            raise ValueError(
                f"the readout head returned {what}; of {count} samples and what is wanted, "
                f"{tuple(self.wanted.shape)}, it must be a tensor ({count}, {channels}, height, "
                "width)"
            )
        return read

    def _try(self, blocks: Sequence[int], state: State) -> None:
        """Read features of such blocks before the run: a wave, by whose spread one can divide."""
        latents = state.latents[self.branch]
        like = (
            next(self.head.parameters(), latents) if isinstance(self.head, nn.Module) else latents
        )
        shape = (len(latents), max(blocks), *latents.shape[-2:])
        wave = torch.arange(math.prod(shape)).sin().view(shape)

        def energy(features: Tensor) -> Tensor:
            t = torch.full((len(features),), state.t[self.branch], device=features.device)
            return self._energy([features[:, :channels] for channels in blocks], t)

        tried(energy, wave.to(like), _WHO)


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
