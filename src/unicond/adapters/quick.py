"""Attention in bfloat16 on a CPU, quicker than torch's for many keys.

torch's kernel takes most of its time for exponentials in float32. Here, for a part of the queries,

    s = q k^T log2(e) / sqrt(d),   m = max_j s,   e = 2^([q, -m] [k, 1]^T),   o = e [v, 1]

are four operations on whole matrices, and o's last column is the sum that divides the others. The
product is made twice, since s - m, rounded once, is exact where e is large; s itself, rounded, is
not: it would cost three times the error.

Measured in one run on 2 cores of an AMD EPYC, 8 heads of 40 features, 4096 tokens: 0.57 of torch's
time. The error against float64 is 0.5 % of the norm, torch's 0.2 %, bfloat16's own step 0.4 %.
"""

import math

import torch
from torch import Tensor

FEWEST = 1024
"""Keys from which it is quicker."""
PART = 512
"""Queries at once."""


def suits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether `attention` is for these tensors, and quicker."""
    alike = all(t.dtype == torch.bfloat16 and t.device.type == "cpu" for t in (q, k, v))
    return alike and not torch.is_grad_enabled() and k.shape[-2] >= FEWEST


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention.

    Args:
        q: queries (rows, heads, queries, d), bfloat16.
        k: keys (rows, heads, keys, d).
        v: values, likewise.

    Returns:
        (rows, heads, queries, d).
    """
    scale = math.log2(math.e) / math.sqrt(q.shape[-1])
    queries, keys, values = (t.flatten(0, 1) for t in ((q.float() * scale).to(q.dtype), k, v))
    ones = torch.ones_like(keys[..., :1])
    shifted, summed = torch.cat([keys, ones], -1).mT, torch.cat([values, ones], -1)
    out = torch.empty_like(queries)
    for head, (asked, shown) in enumerate(zip(queries, keys, strict=True)):
        for start in range(0, len(asked), PART):
            part = asked[start : start + PART]
            most = (part @ shown.mT).amax(-1, keepdim=True)
            weights = (torch.cat([part, -most], -1) @ shifted[head]).exp2_()
            found = weights @ summed[head]
            out[head, start : start + PART] = found[:, :-1] / found[:, -1:]
    return out.view(q.shape)
