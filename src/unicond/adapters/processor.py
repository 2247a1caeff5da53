"""Joint cross attention as an attention processor, diffusers' own extension point.

For a pair of rows (x, y) with normalised features h, and the layer's own `W`, applied once:

    q_x = (W_q + B_q^xy A_q^xy) h_x, k_x and v_x alike;    q_y, k_y, v_y with yx
    o_x = W_o^xy SDPA(q_x, k_y, v_y) + b_o,                o_y = W_o^yx SDPA(q_y, k_x, v_x) + b_o
    [p_x; p_y] = ProjOut([o_x; o_y])
    out_x = SelfAttn(h_x) + joint_scale * w_x * p_x,       and so out_y with w_y

The LoRA follows the data: xy acts on all that is computed from x, also on the keys y looks at.
y-LoRA acts on the y rows' own self- and cross-attention, not on the joint one.

A row that hears nothing has no joint term and depends on no other row. In a fused ProjOut it still
speaks for its place: it looks at its own token alone, over which the softmax is 1, so that

    o_y = W_o^yx v_y + b_o

does not change while the row is held, and is computed once. Left out, the partner would have to
find its own place among the keys by their content alone (measured: see docs/concepts.md).

The layer's projections are called as modules: a user's LoRA that wraps them acts in the joint
attention too. Source: UniCon, arXiv:2410.11439, eq. 4, 5 and 8.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

from unicond.adapters.network import layers_of
from unicond.adapters.parts import AttentionLora, JointParts, LayerParts, unequal
from unicond.adapters.routes import Group, Index, Route, Router, add, take
from unicond.adapters.views import Keys, View, view
from unicond.sampling.controls import Controllable, attend, controlled_here
from unicond.sampling.rows import Memory, current
from unicond.sampling.slicing import slicing


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
    """One side of a group of pairs, as joint attention needs it.

    Args:
        q: (P, tokens, width) queries, if this side hears.
        keys: what this side shows, if the other side hears.
        own: (P, tokens, d) what this side's places give the other side's, if this side does not
            hear and ProjOut fuses.
    """

    q: Tensor | None
    keys: Keys | None
    own: Tensor | None = None

    def kept(self) -> "Side":
        """The same for later calls: no gradient leads back into this one."""
        return Side(
            self.q if self.q is None else self.q.detach(),
            self.keys and self.keys.detached(),
            self.own if self.own is None else self.own.detach(),
        )


class Words(NamedTuple):
    """Keys and values (rows, tokens, width) of words; those of conditions have y-LoRA's part."""

    of: Tensor
    k: Tensor
    v: Tensor


@dataclass(frozen=True)
class Active:
    """An adapter in one layer of one call."""

    name: str
    parts: LayerParts
    route: Route


