"""Style injection: the target looks at the style picture's keys and values.

    q <- gamma q_source + (1 - gamma) q_target,    out = softmax(tau q k_style^T / sqrt(d)) v_style

in the decoder's self-attention; tau sharpens maps that keys of another picture make too even. The
target starts with the source's noise at the style's statistics (AdaIN, by sample and channel):

    x_target = std(x_style) (x_source - mean(x_source)) / std(x_source) + mean(x_style)

Source: Chung et al. 2024, arXiv:2312.09008, eq. 4 to 7 (their layers 7 to 12 of the decoder's
self-attention).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.attention.editing import Edit, Span, check_span, check_times
from unicond.sampling.controls import Control, Heads, Layer, Stage, put, rows_of
from unicond.sampling.rows import Rows
from unicond.sampling.state import Move, Setup, State
from unicond.sampling.window import ALWAYS, Window


@dataclass(frozen=True, kw_only=True)
class StyleInjection(Edit):
    """Three branches: what is shown (source), how it looks (style), and the result (target).

    For given pictures the plan first inverts source and style. Network calls: those of a run of
    three branches; no random draw. With latent models AdaIN's statistics are those of latents;
    nothing else is approximate.

    Args:
        source: the branch whose content is kept.
        target: the branch that is written.
        style: the branch whose keys and values are taken.
        gamma: share of the source's queries, 0 (the target's own) to 1.
        tau: factor of the scores, above 0; 1.0 leaves them.
        adain: whether the target starts at the style's statistics, else where the source does.
        window: when it acts; nowhere open, all but the start is off.
        layers: share of the decoder's self-attention layers; the default is the last 6 of Stable
            Diffusion 1.5's 9.

    Raises:
        ValueError: a parameter out of range.
    """

    style: str = "style"
    gamma: float = 0.75
    tau: float = 1.5
    adain: bool = True
    window: Window = ALWAYS
    layers: Span = (1 / 3, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_span("layers", self.layers)
        if not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma is {self.gamma}; it is a share, 0 to 1, usually 0.75")
        if not 0.0 < self.tau < math.inf:
            raise ValueError(f"tau is {self.tau}; it must be above 0, usually 1 to 2")

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a style that is elsewhere than the target, too."""
        super().check(setup)
        for move in setup.moves:
            if {self.style, self.target} <= move.t.keys() and move.falls(self.target):
                check_times(move, self.style, self.target)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """The target, which on the way up gets the style's statistics."""
        rises = self.adain and move.rises(self.source)
        return (self.target,) if rises and move.s[self.style] == move.s[self.source] else ()

    @override
    def begin(self, state: State) -> State:
        if self.style not in state.latents:
            raise ValueError(f"no branch {self.style!r} in this run; it has {sorted(state.t)}")
        return super().begin(state)

    @override
    def start(self, state: State) -> Tensor:
        content = state.latents[self.source]
        if not self.adain or state.t[self.style] != state.t[self.source]:
            return content
        return adain(content, state.latents[self.style])

    @override
    def acts(self, move: Move) -> bool:
        return self.window.active(move, self.target)

    @override
    def controls(self, state: State, move: Move) -> Sequence[Control]:
        return (_Style(self),)


@dataclass(frozen=True)
class _Style(Control):
    edit: StyleInjection

    @override
    def wants(self, layer: Layer) -> Collection[Stage]:
        inside = layer.kind == "self" and layer.part == "up" and layer.within(*self.edit.layers)
        return ("qkv",) if inside else ()

    @override
    def project(self, layer: Layer, heads: Heads, rows: Rows) -> Heads:
        q, k, v = heads
        edit = self.edit
        for source, style, target in rows_of(rows, (edit.source, edit.style, edit.target)):
            mixed = edit.gamma * q[source] + (1 - edit.gamma) * q[target]
            q = put(q, target, edit.tau * mixed)
            k, v = put(k, target, k[style]), put(v, target, v[style])
        return Heads(q, k, v)


def adain(content: Tensor, style: Tensor) -> Tensor:
    """The content at the style's mean and standard deviation, by sample and channel.

    Args:
        content: (B, C, H, W).
        style: (B, C, h, w).

    Returns:
        (B, C, H, W); a channel without any spread gets the style's mean.
    """
    axes = (-2, -1)
    centred = content - content.mean(axes, keepdim=True)
    unit = centred / content.std(axes, keepdim=True).clamp_min(1e-12)
    return unit * style.std(axes, keepdim=True) + style.mean(axes, keepdim=True)
