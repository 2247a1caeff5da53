"""Plug-and-play: the target has the source's layout, by its features and self-attention maps.

    f_target       <- f_source            what a decoder's residual block adds to its input
    q, k of target <- q, k of source      in the decoder's self-attention: the maps are the source's

Values and words remain the target's own: it looks as its prompt says, in the source's shape.

Source: Tumanyan et al. 2023, arXiv:2211.12572, section 4.1 and 4.2 (features of decoder layer 4,
maps of layers 4 to 11, both until a share of the steps).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.attention.editing import Edit, Span, check_span
from unicond.sampling.controls import Control, Heads, Layer, Stage, put, rows_of
from unicond.sampling.rows import Rows
from unicond.sampling.state import Move, State
from unicond.sampling.window import Window

MOST = Window.share(0.0, 0.8)
HALF = Window.share(0.0, 0.5)


@dataclass(frozen=True, kw_only=True)
class PlugAndPlay(Edit):
    """Injection of features and self-attention, with all prompts' variants alike.

    Nothing is approximate with latent models. Network calls: those of a run of two branches; no
    random draw. A window that is nowhere open is off.

    Args:
        source: the branch that is read.
        target: the branch that is written.
        features: when features are injected.
        attention: when queries and keys are.
        feature_layers: share of the decoder's residual blocks; the default is block 4 of Stable
            Diffusion 1.5's 12.
        attention_layers: share of the decoder's self-attention layers; the default is all but the
            first of Stable Diffusion 1.5's 9.

    Raises:
        ValueError: a share out of range.
    """

    features: Window = MOST
    attention: Window = HALF
    feature_layers: Span = (1 / 3, 0.4)
    attention_layers: Span = (0.12, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_span("feature_layers", self.feature_layers)
        check_span("attention_layers", self.attention_layers)

    @override
    def acts(self, move: Move) -> bool:
        return self.features.active(move, self.target) or self.attention.active(move, self.target)

    @override
    def controls(self, state: State, move: Move) -> Sequence[Control]:
        return (
            _Injection(
                self,
                self.features.active(move, self.target),
                self.attention.active(move, self.target),
            ),
        )


@dataclass(frozen=True)
class _Injection(Control):
    edit: PlugAndPlay
    features: bool
    attention: bool

    @override
    def wants(self, layer: Layer) -> Collection[Stage]:
        if layer.part != "up":
            return ()
        if layer.kind == "residual" and self.features:
            return ("values",) if layer.within(*self.edit.feature_layers) else ()
        if layer.kind == "self" and self.attention:
            return ("qkv",) if layer.within(*self.edit.attention_layers) else ()
        return ()

    @override
    def project(self, layer: Layer, heads: Heads, rows: Rows) -> Heads:
        return heads._replace(q=self._injected(heads.q, rows), k=self._injected(heads.k, rows))

    @override
    def values(self, layer: Layer, values: Tensor, rows: Rows) -> Tensor:
        return self._injected(values, rows)

    def _injected(self, values: Tensor, rows: Rows) -> Tensor:
        for source, target in rows_of(rows, (self.edit.source, self.edit.target)):
            values = put(values, target, values[source])
        return values