class JointProcessor(Controllable):
    """Self-attention with joint attention (attn1), or cross-attention with y-LoRA (attn2).

    Outside of `Rows.active()`, or when no adapter has pairs there, it is the plain processor, but
    for what the rows ask for: to remember the words, whose keys and values are then made once, or
    to slice. The layer's own attention is under the active controls (`sampling.controls`), the
    joint one is not.

    Args:
        name: of the layer.
        plain: the processor that it stands in for.
        router: tells which rows are whose.
        parts: {adapter: its weights in this layer}.
        joint: whether joint attention is on in this layer; y-LoRA acts either way.
    """

    def __init__(
        self,
        name: str,
        plain: Processor,
        router: Router,
        parts: Mapping[str, LayerParts],
        joint: bool,
    ) -> None:
        self.plain = plain
        self._name = name
        self._router = router
        self._parts = parts
        self._joint = joint
        self._outs = {name: JointOut(part.joint) for name, part in parts.items() if part.joint}

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
        active = [
            Active(name, parts, routes[name])
            for name, parts in self._parts.items()
            if name in routes
        ]
        words = encoder_hidden_states
        memory = _memory_of(words)
        listened = memory is not None or slicing() or controlled_here(self._name)
        if not active and not listened:
            return self.plain(attn, h, encoder_hidden_states, attention_mask, temb)
        assert h.ndim == 3, "a transformer block hands its attention (rows, tokens, d)"

        context = h if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross is not None:
            context = attn.norm_encoder_hidden_states(encoder_hidden_states)
        mask = _mask(attn, attention_mask, context)
        layer = layers_of(attn)
        known = _kept(memory, self._name, words)
        k, v = known or (layer.k(context), layer.v(context))
        base = Projected(layer.q(h), k, v)

        # ---- joint attention, from the projections without y-LoRA
        terms = list(self._joint_terms(attn, h, base, mask, active)) if self._joint else []

        # ---- the layer's own attention, with y-LoRA on the condition's rows (base changes here)
        _add_y(base, h, None if known else context, active)
        if words is not None and memory is not None and not (k.requires_grad or v.requires_grad):
            memory[self._name,] = Words(words, k, v)
        own = _attend(self._name, attn, *base, mask)
        out = layer.out(own)
        for one in active:
            if one.parts.y is not None and one.route.y is not None:
                add(out, one.route.y, one.parts.y.to_out(take(own, one.route.y)))
        out = layer.dropout(out)

        # ---- their sum
        for rows, term, scale in terms:
            add(out, rows, term, scale)
        return out

    def _joint_terms(
        self,
        attn: Attention,
        h: Tensor,
        base: Projected,
        mask: Tensor | None,
        active: Sequence[Active],
    ) -> Iterator[tuple[Index, Tensor, float | Tensor]]:
        """`(rows, p, joint_scale * w)` of every group and side that hears; p is (P, N, d)."""
        for one in active:
            if one.parts.joint is None:
                continue
            rows = self._router.rows()
            seen = view(one.route.aligned, rows.size, h.shape[1])
            for group in one.route.groups:
                x, y = self._sides(attn, h, base, mask, one, group, seen)
                o_x = seen.attend(attn, x.q, y.keys) if x.q is not None and y.keys else None
                o_y = seen.attend(attn, y.q, x.keys) if y.q is not None and x.keys else None
                p_x, p_y = self._outs[one.name](attn, o_x, o_y)
                if p_x is not None and group.x is not None:
                    yield group.x, _sum(p_x, y.own), group.scale_x
                if p_y is not None and group.y is not None:
                    yield group.y, _sum(p_y, x.own), group.scale_y

    def _sides(
        self,
        attn: Attention,
        h: Tensor,
        base: Projected,
        mask: Tensor | None,
        one: Active,
        group: Group,
        seen: View,
    ) -> tuple[Side, Side]:
        """Both sides of a group: from the rows of this call, or from memory."""
        joint = one.parts.joint
        assert joint is not None
        rows_ = self._router.rows()
        memory = rows_.memory
        key = (self._name, one.name, group.slot, group.hears_x, group.hears_y)
        outs = self._outs[one.name]

        def side(rows: Index | None, lora: AttentionLora, asks: bool, shows: bool) -> Side:
            if rows is None:
                kept = None if memory is None else memory.get(key)
                if not isinstance(kept, Side):
                    raise ValueError(f"nothing of adapter {one.name!r} is kept at {self._name}")
                return kept
            own = take(h, rows)
            q = take(base.q, rows) + lora.to_q(own) if asks else None
            if not shows:
                return Side(q, None)
            k, v = take(base.k, rows) + lora.to_k(own), take(base.v, rows) + lora.to_v(own)
            keys = seen.keys(attn, k, v, None if mask is None else take(mask, rows))
            return Side(q, keys, None if asks else outs.across(attn, v, lora is joint.xy))

        x = side(group.x, joint.xy, group.hears_x, group.hears_y)
        y = side(group.y, joint.yx, group.hears_y, group.hears_x)
        if memory is not None and group.kept and not rows_.recalls:
            memory[key] = (x if group.kept == "x" else y).kept()
        return x, y


