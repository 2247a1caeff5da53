"""Let the active controls into a network, for the length of a call.

Attention layers get a processor that hands queries, keys and values to `sampling.controls.attend`;
residuals and blocks a forward hook. Only layers that a control wants are touched, and none if there
is no control. Processors that ask the controls themselves (`Controllable`: joint attention) stay.
"""

import math
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from unicond.sampling.controls import (
    Call,
    Controllable,
    Kind,
    Layer,
    Part,
    attend,
    features,
    in_action,
    wanting,
)
from unicond.sampling.rows import current

_PARTS: Mapping[str, Part] = {"down_blocks": "down", "mid_block": "mid", "up_blocks": "up"}


class ControlledProcessor(Controllable):
    """The plain attention of a transformer block, through `attend`.

    Args:
        name: of the layer.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,  # noqa: ARG002 (diffusers hands it over)
    ) -> Tensor:
        """The layer's output before the residual, (rows, tokens, d); arguments as in diffusers.

        Parity: diffusers `AttnProcessor2_0`, operation by operation.
        """
        assert attn.to_k is not None
        assert attn.to_v is not None
        assert attn.to_out is not None
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross is not None:
            context = attn.norm_encoder_hidden_states(encoder_hidden_states)
        mask = attention_mask
        if mask is not None:
            mask = attn.prepare_attention_mask(mask, context.shape[1], len(context))
            mask = mask.view(len(context), attn.heads, -1, mask.shape[-1])
        q, k, v = (
            t.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for t in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        q = q if attn.norm_q is None else attn.norm_q(q)
        k = k if attn.norm_k is None else attn.norm_k(k)
        out = attend(self._name, q, k, v, mask).transpose(1, 2).flatten(2).to(q.dtype)
        return attn.to_out[1](attn.to_out[0](out))


@contextmanager
def controlled(network: nn.Module) -> Generator[None]:
    """Let the active controls take part in the calls of a network inside the block.

    Everything is put back in any case. Without an active control, or outside of `Rows.active()`,
    nothing is touched.

    Args:
        network: a diffusers U-Net, or one with its names.

    Raises:
        ValueError: a layer that a control wants has a processor of its own kind.
    """
    rows = current()
    if not in_action() or rows is None:
        yield
        return
    modules = dict(network.named_modules())
    call = wanting(layers_of(modules), rows)
    with ExitStack() as stack:
        for name, (layer, _) in call.wanted.items():
            module = modules[name]
            if isinstance(module, Attention):
                _exchange(stack, name, module)
            else:
                assert layer.kind in ("residual", "block")
                stack.callback(module.register_forward_hook(_hook(name, call)).remove)
        stack.enter_context(call.active())
        yield


def layers_of(modules: Mapping[str, nn.Module]) -> list[Layer]:
    """The places of a network that controls can ask for, in the order in which they run.

    Args:
        modules: {name: module}, as `named_modules` tells them.

    Returns:
        Attention layers, residuals and blocks, each kind numbered within its part.
    """
    paths = {name: name.removeprefix("base_model.model.").split(".") for name in modules}
    deepest = sum(len(path) == 2 and path[0] == "down_blocks" for path in paths.values()) - 1
    found: list[tuple[str, Kind, Part, int]] = []
    for part in _PARTS:
        for name, path in paths.items():
            if path[0] == part and (kind := _kind(path, modules[name])) is not None:
                found.append((name, kind, _PARTS[part], _level(path, deepest)))
    first = _unshuffled(modules)
    counts = Counter((kind, part) for _, kind, part, _ in found)
    seen, layers = Counter[tuple[str, str]](), list[Layer]()
    for name, kind, part, level in found:
        number, count = seen[kind, part], counts[kind, part]
        layers.append(Layer(name, kind, part, number, count, first + level))
        seen[kind, part] += 1
    return layers


def _unshuffled(modules: Mapping[str, nn.Module]) -> int:
    """How often the latents' sides are halved before the first block: networks may unshuffle."""
    unshuffles = [module for module in modules.values() if isinstance(module, nn.PixelUnshuffle)]
    return round(math.log2(math.prod(module.downscale_factor for module in unshuffles)))


def _level(path: Sequence[str], deepest: int) -> int:
    """Blocks halve at their end on the way down, all but the last, and double on the way up."""
    if path[0] == "mid_block":
        return deepest
    return int(path[1]) if path[0] == "down_blocks" else deepest - int(path[1])


def _kind(path: Sequence[str], module: nn.Module) -> Kind | None:
    if isinstance(module, Attention) and path[-1] in ("attn1", "attn2"):
        return "cross" if path[-1] == "attn2" or module.is_cross_attention else "self"
    if path[-1] == "conv2" and "resnets" in path:
        return "residual"
    whole = list(path) == ["mid_block"] or (len(path) == 2 and path[0] == "up_blocks")
    return "block" if whole else None


def _exchange(stack: ExitStack, name: str, layer: Attention) -> None:
    """Give a layer a controlled processor until the stack is unwound."""
    plain = layer.processor
    if isinstance(plain, Controllable):
        return
    if type(plain) not in (AttnProcessor, AttnProcessor2_0):
        raise ValueError(
            f"{name} has the processor {type(plain).__name__}, of which the queries and maps are "
            "not known; restore the plain processors with "
            "network.set_attn_processor(AttnProcessor2_0())"
        )
    stack.callback(layer.set_processor, plain)
    layer.set_processor(ControlledProcessor(name))  # pyright: ignore[reportArgumentType] (callable)


def _hook(name: str, call: Call) -> Callable[[nn.Module, object, Tensor], Tensor]:
    def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
        if len(output) != len(call.rows):
            raise ValueError(f"{name} has {len(output)} rows, the current `Rows` {len(call.rows)}")
        return features(name, output)

    return hook
