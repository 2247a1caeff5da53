"""Muon for matrices, AdamW for the rest: who gets what, and the direction of Muon's step."""

import sys

import pytest
import torch
from torch import nn

from unicond.adapters.parts import LowRank, ProjOut
from unicond.training import checkpoints
from unicond.training.checkpoints import Position
from unicond.training.optimizers import Muon, groups, matrices, optimizers


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 16, 3),
        nn.GroupNorm(4, 16),
        nn.Embedding(20, 16),
        nn.Linear(16, 16),
        nn.Linear(16, 3),
    )


def test_muon_gets_the_inner_matrices_and_adamw_every_other_parameter_once():
    net = network()
    assert [id(w) for w in matrices(net)] == [id(net[1].weight), id(net[4].weight)]
    adam, muon = optimizers(net, lr=1e-3, matrix_lr=2e-3, beta2=0.9, weight_decay=0.0)
    assert len(muon.weights) == 2
    assert len(adam.param_groups[0]["params"]) == len(list(net.parameters())) - 2
    assert [group["peak"] for group in groups([adam, muon])] == [1e-3, 2e-3]


def test_without_a_rate_for_matrices_adamw_has_them_all():
    net = network()
    net[0].requires_grad_(False)
    (adam,) = optimizers(net, lr=1e-3, matrix_lr=None, beta2=0.9, weight_decay=0.0)
    assert len(adam.param_groups[0]["params"]) == len(list(net.parameters())) - 2


def test_muon_gets_an_adapters_matrices_if_their_rank_is_large_enough():
    parts = nn.ModuleList([LowRank((16, 16), 8, None), LowRank((16, 16), 4, None)])
    fused = ProjOut(16, "conv_fuse")
    parts.append(fused)
    assert [id(w) for w in matrices(parts)] == [id(parts[0].A), id(parts[0].B), id(fused.weight)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muons_first_step_is_orthogonal_whatever_the_layout(layout):
    weight = nn.Parameter(torch.randn(8, 12, 3, 3).contiguous(memory_format=layout))
    before = weight.detach().clone()
    gradient = torch.randn(8, 12, 3, 3)
    weight.grad = gradient.clone()  # laid out differently from the weight in one case
    Muon([weight], lr=1.0, weight_decay=0.0).step()
    step = (before - weight.detach()).flatten(1) / (0.2 * 108**0.5)
    # five Newton-Schulz steps in bfloat16 leave singular values between 0.6 and 1.3
    singular = torch.linalg.svdvals(step)
    assert singular.min() > 0.6
    assert singular.max() < 1.3
    u, _, v = torch.linalg.svd(gradient.flatten(1), full_matrices=False)
    assert torch.nn.functional.cosine_similarity(step.flatten(), (u @ v).flatten(), dim=0) > 0.98


def test_eight_bits_without_bitsandbytes_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as where it is not installed
    with pytest.raises(ValueError, match=r"pip install 'unicond\[eight-bit\]'"):
        optimizers(network(), 1e-3, None, 0.99, 0.0, eight_bit=True)


class Nested(torch.optim.SGD):
    """Keeps moments in a mapping of their own, with one table for all, as bitsandbytes does."""

    TABLE = torch.linspace(0, 1, 4)

    @torch.no_grad()
    def step(self, closure=None):
        for value in self.param_groups[0]["params"]:
            if value.grad is None:
                continue
            state = self.state[value]
            inner = state.setdefault("inner", {"sum": torch.zeros_like(value), "table": self.TABLE})
            state["step"] = state.get("step", 0) + 1
            inner["sum"] += value.grad
            value -= 0.1 * inner["sum"]


def test_moments_in_a_mapping_of_their_own_are_kept(tmp_path):
    def steps(net, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            net(torch.ones(1, 2)).square().sum().backward()
            optimizer.step()

    nets = [nn.Linear(2, 1) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    first, second = (Nested(net.parameters()) for net in nets)
    steps(nets[0], first, 2)
    checkpoints.save(tmp_path / "c", nets[0], {}, [first], Position(2))
    assert checkpoints.load(tmp_path / "c", nets[1], {}, [second]).step == 2
    steps(nets[0], first, 2)
    steps(nets[1], second, 2)
    assert torch.equal(nets[0].weight, nets[1].weight)
    assert second.state[nets[1].weight]["step"] == 4
    assert torch.equal(second.state[nets[1].bias]["inner"]["table"], Nested.TABLE)
