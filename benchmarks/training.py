"""`python -m benchmarks.training`: the memory of training a joint adapter, counted, not measured.

Networks of real size are built on the meta device, where a tensor has a size and no content; a step
is made there, and every tensor that it makes is counted while it lives. Counted as on an NVIDIA GPU
under autocast: normalisation in float32, attention by a kernel that keeps its inputs and output.
Not counted: what the allocator and the kernels take beside that, usually 1 to 2 GiB.
"""

import argparse
import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.files import json_file, write_json
from unicond.adapters.attach import attached
from unicond.adapters.joint import JointAdapter
from unicond.adapters.network import unique_bytes
from unicond.adapters.recompute import recomputed
from unicond.conditions import named
from unicond.training.joint import JointRecipe
from unicond.training.norm import quick_norms
from unicond.training.own.pairs import AT_ONCE
from unicond.training.roles import NAME, TWO_WAY, clean_draw, rows_of

GIB = 2**30
XL = {
    "sample_size": 128,
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
ONE = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
NETWORKS = {"sd15": ONE, "sdxl": XL}
TEXTS = {"sd15": [(768, 12, 12)], "sdxl": [(768, 12, 12), (1280, 32, 20)]}
"""{base: (width, layers, heads) of its text encoders}."""


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    Args:
        base: one of `NETWORKS`.
        side: of the pictures, in pixels.
        pairs: a turn.
        half: the base and the activations are in half precision.
        checkpointing: gradient checkpoints.
        eight_bit: AdamW's moments in 8 bits.
        rank: of all LoRAs.
    """

    base: str = "sd15"
    side: int = 512
    pairs: int = 4
    half: bool = True
    checkpointing: bool = False
    eight_bit: bool = False
    rank: int = 64


SETTINGS = (
    Setting(pairs=1, half=False),
    Setting(pairs=1),
    Setting(),
    Setting(pairs=1, checkpointing=True),
    Setting(checkpointing=True),
    Setting(checkpointing=True, eight_bit=True),
    Setting(checkpointing=True, eight_bit=True, rank=16),
    Setting(pairs=1, checkpointing=True, eight_bit=True),
    Setting(pairs=16, checkpointing=True),
    Setting("sdxl", 1024, 1, checkpointing=True, eight_bit=True),
    Setting("sdxl", 1024, 1, checkpointing=True, eight_bit=True, rank=16),
)


@dataclass
class Alive(TorchDispatchMode):
    """Counts the bytes of the tensors that are made inside the block, while they live."""

    now: int = 0
    peak: int = 0
    _known: dict[int, weakref.ref[torch.UntypedStorage]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        del types
        given = [value.untyped_storage()._cdata for value in tree_leaves((args, kwargs))
                 if isinstance(value, Tensor)]  # fmt: skip
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in given:
                self._count(value.untyped_storage())
        self.peak = max(self.peak, self.now)
        return found

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return

        def gone(_: object) -> None:
            self.now -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, gone)
        self.now += size


class Flash(torch.autograd.Function):
    """Attention whose backward pass needs queries, keys, values, output and one number a row."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Nothing is computed but the output's size."""
        out = q.new_empty((*q.shape[:-1], v.shape[-1]))
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        """As large as the inputs."""
        del grads
        return tuple(torch.empty_like(value) for value in ctx.saved_tensors[:3])


@contextmanager
def as_autocast(network: nn.Module, half: bool) -> Generator[None]:
    """Inside the block the network's layers take the formats that autocast gives them."""

    def attention(q: Tensor, k: Tensor, v: Tensor, *_: object, **__: object) -> Tensor:
        return cast(Tensor, Flash.apply(q, k, v))

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x, weight = x.to(torch.bfloat16), weight.to(torch.bfloat16)
        return multiply(x, weight, bias if bias is None else bias.to(torch.bfloat16))

    def narrow(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].to(next(module.parameters()).dtype), *inputs[1:])

    def norm(module: nn.Module, x: Tensor) -> Tensor:
        wide, weight, bias = x.float(), module.weight.float(), module.bias.float()  # type: ignore[union-attr]
        if isinstance(module, nn.LayerNorm):
            return functional.layer_norm(wide, list(module.normalized_shape), weight, bias)
        assert isinstance(module, nn.GroupNorm)
        return functional.group_norm(wide, module.num_groups, weight, bias)

    multiply = functional.linear
    with ExitStack() as stack:
        stack.enter_context(patch.object(functional, "scaled_dot_product_attention", attention))
        if half:  # an adapter's float32 weights, too
            stack.enter_context(patch.object(functional, "linear", linear))
        for module in network.modules():
            if half and isinstance(module, nn.LayerNorm | nn.GroupNorm):
                stack.enter_context(patch.object(module, "forward", partial(norm, module)))
            elif half and isinstance(module, nn.Conv2d):
                stack.callback(module.register_forward_pre_hook(narrow).remove)
        yield


