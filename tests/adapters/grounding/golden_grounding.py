"""The published models' inputs, weights and outputs, at tiny size, and ours built of them."""

import json
from functools import cache
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.grounding.config import GroundingConfig
from unicond.adapters.grounding.inputs import Boxes, Instances, Interactions
from unicond.sampling.rows import Rows, Variant
from unicond.sampling.state import Move

ROOT = Path(__file__).parents[2] / "golden"
LIMIT = 1e-4
TIMESTEP = 901
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
INTERACT = GroundingConfig(method="interact", text=32, tokens=32)
MIGC = GroundingConfig(method="migc", slots=28)

# found by fitting the golden outputs to 1e-14: the file of environment does not tell them
CA_SCALE, EA_SCALE, SAC_SCALE = (0.5, 1.0, 1.5), (1.2, 0.3, 1.0), (1.5, 0.7, 1.0)


@cache
def tensors(path):
    return {key: value.float() for key, value in load_file(ROOT / path).items()}


@cache
def meta(folder):
    return json.loads((ROOT / folder / "meta.json").read_text())


def part(values, prefix):
    return {
        key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)
    }


def close(found, path, key):
    error = float((found - tensors(path)[key]).abs().max())
    assert error < LIMIT, f"{key}: {error:.2e}"


def network(folder):
    """The golden network, with `attention_type="default"`."""
    config = {k: v for k, v in meta(folder)["unet_config"].items() if not k.startswith("_")}
    unet = UNet2DConditionModel(**{**config, "attention_type": "default"})
    weights = tensors(f"{folder}/unet_w_fp16.safetensors")
    unet.load_state_dict({key: value for key, value in weights.items() if ".fuser." not in key})
    return unet.requires_grad_(False).eval()


def interact_weights():
    net = tensors("interact/posnet_w_fp16.safetensors")
    unet = tensors("interact/unet_w_fp16.safetensors")
    return {f"position_net.{key}": value for key, value in net.items()} | {
        key: value for key, value in unet.items() if ".fuser." in key
    }


def places():
    """{golden name of a layer: its transformer block}, in the order in which they run."""
    order = meta("migc")["order"]["migc_ith0"]
    blocks = {name: key.partition(".attn2")[0] for key, name in meta("migc")["place"].items()}
    return {name: blocks[name] for name in order}


def migc_weights():
    values, net = {}, tensors("migc/posnet_shared_w_fp16.safetensors")
    for name, block in places().items():
        own = part(tensors("migc/migc_w_fp16.safetensors"), f"{name}.")
        own |= {f"pos_net.{key}": value for key, value in net.items()}
        values |= {f"{block}.attn2.migc.{key}": value for key, value in own.items()}
    return values


def copied(values):
    return {key: value.clone() for key, value in values.items()}


def interact():
    adapter = GroundingAdapter.from_tensors(INTERACT, copied(interact_weights()), "golden")
    return adapter.requires_grad_(False).eval()


def migc():
    adapter = GroundingAdapter.from_tensors(MIGC, copied(migc_weights()), "golden")
    return adapter.requires_grad_(False).eval()


def gligen(unet, seed=0):
    """A fresh one with open gates."""
    generator = torch.Generator().manual_seed(seed)
    adapter = GroundingAdapter.for_network(unet, "gligen", generator=generator)
    with torch.no_grad():
        for value in adapter.parameters():
            if value.ndim < 2:
                value.add_(0.5 * torch.randn(value.shape, generator=generator))
    return adapter.requires_grad_(False).eval()


def interactions():
    """Row 0 has none, row 1 has two."""
    io = tensors("interact/io.safetensors")
    names = ("subject", "action", "object")
    words = {f"{name}s": io[f"in/{name}_positive_embeddings"] for name in names}
    boxes = {key: io[f"in/{key}"] for key in ("subject_boxes", "object_boxes")}
    return Interactions(masks=io["in/masks"], **boxes, **words)


def only(inputs, *samples):
    return type(inputs)(**{key: value[list(samples)] for key, value in inputs.tensors().items()})


def some_boxes(samples=1, count=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(samples, count, 2, generator=generator) * 0.5
    size = 0.1 + torch.rand(samples, count, 2, generator=generator) * 0.4
    return Boxes(
        masks=torch.ones(samples, count),
        boxes=torch.cat([corner, corner + size], -1),
        phrases=torch.randn(samples, count, 32, generator=generator),
    )


class Given:
    """The permutations that the golden run drew, in the order of its layers."""

    def __init__(self, case):
        self.orders = meta("migc")["perm"][case]

    def __call__(self, sample, step, layer, slots):
        return torch.tensor(self.orders[layer])


def instances(case="unet/migc_ith0", **more):
    io = tensors("migc/io.safetensors")
    return Instances(
        masks=torch.ones(1, 3),
        boxes=torch.tensor(meta("migc")["bboxes_xyxy"])[None],
        phrases=io["unet/pooler"][1:, 0][None],
        words=io["unet/encoder_hidden_states"][2:][None],
        size=(128, 128),
        latents=(16, 16),
        shuffle=Given(case),
        **more,
    )


def rows(batch=1, branches=("image",), **more):
    """A negative and a positive variant."""
    return Rows((Variant("negative"), Variant("positive")), branches, batch, **more)


def move(number, count=50):
    t = 1 - number / count
    return Move({"image": t}, {"image": t - 1 / count}, number=number, count=count)
