"""Put joint adapters into a network, and take them out again."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import nn

from unicond.adapters.joint import JointAdapter
from unicond.adapters.maps import MapHook, MapLora, hooked, map_shapes
from unicond.adapters.network import attention_layers, attention_shapes, is_joint, prompt_width
from unicond.adapters.parts import LayerParts
from unicond.adapters.processor import JointProcessor
from unicond.adapters.routes import Router


@contextmanager
def attached(
    network: nn.Module,
    adapters: Mapping[str, JointAdapter],
    joint_in: Callable[[str], bool] | None = None,
) -> Iterator[None]:
    """Let a network's attention layers carry adapters inside the block.

    Plain processors are exchanged, also where no adapter acts: they then remember the words and
    slice (`Rows.words`, `Rows.slicing`). y-LoRA beyond attention acts by hooks (`maps`). All are
    put back in any case. No weight is moved, copied or merged: the network's parameters and state
    stay its own.
    Adapters act in calls made inside of `Rows.active()`, on the rows that `Rows.pairs` lists under
    their names. Gradient checkpoints call blocks again in the backward pass, when all this has
    ended: `unicond.adapters.recompute.recomputed` takes rows, processors and hooks along.

    Args:
        network: any diffusers network whose blocks use `Attention` modules.
        adapters: {name in `Rows.pairs`: adapter}.
        joint_in: of a self-attention layer's name, whether joint attention is on there (y-LoRA acts
            either way); everywhere where None.

    Raises:
        ValueError: an adapter was made for another network, or a layer's processor does more than
            plain attention.
    """
    for name, adapter in adapters.items():
        check_fit(network, name, adapter)
    router = Router(adapters)
    parts: dict[str, dict[str, LayerParts]] = {}
    for name, adapter in adapters.items():
        for layer_name, layer_parts in adapter.layers():
            parts.setdefault(layer_name, {})[name] = layer_parts
    on_maps: dict[str, dict[str, MapLora]] = {}
    for name, adapter in adapters.items():
        for layer_name, part in adapter.maps():
            on_maps.setdefault(layer_name, {})[name] = part
    hooks = {
        network.get_submodule(layer_name): MapHook(router, mapped)
        for layer_name, mapped in on_maps.items()
    }
    layers = attention_layers(network)
    for layer_name in parts:
        _check_plain(layer_name, layers[layer_name])
    originals = {
        name: layer.processor
        for name, layer in layers.items()
        if name in parts or not _more_than_plain(layer)
    }
    try:
        for name, plain in originals.items():
            joint = is_joint(name) and (joint_in is None or joint_in(name))
            processor = JointProcessor(name, plain, router, parts.get(name, {}), joint)
            layers[name].set_processor(processor)  # pyright: ignore[reportArgumentType] (any callable)
        with hooked(hooks):
            yield
    finally:
        for name, plain in originals.items():
            layers[name].set_processor(plain)


def check_fit(network: nn.Module, name: str, adapter: JointAdapter) -> None:
    """Compare the layers of an adapter with those of a network.

    Args:
        network: that shall carry it.
        name: of the adapter, for the message.
        adapter: to be checked.

    Raises:
        ValueError: the network lacks a layer, it has other widths (the first is named), or it hears
            prompts of another width.
    """
    own = attention_shapes(network)
    shapes = {**own, **(map_shapes(network) if adapter.map_shapes else {})}
    wanted, heard, what = adapter.config.text, prompt_width(own), type(network).__name__
    for layer, shape in {**adapter.shapes, **adapter.map_shapes}.items():
        if shapes.get(layer) != shape:
            has = f"has {shapes[layer]}" if layer in shapes else "has no such layer"
            raise _misfit(name, adapter, f"at {layer} it needs {shape}, but this {what} {has}")
    if wanted not in (None, heard):  # y-LoRA aside, no weight of an adapter has this width
        raise _misfit(
            name, adapter, f"its prompts have width {wanted}, but this {what} hears {heard}"
        )


def _misfit(name: str, adapter: JointAdapter, why: str) -> ValueError:
    return ValueError(
        f"adapter {name!r} was made for another network ({adapter.config.base}): {why}; load it "
        "with the base that it was made for, or train one for this base: unicond train joint"
    )


def _check_plain(name: str, layer: Attention) -> None:
    """Refuse layers of which the joint processor would compute less than they do now."""
    if why := _more_than_plain(layer):
        raise ValueError(f"{name} {why}")


def _more_than_plain(layer: Attention) -> str:
    """What a layer does beside plain attention; "" where it does nothing else."""
    processor = layer.processor
    if type(processor) not in (AttnProcessor, AttnProcessor2_0):
        return (
            f"has the processor {type(processor).__name__}, which joint attention would replace; "
            "attach all adapters in one call, or first restore the plain processors with "
            "network.set_attn_processor(AttnProcessor2_0())"
        )
    if (
        layer.group_norm is not None
        or layer.spatial_norm is not None
        or layer.residual_connection
        or layer.rescale_output_factor != 1
        or not layer.scale_qk
    ):
        return (
            "is not the attention of a transformer block: it has norms, a residual or a scale of "
            "its own"
        )
    return ""
