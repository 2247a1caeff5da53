"""The quick attention gives torch's numbers, and stands back where it is not made for."""

import pytest
import torch
import torch.nn.functional as F

from unicond.training import attention
from unicond.training.attention import QuickAttention

SHAPE = (2, 3, 8, 4)
MASKS = {
    "none": None,
    "shared": torch.linspace(-2, 2, 40).view(8, 5).tril(),
    "rows": torch.linspace(-2, 2, 10).view(2, 1, 1, 5),
}


def drawn(dtype, keys=5):
    generator = torch.Generator().manual_seed(0)
    sizes = SHAPE, (2, 3, keys, 4), (2, 3, keys, 4)
    return [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in sizes]


def results(tensors, mask=None, **options):
    out = F.scaled_dot_product_attention(*tensors, attn_mask=mask, **options)
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    return [out, *torch.autograd.grad((out.float() * weights).sum(), tensors)]


@pytest.fixture
def exact(monkeypatch):
    """The quick pass takes every format, so that it can be compared without rounding."""
    monkeypatch.setattr(attention, "HALVES", (torch.float64,))


@pytest.mark.parametrize("options", [{}, {"scale": 0.3}])
@pytest.mark.parametrize("name", MASKS)
def test_output_and_gradients_are_torchs(exact, name, options):
    mask = None if MASKS[name] is None else MASKS[name].double()
    torchs = results(drawn(torch.float64), mask, **options)
    with QuickAttention():
        found = results(drawn(torch.float64), mask, **options)
    assert "_Attended" in str(found[0].grad_fn.next_functions)
    for one, other in zip(torchs, found, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_half_precision_stays_close():
    exact = results([t.float().detach().requires_grad_() for t in drawn(torch.bfloat16)])
    with QuickAttention(), torch.autocast("cpu", torch.bfloat16):
        found = results([t.float().detach().requires_grad_() for t in drawn(torch.bfloat16)])
    assert found[0].dtype == torch.bfloat16
    for one, other in zip(exact, found, strict=True):
        # bfloat16 has 8 bits
        assert float(((one - other.float()).norm() / one.norm()).detach()) < 0.02


@pytest.mark.parametrize("case", ["float32", "causal", "boolean", "too_many", "no_gradient"])
def test_what_it_is_not_made_for_is_torchs_bit_for_bit(case, monkeypatch):
    tensors = drawn(torch.float32 if case == "float32" else torch.bfloat16, keys=8)
    options = {"is_causal": case == "causal"}
    if case == "boolean":
        options["attn_mask"] = torch.ones(8, 8, dtype=torch.bool).tril()
    if case == "too_many":
        monkeypatch.setattr(attention, "SHARES", 100)
    with torch.set_grad_enabled(case != "no_gradient"):
        torchs = F.scaled_dot_product_attention(*tensors, **options)
        with QuickAttention():
            found = F.scaled_dot_product_attention(*tensors, **options)
    assert "_Attended" not in str(found.grad_fn and found.grad_fn.next_functions)
    assert torch.equal(torchs, found)
