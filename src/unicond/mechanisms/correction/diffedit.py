"""DiffEdit: find what an edit is about, change only that.

    d = mean over noises of abs(x0(x_r, target) - x0(x_r, source)),     x_r = alpha_r x + sigma_r z
    m = 1 where d, clipped and divided by its largest value, is at least a threshold
    decode from x_strength:     latents_s = m latents_s + (1 - m) trail_s

The picture is noised some times to half strength, and where the predictions under the target's and
the source's prompt differ, it is to be changed. Then it is encoded by DDIM under the source's
prompt and decoded under the target's; outside of the mask the encoding's own states are put back,
so that the picture is kept exactly there.

All of it is one plan of the one loop: `samples` times there (renoise) and back, a step that carries
the difference instead of a picture; then up, then down. `DiffEdit.plan` makes it; the first moves
of the plan are known by their number.

Source: Couairon et al. 2022, arXiv:2210.11427, steps 1 to 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.inversion.edict import EDICT
from unicond.mechanisms.prompted import Prompted, by_text
from unicond.sampling import plans
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Move, Setup, Sight, State, Times

_KEY = "diffedit"
_EXTREME = 3.0  # differences above so many times their mean are clipped before the threshold


@dataclass(frozen=True)
class Found:
    """What an edit remembers, in `State.memory["diffedit"]`.

    Args:
        clean: (B, C, H, W), the picture's latents.
        differences: (B, 1, H, W), summed over the noises so far.
        trail: {t: latents (B, C, H, W)} of the encoding.
        mask: (B, 1, H, W), 1 is changed; None until it is measured.
    """

    clean: Tensor
    differences: Tensor
    trail: Mapping[float, Tensor]
    mask: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class DiffEdit(Prompted):
    """An edit of the picture that a branch starts from; goes outermost, with its own `plan`.

    The run's prompt is the target. Cost: `samples` calls of 2 rows, then two calls (up and down)
    for each time up to `strength`; one noise draw a sample, one kept state a time. The solver must
    be deterministic. On latent models the mask has the latents' resolution.

    Args:
        source: text that describes the picture; `"negative"` is the run's negative prompt, "" the
            usual one.
        strength: encode ratio, the time up to which the picture is encoded, in (0, 1], usually 0.5
            to 0.8; more changes more.
        samples: noises that the mask is averaged over, at least 1, usually 10.
        mask_time: how far the picture is noised to find the mask, in (0, 1).
        threshold: of the normalised difference, in (0, 1).
        branch: whose picture is edited; all others of the run are held.

    Raises:
        ValueError: a number out of range.
    """

    source: str = "negative"
    strength: float = 0.6
    samples: int = 10
    mask_time: float = 0.5
    threshold: float = 0.5
    branch: str = "image"

    def __post_init__(self) -> None:
        if self.samples < 1 or not 0.0 < self.strength <= 1.0:
            raise ValueError(
                f"samples {self.samples}, strength {self.strength}: give at least 1 sample, and a "
                "strength in (0, 1]"
            )
        for name, value in (("mask_time", self.mask_time), ("threshold", self.threshold)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} is {value}; it must be in (0, 1)")

    def plan(self, times: Sequence[float], start: Times) -> list[Move]:
        """There and back for the mask, then up and down.

        Args:
            times: descending times of the network calls of a whole run.
            start: {branch: where it is}; the edited branch at 0, the others are held.

        Returns:
            `2 samples + 2 n` moves, for n times up to `strength`.

        Raises:
            ValueError: the edited branch is not clean, or no time is low enough.
        """
        if start.get(self.branch) != 0:
            raise ValueError(
                f"an edit starts from a clean picture, but {self.branch!r} is at "
                f"{start.get(self.branch)}; give it, with noise 0"
            )
        up = [t for t in reversed(times) if t <= self.strength]
        if not up:
            raise ValueError(
                f"strength {self.strength} is below the lowest time, {times[-1]:.3f}, of "
                f"{len(times)} steps; raise one of them"
            )
        excursions = [self.mask_time, 0.0] * self.samples
        mine = [0.0, *excursions, *up, *up[-2::-1], 0.0]
        held = {b: [t] * len(mine) for b, t in start.items() if b != self.branch}
        moves = plans.path({self.branch: mine, **held})
        return [
            replace(move, kind="renoise") if number < 2 * self.samples and number % 2 == 0 else move
            for number, move in enumerate(moves)
        ]

    @override
    def prompts(self) -> Mapping[str, str]:
        """The source's."""
        return by_text([self.source])

    @override
    def check(self, setup: Setup) -> None:
        """Refuse moves that are not of `plan`, and what changes the picture on its way up."""
        if self.branch not in setup.state.t:
            return
        if isinstance(setup.solver, EDICT):
            raise ValueError(
                "DiffEdit puts the picture back outside of its mask, of which EDICT's second state "
                "knows nothing: use the 'ddim' solver with eta=0"
            )
        self._check_plan(setup.moves)
        turn = max(move.number for move in setup.moves if self._upward(move))
        for move in setup.moves[:turn]:
            for other in setup.mechanisms:
                if other is not self and self.branch in other.displaces(move):
                    who = type(other).__name__
                    raise ValueError(
                        f"DiffEdit encodes the picture itself, and {who} changes it on the way: "
                        f"leave {who} out (so with all that mends or steps the state: ILVR, DDNM, "
                        "an inversion), or let it act late, by its window"
                    )

    @override
    def sees(self, move: Move) -> Sight:
        """All of the picture, for the mask and the encoding."""
        return "whole" if self._measures(move) or self._upward(move) else "part"

    @override
    def begin(self, state: State) -> State:
        """Remember the picture."""
        if state.t.get(self.branch) != 0:
            raise ValueError(
                f"an edit starts from a clean picture, but {self.branch!r} is at "
                f"{state.t.get(self.branch)}; start with the moves of DiffEdit.plan"
            )
        clean = state.latents[self.branch]
        trail = MappingProxyType({0.0: clean})
        return state.remember(_KEY, Found(clean, torch.zeros_like(clean[:, :1]), trail))

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Ask for the difference while the mask is measured, for the source on the way up."""
        if not self._measures(move) and not self._upward(move):
            return denoiser
        prompts = ["positive", self.source] if self._measures(move) else [self.source]

        def asked(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            passing = [variant for variant in variants if not variant.guided]
            mine = [Variant(prompt=prompt, guided=False) for prompt in prompts]
            found = denoiser(state, [*passing, *mine])
            others, result = iter(found), dict(found[len(passing)])
            for source in found[len(passing) + 1 :]:
                pair = [(1.0, result[self.branch]), (-1.0, source[self.branch])]
                result[self.branch] = Prediction.blend(pair)
            return [result if variant.guided else next(others) for variant in variants]

        return asked

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Add up differences, keep the trail, or put the picture back outside of the mask."""
        found, latents = cast(Found, state.memory[_KEY]), state.latents[self.branch]
        if move.kind == "renoise":
            return state
        if self._measures(move):
            size = predictions[self.branch].x0.abs().mean(1, keepdim=True)
            found = replace(found, differences=found.differences + size)
            state = replace(state, latents={**state.latents, self.branch: found.clean})
            return state.remember(_KEY, found)
        if found.mask is None:
            found = replace(found, mask=self._mask(found.differences))
        if self._upward(move):
            trail = MappingProxyType({**found.trail, move.s[self.branch]: latents})
            return state.remember(_KEY, replace(found, trail=trail))
        assert found.mask is not None
        kept = torch.where(found.mask > 0, latents, found.trail[move.s[self.branch]])
        return replace(state, latents={**state.latents, self.branch: kept})

    def _check_plan(self, moves: Sequence[Move]) -> None:
        mine = [(move.kind, move.t[self.branch], move.s[self.branch]) for move in moves]
        looks, rest = mine[: 2 * self.samples], mine[2 * self.samples :]
        there = [("renoise", 0.0, self.mask_time), ("step", self.mask_time, 0.0)] * self.samples
        up = [(t, s) for _, t, s in rest if s > t]
        way = [*up, *((s, t) for t, s in reversed(up))]
        if looks != there or not up or rest != [("step", *one) for one in way]:
            raise ValueError(
                f"DiffEdit has moves of its own for {self.branch!r}, and this plan has others: "
                "start with the moves of DiffEdit.plan, and no more than those"
            )

    def _measures(self, move: Move) -> bool:
        return move.number < 2 * self.samples

    def _upward(self, move: Move) -> bool:
        return move.s[self.branch] > move.t[self.branch]

    def _mask(self, differences: Tensor) -> Tensor:
        """(B, 1, H, W) of 0 and 1: each sample's own; nowhere 1 where the prompts say the same."""
        most = _EXTREME * differences.mean((1, 2, 3), keepdim=True)
        clipped = torch.minimum(differences, most)
        largest = clipped.amax((1, 2, 3), keepdim=True)
        normal = clipped / torch.where(largest > 0, largest, 1.0)
        return (normal >= self.threshold).to(differences)
