"""Prompt-to-prompt: the target attends to its words where the source attends to its own.

    cross:  P_target <- c (shared P_source M + (1 - shared) P_target)        (M, shared: `words`)
    self:   P_target <- P_source                                             (small maps only)
    blend:  latents_target <- latents_source + m (latents_target - latents_source)

*Swap* aligns the prompts word for word, *refine* keeps the maps of the words that both have and
lets new words find their own place, *reweight* scales words by c. The local blend keeps the source
outside of the places m of some words: the mean of their maps so far, pooled 3 x 3, divided by its
maximum, above a threshold in the source or the target.

Source: Hertz et al. 2022, arXiv:2208.01626, section 3 and algorithm 1; the blend is that of its
released code. Scaled maps are not normalised again, as there.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.attention.editing import Edit
from unicond.mechanisms.attention.maps import LARGEST, Gather, Gathered
from unicond.mechanisms.attention.words import Alignment, check_marks, check_words
from unicond.sampling.controls import Changes, Control, Layer, Stage, rows_of
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Rows
from unicond.sampling.state import Move, Sight, State
from unicond.sampling.window import Window

CROSS = Window.share(0.0, 0.8)
SELF = Window.share(0.0, 0.4)
BLENDED = Window.share(0.2, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalBlend:
    """Change the picture only where some words are.

    Args:
        source: (B or 1, tokens), 1 at the source's words (`words.places`).
        target: likewise, of the target.
        threshold: of maps whose maximum is 1, in [0, 1); usually 0.3.
        window: when it acts.

    Raises:
        ValueError: a threshold out of range, or a sample without words.
    """

    source: Tensor
    target: Tensor
    threshold: float = 0.3
    window: Window = BLENDED

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold < 1.0:
            raise ValueError(f"threshold is {self.threshold}; it must be in [0, 1), usually 0.3")
        for words in (self.source, self.target):
            check_words(words)


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptToPrompt(Edit):
    """Editing by exchanging attention maps, in the variants of the prompt, not of the negative one.

    Nothing is approximate with latent models. Network calls: those of a run of two branches; maps
    are kept in memory one layer at a time, (rows, heads, queries, keys). No random draw. Windows
    that are nowhere open, and scales of 1, are off.

    Args:
        source: the branch that is read.
        target: the branch that is written.
        alignment: of both prompts, by `words.swapped` or `words.refined`; None leaves the target
            its own cross-attention maps (for reweighting alone).
        scales: c, (B or 1, tokens), by `words.scales`; usually -2 to 5.
        cross_maps: when words' maps are exchanged and scaled.
        self_maps: when self-attention maps are exchanged.
        largest: of self-attention maps of so many places at most (16 x 16).
        blend: where the picture may change; None is everywhere.
        prompt: name of the variants' prompt.
    """

    alignment: Alignment | None = None
    scales: Tensor | None = None
    cross_maps: Window = CROSS
    self_maps: Window = SELF
    largest: int = LARGEST
    blend: LocalBlend | None = None
    prompt: str = "positive"

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """The target, where the local blend acts."""
        return (self.target,) if self._blends(move) is not None else ()

    @override
    def sees(self, move: Move) -> Sight:
        """The network's inside, for a local blend."""
        falls = move.falls(self.target)
        return "network" if self.blend is not None and falls else "part"

    @override
    def begin(self, state: State) -> State:
        state = super().begin(state)
        check_marks(self.marks(), len(state.latents[self.target]))
        return state if self.blend is None else state.remember(self._key, Gathered())

    @override
    def acts(self, move: Move) -> bool:
        return (
            self._cross(move) or self.self_maps.active(move, self.target) or self.blend is not None
        )

    @override
    def controls(self, state: State, move: Move) -> Sequence[Control]:
        height, width = state.latents[self.target].shape[-2:]
        size = int(height), int(width)
        maps = _Maps(self, self._cross(move), self.self_maps.active(move, self.target), size)
        if self.blend is None:
            return (maps,)
        branches = (self.source, self.target)
        return maps, Gather(self._gathered(state), branches, self.prompt, size)

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """The target follows on the way up; the blend, on the way down."""
        state = super().settle(state, predictions, move)
        blend = self._blends(move)
        if blend is None:
            return state
        source, target = state.latents[self.source], state.latents[self.target]
        where = self._places(self._gathered(state), blend, target.shape[-2:])
        mixed = torch.where(where, target, source)
        return replace(state, latents={**state.latents, self.target: mixed})

    def marks(self) -> Iterator[Tensor]:
        """All that is said of tokens."""
        if self.alignment is not None:
            yield from (self.alignment.shared, self.alignment.mapper)
        if self.scales is not None:
            yield self.scales
        if self.blend is not None:
            yield from (self.blend.source, self.blend.target)

    @property
    def _key(self) -> str:
        return f"prompt_to_prompt/{self.target}"

    def _gathered(self, state: State) -> Gathered:
        return cast(Gathered, state.memory[self._key])

    def _cross(self, move: Move) -> bool:
        scaled = self.scales is not None and bool((self.scales != 1).any())
        return (self.alignment is not None or scaled) and self.cross_maps.active(move, self.target)

    def _blends(self, move: Move) -> LocalBlend | None:
        """The blend, where it acts."""
        falls = move.falls(self.target)
        acts = self.blend is not None and falls and self.blend.window.active(move, self.target)
        return self.blend if acts else None

    def _places(self, gathered: Gathered, blend: LocalBlend, size: Sequence[int]) -> Tensor:
        """m, (B, 1, H, W): 1 where one of the words is, in the source or in the target."""
        found: list[Tensor] = []
        for branch, words in ((self.source, blend.source), (self.target, blend.target)):
            maps = gathered.of(branch, words, size)
            if maps is None:
                raise ValueError(
                    "the local blend needs cross-attention maps of at most "
                    f"{LARGEST} places, and this network has none at this size"
                )
            pooled = F.max_pool2d(maps, 3, stride=1, padding=1)
            peak = pooled.amax((-2, -1), keepdim=True).clamp_min(1e-12)
            found.append(pooled / peak > blend.threshold)
        return torch.logical_or(*found)


