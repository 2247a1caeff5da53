"""A base with random weights that fits into a test: latents of 4 channels, prompts of width 16."""

from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from unicond.training.loop import seeded
from unicond.training.text2image import TextToImageConfig


def base(words=20):
    """{"unet", "text_encoder"} of so many tokens, the last two of which are start and end."""
    with seeded(0):
        text = CLIPTextConfig(
            vocab_size=words,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=words - 2,
            eos_token_id=words - 1,
        )
        shape = TextToImageConfig(
            block_out_channels=(16, 24), head_width=8, norm_num_groups=4, text_width=16
        )
        return nn.ModuleDict({"unet": shape.unet(4), "text_encoder": CLIPTextModel(text)})
