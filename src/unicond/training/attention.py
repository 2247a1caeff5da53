"""Scaled dot-product attention in half precision whose backward pass does not crawl on a CPU.

torch's own takes 40 % of a joint adapter's training step on 2 cores: its fused kernel holds no
scores, and its backward pass is no matrix product of bfloat16. Here the shares are kept, and all
that costs are four products; the small levels of a network are 4 to 9 times as fast:

    p = softmax(q k^T s + mask),   o = p v,   dv = p^T do,
    dS = p * (dp - sum(p dp)),   dp = do v^T,   dq = s dS k,   dk = s dS^T q

On other devices, in float32, without a gradient, or where the shares would fill the memory, torch's
is used.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

SHARES = 2**25
"""Kept of one call at most, 64 MiB in bfloat16."""
HALVES = (torch.bfloat16, torch.float16)


class _Attended(torch.autograd.Function):
    """Attention of (rows * heads, tokens, width); the mask is added and gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        shape = len(q), q.shape[1], k.shape[1]
        added = q.new_zeros(()) if mask is None else mask
        scores = torch.baddbmm(
            added.expand(shape), q, k.mT, beta=int(mask is not None), alpha=scale
        )
        p = scores.softmax(-1)
        ctx.save_for_backward(q, k, v, p)
        ctx.scale = scale
        return torch.bmm(p, v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, p = ctx.saved_tensors
        dv, dp = torch.bmm(p.mT, grads[0]), torch.bmm(grads[0], v.mT)
        ds = torch._softmax_backward_data(dp, p, -1, p.dtype).mul_(ctx.scale)
        return torch.bmm(ds, k), torch.bmm(ds.mT, q), dv, None, None


class QuickAttention(TorchFunctionMode):
    """Inside the block, attention that is trained in half precision uses the pass above."""

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = _quick(*args, **(kwargs or {})) if func is F.scaled_dot_product_attention else None
        return func(*args, **(kwargs or {})) if found is None else found


def _quick(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """The call's result, or None where torch's own kernel is the one to use."""
    if query.device.type != "cpu" or not torch.is_grad_enabled() or is_causal or enable_gqa:
        return None
    if dropout_p > 0 or query.ndim != 4 or query.shape != (*key.shape[:2], *query.shape[2:]):
        return None
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    rows, heads, tokens, width = query.shape
    if kind not in HALVES or rows * heads * tokens * key.shape[2] > SHARES:
        return None
    if not (query.requires_grad or key.requires_grad or value.requires_grad):
        return None
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool or attn_mask.requires_grad:
            return None
        attn_mask = attn_mask.to(kind)
        if attn_mask.ndim > 2:
            shape = rows, heads, tokens, key.shape[2]
            attn_mask = attn_mask.expand(shape).flatten(0, 1)
    flat = (t.to(kind).flatten(0, 1) for t in (query, key, value))
    out = _Attended.apply(*flat, attn_mask, width**-0.5 if scale is None else scale)
    return out.unflatten(0, (rows, heads))