class JointOut:
    """`p` of what was heard: output projection, its LoRA and ProjOut, one matrix at inference.

    The matrix is made at the first call without gradients and lives as long as this object, which
    is as long as the adapter is attached: weights and LoRAs do not change meanwhile.

    Args:
        parts: of one layer.
    """

    def __init__(self, parts: JointParts) -> None:
        self._parts = parts
        self._merged: dict[tuple[bool, bool], tuple[Tensor, Tensor]] = {}

    def __call__(
        self, attn: Attention, heard_x: Tensor | None, heard_y: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """`(p_x, p_y)`, (P, N, d) each; None where nothing was heard."""
        parts, layer = self._parts, layers_of(attn)
        if torch.is_grad_enabled():
            return parts.proj_out(
                *(
                    None if o is None else layer.dropout(layer.out(o) + lora.to_out(o))
                    for o, lora in ((heard_x, parts.xy), (heard_y, parts.yx))
                )
            )
        if heard_x is None or heard_y is None or not parts.proj_out.fuse:
            return self._apply(attn, heard_x, True), self._apply(attn, heard_y, False)
        parts.proj_out.check(heard_x, heard_y)
        weight, bias = self._matrix(attn, heard_x, True, True)
        p_x, p_y = F.linear(torch.cat([heard_x, heard_y], -1), weight, bias).chunk(2, -1)
        return p_x, p_y

    def across(self, attn: Attention, values: Tensor, is_x: bool) -> Tensor | None:
        """What the places of a side that hears nothing give the other side's.

        Args:
            attn: the layer.
            values: (P, N, width) of that side.
            is_x: whether it is the image's.

        Returns:
            (P, N, d), or None where ProjOut keeps the sides apart.
        """
        parts, layer = self._parts, layers_of(attn)
        if not parts.proj_out.fuse:
            return None
        lora = parts.xy if is_x else parts.yx
        alone = layer.dropout(layer.out(values) + lora.to_out(values))
        return F.linear(alone, parts.proj_out.across(is_x).to(alone.dtype))

    def _apply(self, attn: Attention, heard: Tensor | None, is_x: bool) -> Tensor | None:
        if heard is None:
            return None
        return F.linear(heard, *self._matrix(attn, heard, is_x, not is_x))

    def _matrix(self, attn: Attention, like: Tensor, x: bool, y: bool) -> tuple[Tensor, Tensor]:
        """Weight and bias from what these sides heard to what they get, in the dtype of `like`."""
        if (x, y) not in self._merged:
            with torch.inference_mode(False), torch.no_grad():
                self._merged[x, y] = self._merge(attn, like, x, y)
        weight, bias = self._merged[x, y]
        return weight.to(like.dtype), bias.to(like.dtype)

    def _merge(self, attn: Attention, like: Tensor, x: bool, y: bool) -> tuple[Tensor, Tensor]:
        out, parts = layers_of(attn).out, self._parts
        exact = torch.promote_types(like.dtype, torch.float32)
        unit = torch.eye(like.shape[-1], device=like.device, dtype=like.dtype)
        bias = out(torch.zeros_like(unit[:1])).to(exact)
        # a LoRA of the user's around it is in here; large units, so that in half precision W is
        # not rounded to the steps of W + bias
        plain = ((out(LARGE * unit).to(exact) - bias) / LARGE).T
        used = [lora.to_out for lora, wanted in ((parts.xy, x), (parts.yx, y)) if wanted]
        inner = [plain + lora.B.to(exact) @ lora.A.to(exact) for lora in used]
        outer = parts.proj_out.block(x, y).to(exact)
        shift = outer @ bias.flatten().repeat(len(used))
        return (outer @ torch.block_diag(*inner)).to(like.dtype), shift.to(like.dtype)


LARGE = 64.0  # a power of two: multiplying by it rounds nothing


def _sum(heard: Tensor, own: Tensor | None) -> Tensor:
    """What was heard, and what the other side's places say by themselves."""
    if own is None:
        return heard
    if heard.shape[1] != own.shape[1]:
        raise unequal(heard.shape[1], own.shape[1])
    return heard + own


def _memory_of(words: Tensor | None) -> Memory | None:
    """Where the running call keeps what a layer makes of words; None if they change."""
    rows = current()
    return None if rows is None or words is None else rows.words


def _kept(memory: Memory | None, name: str, words: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Keys and values that a layer has made of the very same words, if it has kept them."""
    kept = None if memory is None else memory.get((name,))
    return (kept.k, kept.v) if isinstance(kept, Words) and kept.of is words else None


def _add_y(base: Projected, h: Tensor, context: Tensor | None, active: Sequence[Active]) -> None:
    """Add y-LoRA's part on the rows of conditions, in place: no copy of the other rows.

    Without a context the keys and values have it already.
    """
    for one in active:
        lora, rows = one.parts.y, one.route.y
        if lora is None or rows is None:
            continue
        h_y = take(h, rows)
        add(base.q, rows, lora.to_q(h_y))
        if context is None:
            continue
        context_y = h_y if context is h else take(context, rows)
        add(base.k, rows, lora.to_k(context_y))
        add(base.v, rows, lora.to_v(context_y))


def _mask(attn: Attention, mask: Tensor | None, context: Tensor) -> Tensor | None:
    """(rows, heads, queries or 1, keys), additive; None where all keys are seen."""
    if mask is None:
        return None
    rows, tokens, _ = context.shape
    mask = attn.prepare_attention_mask(mask, tokens, rows)
    return mask.view(rows, attn.heads, -1, mask.shape[-1])


def _attend(
    name: str, attn: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
) -> Tensor:
    """Multi-head scaled dot-product attention, (rows, tokens, width) in and out.

    Parity: diffusers `AttnProcessor2_0`, operation by operation, so that rows of no pair are equal
    to the plain network's bit for bit.
    """
    q, k, v = (t.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for t in (q, k, v))
    q = q if attn.norm_q is None else attn.norm_q(q)
    k = k if attn.norm_k is None else attn.norm_k(k)
    return attend(name, q, k, v, mask).transpose(1, 2).flatten(2).to(q.dtype)
