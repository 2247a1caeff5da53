"""Stable Diffusion 1.5 at its real size with random weights: made, and run, in processes apart.

`python real_size.py make FOLDER` writes the base and a depth adapter; `python real_size.py run
FOLDER` draws an image and its depth from text in 2 steps and prints the peak memory in GiB.
"""

import resource
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tiny_bases import tokenizer
from transformers import CLIPTextConfig, CLIPTextModel

import unicond
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter


def make(folder):
    torch.set_default_dtype(torch.bfloat16)
    network = UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8
    )  # the other defaults are Stable Diffusion 1's
    assert sum(parameter.numel() for parameter in network.parameters()) == 859_520_964
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=512,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            projection_dim=768,
            eos_token_id=530,
        )
    )
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer(),
        unet=network,
        scheduler=PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "base")
    adapter = JointAdapter.for_network(network, JointConfig(rank=64, y_rank=64))
    adapter.save_pretrained(folder / "depth", dtype=torch.float16)


def run(folder):
    model = unicond.load(folder / "base", {"depth": folder / "depth"}, dtype=torch.bfloat16)
    out = model("a red ball", num_inference_steps=2, guidance_scale=7.5)
    assert {name: tuple(p.shape) for name, p in out.pictures.items()} == {
        "image": (1, 3, 512, 512),
        "depth": (1, 3, 512, 512),
    }
    assert all(picture.isfinite().all() for picture in out.pictures.values())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


if __name__ == "__main__":
    {"make": make, "run": run}[sys.argv[1]](Path(sys.argv[2]))
