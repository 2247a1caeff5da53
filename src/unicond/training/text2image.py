"""Training of the base: text to pictures, in the world's styles, and normals under a prefix.

Loss: the plain v-loss, at times that gather where shapes are decided; prompts are dropped to the
empty prompt's embedding. The text encoder is trained along. The result is a diffusers pipeline
folder.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from unicond.backbones import pixels
from unicond.backbones.base import Settings
from unicond.backbones.pixels import UnshuffledUNet
from unicond.data import latents
from unicond.data.renders import as_picture
from unicond.training import sampling, sheets
from unicond.training.budget import Budget
from unicond.training.captions import CaptionTable
from unicond.training.diffusion import Noising, mini_scheduler, squared_error
from unicond.training.loop import LoopConfig, stream
from unicond.training.processes import Part
from unicond.world.vocabulary import STYLES

SHEET_PROMPTS = (
    "a red ball left of a blue box",
    "a green cone on top of a yellow cylinder on grass",
    "three orange balls on snow at night",
    "a purple pill and a white box on a checker floor at sunset",
    "a person in a red shirt waving on sand",
    "a person with blond hair in a green shirt sitting on a brown box",
    "a toon drawing of a yellow ball and a person walking",
    "a pencil sketch of a black cone behind a red cylinder",
    "a blueprint of a green box",
    "a night neon picture of two blue cylinders",
    "normal map, a person pointing at a box",
    "",
)


SAMPLING = Settings(
    num_inference_steps=10,
    estimation_steps=2,
    estimation_noise=0.1,
    estimation_ensemble=4,
    solver="dpmpp_2m",
    guidance_scale=7.0,
    condition_guidance=0.5,
)
"""What its users sample with, no part of the recipe.

