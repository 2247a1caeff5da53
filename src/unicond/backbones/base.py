"""What every base model is: a denoising network, an autoencoder, text encoders and a schedule.

Families differ in how words become what the network is told; each has a file of its own. Pictures
go in and out the same way in all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTokenizer

from unicond.backbones.files import TextEncoder
from unicond.sampling.prompts import Prompt
from unicond.sampling.schedules import DiscreteSchedule, FlowSchedule

Size = tuple[int, int]


@dataclass(frozen=True)
class Settings:
    """Sampling defaults of a base model; `unicond.json` in its folder overrides the usual ones.

    Args:
        num_inference_steps: network calls for generation.
        estimation_steps: network calls where the image is given and its conditions are estimated.
        estimation_noise: time to which a given image is noised for estimation.
        estimation_guidance: `guidance_scale` of estimation.
        estimation_ensemble: noises whose estimates are averaged.
        solver: name in `solvers.SOLVERS`.
        guidance_scale: of text.
        condition_guidance: of a given condition; off where nothing is given.
        perturbed_guidance: perturbed-attention guidance of what is drawn.
        perturbed_layers: the blocks that it perturbs.
    """

    num_inference_steps: int = 50
    estimation_steps: int = 20
    estimation_noise: float = 0.1
    estimation_guidance: float = 1.0
    estimation_ensemble: int = 1
    solver: str = "ddim"
    guidance_scale: float = 7.5
    condition_guidance: float = 0.0
    perturbed_guidance: float = 0.0
    perturbed_layers: tuple[str, ...] = ("mid_block",)


@dataclass(frozen=True, eq=False)
class Backbone(ABC):
    """Everything that a run needs from a base model; frozen, in evaluation mode.

    Args:
        name: what it was loaded by.
        network: the denoising network.
        vae: the autoencoder; float32, or the network's dtype where its config allows. None where
            the state is pixels.
        text_encoders: in the order of `TEXT_PARTS`; float32, or float16 beside a float16 network.
        tokenizers: of the text encoders.
        schedule: the noise schedule that it was trained on.
        device: where it runs; parts may wait on the CPU for their turn.
        defaults: sampling settings that suit it.
        index: what `model_index.json` says.
        slicing: the network's attention is computed a slice at a time.
    """

    TEXT_PARTS: ClassVar[Mapping[str, type[TextEncoder]]]
    """{folder of a text encoder: its class}."""
    DEFAULTS: ClassVar[Settings] = Settings()
    """What suits the family where a base says nothing."""

    name: str
    network: UNet2DConditionModel
    vae: AutoencoderKL | None
    text_encoders: tuple[TextEncoder, ...]
    tokenizers: tuple[CLIPTokenizer, ...]
    schedule: DiscreteSchedule | FlowSchedule
    device: torch.device
    defaults: Settings = field(default=Settings())
    index: Mapping[str, object] = field(default_factory=dict[str, object])
    slicing: bool = False

    @property
    @abstractmethod
    def family(self) -> str:
        """The family's name, as people call it."""

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str], size: Size | None = None) -> Prompt:
        """What the network is told by B prompts.

        Args:
            prompts: longer ones than a text encoder holds are cut.
            size: (height, width) of the pictures; default the base's own square.

        Returns:
            B rows, float32.
        """

    def encode_negative(self, prompt: str, size: Size | None = None) -> Prompt:
        """What text guidance moves away from, one row; "" is what the base was trained with."""
        return self.encode_prompts([prompt], size)

    @abstractmethod
    def encode_phrases(self, phrases: Sequence[str], cut: bool = False) -> tuple[Tensor, Tensor]:
        """What grounding adapters are told by N phrases.

        Args:
            phrases: of things.
            cut: cut those that are longer than the text encoder holds.

        Returns:
            (N, width), the text encoder's pooled output, not projected; and (N, words, width), what
            the network would be told by each.

        Raises:
            ValueError: a phrase is too long, or the family has no grounding adapters.
        """

    def check_phrases(self, phrases: Sequence[str]) -> None:
        """Refuse phrases of things that the text encoders would cut.

        Args:
            phrases: of things.

        Raises:
            ValueError: one is too long.
        """
        for tokenizer, encoder in zip(self.tokenizers, self.text_encoders, strict=True):
            most = int(encoder.config.max_position_embeddings)
            for phrase in phrases:
                if (count := len(tokenizer(phrase).input_ids)) > most:
                    raise ValueError(
                        f"the phrase {phrase[:60]!r}... has {count} tokens, and the text encoder "
                        f"takes {most}: shorten it, or have it cut: Grounding(..., cut=True), "
                        '"cut": true in a file of boxes (--boxes)'
                    )

    @property
    def factor(self) -> int:
        """Pixels a latent, along one side."""
        return 2 ** (len(self._autoencoder.config["block_out_channels"]) - 1)

    @property
    def multiple(self) -> int:
        """Allowed picture sizes are multiples of this: what its levels halve evenly."""
        return self.factor * 2 ** (len(self.network.config["block_out_channels"]) - 1)

    @property
    def sample_size(self) -> int:
        """The side of the pictures that it was trained on, in pixels."""
        return int(self.network.config["sample_size"]) * self.factor

    def latent_shape(self, size: Size) -> tuple[int, int, int]:
        """(C, h, w) of the latents of pictures of this (height, width)."""
        channels = int(self.network.config["in_channels"])
        return channels, size[0] // self.factor, size[1] // self.factor

    @property
    def latent_scale(self) -> tuple[float, float]:
        """(factor, shift): latents are `factor (z - shift)` of the autoencoder's own z."""
        return float(self._autoencoder.config["scaling_factor"]), self._shift

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Latents (B, C, h, w) of pictures (B, 3, H, W) in [-1, 1]: the mode of the posterior."""
        vae = self._autoencoder
        posterior = vae.encode(pictures.to(self.device, vae.dtype))
        mode: Tensor = posterior.latent_dist.mode()  # pyright: ignore[reportAttributeAccessIssue]
        return ((mode - self._shift) * vae.config["scaling_factor"]).float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] of latents (B, C, h, w)."""
        vae = self._autoencoder
        raw = latents.to(vae.dtype) / vae.config["scaling_factor"] + self._shift
        decoded: Tensor = vae.decode(raw).sample  # pyright: ignore[reportAttributeAccessIssue]
        return decoded.float().clamp(-1, 1)

    @property
    def _autoencoder(self) -> AutoencoderKL:
        assert self.vae is not None, f"{self.family} has no autoencoder"
        return self.vae

    @property
    def _shift(self) -> float:
        return float(self._autoencoder.config.get("shift_factor") or 0.0)

    def _tokens(self, prompts: Sequence[str], number: int) -> Tensor:
        """Token ids (B, N) of prompts for one of the text encoders, on the device."""
        tokens = self.tokenizers[number](
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=self.text_encoders[number].config.max_position_embeddings,
            return_tensors="pt",
        )
        return tokens.input_ids.to(self.device)
