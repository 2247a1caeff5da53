"""What an adapter costs at Stable Diffusion 1.5's size; on the meta device, so at no cost."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from unicond.adapters.attach import attached
from unicond.adapters.joint import JointAdapter, JointConfig
from unicond.adapters.network import unique_bytes


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def sd15():
    with torch.device("meta"):
        network = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    assert count(network) == 859_520_964
    return network


def test_the_papers_adapter_has_the_papers_parameters(sd15):
    aligned = JointAdapter.for_network(sd15, JointConfig(rank=64, y_rank=64))
    loose = JointAdapter.for_network(sd15, JointConfig(rank=64, y_rank=0, post_joint="conv"))
    assert count(aligned) == 75_096_064
    assert count(loose) == 25_169_920


def test_adapted_network_needs_at_most_a_tenth_more_bytes(sd15):
    adapter = JointAdapter.for_network(sd15, JointConfig(rank=64, y_rank=64))
    plain = unique_bytes(sd15)
    assert plain == 4 * 859_520_964
    with attached(sd15, {"depth": adapter}):
        adapted = unique_bytes(sd15, adapter)
    assert adapted <= 1.10 * plain, adapted / plain
    assert unique_bytes(sd15, adapter.half()) < adapted


def test_shared_storage_is_counted_once():
    linear = torch.nn.Linear(4, 4, bias=False)
    tied = torch.nn.Linear(4, 4, bias=False)
    tied.weight = linear.weight
    view = torch.nn.Module()
    view.register_buffer("rows", linear.weight.detach()[:2])
    assert unique_bytes(linear, tied, view) == 64
