"""Pixel-space diffusion: no autoencoder, the state is the picture itself.

A network that looked at single pixels would spend its time on neighbours that are nearly alike. So
its input is unshuffled: a square of f x f pixels becomes one place of 3 f^2 channels, and its
output is shuffled back. That loses nothing, and from outside it is a network on pixels.

    output(x) = shuffle(network(unshuffle(x)))

On disk such a base is a folder in diffusers' layout without `vae`; its `model_index.json` says
`"pixel_unshuffle": f`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from diffusers import SchedulerMixin, UNet2DConditionModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from typing_extensions import override

from unicond.backbones.base import Size
from unicond.backbones.stable_diffusion import StableDiffusion

CHANNELS = 3
"""Of a picture."""
UNSHUFFLE = "pixel_unshuffle"
"""The entry of `model_index.json` that makes a folder a pixel-space base."""


class UnshuffledUNet(UNet2DConditionModel):
    """A U-Net on pixels (B, 3, H, W), H and W multiples of f: inside it sees (B, 3 f^2, H/f, W/f).

    Its weights, its layers and their names are the plain network's, so that adapters, attention
    processors and LoRAs attach to it as to any other. f follows from its `in_channels`, 3 f^2; its
    `sample_size` is counted in places, not in pixels.

    Args:
        *args: as of the plain network.
        **kwargs: likewise.

    Raises:
        ValueError: its channels are not 3 f^2 in and out.
    """

    @wraps(UNet2DConditionModel.__init__)  # from the signature diffusers reads what to save
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        factor = math.isqrt(int(self.config["in_channels"]) // CHANNELS)
        check_unshuffle(factor, self.config)
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(factor), nn.PixelShuffle(factor)

    @property
    def factor(self) -> int:
        """Pixels a place, along one side."""
        return self.unshuffle.downscale_factor

    @override
    def forward(
        self, sample: Tensor, *args: Any, **kwargs: Any
    ) -> UNet2DConditionOutput | tuple[Tensor, ...]:
        """The plain network's, on pictures: (B, 3, H, W) in and out."""
        found = super().forward(self.unshuffle(sample), *args, **kwargs)
        if isinstance(found, tuple):
            return (self.shuffle(found[0]), *found[1:])
        return UNet2DConditionOutput(sample=self.shuffle(found.sample))


def check_unshuffle(factor: object, config: Mapping[str, object]) -> None:
    """Compare what a base's index says with its network.

    Args:
        factor: `pixel_unshuffle`.
        config: of the network.

    Raises:
        ValueError: it is no positive integer, or the network has other channels than 3 factor^2.
    """
    if not isinstance(factor, int) or isinstance(factor, bool) or factor < 1:
        raise ValueError(f"{UNSHUFFLE} {factor!r} of its model_index.json must be 1, 2, 3, ...")
    wanted = CHANNELS * factor**2
    channels = config.get("in_channels"), config.get("out_channels")
    if channels != (wanted, wanted):
        raise ValueError(
            f"with {UNSHUFFLE} {factor} the network must have {wanted} channels in and out, but it "
            f"has {channels[0]} in and {channels[1]} out"
        )


@dataclass(frozen=True, eq=False)
class PixelDiffusion(StableDiffusion):
    """Stable Diffusion's network and words on pixels: latents are pictures in [-1, 1]."""

    @property
    @override
    def family(self) -> str:
        """What it works on."""
        return "pixel diffusion"

    @property
    @override
    def factor(self) -> int:
        """A latent is a pixel."""
        return 1

    @property
    @override
    def latent_scale(self) -> tuple[float, float]:
        """A latent is a pixel."""
        return 1.0, 0.0

    @property
    @override
    def multiple(self) -> int:
        """What the network unshuffles, and its levels then halve, evenly."""
        return self._unshuffle * 2 ** (len(self.network.config["block_out_channels"]) - 1)

    @property
    @override
    def sample_size(self) -> int:
        """The side of the pictures that it was trained on, in pixels."""
        return int(self.network.config["sample_size"]) * self._unshuffle

    @override
    def latent_shape(self, size: Size) -> tuple[int, int, int]:
        """(3, H, W): the picture's own."""
        return CHANNELS, *size

    @override
    def encode(self, pictures: Tensor) -> Tensor:
        """The pictures (B, 3, H, W) in [-1, 1] themselves, float32."""
        return pictures.to(self.device, torch.float32)

    @override
    def decode(self, latents: Tensor) -> Tensor:
        """The latents (B, 3, H, W) as pictures: clipped to [-1, 1], float32."""
        return latents.float().clamp(-1, 1)

    @property
    def _unshuffle(self) -> int:
        assert isinstance(self.network, UnshuffledUNet)
        return self.network.factor


def save(
    folder: Path,
    network: UnshuffledUNet,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    scheduler: SchedulerMixin,
) -> None:
    """Write a base without an autoencoder, in its parts' own precision.

    Args:
        folder: gets a folder a part, and `model_index.json`.
        network: on pixels.
        text_encoder: its last layer is what the network is told.
        tokenizer: of the text encoder.
        scheduler: of the noise that the network was trained on.
    """
    parts = {
        "unet": network,
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "scheduler": scheduler,
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    index = {"_class_name": PixelDiffusion.__name__, UNSHUFFLE: network.factor}
    library = {name: type(part).__module__.split(".")[0] for name, part in parts.items()}
    index |= {name: [library[name], type(part).__name__] for name, part in parts.items()}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
