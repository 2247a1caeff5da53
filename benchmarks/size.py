"""What an adapter adds to a network of Stable Diffusion 1.5's size; on the meta device, at no cost.

Bytes are those of parameters and buffers of network and adapter, shared storage counted once.
"""

import sys

import torch
from diffusers import UNet2DConditionModel

from benchmarks.bars import Bar, report
from unicond.adapters.attach import attached
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.adapters.network import unique_bytes

BAR = 1.10
"""Bytes of the adapted network that are allowed, those of the plain one being 1."""
RANK = 64


def adapter_sizes() -> list[Bar]:
    """Print parameters and bytes of the papers' two kinds of adapters."""
    bars = list[Bar]()
    with torch.device("meta"):
        network = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    whole, plain = network.num_parameters(), unique_bytes(network)
    for name, config in {
        "pairs of the same place": JointConfig(rank=RANK, y_rank=RANK),
        "loosely related pairs": JointConfig(rank=RANK, y_rank=0, post_joint="conv"),
    }.items():
        adapter = JointAdapter.for_network(network, config)
        with attached(network, {name: adapter}):
            adapted = unique_bytes(network, adapter)
        count = sum(parameter.numel() for parameter in adapter.parameters())
        print(
            f"Stable Diffusion 1.5, rank {RANK}, {name}: {count:,} trained parameters, "
            f"{count / whole:.1%} of {whole:,}; {adapted / plain:.3f} times the bytes"
        )
        bars.append(Bar(f"bytes with an adapter of {name}, plain = 1", adapted / plain, BAR))
    return bars


if __name__ == "__main__":
    sys.exit(report(adapter_sizes()))
