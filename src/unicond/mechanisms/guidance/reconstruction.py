"""Reconstruction guidance: what the model predicts of the known part pulls at all that is free.

    E = sum over targets b of w_b / (2 r_b^2) || m_b (known_b - x0_b(latents)) ||^2       (a sample)
    latents' = latents - lambda (1 - m) grad_latents E                                 (formula (7))

The gradient runs through the network, joint attention included, to every branch that moves: a
partial depth map steers the image. m is 1 where a branch is known; there the part itself is put
back by `Replacement`, and only the rest is moved. A target that is not put back (`replaced=False`)
moves its branch wholly: guidance on the condition's output ("depth guidance"), which samples both
branches from text and steers the predicted condition to a given one.

x0 is the bare prediction under the prompt, without text guidance: a row that the step's own network
call holds already. `r^2 = sigma^2 / (alpha^2 + sigma^2)` is the variance of what is known about its
prediction, under a unit prior. A fixed weight follows the score,

    g = -(1 - m) grad E,    x0 += sigma^2 / alpha g,    eps -= sigma g

so that weight 1 means the same for every schedule, solver and number of steps, and is exact where
the prior is a unit Gaussian. For a DDIM step that is (7), with `lambda = alpha_s sigma^2 / alpha -
sigma_s sigma`. Near pure noise 1 / alpha makes long steps out of next to nothing: where
g would move x0 further (rms, of what is free) than the known parts are wrong, `sum_b w_b rms(m_b
(known_b - x0_b))`, it is shortened to that. A free value of a unit Gaussian moves no further in the
mean square.

An optimiser finds a displacement of the latents instead, by some iterations of AdamW on E; after
the step it is added, `sigma_s / sigma` of it: it is a change of the noise, of which nothing is left
at the clean end.

Source: UniCon, arXiv:2410.11439, section 3.3 ("sampling with guidance") and its appendix (AdamW);
Ho et al. 2022, arXiv:2204.03458, section 3.1; the variance: Song et al. 2023 (PiGDM), openreview
9_gsMA8MRKQ. Readout of an output by an optimiser: Luo et al. 2024, arXiv:2312.02150.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.guidance.gradients import (
    AdamW,
    Change,
    along_the_score,
    ascends,
    follow,
    guided,
    masked,
    nudged,
    optimised,
)
from unicond.mechanisms.known import check_known, check_scale
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Latents, Mechanism, Move, Setup, Sight, State
from unicond.sampling.window import ALWAYS, Window

_NONE = 1e-12  # in the place of 0, where it divides


@dataclass(frozen=True, eq=False, kw_only=True)
class Target:
    """What is known of one branch.

    Args:
        branch: its name.
        known: (B or 1, C, H, W) clean latents.
        mask: (B or 1, 1, H, W) in [0, 1], 1 is known; None is everywhere.
        weight: w_b, usually 0.3 to 3; 0.0 is off.
        replaced: whether a `Replacement` puts the known part back: then that part is not moved.
        until: it is known up to this time only: it acts in moves to `s >= until`.

    Raises:
        ValueError: a weight that is negative or infinite.
    """

    branch: str
    known: Tensor
    mask: Tensor | None = None
    weight: float = 1.0
    replaced: bool = True
    until: float = 0.0

    def __post_init__(self) -> None:
        check_scale(self.weight, f"the weight of {self.branch!r}")

    @property
    def loose(self) -> Tensor | None:
        """1 where the branch is moved, 0 where its known part is put back; None is everywhere."""
        return 1 - self.mask if self.replaced and self.mask is not None else None

    def energy(self, x0: Tensor, alpha: float, sigma: float) -> Tensor:
        """`w / (2 r^2) || m (known - x0) ||^2`.

        Args:
            x0: (B, C, H, W), predicted clean latents.
            alpha: signal scale of the latents that it was predicted from.
            sigma: their noise scale, not 0.

        Returns:
            (B,).
        """
        gap = self.known.to(x0) - x0
        if self.mask is not None:
            gap = self.mask.to(x0).clone() * gap  # tensors of inference mode cannot be saved
        precision = (alpha**2 + sigma**2) / sigma**2
        return 0.5 * self.weight * precision * gap.square().flatten(1).sum(1)

    def wrong(self, x0: Tensor) -> Tensor:
        """`w rms(known - x0)` of the known part.

        Args:
            x0: (B, C, H, W), predicted clean latents.

        Returns:
            (B,).
        """
        return self.weight * _rms(self.known.to(x0) - x0, self.mask)


@dataclass(frozen=True, eq=False)
class Reconstruction(Mechanism):
    """Guidance towards known parts of any branches; goes outside of all that blends predictions.

    One network call a move, with gradients while the window is active; with an optimiser
    `iterations` calls. No random draw. Give all targets to one mechanism: they share a graph.

    With latent models the error is one of latents, without the decoder, so that it costs no more;
    it stands for that of the pixels only nearly: channels count alike whatever they show, and at a
    mask's border a place of the latents stands for known and free pixels at once.

    Args:
        targets: what is known; at most one a branch.
        optimizer: in the place of a fixed step; None is the step of the module's formula.
        window: when it acts.

    Raises:
        ValueError: no target, or two of one branch.
    """

    targets: Sequence[Target]
    optimizer: AdamW | None = None
    window: Window = ALWAYS

    def __post_init__(self) -> None:
        names = [target.branch for target in self.targets]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"targets {names}: reconstruction guidance needs what is known, one target a branch"
            )

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a target that is held clean, or a place inside of text guidance."""
        for target in self.targets:
            if target.weight:
                setup.needs_motion(self, target.branch, noisy=True)
                check_outside(self, setup)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """With an optimiser every branch that moves; a fixed weight only guides the step."""
        return move.moving() if self.optimizer is not None and self._acts(move) else ()

    @override
    def sees(self, move: Move) -> Sight:
        """All of the picture, where it acts."""
        return "whole" if self._acts(move) else "part"

    @override
    def begin(self, state: State) -> State:
        """Only a check: every target names a branch of the run and has its shape."""
        for target in self.targets:
            check_known(state, target.branch, target.known, target.mask, "guidance")
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Predict with a graph from the latents that move, and follow the energy's gradient."""
        if not self._acts(move):
            return denoiser

        def pulled(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            return self._pulled(denoiser, state, move, variants)

        return pulled

    def _acts(self, move: Move) -> bool:
        wanted = any(target.weight for target in self.targets)
        return wanted and not ascends(move) and self.window.active(move)

    def _pulled(
        self, denoiser: Denoiser, state: State, move: Move, variants: Sequence[Variant]
    ) -> list[Predictions]:
        known = [one for one in self.targets if move.s[one.branch] >= one.until]
        acting = [one for one in known if one.weight > 0 and state.t[one.branch] > 0]
        free = [branch for branch in move.moving() if self._movable(state, branch)]
        # a solver's second call, at the end of the move, finds no displacement of its beginning
        late = self.optimizer is not None and dict(state.t) != dict(move.t)
        if not acting or late:
            return denoiser(state, variants)

        wrong: list[Tensor] = []

        def energy(predictions: Predictions) -> Tensor:
            there = [(one, predictions[one.branch].x0) for one in acting]
            wrong[:] = [one.wrong(x0.detach()) for one, x0 in there]
            terms = [one.energy(x0, *state.scales(one.branch)) for one, x0 in there]
            return torch.stack(terms).sum(0)

        def again(latents: Latents) -> Latents:
            there = state.at({**state.latents, **latents}, state.t)
            return follow(denoiser, there, free, energy, [])[1]

        def changing(gradients: Latents) -> Change:
            loose = {one.branch: one.loose for one in known}
            if self.optimizer is None:
                most = torch.stack(wrong).sum(0)
                pulls = {
                    branch: _within(most, gradient, loose.get(branch), *state.scales(branch))
                    for branch, gradient in gradients.items()
                }
                return partial(along_the_score, state=state, gradients=pulls)
            shifts = optimised(self.optimizer, state.latents, gradients, loose, again)
            return partial(nudged, state=state, move=move, shifts=shifts)

        return guided(denoiser, state, free, energy, variants, changing)

    def _movable(self, state: State, branch: str) -> bool:
        """A clean branch stays; from pure noise x0 says nothing of the latents (1 / alpha)."""
        alpha, sigma = state.scales(branch)
        return sigma > 0 and (alpha > 0 or self.optimizer is not None)


def _rms(values: Tensor, mask: Tensor | None) -> Tensor:
    """(B,) root mean square of (B, C, H, W) where a mask shows them; None shows everything."""
    if mask is None:
        return values.square().flatten(1).mean(1).sqrt()
    shown = mask.to(values).expand_as(values)
    square = (shown * values).square().flatten(1).sum(1)
    return (square / shown.square().flatten(1).sum(1).clamp_min(_NONE)).sqrt()


def _within(
    most: Tensor, gradient: Tensor, loose: Tensor | None, alpha: float, sigma: float
) -> Tensor:
    """A gradient of what is loose, so short that x0 moves by `most` (B,) at most."""
    pull = masked(gradient, loose)
    far = sigma**2 / alpha * _rms(gradient, loose)
    return pull * (most / far.clamp_min(_NONE)).clamp_max(1.0).view(-1, 1, 1, 1)
