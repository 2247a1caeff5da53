"""The benchmark of a training step counts what it says, of steps that train what they should."""

import pytest
import torch
from benchmarks.training import as_autocast
from benchmarks.training_step import SEEN, WAYS, Bench, Count
from benchmarks.unicon import SIZES
from torch import nn

from unicond.adapters.network import PROJECTIONS, attention_shapes
from unicond.adapters.parts import LowRank

TINY = SIZES["tiny"]


@pytest.fixture(scope="module")
def counts():
    count = Count(TINY)
    return {way: count(way) for way in WAYS}


@pytest.fixture(scope="module")
def bench():
    return Bench(TINY, torch.device("cpu"), torch.float32)


def test_counts_do_not_depend_on_what_was_counted_before(counts):
    count = Count(TINY)
    for way in ("pair_aligned_checkpointing", "lora"):
        assert count(way) == counts[way]


@pytest.mark.parametrize("way", SEEN)
def test_checkpoints_cost_a_second_forward_pass_and_save_memory(counts, way):
    plain, again = counts[way], counts[f"{way}_checkpointing"]
    # a frozen base: forward 1, backward about 1, for there are no gradients of its weights
    assert 1.2 < again.operations / plain.operations < 1.5
    assert again.turn < 0.6 * plain.turn
    assert plain.all - plain.turn == again.all - again.turn


@pytest.mark.parametrize("ending", ["", "_checkpointing"])
def test_a_pair_takes_more_than_plain_lora(counts, ending):
    lora, pair, aligned = (counts[way + ending] for way in SEEN)
    assert lora.operations < aligned.operations < pair.operations
    assert lora.turn < pair.turn
    assert lora.all < pair.all


def test_plain_lora_is_of_the_rank_on_all_projections(counts, bench):
    shapes = attention_shapes(bench.base).values()
    features = [sum(shape.of(name)) for shape in shapes for name in PROJECTIONS]
    lora = counts["lora"]
    assert lora.parameters == TINY.rank * sum(features)
    base = sum(weight.numel() for weight in bench.base.parameters())
    # the base in 2 bytes; a trained weight and its two moments in 4 each
    assert lora.all - lora.turn == 2 * base + 12 * lora.parameters
    pair = counts["pair"]
    assert pair.all - pair.turn == 2 * base + 12 * pair.parameters


@pytest.mark.parametrize("way", ["lora", "pair_aligned"])
def test_a_step_trains_the_adapter_alone(bench, way):
    base = {name: weight.clone() for name, weight in bench.base.state_dict().items()}
    trained = [weight for weight in bench.trained(way).parameters() if weight.requires_grad]
    before = [weight.detach().clone() for weight in trained]
    bench.step(way)()
    assert all(torch.equal(base[name], weight) for name, weight in bench.base.state_dict().items())
    assert any(not torch.equal(a, b) for a, b in zip(before, trained, strict=True))
    assert all(weight.grad is None for weight in trained)


@pytest.mark.parametrize("way", SEEN)
def test_checkpoints_do_not_change_the_gradient(bench, way):
    found = []
    for name in (way, f"{way}_checkpointing"):
        bench.turn(name)
        weights = [weight for weight in bench.trained(way).parameters() if weight.requires_grad]
        found.append([weight.grad for weight in weights])
        bench.trained(way).zero_grad()
    for one, other in zip(*found, strict=True):
        # norms sum in another order
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_what_stands_for_autocast_computes_adapters_as_autocast_does():
    lora = LowRank((16, 8), 4, torch.Generator().manual_seed(0))
    nn.init.normal_(lora.B, generator=torch.Generator().manual_seed(1))
    h = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16):
        expected = lora(h)
    with as_autocast(lora, half=True):
        found = lora(h)
    assert found.dtype == expected.dtype == torch.bfloat16
    assert torch.equal(found, expected)
