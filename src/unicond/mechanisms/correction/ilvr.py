"""ILVR: the coarse content of a picture is taken from a reference, at the noise level of the step.

    x_s <- x_s + phi_N(y_s) - phi_N(x_s),    y_s = alpha_s y + sigma_s z

phi_N averages N x N blocks and spreads each average over its block. It is a projection, so that
the result has exactly the reference's averages. Deviates from the source, whose bicubic phi is
smoother and only nearly one.

Source: Choi et al. 2021, arXiv:2108.02938, algorithm 1.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from unicond.mechanisms.inversion.paths import rises
from unicond.mechanisms.process.own_step import mends
from unicond.sampling.predictions import Predictions
from unicond.sampling.state import Mechanism, Move, Setup, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, eq=False, kw_only=True)
class ILVR(Mechanism):
    """Coarse content of a reference; no network call, one noise draw a step.

    It rests while its branch is inverted. On latent models phi averages latents, which is near the
    average of pictures, not equal.

    Args:
        reference: y, (B or 1, C, H, W) clean latents.
        factor: N, side of the averaged blocks in latents, usually 4 to 16; a divisor of H and W.
        branch: what the reference is of.
        window: when it acts; to close it before the end leaves the model to smooth the blocks.

    Raises:
        ValueError: a factor below 2, or one that does not divide the reference's sides.
    """

    restores: ClassVar[bool] = True

    reference: Tensor
    factor: int
    branch: str = "image"
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        height, width = self.reference.shape[-2:]
        if self.factor < 2 or height % self.factor or width % self.factor:
            raise ValueError(
                f"factor {self.factor} must be 2 or more and divide both sides of the latents, "
                f"{height} and {width}"
            )

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held: nothing would be done."""
        setup.needs_motion(self, self.branch)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """Its branch, where it acts."""
        return (self.branch,) if self._acts(move) else ()

    @override
    def begin(self, state: State) -> State:
        """Only a check: the reference has the shape of the branch."""
        latents = state.latents.get(self.branch)
        shape = None if latents is None else tuple(latents.shape)
        if latents is None or (
            self.reference.shape[1:] != latents.shape[1:]
            or len(self.reference) not in (1, len(latents))
        ):
            raise ValueError(
                f"the reference has shape {tuple(self.reference.shape)}, the latents of "
                f"{self.branch!r} {shape}; branches of this run: {', '.join(state.latents)}"
            )
        return mends(state, self.branch, self)

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Replace what is coarse."""
        if not self._acts(move):
            return state
        latents, (alpha, sigma) = state.latents[self.branch], state.scales(self.branch)
        noisy = alpha * self.reference.to(latents)
        if sigma > 0:
            noisy = noisy + sigma * state.noise.draw(self.branch, latents)
        mended = latents + self._coarse(noisy - latents)
        return replace(state, latents={**state.latents, self.branch: mended})

    def _acts(self, move: Move) -> bool:
        moves = self.branch in move.moving() and not rises(move, self.branch)
        return moves and self.window.active(move, self.branch)

    def _coarse(self, values: Tensor) -> Tensor:
        averages = functional.avg_pool2d(values, self.factor)
        return functional.interpolate(averages, scale_factor=self.factor, mode="nearest")
