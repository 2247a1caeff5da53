"""The quick group normalisation gives torch's numbers."""

import pytest
import torch
from torch import nn

from unicond.training.norm import quick_norms


@pytest.mark.parametrize("groups", [1, 2, 4, 16])
def test_gradients_are_torchs(groups):
    torch.manual_seed(0)
    norm = nn.GroupNorm(groups, 16)
    nn.init.normal_(norm.weight)
    x = torch.randn(3, 16, 8, 4).mul(2).add(1).to(memory_format=torch.channels_last)
    x.requires_grad_()
    weights = torch.randn(3, 16, 8, 4)

    def gradients():
        return torch.autograd.grad((norm(x) * weights).sum(), [x, norm.weight, norm.bias])

    exact = gradients()
    with quick_norms(norm):
        assert type(norm) is not nn.GroupNorm
        found = gradients()
    for one, other in zip(exact, found, strict=True):
        # sums of 96 products in float32
        assert torch.allclose(one, other, atol=2e-5, rtol=1e-4)


def test_half_precision_stays_close_and_the_class_comes_back():
    norm = nn.GroupNorm(2, 8)
    x = torch.randn(2, 8, 16, 16).to(memory_format=torch.channels_last).requires_grad_()
    dy = torch.randn_like(x)
    exact = torch.autograd.grad((norm(x) * dy).sum(), x)[0]
    with quick_norms(norm):
        found = torch.autograd.grad((norm(x.bfloat16()).float() * dy).sum(), x)[0]
    # bfloat16 has 8 bits
    assert float((found - exact).norm() / exact.norm()) < 0.02
    assert type(norm) is nn.GroupNorm
