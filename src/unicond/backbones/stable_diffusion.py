"""Stable Diffusion 1.x and 2.x, and the embedded `mini`: one text encoder, its last layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTextModel
from typing_extensions import override

from unicond.backbones.base import Backbone, Size
from unicond.sampling.prompts import Prompt


@dataclass(frozen=True, eq=False)
class StableDiffusion(Backbone):
    """One text encoder; whether the network tells noise or velocity is in the schedule."""

    TEXT_PARTS = {"text_encoder": CLIPTextModel}  # noqa: RUF012

    @property
    def family(self) -> str:
        """1.x has convolutions around its transformer blocks, 2.x linear layers."""
        return f"Stable Diffusion {2 if self.network.config['use_linear_projection'] else 1}.x"

    @torch.no_grad()
    def encode_prompts(
        self,
        prompts: Sequence[str],
        size: Size | None = None,  # noqa: ARG002
    ) -> Prompt:
        """Embeddings of B prompts; the size tells these networks nothing."""
        output = self.text_encoders[0](self._tokens(prompts, 0))
        return Prompt(output.last_hidden_state.float())

    @override
    @torch.no_grad()
    def encode_phrases(self, phrases: Sequence[str], cut: bool = False) -> tuple[Tensor, Tensor]:
        if not cut:
            self.check_phrases(phrases)
        output = self.text_encoders[0](self._tokens(phrases, 0))
        return output.pooler_output.float(), output.last_hidden_state.float()
