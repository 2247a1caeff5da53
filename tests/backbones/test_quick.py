"""What is computed by the quicker library is the same product."""

import pytest
import torch
from torch import nn

import unicond
from unicond.backbones.quick import quicken


@pytest.fixture
def pair():
    """A network, and the same one quickened."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 8, bias=False))
    quick = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 8, bias=False))
    quick.load_state_dict(plain.state_dict())
    quicken(quick)
    return plain, quick


@pytest.mark.parametrize("shape", [(1, 24), (64, 24), (2, 64, 24), (3, 5, 7, 24)])
def test_it_is_the_linear_map(pair, shape):
    plain, quick = pair
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact, found = plain.double()(x.double()), quick(x)
    assert found.shape == exact.shape
    # sums of 40 products in float32
    assert (found - exact).abs().max() < 1e-6


def test_a_row_does_not_depend_on_its_company(pair):
    x = torch.randn(8, 16, 24, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(pair[1](x)[:1], pair[1](x[:1]))


@pytest.mark.parametrize("case", ["gradient", "bfloat16", "autocast"])
def test_elsewhere_nothing_changes(pair, case):
    plain, quick = pair
    dtype = torch.bfloat16 if case == "bfloat16" else torch.float32
    x = torch.randn(64, 24).to(dtype)
    plain, quick = plain.to(dtype), quick.to(dtype)
    with (
        torch.set_grad_enabled(case == "gradient"),
        torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"),
    ):
        assert torch.equal(plain(x), quick(x))


def test_networks_in_float32_on_a_cpu_are_quick(tiny_base):
    quick, half = (
        unicond.load(tiny_base, dtype=dtype).backbone.network
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert {type(m).__name__ for m in quick.modules() if isinstance(m, nn.Linear)} == {
        "_QuickLinear"
    }
    assert {type(m) for m in half.modules() if isinstance(m, nn.Linear)} == {nn.Linear}
    assert quick.state_dict().keys() == half.state_dict().keys()