def network_of(setting: Setting) -> UNet2DConditionModel:
    """The base's network, without content."""
    with torch.device("meta"):
        made = UNet2DConditionModel(**NETWORKS[setting.base])  # type: ignore[arg-type]
    nn.Module.to(made, torch.bfloat16 if setting.half else torch.float32)
    return made.requires_grad_(False).eval()


def step_bytes(setting: Setting, network: UNet2DConditionModel, adapter: JointAdapter) -> int:
    """Bytes of a turn at its peak, beside all weights: activations, and gradients made by then."""
    device, dtype = next(network.parameters()).device, network.dtype
    count, latents = 2 * setting.pairs, setting.side // 8
    # aligned attention, which half of the steps have, takes more: its windows overlap
    drawn = clean_draw(TWO_WAY, torch.zeros(setting.pairs, dtype=torch.int64), aligned=True)
    width = int(network.config["cross_attention_dim"])
    noisy = torch.zeros(count, 4, latents, latents, device=device, dtype=dtype)
    words = torch.zeros(count, 77, width, device=device, dtype=dtype)
    times = torch.zeros(count, dtype=torch.int64, device=device)
    told = {}
    if network.config["addition_embed_type"]:
        pooled = torch.zeros(count, 1280, device=device, dtype=dtype)
        told = {"text_embeds": pooled, "time_ids": torch.zeros(count, 6, device=device)}
    calls = recomputed(network) if setting.checkpointing else quick_norms(nn.Identity())
    with as_autocast(network, setting.half), Alive() as alive:
        with calls, attached(network, {NAME: adapter}), rows_of(drawn, (latents, latents)).active():
            output = network(noisy, times, words, added_cond_kwargs=told).sample
        output.float().square().mean().backward()
    adapter.zero_grad()
    return alive.peak


def encode_bytes(setting: Setting) -> int:
    """Bytes that the autoencoder takes at its peak for the pictures of one turn."""
    with torch.device("meta"):
        vae = autoencoder()
        pictures = torch.zeros(min(AT_ONCE, 2 * setting.pairs), 3, setting.side, setting.side)
    with torch.no_grad(), as_autocast(vae, False), Alive() as alive:
        vae.encode(pictures)
    return alive.peak


def autoencoder() -> AutoencoderKL:
    """Stable Diffusion's."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
    )


def beside_bytes(setting: Setting) -> int:
    """Of autoencoder and text encoders, in float32."""
    with torch.device("meta"):
        parts: list[nn.Module] = [autoencoder()]
        for width, layers, heads in TEXTS[setting.base]:
            config = CLIPTextConfig(
                hidden_size=width,
                intermediate_size=4 * width,
                num_hidden_layers=layers,
                num_attention_heads=heads,
            )
            parts.append(CLIPTextModel(config))
    return unique_bytes(*parts)


def row(setting: Setting) -> dict[str, object]:
    """One row of the table, in GiB.

    `frozen` is the base; `adapter` its weights, their average and AdamW's moments; `turn` the
    activations and gradients of a turn at its peak; `encoding` the autoencoder's turn, which is
    over by then; `peak` the larger of both with all weights.
    """
    network = network_of(setting)
    adapter = JointRecipe(rank=setting.rank, y_rank=setting.rank).adapter(
        network, named("depth"), "counted"
    )
    count = sum(value.numel() for value in adapter.parameters())
    found = {
        "frozen": unique_bytes(network) + beside_bytes(setting),
        "adapter": count * (10 if setting.eight_bit else 16),
        "turn": step_bytes(setting, network, adapter),
        "encoding": encode_bytes(setting),
    }
    found["peak"] = found["frozen"] + found["adapter"] + max(found["turn"], found["encoding"])
    gib = {name: round(value / GIB, 1) for name, value in found.items()}
    return {**vars(setting), "parameters": count, **gib}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--json", type=json_file, help="write the rows into this file")
    options = parser.parse_args()
    rows = [row(setting) for setting in SETTINGS]
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for each in rows:
        print("| " + " | ".join(str(value) for value in each.values()) + " |")
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
