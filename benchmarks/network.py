"""What adapters cost a network: calls with and without them, at the size of the base.

- *attached, unused*: the adapter is in the network, but the call has image rows only.
- *pair*: image and condition with joint attention, against as many plain rows.
- *held pair*: the same, the condition one-way (it looks at nothing).
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch

from benchmarks.timing import Ratio, interleave, ratio
from unicond.adapters.attach import attached
from unicond.denoisers.network import NetworkDenoiser, Pairing
from unicond.model import Model
from unicond.sampling.noise import Generators
from unicond.sampling.state import State


def network_ratios(model: Model, batch: int = 4, rounds: int = 5) -> list[Ratio]:
    """Ratios of network calls.

    Args:
        model: with one adapter.
        batch: samples a call.
        rounds: how often each call is timed.

    Returns:
        One ratio each of the module's list.
    """
    branch, loaded = next(iter(model.adapters.items()))
    mine = {branch: loaded.adapter}
    candidates = {
        "image": _call(model, ("image",), (), batch, {}),
        "two images": _call(model, ("image",), (), 2 * batch, {}),
        "attached": _call(model, ("image",), (), batch, mine),
        "pair": _call(model, ("image", branch), (Pairing(branch, "image", branch),), batch, mine),
        "held": _call(
            model,
            ("image", branch),
            (Pairing(branch, "image", branch, deaf=frozenset({branch})),),
            batch,
            mine,
        ),
    }
    with torch.no_grad():
        seconds = interleave(candidates, rounds)
    return [
        ratio(seconds, "attached", "image", "adapter attached but unused / plain network"),
        ratio(seconds, "pair", "two images", "pair with joint attention / two plain rows"),
        ratio(seconds, "held", "two images", "pair, condition one-way / two plain rows"),
        ratio(seconds, "pair", "image", "pair with joint attention / one plain row"),
    ]


def _call(
    model: Model,
    names: tuple[str, ...],
    pairings: tuple[Pairing, ...],
    batch: int,
    adapters: Mapping[str, object],
) -> Callable[[], object]:
    """One call of the denoiser on fixed latents."""
    backbone = model.backbone
    side = backbone.sample_size
    latents = torch.randn(
        (batch, *backbone.latent_shape((side, side))), generator=torch.Generator().manual_seed(0)
    ).to(backbone.device)
    state = State(
        dict.fromkeys(names, latents),
        dict.fromkeys(names, 0.5),
        backbone.schedule,
        Generators(range(batch), names),
    )
    prompt = backbone.encode_prompts(["a red ball left of a blue box"])
    prompts = {"positive": dict.fromkeys(names, prompt)}
    denoiser = NetworkDenoiser(backbone.network, prompts, pairings)
    chosen = {name: model.adapters[name].adapter for name in adapters}

    def run() -> object:
        inside: AbstractContextManager[None] = (
            attached(backbone.network, chosen) if chosen else nullcontext()
        )
        with inside:
            return denoiser(state)

    return run
