"""The transformer blocks of a network, as grounding adapters see them."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import nn

from unicond.adapters.network import attention_layers, attention_shapes, is_joint


class BlockShape(NamedTuple):
    """One transformer block.

    Args:
        width: features of its tokens.
        heads: of its attention.
        prompts: width of the prompts that it looks at; 0 where it looks at none.
    """

    width: int
    heads: int
    prompts: int


def blocks_of(network: nn.Module) -> Mapping[str, BlockShape]:
    """{name: shape} of every transformer block of a network, in its order.

    Args:
        network: any diffusers network whose blocks use `Attention` modules.

    Returns:
        The blocks; names end where `.attn1` begins.
    """
    layers, shapes = attention_layers(network), attention_shapes(network)
    found = dict[str, BlockShape]()
    for name, layer in layers.items():
        if is_joint(name):
            block = name.rpartition(".")[0]
            cross = shapes.get(f"{block}.attn2")
            prompts = cross.context if cross else 0
            found[block] = BlockShape(shapes[name].features, layer.heads, prompts)
    return found
