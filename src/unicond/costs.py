"""Parameters, operations and memory of a model and its adapters."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from unicond.adapters.attach import attached
from unicond.adapters.network import unique_bytes
from unicond.denoisers.network import NetworkDenoiser, Pairing
from unicond.model import Model
from unicond.sampling.noise import Generators
from unicond.sampling.state import State

Shape = tuple[int, ...]


def _attention(query: Shape, key: Shape, value: Shape, *rest: object, **named: object) -> int:
    """Operations of attention on a CPU, for which torch's counter has no formula."""
    del rest, named
    return sdpa_flop_count(query, key, value)


COUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


@dataclass(frozen=True)
class Cost:
    """One row: a part of a model.

    Args:
        part: its name.
        parameters: how many.
        share: of the denoising network's parameters.
        gigamacs: multiply-accumulates of one call in 10^9; None for what is not called a step.
        megabytes: of parameters and buffers, each counted once.
    """

    part: str
    parameters: int
    share: float
    gigamacs: float | None
    megabytes: float


def costs(model: Model, size: int | None = None) -> list[Cost]:
    """The parts of a model; an adapter's row counts the call of a pair of which both move.

    Args:
        model: with any adapters.
        size: side of a picture in pixels; default the base's own.

    Returns:
        A row a part.
    """
    backbone = model.backbone
    side = size or backbone.sample_size
    whole = _count(backbone.network)
    rows = [
        _row("network", backbone.network, whole, _gigamacs(model, side, ())),
        *([] if backbone.vae is None else [_row("autoencoder", backbone.vae, whole, None)]),
        *(_row("text encoder", encoder, whole, None) for encoder in backbone.text_encoders),
    ]
    for branch, loaded in model.adapters.items():
        rows.append(
            _row(f"adapter {branch}", loaded.adapter, whole, _gigamacs(model, side, (branch,)))
        )
    return rows


def _row(part: str, module: nn.Module, whole: int, gigamacs: float | None) -> Cost:
    count = _count(module)
    return Cost(part, count, count / whole, gigamacs, unique_bytes(module) / 1e6)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def _gigamacs(model: Model, side: int, conditions: tuple[str, ...]) -> float:
    """Of one call on the image and these conditions, without text guidance."""
    backbone, names = model.backbone, ("image", *conditions)
    latents = torch.zeros(1, *backbone.latent_shape((side, side)), device=backbone.device)
    prompt = backbone.encode_prompts([""])
    state = State(
        dict.fromkeys(names, latents),
        dict.fromkeys(names, 0.5),
        backbone.schedule,
        Generators([0], names),
    )
    denoiser = NetworkDenoiser(
        backbone.network,
        {"positive": dict.fromkeys(names, prompt)},
        [Pairing(b, "image", b, aligned=model.sees_around(b)) for b in conditions],
    )
    adapters = {branch: model.adapters[branch].adapter for branch in conditions}
    counter = FlopCounterMode(display=False, custom_mapping=COUNTED)
    with attached(backbone.network, adapters) if adapters else nullcontext(), counter:
        denoiser(state)
    return counter.get_total_flops() / 2e9
