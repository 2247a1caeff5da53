"""Stable Diffusion XL: two text encoders, and conditions that are added to the time embedding.

The tokens are both encoders' last layers but one, side by side. Added are the second encoder's
pooled embedding and six numbers in pixels: original size, crop, target size.

Source: Podell et al. 2023, arXiv:2307.01952, section 2.2. Parity: diffusers
StableDiffusionXLPipeline.encode_prompt and _get_add_time_ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection
from typing_extensions import override

from unicond.backbones.base import Backbone, Settings, Size
from unicond.sampling.prompts import Prompt


@dataclass(frozen=True, eq=False)
class StableDiffusionXL(Backbone):
    """The XL base model and what was trained from it; not its refiner.

    Raises:
        ValueError: the network adds other conditions than XL's.
    """

    TEXT_PARTS = {  # noqa: RUF012
        "text_encoder": CLIPTextModel,
        "text_encoder_2": CLIPTextModelWithProjection,
    }
    DEFAULTS = Settings(guidance_scale=5.0)

    def __post_init__(self) -> None:
        config = self.network.config
        pooled = int(self.text_encoders[1].config.projection_dim or 0)
        width = int(config["projection_class_embeddings_input_dim"])
        if pooled + 6 * int(config["addition_time_embed_dim"]) != width:
            raise ValueError(
                f"{self.name} cannot be read as a base model: its network adds {width} numbers to "
                f"the time embedding, not Stable Diffusion XL's pooled embedding ({pooled}) and "
                "six sizes; a refiner is no base"
            )

    @property
    def family(self) -> str:
        """XL."""
        return "Stable Diffusion XL"

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str], size: Size | None = None) -> Prompt:
        """Embeddings of B prompts, for whole pictures of a size that were never scaled."""
        outputs = [
            encoder(self._tokens(prompts, number), output_hidden_states=True)
            for number, encoder in enumerate(self.text_encoders)
        ]
        tokens = torch.cat([output.hidden_states[-2].float() for output in outputs], -1)
        pooled: Tensor = outputs[-1].text_embeds.float()
        height, width = size or (self.sample_size, self.sample_size)
        ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32)
        time_ids = ids.to(self.device).repeat(len(prompts), 1)
        return Prompt(tokens, pooled, time_ids)

    def encode_negative(self, prompt: str, size: Size | None = None) -> Prompt:
        """One row; "" is all zeros where the base was trained so (" " is the empty text then)."""
        encoded = self.encode_prompts([prompt], size)
        if prompt or not self.index.get("force_zeros_for_empty_prompt", True):
            return encoded
        assert encoded.pooled is not None
        zeros = torch.zeros_like(encoded.tokens), torch.zeros_like(encoded.pooled)
        return Prompt(*zeros, encoded.time_ids)

    @override
    def encode_phrases(
        self,
        phrases: Sequence[str],
        cut: bool = False,
    ) -> tuple[Tensor, Tensor]:
        raise ValueError(
            f"grounding adapters are told {len(phrases)} phrases by one text encoder, and "
            f"{self.family} has two: load a base of Stable Diffusion 1.x or 2.x"
        )
