"""Layout guidance: the latents are moved until words are attended to inside their boxes.

    E = mean over words i and maps A of (1 - sum_{u in box_i} A_{u,i} / sum_u A_{u,i})^2
    x_t <- x_t - eta sigma_t^2 grad_{x_t} E

several times in each of the first moves, until E is small. The maps are those of cross-attention in
the middle block and in the first block of the way up that has any, each head's its own.

Source: Chen et al. 2023, arXiv:2304.03373, section 3.2 (backward guidance), eq. 3 to 5. Deviates: a
place on the box's border counts by its share inside, so that no box vanishes on a coarse grid; a
sample of which E is small already is not moved.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.attention.words import check_marks, check_tokens, check_words
from unicond.mechanisms.blending.classifier_free import check_outside
from unicond.mechanisms.guidance.energies import (
    Watch,
    bare_first,
    checked,
    grid_at,
)
from unicond.mechanisms.guidance.gradients import BARE, follow, nudged
from unicond.mechanisms.guidance.readout import Readout
from unicond.mechanisms.guidance.self_guidance import SelfGuidance
from unicond.mechanisms.known import check_branch, check_scale
from unicond.sampling.controls import Layer
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, Sight, State
from unicond.sampling.window import Window

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) as shares of the picture's width and height."""
FIRST_FIFTH = Window.share(0.0, 0.2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Some words of the prompt and the box that they belong in.

    Args:
        words: (B or 1, tokens), 1 at the words (`words.places`).
        box: (left, top, right, bottom) in [0, 1], from the upper left corner.

    Raises:
        ValueError: a box out of range or empty, or a sample without words.
    """

    words: Tensor
    box: Box

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not (0.0 <= left < right <= 1.0 and 0.0 <= top < bottom <= 1.0):
            raise ValueError(
                f"the box {self.box} is out of range or empty; it must be 0 <= left < right <= 1 "
                "and 0 <= top < bottom <= 1, shares of the picture's width and height"
            )
        check_words(self.words)

    def inside(self, grid: tuple[int, int]) -> Tensor:
        """(height * width,), the share of each place of a grid that is inside."""
        left, top, right, bottom = self.box
        rows, columns = _covered(top, bottom, grid[0]), _covered(left, right, grid[1])
        return (rows[:, None] * columns).flatten()


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout(Mechanism):
    """Layout by the gradient of cross-attention, in the variants of the prompt.

    While the window is open a move takes up to `iterations` more network calls of the bare
    prediction under the prompt, each with a graph and a backward pass; those that are needed for
    the slowest sample of a batch. No random draw. All variants are predicted from the moved
    latents. Steps are exact for solvers that go by noise (DDIM and Euler with eta 0, DPM-Solver++);
    with eta > 0 and in Heun's second call the displacement is only carried along. Not approximate
    with latent models: maps are the network's own.

    Args:
        objects: words and their boxes.
        scale: eta, usually 30; 0.0 is off.
        iterations: inner steps a move, usually 5.
        stop: a sample is moved while its E is at least this, usually 0.2.
        branch: whose latents.
        window: when it acts, usually the first 10 of 50 moves.

    Raises:
        ValueError: a number out of range.
    """

    objects: Sequence[Placed]
    scale: float = 30.0
    iterations: int = 5
    stop: float = 0.2
    branch: str = "image"
    window: Window = FIRST_FIFTH

    def __post_init__(self) -> None:
        check_scale(self.scale)
        if not (self.iterations >= 1 and self.stop >= 0):
            raise ValueError(
                "layout guidance needs iterations >= 1 and stop >= 0, not "
                f"{self.iterations} and {self.stop}"
            )

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held, and a place where it would do nothing or make too much."""
        if self.scale == 0 or not self.objects:
            return
        setup.needs_motion(self, self.branch)
        check_outside(self, setup)
        why = "which looks into the one network call of a prediction, and it makes several"
        setup.goes_around(self, (SelfGuidance, Readout), self._meets, why)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """Its branch, where it acts."""
        return (self.branch,) if self._acts(move) else ()

    @override
    def sees(self, move: Move) -> Sight:
        """The network's inside, where it acts."""
        return "network" if self._acts(move) else "part"

    @override
    def begin(self, state: State) -> State:
        """Only a check: there is such a branch, and words for each sample."""
        if self.scale == 0 or not self.objects:
            return state
        check_branch(state, self.branch, "layout guidance")
        check_marks(self.marks(), len(state.latents[self.branch]))
        return state

    def marks(self) -> Iterator[Tensor]:
        """The objects' words."""
        yield from (one.words for one in self.objects if self.scale)

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Move the latents first, then predict from there."""
        if not self._acts(move):
            return denoiser

        def placed(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            late = dict(state.t) != dict(move.t)  # a solver's second call, at the end of the move
            if late or not any(variant.guided for variant in variants):
                return denoiser(state, variants)
            shift = self._shift(denoiser, state)
            if shift is None:
                return denoiser(state, variants)
            there = _shifted(state, self.branch, shift)
            found = denoiser(there, variants)
            return [self._carried(one, state, move, shift) for one in found]

        return placed

    def energy(self, maps: Tensor, grid: tuple[int, int]) -> Tensor:
        """E of one layer's maps.

        Args:
            maps: (B, heads, places, tokens).
            grid: (height, width) of the places.

        Returns:
            (B,), the mean over objects, their words and the heads.

        Raises:
            ValueError: words are marked in another number of tokens.
        """
        terms = list[Tensor]()
        check_tokens((one.words for one in self.objects), maps.shape[-1])
        for one in self.objects:
            inside = one.inside(grid).to(maps) @ maps  # (B, heads, tokens)
            missed = (1 - inside / maps.sum(2)).square().mean(1)
            words = one.words.to(maps)
            terms.append((words * missed).sum(1) / words.sum(1))
        return torch.stack(terms).mean(0)

    def _acts(self, move: Move) -> bool:
        falls = move.falls(self.branch)
        return (
            self.scale != 0
            and bool(self.objects)
            and falls
            and self.window.active(move, self.branch)
        )

    def _meets(self, other: Mechanism, move: Move) -> bool:
        return self._acts(move) and other.sees(move) == "network"

    def _shift(self, denoiser: Denoiser, state: State) -> Tensor | None:
        """The displacement (B, C, H, W), or None where no sample needs one."""
        plain = state.at({b: v.detach() for b, v in state.latents.items()}, state.t)
        latents, sigma = plain.latents[self.branch], state.scales(self.branch)[1]
        shift: Tensor | None = None
        for _ in range(self.iterations):
            there = plain if shift is None else _shifted(plain, self.branch, shift)
            energies, gradient = self._differentiated(denoiser, there)
            active = (energies >= self.stop)[:, None, None, None]
            if not active.any():
                break
            step = torch.where(active, -self.scale * sigma**2 * gradient, 0.0).to(latents)
            shift = step if shift is None else shift + step
        return shift

    def _differentiated(self, denoiser: Denoiser, state: State) -> tuple[Tensor, Tensor]:
        """E (B,) and its gradient (B, C, H, W)."""
        latents = state.latents[self.branch]
        watch = Watch(self.branch, BARE.prompt, _MiddleAndFirstUp())
        kept = list[Tensor]()

        def energy(_: Predictions) -> Tensor:
            if not watch.found:
                raise ValueError(
                    "layout guidance needs cross-attention in the middle block or on the way up, "
                    "and this denoiser has none"
                )
            size = latents.shape[-2:]
            terms = [self.energy(maps, grid_at(layer, size)) for layer, maps in watch.found.items()]
            found = checked(torch.stack(terms).mean(0), len(latents), "the energy of a layout")
            kept.append(found.detach())
            return found

        _, gradients = follow(bare_first(denoiser, [watch]), state, [self.branch], energy, [])
        return kept[0], gradients[self.branch]

    def _carried(self, found: Predictions, state: State, move: Move, shift: Tensor) -> Predictions:
        """Predictions of the moved latents as ones of the latents that the solver has."""
        old, sigma = found[self.branch], state.scales(self.branch)[1]
        mine = {**found, self.branch: replace(old, eps=old.eps - shift / sigma)}
        return nudged(mine, state, move, {self.branch: shift})


class _MiddleAndFirstUp:
    """Layers are asked about in running order: the first on the way up tells the block's level."""

    def __init__(self) -> None:
        self._level: int | None = None

    def __call__(self, layer: Layer) -> bool:
        if layer.kind != "cross" or layer.part == "down":
            return False
        if layer.part == "up" and layer.number == 0:
            self._level = layer.level
        return layer.part == "mid" or layer.level == self._level


def _shifted(state: State, branch: str, shift: Tensor) -> State:
    return state.at({**state.latents, branch: state.latents[branch] + shift}, state.t)


def _covered(low: float, high: float, count: int) -> Tensor:
    """(count,), the share of each of equal cells of [0, 1] that [low, high] covers."""
    edges = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    return (edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)).clamp(min=0) * count
