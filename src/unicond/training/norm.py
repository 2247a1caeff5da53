"""Group normalisation whose backward pass does not crawl on a CPU.

torch's own takes 38 % of an autoencoder's training step in channels_last on 2 cores (one thread,
strided). The same gradient, written with a matrix product for the sums over pixels and two fused
multiply-adds, makes the whole step 1.9 times as fast. On other devices, in other layouts and in
evaluation mode torch's is used.

    dx = rstd w dy + c2 x + c3,   c2 = (mean sum(dy w) - sum(dy w x)) rstd^3 / n,
    c3 = -c2 mean - rstd sum(dy w) / n,   n = pixels * channels of a group
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class _Normalised(torch.autograd.Function):
    """torch's forward pass, the backward pass above."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        batch, channels = x.shape[:2]
        pixels = x.shape[2] * x.shape[3]
        out, mean, rstd = torch.native_group_norm(
            x, weight.to(x.dtype), bias.to(x.dtype), batch, channels, pixels, groups, eps
        )
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.groups = groups
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        batch, channels, height, width = x.shape
        pixels, groups = height * width, ctx.groups
        flat = x.permute(0, 2, 3, 1).reshape(batch, pixels, channels)
        dy = grads[0].permute(0, 2, 3, 1).reshape(batch, pixels, channels)
        scaled = _sums(flat * dy).view(batch, groups, -1)
        plain = _sums(dy).view(batch, groups, -1)
        mean, rstd = mean.float().view(batch, groups, 1), rstd.float().view(batch, groups, 1)
        gain = weight.float().view(1, groups, -1)
        share = 1.0 / (pixels * gain.shape[-1])
        sums, moments = (plain * gain).sum(2, keepdim=True), (scaled * gain).sum(2, keepdim=True)
        slope = (sums * mean - moments) * rstd**3 * share
        shift = -slope * mean - sums * rstd * share

        def rows(values: Tensor) -> Tensor:
            return values.expand(batch, groups, gain.shape[-1]).reshape(batch, 1, -1).to(flat.dtype)

        dx = torch.addcmul(rows(shift), flat, rows(slope)).addcmul_(dy, rows(rstd * gain))
        dweight = ((scaled - plain * mean) * rstd).sum(0).reshape(channels)
        dx = dx.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return dx, dweight, plain.sum(0).reshape(channels), None, None


def _sums(values: Tensor) -> Tensor:
    """(B, C) float32 sums over the middle axis of (B, N, C).

    As matrix products of parts, so that half precision rounds 16 partial sums and not the whole.
    """
    batch, count, channels = values.shape
    parts = 16 if count % 16 == 0 else 1
    ones = torch.ones(batch * parts, 1, count // parts, dtype=values.dtype, device=values.device)
    partial = torch.bmm(ones, values.reshape(batch * parts, count // parts, channels))
    return partial.float().view(batch, parts, channels).sum(1)


class _QuickGroupNorm(nn.GroupNorm):
    """What `quick_norms` turns a `GroupNorm` into for a while."""

    def forward(self, input: Tensor) -> Tensor:
        layout = input.dim() == 4 and input.is_contiguous(memory_format=torch.channels_last)
        if input.device.type != "cpu" or not layout or not torch.is_grad_enabled():
            return super().forward(input)
        return _Normalised.apply(input, self.weight, self.bias, self.num_groups, self.eps)


@contextmanager
def quick_norms(module: nn.Module) -> Generator[None]:
    """Inside the block, the module's affine `GroupNorm`s use the quick backward pass."""
    norms = [part for part in module.modules() if type(part) is nn.GroupNorm and part.affine]
    try:
        for norm in norms:
            norm.__class__ = _QuickGroupNorm
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.GroupNorm
