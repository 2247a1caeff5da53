"""Perturbed-attention guidance: away from the model whose places do not see each other.

    p = p_guided + s (p_positive - p_positive with out = v)                   (x0 and eps alike)

In some self-attention layers the perturbed version has the identity in the place of the map, so
that each place keeps its own value: textures stay, shapes come apart, and what the difference adds
is what holds shapes together.

Source: Ahn et al. 2024, arXiv:2403.17377, section 4.1 (Stable Diffusion's middle block, scale 3).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from typing_extensions import override

from unicond.mechanisms.blending.away import Away
from unicond.sampling.controls import Changes, Control, Heads, Layer, Stage, acting
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Rows, Variant
from unicond.sampling.state import Denoiser, Move, State


@dataclass(frozen=True)
class PerturbedAttention(Away):
    """Guidance by what self-attention does for shapes, in the branches that move.

    A held branch is as it is: what the others see of it is not perturbed, nor is joint attention.
    One row more a sample and branch; no further call, no random draw. Not approximate with latent
    models: the maps are the network's own.

    Args:
        scale: s, usually 0 to 3; 0.0 is off.
        window: when it acts.
        layers: the blocks whose self-attention is perturbed, by the beginnings of their names:
            `"mid_block"` (the paper's), `"up_blocks.1"`.

    Raises:
        ValueError: it is on, and no layer is named.
    """

    layers: tuple[str, ...] = ("mid_block",)

    def __post_init__(self) -> None:
        if self.scale != 0.0 and not self.layers:
            raise ValueError(
                "perturbed-attention guidance needs layers: name blocks, usually mid_block, or "
                "give perturbed_guidance=0.0"
            )

    @override
    def weaker(self, variant: Variant) -> Variant:
        return replace(variant, perturbed=True)

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Let the identity into the network's calls."""
        if self.scale == 0.0 or not self.window.active(move):
            return denoiser
        alone = _Alone(self.layers, frozenset(move.moving()))

        def perturbed(
            state: State, variants: Sequence[Variant] = (Variant(),)
        ) -> list[Predictions]:
            with acting(alone):
                return denoiser(state, variants)

        return super().wrap(perturbed, move)


@dataclass(frozen=True)
class _Alone(Control):
    """Each place of some branches sees itself alone, in perturbed variants."""

    layers: tuple[str, ...]
    branches: frozenset[str]

    @override
    def wants(self, layer: Layer) -> Collection[Stage]:
        return ("bias",) if layer.kind == "self" and layer.name.startswith(self.layers) else ()

    @override
    def bias(self, layer: Layer, heads: Heads, rows: Rows) -> Changes:
        places = heads.q.shape[2]
        others = torch.full((places, places), -torch.inf).fill_diagonal_(0.0)
        return [
            (mine, others.to(heads.q).expand(mine.stop - mine.start, 1, -1, -1))
            for number, variant in enumerate(rows.variants)
            if variant.perturbed
            for mine in (rows.of(b, number) for b in rows.branches if b in self.branches)
        ]
