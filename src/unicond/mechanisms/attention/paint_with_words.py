"""Paint with words: inside a region, its words are attended to more.

    P = softmax((q k^T + w A) / sqrt(d)),    w = w' log(1 + sigma / alpha) max(q k^T)

A is 1 at the tokens of a region's words in the places of its mask; w falls with the noise, since
layout is decided early. The maximum is each sample's own, over heads, places and tokens.

Source: Balaji et al. 2022 (eDiff-I), arXiv:2211.01324, section 4.4 and eq. 5.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.attention.words import check_marks, check_tokens, check_words
from unicond.mechanisms.known import check_branch, check_scale
from unicond.mechanisms.views import BESIDE_VIEWS
from unicond.sampling.controls import (
    Changes,
    Control,
    Heads,
    Layer,
    Stage,
    acting,
    grid_of,
    rows_of,
)
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Rows, Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, Sight, State
from unicond.sampling.window import ALWAYS, Window

MOST_NOISE = 15.0
"""`sigma / alpha` is taken as this at most: Stable Diffusion's own largest is 14.6, and at pure
noise (zero terminal SNR) it is infinite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Painted:
    """Some words of the prompt and where they belong.

    Args:
        words: (B or 1, tokens), 1 at the words (`words.places`).
        mask: (B or 1, 1, H, W) of the latents' size, in [0, 1], 1 is inside.

    Raises:
        ValueError: a mask of another shape or range, or a sample whose mask is empty or that has
            no word.
    """

    words: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        if self.mask.ndim != 4 or self.mask.shape[1] != 1:
            raise ValueError(f"a mask is (B or 1, 1, H, W), not {tuple(self.mask.shape)}")
        if not (self.mask.amin() >= 0 and self.mask.amax() <= 1 and _peaks(self.mask).all()):
            raise ValueError(
                "a mask must be in [0, 1], and 1 (white) somewhere in each sample: it is the region"
            )
        check_words(self.words)


@dataclass(frozen=True, kw_only=True, eq=False)
class PaintWithWords(Mechanism):
    """Layout by scores of cross-attention, in the variants of the prompt, not of the negative one.

    Masks are brought to each layer's grid by averaging, and where regions overlap their A's add.
    Nothing else is approximate with latent models. No network call more, no random draw; the scores
    of the branch's rows are computed once more.

    Args:
        regions: words and their places.
        scale: w', usually 0.3 to 0.5; 0.0 is off.
        branch: the branch that is painted.
        window: when it acts.
        prompt: name of the variants' prompt.

    Raises:
        ValueError: a scale that is negative or infinite.
    """

    regions: Sequence[Painted]
    scale: float = 0.4
    branch: str = "image"
    window: Window = ALWAYS
    prompt: str = "positive"

    def __post_init__(self) -> None:
        check_scale(self.scale)

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a branch that is held: nothing would be painted."""
        if self.scale and self.regions:
            setup.needs_motion(self, self.branch)

    @override
    def sees(self, move: Move) -> Sight:
        """The network's inside, where it acts."""
        return "network" if self._acts(move) else "part"

    @override
    def begin(self, state: State) -> State:
        """Only a check: there is such a branch, and words and masks are for its samples."""
        if self.scale == 0 or not self.regions:
            return state
        check_branch(state, self.branch, "paint-with-words")
        check_marks(self.marks(), len(state.latents[self.branch]))
        samples, _, *size = state.latents[self.branch].shape
        for region in self.regions:
            if region.mask.shape not in ((1, 1, *size), (samples, 1, *size)):
                raise ValueError(
                    f"a mask is {tuple(region.mask.shape)}, but the latents are {tuple(size)}, of "
                    f"{samples} samples"
                )
        return state

    def marks(self) -> Iterator[Tensor]:
        """The regions' words."""
        yield from (region.words for region in self.regions if self.scale)

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Let the bias into the network's call."""
        if not self._acts(move):
            return denoiser

        def painted(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            alpha, sigma = state.scales(self.branch)
            noise = MOST_NOISE if sigma >= MOST_NOISE * alpha else sigma / alpha
            with acting(_Paint(self, self.scale * math.log1p(noise))):
                return denoiser(state, variants)

        return painted

    def _acts(self, move: Move) -> bool:
        rises = move.rises(self.branch)
        return (
            self.scale != 0
            and bool(self.regions)
            and not rises
            and self.window.active(move, self.branch)
        )


def _peaks(mask: Tensor) -> Tensor:
    """Whether each sample's mask is anywhere, (B,)."""
    return (mask > 0).flatten(1).any(1)


@dataclass(frozen=True, eq=False)
class _Paint(Control):
    paint: PaintWithWords
    weight: float

    @override
    def wants(self, layer: Layer) -> Collection[Stage]:
        return ("bias",) if layer.kind == "cross" else ()

    @override
    def bias(self, layer: Layer, heads: Heads, rows: Rows) -> Changes:
        size = self.paint.regions[0].mask.shape[-2:]
        if rows.size is not None and rows.size != tuple(size):
            raise ValueError(f"PaintWithWords {BESIDE_VIEWS}")
        places, tokens = heads.q.shape[2], heads.k.shape[2]
        grid = grid_of(rows, places)
        marked: Tensor | None = None
        check_tokens(self.paint.marks(), tokens)
        for region in self.paint.regions:
            inside = F.adaptive_avg_pool2d(region.mask.to(heads.q), grid).flatten(2)
            one = inside.transpose(1, 2) * region.words.to(heads.q)[:, None]
            marked = one if marked is None else marked + one
        assert marked is not None
        found: list[tuple[slice, Tensor]] = []
        for (mine,) in rows_of(rows, (self.paint.branch,), self.paint.prompt):
            q, k = heads.q[mine].detach(), heads.k[mine].detach()
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
            largest = scores.amax((1, 2, 3), keepdim=True)
            bias = self.weight * largest * marked[:, None]
            found.append((mine, bias.expand(len(q), -1, -1, -1)))
        return found
