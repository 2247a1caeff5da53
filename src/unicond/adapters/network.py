"""What adapters read from a diffusers network: its attention layers, their shapes, its size.

Nothing here is specific to a kind of network: any one whose blocks hold diffusers' `Attention`
modules under the names `attn1` (self-attention) and `attn2` (cross-attention) will do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from diffusers.models.attention_processor import Attention
from torch import nn

Projection = Literal["to_q", "to_k", "to_v", "to_out"]
PROJECTIONS: tuple[Projection, ...] = ("to_q", "to_k", "to_v", "to_out")


@dataclass(frozen=True)
class AttentionShape:
    """The widths of one attention layer.

    Args:
        features: of what enters `to_q`.
        context: of what enters `to_k` and `to_v`; equals `features` in self-attention.
        inner: of queries, keys and values, all heads together.
        out: of what leaves `to_out`.
    """

    features: int
    context: int
    inner: int
    out: int

    def of(self, projection: Projection) -> tuple[int, int]:
        """`(in, out)` of one projection."""
        if projection == "to_q":
            return self.features, self.inner
        return (self.inner, self.out) if projection == "to_out" else (self.context, self.inner)


def is_joint(layer: str) -> bool:
    """Whether a layer of this name carries joint attention (else only y-LoRA)."""
    return layer.rpartition(".")[2] == "attn1"


def attention_layers(network: nn.Module) -> Mapping[str, Attention]:
    """The layers that an adapter can act on.

    Args:
        network: a diffusers network; wrapping by peft is allowed.

    Returns:
        {name: layer}: every self-attention `attn1` and every `attn2`, in the network's order.
    """
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, Attention)
        and None not in (layer.to_k, layer.to_v, layer.to_out)
        and (name.endswith("attn2") or (is_joint(name) and not layer.is_cross_attention))
    }


class Layers(NamedTuple):
    """The modules of one attention layer; a user's LoRA may have wrapped them."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    out: nn.Linear
    dropout: nn.Module


def layers_of(attn: Attention) -> Layers:
    """The projections as they are now; not kept, since LoRA may be put around them at any time."""
    assert attn.to_k is not None
    assert attn.to_v is not None
    assert attn.to_out is not None
    out, dropout = attn.to_out
    return Layers(attn.to_q, attn.to_k, attn.to_v, cast(nn.Linear, out), dropout)


def attention_shapes(network: nn.Module) -> Mapping[str, AttentionShape]:
    """{layer name: its widths}; only shapes are read, no weight is touched or copied."""
    layers = {name: layers_of(attn) for name, attn in attention_layers(network).items()}
    return {
        name: AttentionShape(
            features=layer.q.in_features,
            context=layer.k.in_features,
            inner=layer.q.out_features,
            out=layer.out.out_features,
        )
        for name, layer in layers.items()
    }


def prompt_width(shapes: Mapping[str, AttentionShape]) -> int | None:
    """The width of the prompts that a network hears.

    Args:
        shapes: {layer name: its widths} of all its attention layers.

    Returns:
        The width of what its `attn2` look at; None where it has none.
    """
    return max((one.context for name, one in shapes.items() if not is_joint(name)), default=None)


def plant(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register a module under a dotted path, with empty modules in between."""
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root.get_submodule(name)
    root.add_module(last, module)


def unique_bytes(*modules: nn.Module) -> int:
    """Bytes of all parameters and buffers of some modules, shared storage counted once.

    Works on the meta device too: the size of an adapted network is known without building it.
    """
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())
