"""Gradient checkpoints: the gradients of calls without them, at less memory."""

import threading

import pytest
import torch
from golden_unicon import rows_of
from torch import nn

from unicond.adapters.attach import attached
from unicond.adapters.recompute import recomputed

ROWS = {
    "depth": [(0, 1, 1.0, 0.7, True, True), (3, 4, 1.0, 1.0, True, False)],
    "id": [(0, 2, 1.0, 1.0, True, True)],
}


@pytest.fixture
def step(unet, adapters):
    """`step(context)`: the output's bytes kept, and all gradients, of one call with adapters."""
    generator = torch.Generator().manual_seed(0)
    sample, prompts = (
        torch.randn(size, generator=generator) for size in ((5, 4, 8, 8), (5, 11, 32))
    )
    times = torch.tensor([801, 21, 333, 500, 650])

    def run(enter, thread=False):
        kept = []

        def keep(value):
            kept.append(value.nbytes)
            return value

        for adapter in adapters.values():
            adapter.zero_grad()
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value)
        with enter(), attached(unet, adapters), rows_of(5, **ROWS).active(), hooks:
            output = unet(sample, times, prompts).sample
        loss = output.square().mean()
        if thread:  # as a GPU's backward pass, which knows no context of this thread
            worker = threading.Thread(target=loss.backward)
            worker.start()
            worker.join()
        else:
            loss.backward()
        found = {
            f"{name}.{key}": value.grad
            for name, adapter in adapters.items()
            for key, value in adapter.named_parameters()
            if value.grad is not None
        }
        return sum(kept), {key: value.clone() for key, value in found.items()}

    return run


@pytest.mark.parametrize("thread", [False, True])
def test_gradients_are_those_of_a_call_without_it(unet, step, thread):
    from contextlib import nullcontext

    plain_bytes, plain = step(nullcontext)
    few_bytes, found = step(lambda: recomputed(unet), thread)
    assert few_bytes < 0.5 * plain_bytes
    assert found.keys() == plain.keys()
    assert any(".yx." in key and float(value.abs().max()) > 0 for key, value in found.items())
    for key, value in plain.items():
        assert torch.equal(found[key], value), key


def test_the_network_is_as_before_even_after_an_exception(unet):
    def marks():
        return [
            (block.gradient_checkpointing, getattr(block, "_gradient_checkpointing_func", None))
            for block in unet.modules()
            if hasattr(block, "gradient_checkpointing")
        ]

    unet.enable_gradient_checkpointing()
    before, processors = marks(), dict(unet.attn_processors)
    with pytest.raises(RuntimeError, match="inside"), recomputed(unet):
        raise RuntimeError("inside")
    assert marks() == before
    assert unet.attn_processors == processors


def test_processors_and_rows_are_restored_after_the_second_call(unet, adapters, step):
    processors = dict(unet.attn_processors)
    step(lambda: recomputed(unet))
    assert unet.attn_processors == processors
    with pytest.raises(ValueError, match="Linear does not support"), recomputed(nn.Linear(1, 1)):
        pass
