"""Scaled dot-product attention, all at once or a slice at a time.

    out = softmax(q k^T / sqrt(d) + mask) v

Kernels that hold all scores (rows, heads, queries, keys) at once need most of a network's memory at
its finest level. In calls whose `Rows` ask for it, a slice of heads is computed at a time, and no
more than about `SCORES` scores are held: the same numbers, more calls of the kernel. Kernels that
hold no scores gain nothing by it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from unicond.sampling.rows import current

SCORES = 2**24
"""Held at once where attention is sliced, 64 MiB in float32; one head of one row at least."""


def slicing() -> bool:
    """Whether attention is sliced in the network call that is running."""
    rows = current()
    return rows is not None and rows.slicing


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention, sliced if the call that is running asks for it.

    Args:
        q: queries (rows, heads, queries, width of a head).
        k: keys, likewise.
        v: values, likewise.
        mask: (rows or 1, heads or 1, queries or 1, keys), or (queries, keys) of all, added to the
            scores.

    Returns:
        (rows, heads, queries, width of a head).
    """
    if not slicing():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    count = max(1, SCORES // (q.shape[2] * k.shape[2]))
    heads = min(count, q.shape[1])
    rows = max(1, count // q.shape[1])
    parts: list[Tensor] = []
    for row in range(0, len(q), rows):
        some = slice(row, row + rows)
        found: list[Tensor] = []
        for head in range(0, q.shape[1], heads):
            part = some, slice(head, head + heads)
            seen = None if mask is None else _part(mask, *part)
            found.append(F.scaled_dot_product_attention(q[part], k[part], v[part], attn_mask=seen))
        parts.append(torch.cat(found, 1))
    return torch.cat(parts)


def _part(mask: Tensor, rows: slice, heads: slice) -> Tensor:
    """The mask of some rows and heads; axes that all share stay."""
    if mask.ndim == 2:
        return mask
    mask = mask if len(mask) == 1 else mask[rows]
    return mask if mask.shape[1] == 1 else mask[:, heads]