@dataclass(frozen=True, eq=False)
class _Maps(Control):
    edit: PromptToPrompt
    cross: bool
    own: bool
    size: tuple[int, int]

    @override
    def wants(self, layer: Layer) -> Collection[Stage]:
        if layer.kind == "self":
            small = layer.tokens(self.size) <= self.edit.largest
            return ("maps",) if self.own and small else ()
        return ("maps",) if self.cross and layer.kind == "cross" else ()

    @override
    def maps(self, layer: Layer, maps: Tensor, rows: Rows) -> Changes:
        edit = self.edit
        both = rows_of(rows, (edit.source, edit.target), edit.prompt)
        if layer.kind == "self":
            return [(target, maps[source]) for source, target in both]
        return [(target, self._mapped(maps[source], maps[target])) for source, target in both]

    def _mapped(self, source: Tensor, target: Tensor) -> Tensor:
        """The target's cross-attention maps (B, heads, queries, tokens)."""
        alignment, scales = self.edit.alignment, self.edit.scales
        if alignment is not None:
            _check(alignment.shared, target)
            shared = alignment.shared.to(target)[:, None, None]
            mapper = alignment.mapper.to(target)[:, None]
            target = shared * (source @ mapper) + (1 - shared) * target
        if scales is not None:
            _check(scales, target)
            target = scales.to(target)[:, None, None] * target
        return target


def _check(words: Tensor, maps: Tensor) -> None:
    if words.shape[-1] != maps.shape[-1] or len(words) not in (1, len(maps)):
        raise ValueError(
            f"words are given for {len(words)} prompts of {words.shape[-1]} tokens, but this run "
            f"has {len(maps)} samples and {maps.shape[-1]} tokens"
        )
