"""y-LoRA beyond attention: on a network's convolutions and its other linear layers.

Of the rows of conditions, and of no others, every such layer W becomes

    out = W h + B A h,    A to `y_conv_rank` features with the kernel of W, B of one pixel

What a map shows pixel by pixel, the edges of an image, is made by the convolutions between the
attention layers (measured: see docs/concepts.md). What follows the time alone, the embeddings and
their projections, stays.

It acts by forward hooks, outside of whatever a user's LoRA has put around a layer. The form of the
low-rank part of a convolution is LoCon's: Yeh et al., arXiv:2309.14859.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from unicond.adapters.parts import start
from unicond.adapters.routes import Router, add, take

_WRAPPED = "base_layer"
"""What a user's LoRA calls the layer that it is around."""
_APART = ("time_", "add_embedding", "class_embedding", "encoder_hid")
"""How the names of what is made of the time or of words alone begin, in blocks too."""


@dataclass(frozen=True)
class MapShape:
    """The widths of a convolution or a linear layer.

    Args:
        inputs: features.
        out: features.
        kernel: side of its window in pixels; 0 is a linear layer.
    """

    inputs: int
    out: int
    kernel: int = 0


def map_layers(network: nn.Module) -> Mapping[str, nn.Module]:
    """{name: layer}: convolutions and linear layers outside of attention, in the network's order.

    Args:
        network: a diffusers network; wrapping by peft is allowed, the layers are the wrappers then.

    Returns:
        Those with one group and a square window.
    """
    inside = [one for one in network.modules() if isinstance(one, Attention)]
    apart = {id(part) for one in inside for part in one.modules()}
    found: dict[str, nn.Module] = {}
    for name, layer in network.named_modules():
        owner, _, last = name.rpartition(".")
        named_apart = any(part.startswith(_APART) for part in name.split("."))
        if id(layer) in apart or named_apart or "lora_" in owner or _shape(layer) is None:
            continue
        name = owner if last == _WRAPPED else name
        found[name] = network.get_submodule(name)
    return found


def map_shapes(network: nn.Module) -> Mapping[str, MapShape]:
    """{layer name: its widths}; no weight is touched or copied."""
    shapes = {name: _shape(_inner(layer)) for name, layer in map_layers(network).items()}
    return {name: shape for name, shape in shapes.items() if shape is not None}


class MapLora(nn.Module):
    """`B A h` of a convolution or a linear layer, with alpha = rank.

    Args:
        shape: the layer's widths.
        rank: of the product.
        generator: draws A ~ N(0, 1 / rank^2); B starts at zero.
    """

    def __init__(self, shape: MapShape, rank: int, generator: torch.Generator | None) -> None:
        super().__init__()
        window = (shape.kernel, shape.kernel) if shape.kernel else ()
        self.A = nn.Parameter(start(rank, shape.inputs, *window, generator=generator))
        self.B = nn.Parameter(torch.zeros(shape.out, rank))

    def forward(self, h: Tensor, layer: nn.Module) -> Tensor:
        """What is added to a layer's output for the input `h`, in the dtype of `h`."""
        a, b = self.A.to(h.dtype), self.B.to(h.dtype)
        inner = _inner(layer)
        if not isinstance(inner, nn.Conv2d):
            return F.linear(F.linear(h, a), b)
        stride, padding, dilation = inner.stride, inner.padding, inner.dilation
        return F.conv2d(F.conv2d(h, a, None, stride, padding, dilation), b[:, :, None, None])


@dataclass(frozen=True, eq=False)
class MapHook:
    """Adds the parts of some adapters to a layer's output.

    Args:
        router: tells which rows are whose.
        parts: {adapter: its weights in this layer}.
    """

    router: Router
    parts: Mapping[str, MapLora]

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """The output with what is added; as forward hooks are called."""
        h = inputs[0]
        routes = self.router.routes(len(h), h.device)
        for name, part in self.parts.items():
            if name in routes and (rows := routes[name].y) is not None:
                add(output, rows, part(take(h, rows), layer))
        return output


_PRESENT: WeakKeyDictionary[nn.Module, MapHook] = WeakKeyDictionary()


@contextmanager
def hooked(hooks: Mapping[nn.Module, MapHook]) -> Iterator[None]:
    """Hooks are on their layers inside the block; those that are there already stay."""
    with ExitStack() as stack:
        for layer, hook in hooks.items():
            if _PRESENT.get(layer) is not hook:
                stack.callback(layer.register_forward_hook(hook).remove)
                stack.callback(_PRESENT.pop, layer)
                _PRESENT[layer] = hook
        yield


def hooks_in(part: nn.Module) -> Mapping[nn.Module, MapHook]:
    """{layer: its hook} of a part of a network, as it is now."""
    if not _PRESENT:
        return {}
    return {layer: _PRESENT[layer] for layer in part.modules() if layer in _PRESENT}


def _inner(layer: nn.Module) -> nn.Module:
    """The layer itself, if something is around it."""
    return getattr(layer, _WRAPPED, layer)


def _shape(layer: nn.Module) -> MapShape | None:
    """Widths; None of what is no such layer."""
    if isinstance(layer, nn.Linear):
        return MapShape(layer.in_features, layer.out_features)
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1:
        return None
    height, width = layer.kernel_size
    return MapShape(layer.in_channels, layer.out_channels, height) if height == width else None
