"""A tiny base of each family with random weights, saved by diffusers' own pipeline of that family.

8 x 8 latents of 64 x 64 pixels. The two text encoders of XL have different widths, by which a
single file tells them apart.
"""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from unicond.backbones import pixels
from unicond.backbones.pixels import UnshuffledUNet

TOKENIZER = Path(__file__).parents[1] / "golden" / "unicon" / "base" / "tokenizer"
FAMILIES = {
    "one": "Stable Diffusion 1.x",
    "two": "Stable Diffusion 2.x",
    "xl": "Stable Diffusion XL",
}


def save(kind, folder):
    """Write the base of a family into a folder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {"vae": vae(), "unet": unet(kind), "scheduler": scheduler(kind)}
        parts |= {"text_encoder": text(32, "quick_gelu"), "tokenizer": tokenizer()}
        if kind == "two":
            parts |= {"text_encoder": text(32, "gelu"), "tokenizer": tokenizer("!")}
        if kind == "xl":
            parts |= {"text_encoder_2": text(48, "gelu", 24), "tokenizer_2": tokenizer("!")}
            pipeline = StableDiffusionXLPipeline(**parts)
        else:
            none = ("safety_checker", "feature_extractor", "image_encoder")
            pipeline = StableDiffusionPipeline(
                **parts, **dict.fromkeys(none), requires_safety_checker=False
            )
    pipeline.save_pretrained(folder)
    return folder


def save_pixels(folder, network=None):
    """Write a base of 64 x 64 pixels without an autoencoder, that predicts v, into a folder."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        words = text(32, "quick_gelu"), tokenizer()
    pixels.save(folder, network or pixel_unet(), *words, scheduler("two"))
    return folder


def pixel_unet():
    """The first family's network between shuffles of 4 x 4 pixels."""
    said = dict(unet("one").config)
    shape = {name: value for name, value in said.items() if not name.startswith("_")}
    shape |= {"sample_size": 16, "in_channels": 48, "out_channels": 48}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UnshuffledUNet.from_config(shape)


def tokenizer(pad="<|endoftext|>"):
    return CLIPTokenizer.from_pretrained(TOKENIZER, pad_token=pad)


def text(width, act, projection=None):
    config = CLIPTextConfig(
        vocab_size=531,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act=act,
        projection_dim=projection or width,
        bos_token_id=529,
        eos_token_id=530,
        pad_token_id=0,
        initializer_factor=3.0,
    )
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return kind(config)


def vae():
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4,
        norm_num_groups=4,
        latent_channels=4,
    )


def unet(kind):
    shared = {"sample_size": 8, "block_out_channels": (32, 64), "norm_num_groups": 8}
    shared |= {"cross_attention_dim": 32, "layers_per_block": 1}
    shared |= {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    shared |= {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    if kind == "one":
        return UNet2DConditionModel(**shared, attention_head_dim=4)
    shared |= {"use_linear_projection": True, "attention_head_dim": (2, 4)}
    if kind == "two":
        return UNet2DConditionModel(**shared, upcast_attention=True)
    shared |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
    shared |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    shared |= {"cross_attention_dim": 32 + 48, "transformer_layers_per_block": (1, 2)}
    return UNet2DConditionModel(
        **shared,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8,
    )


def scheduler(kind):
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type="v_prediction" if kind == "two" else "epsilon",
    )


def change(folder, file, **values):
    """Set values in a JSON file of a base."""
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