Picked by hand from `unicond evaluate settings` and further runs on its scenes. The command's own
choice was 30 steps of Euler ancestral at guidance 6 and 2: a little more exact (AbsRel) at three
times the cost.
"""


@dataclass(frozen=True, kw_only=True)
class TextToImageConfig:
    """The base model and how it is trained.

    Args:
        block_out_channels: of the U-Net's levels; 16 x 16 latents first.
        head_width: channels of an attention head.
        norm_num_groups: of the U-Net's group normalisations.
        text_width: of the text encoder, and of cross-attention.
        text_layers: of the text encoder.
        scenes: training scenes.
        normal_scenes: the first of them are also learned as pictures of normals.
        normal_share: share of pictures of normals among the samples.
        variants: wordings of each caption.
        drop: share of prompts replaced by the empty one.
        uniform_share: share of times that are uniform (see `Noising.spread`). Near pure noise, half
            of the loss at uniform times, there is little to learn; shapes are decided before.
        style: the only style that is learned, "" is all of them.
        loop: how it is optimised.
    """

    block_out_channels: tuple[int, ...] = (128, 192)
    head_width: int = 32
    norm_num_groups: int = 16
    text_width: int = 128
    text_layers: int = 2
    scenes: int = 32768
    normal_scenes: int = 4096
    normal_share: float = 0.1
    variants: int = 4
    drop: float = 0.1
    uniform_share: float = 0.2
    style: str = ""
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=64,
            lr=8e-4,
            matrix_lr=1.5e-3,
            budget=Budget(minutes=280, flat=0.4),
            average=0.999,
        )
    )

    def __post_init__(self) -> None:
        if any(width % self.head_width for width in self.block_out_channels):
            raise ValueError(
                f"block_out_channels {self.block_out_channels} must be multiples of head_width "
                f"{self.head_width}"
            )
        if not (0 <= self.drop < 1 and 0 <= self.normal_share < 1):
            raise ValueError(
                f"drop and normal_share must be in [0, 1), got {self.drop}, {self.normal_share}"
            )
        if not 0 < self.uniform_share <= 1:
            raise ValueError(f"uniform_share must be in (0, 1], got {self.uniform_share}")
        if not 0 < self.normal_scenes <= self.scenes or self.variants < 1:
            raise ValueError("normal_scenes must be 1 to scenes, and variants at least 1")
        if self.style and self.style not in STYLES:
            raise ValueError(f"style {self.style!r} is not one of {', '.join(STYLES)}")

    @property
    def sampling(self) -> Settings:
        """What its users sample with."""
        return SAMPLING

    def unet(self, latent_channels: int) -> UNet2DConditionModel:
        """An untrained network with cross-attention at each level."""
        shape = self.unet_shape(latent_channels)
        return cast(UNet2DConditionModel, UNet2DConditionModel.from_config(shape))

    def unet_shape(self, channels: int) -> dict[str, object]:
        """Its configuration, with so many channels in and out."""
        levels = len(self.block_out_channels)
        return {
            "sample_size": 16,
            "in_channels": channels,
            "out_channels": channels,
            "down_block_types": ("CrossAttnDownBlock2D",) * levels,
            "up_block_types": ("CrossAttnUpBlock2D",) * levels,
            "block_out_channels": self.block_out_channels,
            "layers_per_block": 1,
            "norm_num_groups": self.norm_num_groups,
            "cross_attention_dim": self.text_width,
            # diffusers' old name: this is the number of heads
            "attention_head_dim": tuple(w // self.head_width for w in self.block_out_channels),
        }

    def text_encoder(self, tokenizer: CLIPTokenizer) -> CLIPTextModel:
        """An untrained text encoder; the tokenizer's last two tokens are start and end."""
        total = len(tokenizer)
        return CLIPTextModel(
            CLIPTextConfig(
                vocab_size=total,
                hidden_size=self.text_width,
                intermediate_size=4 * self.text_width,
                num_hidden_layers=self.text_layers,
                num_attention_heads=max(1, self.text_width // 32),
                max_position_embeddings=77,
                projection_dim=self.text_width,
                bos_token_id=total - 2,
                eos_token_id=total - 1,
                pad_token_id=total - 1,
            )
        )


@dataclass(frozen=True)
class Pictured:
    """Latents (N, C, h, w) with their captions; pictures are their own latents, as uint8.

    Many latents may wait in the CPU's memory, in half precision.
    """

    latents: Tensor
    captions: CaptionTable

    def at(self, rows: Tensor) -> Tensor:
        """Latents of some of them, float32, where `rows` is."""
        found = self.latents[rows.to(self.latents.device)].to(rows.device)
        return as_picture(found) if found.dtype == torch.uint8 else found.float()

    def drawn(self, count: int, drop: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random ones and what is said of them.

        Args:
            count: how many, B.
            drop: share of prompts replaced by the empty one.
            generator: on the device of the latents.

        Returns:
            (B,) rows, and (B, 77) tokens of a random wording of each.
        """
        device = generator.device
        rows = torch.randint(len(self.latents), (count,), generator=generator, device=device)
        dropped = torch.rand(count, generator=generator, device=device) < drop
        return rows, self.captions.drawn(rows, dropped, generator)

    def only(self, rows: Tensor) -> "Pictured":
        """Some of them."""
        return Pictured(self.latents[rows], replace(self.captions, table=self.captions.table[rows]))


class TextToImageTask:
    """The base as a `Task` of the loop.

    Args:
        config: what and how.
        vae: the autoencoder that the latents are of, frozen; None where they are pictures.
        tokenizer: of the text encoder.
        train: pictures, and pictures of normals.
        held: held-out pictures.
        device: of the training.
        parts: {"unet", "text_encoder"} to go on with, or None.
    """

    def __init__(
        self,
        config: TextToImageConfig,
        vae: AutoencoderKL | None,
        tokenizer: CLIPTokenizer,
        train: tuple[Pictured, Pictured],
        held: Pictured,
        device: torch.device,
        parts: nn.ModuleDict | None = None,
    ) -> None:
        self.config, self.vae, self.tokenizer = config, vae, tokenizer
        self.train, self.held, self.device = train, held, device
        unet = config.unet(train[0].latents.shape[1])
        text = config.text_encoder(tokenizer)
        self.parts = parts or nn.ModuleDict({"unet": unet, "text_encoder": text})
        self.parts.to(device)
        self.parts["unet"].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.noising = Noising.of(mini_scheduler(), device)

    def trained(self) -> nn.Module:
        """U-Net and text encoder."""
        return self.parts

    def losses(self, part: Part, generator: torch.Generator) -> Tensor:
        """v-losses of a part of a random batch, the last share of which are pictures of normals."""
        count = part.count
        normals = round(self.config.normal_share * count)
        drawn: list[tuple[Tensor, Tensor]] = []
        for source, number in zip(self.train, (count - normals, normals), strict=True):
            rows, tokens = source.drawn(number, self.config.drop, generator)
            drawn.append((source.at(rows), tokens))
        x0, prompts = (torch.cat(column) for column in zip(*drawn, strict=True))
        index = self.noising.spread(count, generator, self.config.uniform_share)
        noise = torch.randn(x0.shape, generator=generator, device=self.device)
        return self._error(part.of(x0), part.of(prompts), part.of(index), part.of(noise))

    def _error(self, x0: Tensor, prompts: Tensor, index: Tensor, noise: Tensor) -> Tensor:
        """(B,) v-losses; x0 and noise (B, C, h, w), index (B,)."""
        noisy, target = self.noising.noised(x0, index, noise)
        hidden = self.parts["text_encoder"](prompts).last_hidden_state
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        return squared_error(self.parts["unet"](noisy, index, hidden).sample, target)

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """Held-out v-loss over the same times and noise each time."""
        generator = stream(0, 0, self.device)
        count = min(128, len(self.held.latents))
        rows = torch.arange(count, device=self.device)
        never = torch.zeros(count, dtype=torch.bool, device=self.device)
        prompts = self.held.captions.drawn(rows, never, generator)
        x0, index = self.held.at(rows), self.noising.spread(count, generator)
        noise = torch.randn(x0.shape, generator=generator, device=self.device)
        found = self._error(x0, prompts, index, noise)
        return {"held_out_v_loss": float(found.mean())}

    def show(self, folder: Path) -> None:
        """Draw `SHEET_PROMPTS` with guidance 3."""
        drawn = sampling.draw(self.pipeline_parts(), SHEET_PROMPTS, guidance_scale=3.0)
        pictures = drawn.clamp(-1, 1) if self.vae is None else latents.decode(self.vae, drawn)
        half = len(SHEET_PROMPTS) // 2
        sheets.write(folder / "samples.png", [pictures[:half], pictures[half:]])

    def pipeline_parts(self) -> sampling.Parts:
        """What sampling needs."""
        unet, text = self.parts["unet"], self.parts["text_encoder"]
        assert isinstance(unet, UNet2DConditionModel)
        assert isinstance(text, CLIPTextModel)
        return sampling.Parts(unet, text, self.tokenizer, self.noising.schedule)

    def save(self, folder: Path) -> None:
        """Write a base's folder in half precision: without an autoencoder one of pixels.

        The modules of this task are float16 afterwards.
        """
        if self.vae is None:
            self._save_pixels(folder)
        else:
            self._save_pipeline(folder, self.vae)
        told = json.dumps(asdict(self.config.sampling), indent=1)
        (folder / "unicond.json").write_text(told + "\n")

    def _save_pixels(self, folder: Path) -> None:
        parts = self.pipeline_parts()
        unet, text = parts.unet.half(), parts.text_encoder.half()
        assert isinstance(unet, UnshuffledUNet)
        pixels.save(folder, unet, text, self.tokenizer, mini_scheduler())

    def _save_pipeline(self, folder: Path, vae: AutoencoderKL) -> None:
        parts = self.pipeline_parts()
        pipeline = StableDiffusionPipeline(
            vae=vae.half(),
            text_encoder=parts.text_encoder.half(),
            tokenizer=self.tokenizer,
            unet=parts.unet.half(),
            scheduler=mini_scheduler(),  # type: ignore[arg-type]
            safety_checker=None,  # type: ignore[arg-type]
            feature_extractor=None,  # type: ignore[arg-type]
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(folder, safe_serialization=True)
        # diffusers opens its own parts in float32, transformers its own as their configuration says
        config = folder / "text_encoder" / "config.json"
        said = json.loads(config.read_text()) | {"dtype": "float32"}
        config.write_text(json.dumps(said, indent=2) + "\n")
