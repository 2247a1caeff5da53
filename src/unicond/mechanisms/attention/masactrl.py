"""MasaCtrl: mutual self-attention; the target keeps its own layout and takes the source's contents.

    P = softmax(q_target k_source^T / sqrt(d) + b),    out_target = P v_source

from a step on, in the later layers of the decoder: poses change, things stay what they are. With
masks, foreground looks at foreground and background at background: `b = 0` between places of one
kind, `-inf` between others. A place is foreground where the mean map of the subject's words, scaled
to [0, 1], is at least the threshold.

Source: Cao et al. 2023, arXiv:2304.08465, eq. 3 to 7 (from step S = 4 and layer L = 10 on). Their
masks come from the maps of the present step so far, ours from those of all steps before.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.attention.editing import Edit, Span, check_span
from unicond.mechanisms.attention.maps import Gather, Gathered
from unicond.mechanisms.attention.words import check_marks, check_words
from unicond.sampling.controls import (
    Changes,
    Control,
    Heads,
    Layer,
    Stage,
    grid_of,
    put,
    rows_of,
)
from unicond.sampling.rows import Rows
from unicond.sampling.state import Move, Sight, State
from unicond.sampling.window import Window

LATER = Window.share(0.08, 1.0)
"""All but the first 4 of 50 steps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """The words that tell foreground from background.

    Args:
        source: (B or 1, tokens), 1 at the source's words (`words.places`).
        target: likewise, of the target.
        threshold: of maps that are scaled to [0, 1], above 0; usually 0.1.
        prompt: name of the variants' prompt.

    Raises:
        ValueError: a threshold out of range, or a sample without words.
    """

    source: Tensor
    target: Tensor
    threshold: float = 0.1
    prompt: str = "positive"

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"threshold is {self.threshold}; it must be in (0, 1], usually 0.1")
        for words in (self.source, self.target):
            check_words(words)


@dataclass(frozen=True, kw_only=True, eq=False)
class MasaCtrl(Edit):
    """Keys and values of the source in the target's self-attention, all prompts' variants alike.

    Nothing is approximate with latent models. Network calls: those of a run of two branches; with
    masks the target's self-attention is computed twice, and one bias (B, 1, queries, keys) a layer
    is in memory. No random draw. A window that is nowhere open is off.

    Args:
        source: the branch that is read.
        target: the branch that is written.
        window: when it acts; early steps are left to the target, to find its layout.
        layers: share of the decoder's self-attention layers; the default is from layer 10 of Stable
            Diffusion 1.5's 16 on, the last 6 of the decoder's 9.
        subject: masks foreground and background; None has no masks. The first step has none yet.

    Raises:
        ValueError: a share out of range.
    """

    window: Window = LATER
    layers: Span = (1 / 3, 1.0)
    subject: Subject | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_span("layers", self.layers)

    @override
    def sees(self, move: Move) -> Sight:
        """The network's inside, for masks."""
        falls = move.falls(self.target)
        return "network" if self.subject is not None and falls else "part"

    @override
    def begin(self, state: State) -> State:
        state = super().begin(state)
        if self.subject is None:
            return state
        check_marks(self.marks(), len(state.latents[self.target]))
        return state.remember(self._key, Gathered())

    def marks(self) -> Iterator[Tensor]:
        """The subject's words."""
        if self.subject is not None:
            yield from (self.subject.source, self.subject.target)

    @override
    def acts(self, move: Move) -> bool:
        return self.window.active(move, self.target) or self.subject is not None

    @override
    def controls(self, state: State, move: Move) -> Sequence[Control]:
        active = self.window.active(move, self.target)
        if self.subject is None:
            return (_Mutual(self, None),)
        gathered = cast(Gathered, state.memory[self._key])
        height, width = state.latents[self.target].shape[-2:]
        size = int(height), int(width)
        gather = Gather(gathered, (self.source, self.target), self.subject.prompt, size)
        known = Gathered(dict(gathered.sums), dict(gathered.counts))
        return (gather, _Mutual(self, known)) if active else (gather,)

    @property
    def _key(self) -> str:
        return f"masactrl/{self.target}"


@dataclass(frozen=True, eq=False)
class _Mutual(Control):
    """Acts by the maps of the calls before, `known`."""

    edit: MasaCtrl
    known: Gathered | None

    @override
    def wants(self, layer: Layer) -> Collection[Stage]:
        if layer.kind != "self" or layer.part != "up" or not layer.within(*self.edit.layers):
            return ()
        return ("qkv", "bias") if self.known is not None and self.known.sums else ("qkv",)

    @override
    def project(self, layer: Layer, heads: Heads, rows: Rows) -> Heads:
        q, k, v = heads
        for source, target in rows_of(rows, (self.edit.source, self.edit.target)):
            k, v = put(k, target, k[source]), put(v, target, v[source])
        return Heads(q, k, v)

    @override
    def bias(self, layer: Layer, heads: Heads, rows: Rows) -> Changes:
        subject = self.edit.subject
        assert subject is not None
        assert self.known is not None
        grid = grid_of(rows, heads.q.shape[2])
        source = self._foreground(self.edit.source, subject.source, grid)
        target = self._foreground(self.edit.target, subject.target, grid)
        bias = apart(target, source)
        both = rows_of(rows, (self.edit.source, self.edit.target))
        return [(mine, bias) for _, mine in both]

    def _foreground(self, branch: str, words: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, places) bool."""
        assert self.known is not None
        assert self.edit.subject is not None
        maps = self.known.of(branch, words, grid)
        assert maps is not None, "both branches are gathered together"
        low, high = (extreme((-2, -1), keepdim=True) for extreme in (maps.amin, maps.amax))
        return (
            (maps - low) / (high - low).clamp_min(1e-12) >= self.edit.subject.threshold
        ).flatten(1)


def apart(queries: Tensor, keys: Tensor) -> Tensor:
    """A bias by which foreground and background do not see each other.

    Args:
        queries: (B, n), True in the foreground.
        keys: (B, m), likewise.

    Returns:
        (B, 1, n, m), 0 between places of one kind, -inf between others; a query whose kind is not
        among the keys sees all.
    """
    alike = queries[:, :, None] == keys[:, None]
    seen = alike | ~alike.any(-1, keepdim=True)
    return torch.where(seen, 0.0, -torch.inf)[:, None]
