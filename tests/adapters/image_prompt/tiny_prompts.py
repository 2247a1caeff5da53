"""A tiny random network with words of width 16, an image prompt adapter for it, and an encoder."""

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from unicond.adapters.image_prompt.adapter import ImagePromptAdapter
from unicond.adapters.image_prompt.encoder import ImageEncoder
from unicond.adapters.image_prompt.preprocess import Preprocess
from unicond.sampling.rows import Rows, Variant
from unicond.sampling.state import Move
from unicond.training.loop import seeded

WORDS, EMBEDDING = 16, 12


def network(seed=0):
    with seeded(seed):
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=WORDS,
            attention_head_dim=(2, 4),
        )
    return unet.requires_grad_(False).eval()


def adapter_of(unet, seed=0, tokens=4):
    """One that has left its start."""
    generator = torch.Generator().manual_seed(seed)
    made = ImagePromptAdapter.for_network(unet, EMBEDDING, tokens=tokens, generator=generator)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator))
    return made.requires_grad_(False).eval()


def embeds_of(samples=1, pictures=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, pictures, EMBEDDING, generator=generator)


def encoder(side=24):
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        patch_size=8,
        projection_dim=EMBEDDING,
    )
    with seeded(3):
        model = CLIPVisionModelWithProjection(config)
        for value in model.parameters():
            nn.init.normal_(value, std=0.2)
    prepare = Preprocess(size=side + 4, crop=side, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    return ImageEncoder(model.requires_grad_(False).eval(), prepare)


def rows(batch=1, branches=("image",), **more):
    """A negative and a positive variant."""
    return Rows((Variant("negative"), Variant("positive")), branches, batch, **more)


def move(number, count=50):
    t = 1 - number / count
    return Move({"image": t}, {"image": t - 1 / count}, number=number, count=count)


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in mine.items())
