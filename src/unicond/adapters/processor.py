"""Joint cross attention as an attention processor, diffusers' own extension point.

For a pair of rows (x, y) with normalised features h, and the layer's own `W`, applied once:

    q_x = (W_q + B_q^xy A_q^xy) h_x, k_x and v_x alike;    q_y, k_y, v_y with yx
    o_x = W_o^xy SDPA(q_x, k_y, v_y) + b_o,                o_y = W_o^yx SDPA(q_y, k_x, v_x) + b_o
    [p_x; p_y] = ProjOut([o_x; o_y])
    out_x = SelfAttn(h_x) + joint_scale * w_x * p_x,       and so out_y with w_y

The LoRA follows the data: xy acts on all that is computed from x, also on the keys y looks at.
y-LoRA acts on the y rows' own self- and cross-attention, not on the joint one. A row that hears
nothing has `o = 0` in ProjOut and no joint term, so that it depends on no other row.

The layer's projections are called as modules: a user's LoRA that wraps them acts in the joint
attention too. Source: UniCon, arXiv:2410.11439, eq. 4, 5 and 8.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

from unicond.adapters.network import layers_of
from unicond.adapters.parts import AttentionLora, LayerParts
from unicond.adapters.routes import Group, Route, Router


class Processor(Protocol):
    """What diffusers calls to compute attention."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Everything before the residual."""
        ...


class Projected(NamedTuple):
    """Queries, keys and values of all rows, (rows, tokens, width) each."""

    q: Tensor
    k: Tensor
    v: Tensor


@dataclass(frozen=True)
class Side:
    """One side of a group of pairs.

    Args:
        rows: (P,).
        h: (P, N, d), the features of these rows.
        lora: the LoRA that follows this side's data.
    """

    rows: Tensor
    h: Tensor
    lora: AttentionLora


Active = Sequence[tuple[LayerParts, Route]]


class JointProcessor:
    """Self-attention with joint attention (attn1), or cross-attention with y-LoRA (attn2).

    Outside of `Rows.active()`, or when no adapter has pairs there, it is the plain processor.

    Args:
        plain: the processor that it stands in for.
        router: tells which rows are whose.
        parts: {adapter: its weights in this layer}.
        joint: whether joint attention is on in this layer; y-LoRA acts either way.
    """

    def __init__(
        self, plain: Processor, router: Router, parts: Mapping[str, LayerParts], joint: bool
    ) -> None:
        self.plain = plain
        self._router = router
        self._parts = parts
        self._joint = joint

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """The layer's output before the residual, (rows, tokens, d); arguments as in diffusers."""
        h = hidden_states
        routes = self._router.routes(len(h), h.device)
        active = [(parts, routes[name]) for name, parts in self._parts.items() if name in routes]
        if not active:
            return self.plain(attn, h, encoder_hidden_states, attention_mask, temb)
        assert h.ndim == 3, "a transformer block hands its attention (rows, tokens, d)"

        context = h if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross is not None:
            context = attn.norm_encoder_hidden_states(encoder_hidden_states)
        mask = _mask(attn, attention_mask, context)
        layer = layers_of(attn)
        base = Projected(layer.q(h), layer.k(context), layer.v(context))

        # ---- joint attention, from the projections without y-LoRA
        terms = list(self._joint_terms(attn, h, base, mask, active)) if self._joint else []

        # ---- the layer's own attention, with y-LoRA on the condition's rows (base changes here)
        _add_y(base, h, context, active)
        own = _attend(attn, *base, mask)
        out = layer.out(own)
        for parts, route in active:
            if parts.y is not None:
                out.index_add_(0, route.y, parts.y.to_out(own.index_select(0, route.y)))
        out = layer.dropout(out)

        # ---- their sum
        for rows, term in terms:
            out.index_add_(0, rows, term.to(out.dtype))
        return out

    def _joint_terms(
        self, attn: Attention, h: Tensor, base: Projected, mask: Tensor | None, active: Active
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """`(rows, joint_scale * w * p)` of every group and side that hears, (P,) and (P, N, d)."""
        for parts, route in active:
            if parts.joint is None:
                continue
            for group in route.groups:
                x = Side(group.x, h.index_select(0, group.x), parts.joint.xy)
                y = Side(group.y, h.index_select(0, group.y), parts.joint.yx)
                o_x = _hear(attn, x, y, base, mask) if group.hears_x else None
                o_y = _hear(attn, y, x, base, mask) if group.hears_y else None
                yield from _weighted(group, *parts.joint.proj_out(o_x, o_y))


def _weighted(
    group: Group, p_x: Tensor | None, p_y: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    # A float32 weight keeps its precision under half-precision activations; the sum casts back.
    if p_x is not None:
        yield group.x, group.scale_x * p_x
    if p_y is not None:
        yield group.y, group.scale_y * p_y


def _hear(attn: Attention, own: Side, other: Side, base: Projected, mask: Tensor | None) -> Tensor:
    """What one side of each pair hears of the other: `o` of the module's formula, (P, N, d)."""
    q = base.q.index_select(0, own.rows) + own.lora.to_q(own.h)
    k = base.k.index_select(0, other.rows) + other.lora.to_k(other.h)
    v = base.v.index_select(0, other.rows) + other.lora.to_v(other.h)
    mask = None if mask is None else mask.index_select(0, other.rows)
    heard = _attend(attn, q, k, v, mask)
    layer = layers_of(attn)
    return layer.dropout(layer.out(heard) + own.lora.to_out(heard))


def _add_y(base: Projected, h: Tensor, context: Tensor, active: Active) -> None:
    """Add y-LoRA's part on the rows of conditions, in place: no copy of the other rows."""
    for parts, route in active:
        if parts.y is None:
            continue
        h_y = h.index_select(0, route.y)
        context_y = h_y if context is h else context.index_select(0, route.y)
        base.q.index_add_(0, route.y, parts.y.to_q(h_y))
        base.k.index_add_(0, route.y, parts.y.to_k(context_y))
        base.v.index_add_(0, route.y, parts.y.to_v(context_y))


def _mask(attn: Attention, mask: Tensor | None, context: Tensor) -> Tensor | None:
    """(rows, heads, queries or 1, keys), additive; None where all keys are seen."""
    if mask is None:
        return None
    rows, tokens, _ = context.shape
    mask = attn.prepare_attention_mask(mask, tokens, rows)
    return mask.view(rows, attn.heads, -1, mask.shape[-1])


def _attend(attn: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Multi-head scaled dot-product attention, (rows, tokens, width) in and out.

    Parity: diffusers `AttnProcessor2_0`, operation by operation, so that rows of no pair are equal
    to the plain network's bit for bit.
    """
    q, k, v = (t.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for t in (q, k, v))
    q = q if attn.norm_q is None else attn.norm_q(q)
    k = k if attn.norm_k is None else attn.norm_k(k)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2).to(q.dtype)
