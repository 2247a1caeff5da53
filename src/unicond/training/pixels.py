"""The pixel-space base, `mini-pixel`: pictures of 64 x 64, without an autoencoder.

It is trained as the base on latents is, by the same task, and on the same noise: at this size
Stable Diffusion's schedule destroys pictures neither too early (half of the variance is noise
before the middle) nor leaves the last steps idle (it begins at 4 of 255 levels).
"""

from dataclasses import dataclass, field
from typing import cast

from diffusers import UNet2DConditionModel
from typing_extensions import override

from unicond.backbones.base import Settings
from unicond.backbones.pixels import UnshuffledUNet
from unicond.data.renders import RenderRecipe
from unicond.training.budget import Budget
from unicond.training.loop import LoopConfig
from unicond.training.text2image import TextToImageConfig


@dataclass(frozen=True, kw_only=True)
class PixelConfig(TextToImageConfig):
    """A base on pixels and how it is trained; what is not here is as in `TextToImageConfig`.

    Without words it is a model of the world's pictures alone: what restoration asks for. Hence no
    pictures of normals, and more prompts that are dropped.

    Args:
        size: pixels a side; divides the renders', and is a multiple of `unshuffle` and of what the
            network's levels halve.
        unshuffle: pixels a side that the network sees as one place.
    """

    block_out_channels: tuple[int, ...] = (96, 112)
    head_width: int = 16
    text_width: int = 64
    normal_share: float = 0.0
    drop: float = 0.25
    size: int = 64
    unshuffle: int = 4
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=32,
            lr=8e-4,
            matrix_lr=1.5e-3,
            budget=Budget(minutes=60, flat=0.4),
            average=0.999,
        )
    )

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unshuffle < 1:
            raise ValueError(f"unshuffle {self.unshuffle} must be 1 or more")
        multiple = self.unshuffle * 2 ** (len(self.block_out_channels) - 1)
        drawn = RenderRecipe().size
        if self.size < 1 or self.size % multiple or drawn % self.size:
            sides = [n for n in range(multiple, drawn + 1, multiple) if drawn % n == 0]
            raise ValueError(f"size {self.size} is not one of {', '.join(map(str, sides))}")

    @property
    @override
    def sampling(self) -> Settings:
        """What its users sample with; not measured yet."""
        return Settings(num_inference_steps=20, solver="ddim", guidance_scale=2.0)

    @override
    def unet(self, latent_channels: int) -> UNet2DConditionModel:
        """An untrained network on pictures of so many channels."""
        shape = self.unet_shape(latent_channels * self.unshuffle**2)
        shape["sample_size"] = self.size // self.unshuffle
        return cast(UNet2DConditionModel, UnshuffledUNet.from_config(shape))
