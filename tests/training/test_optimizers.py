"""Muon for matrices, AdamW for the rest: who gets what, and the direction of Muon's step."""

import pytest
import torch
from torch import nn

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
