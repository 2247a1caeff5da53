"""Named tensors of a joint adapter: the widths that they imply, and a check of each of them."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from unicond.adapters.maps import MapShape
from unicond.adapters.network import AttentionShape, is_joint

_MAP = ".y.A"
_LAYER = re.compile(r"((?:.+\.)?attn[12])\.(?:joint|y)\.")


def implied_shapes(values: Mapping[str, Tensor], source: str) -> Mapping[str, AttentionShape]:
    """The widths of every layer, read from its LoRA (`xy` of attn1, `y` of attn2).

    Args:
        values: {parameter name: weight}.
        source: where they came from, for messages.

    Returns:
        {layer name: its widths}.

    Raises:
        ValueError: there is no such layer, or a tensor that gives a width is missing or no matrix.
    """
    layers = dict.fromkeys(match[1] for key in values if (match := _LAYER.match(key)))
    if not layers:
        raise ValueError(f"{source} holds no weights of a joint adapter")
    return {layer: _shape(values, layer, source) for layer in layers}


def implied_maps(values: Mapping[str, Tensor], source: str) -> Mapping[str, MapShape]:
    """The widths of every layer outside of attention that y-LoRA acts on.

    Args:
        values: {parameter name: weight}.
        source: where they came from, for messages.

    Returns:
        {layer name: its widths}, of which there may be none.

    Raises:
        ValueError: a tensor that gives a width is missing or of a wrong number of axes.
    """
    found: dict[str, MapShape] = {}
    for key, first in values.items():
        if not key.endswith(_MAP):
            continue
        layer = key.removesuffix(_MAP)
        second = values.get(f"{layer}.y.B")
        if second is None:
            raise ValueError(f"{source}: {layer}.y.B is missing")
        if first.ndim not in (2, 4) or second.ndim != 2:
            raise ValueError(
                f"{source}: {key} and B have shapes {tuple(first.shape)} and "
                f"{tuple(second.shape)}, not a low-rank product's"
            )
        kernel = first.shape[2] if first.ndim == 4 else 0
        found[layer] = MapShape(first.shape[1], second.shape[0], kernel)
    return found


def _shape(values: Mapping[str, Tensor], layer: str, source: str) -> AttentionShape:
    prefix = f"{layer}.joint.xy" if is_joint(layer) else f"{layer}.y"

    def size(name: str, axis: int) -> int:
        key = f"{prefix}.{name}"
        if key not in values:
            raise ValueError(f"{source}: {key} is missing")
        if values[key].ndim != 2:
            raise ValueError(
                f"{source}: {key} has shape {tuple(values[key].shape)}, not a matrix's"
            )
        return values[key].shape[axis]

    return AttentionShape(
        features=size("to_q.A", 1),
        context=size("to_k.A", 1),
        inner=size("to_q.B", 0),
        out=size("to_out.B", 0),
    )


def check(
    expected: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    source: str,
    given: str,
) -> None:
    """Compare names and shapes.

    Args:
        expected: {parameter name: a tensor of the right shape}, on any device.
        values: {parameter name: weight}.
        source: where they came from, for messages.
        given: what tells the shapes, likewise.

    Raises:
        ValueError: a name is missing or not expected, or a shape differs (the first is named).
    """
    compare_names(expected.keys(), values.keys(), source)
    for key, tensor in expected.items():
        if tensor.shape != values[key].shape:
            raise ValueError(
                f"{source}: {key} has shape {tuple(values[key].shape)}, "
                f"but {given} need {tuple(tensor.shape)}"
            )


def compare_names(expected: Iterable[str], found: Iterable[str], source: str) -> None:
    """Raise ValueError unless both hold the same names; it counts and names the others."""
    missing, unexpected = sorted({*expected} - {*found}), sorted({*found} - {*expected})
    faults = [
        f"{len(names)} {what} (first: {names[0]})"
        for what, names in (("missing", missing), ("not expected", unexpected))
        if names
    ]
    if faults:
        raise ValueError(f"{source}: tensors {' and '.join(faults)}")
