"""Training of the autoencoder: pictures and annotation drawings into factor-8 latents and back.

    loss = charbonnier(d) + gradient_weight * charbonnier(grad d) + coarse_weight * mean(pool4(d)^2)
           + kl_weight * KL,   d = reconstruction - picture, charbonnier(d) = sqrt(d^2 + c^2) - c

Learned from random parts of pictures, since the network is convolutional throughout: at equal
cost four quarters of four pictures teach more than one whole (600 steps: 27.1 dB against 24.0).
The coarse term is what teaches colours: under an absolute error alone the reconstruction sits in
the grey median of all colours for longer.

At the end the latents' mean is folded into the two 1 x 1 convolutions around them, and
`scaling_factor` becomes one over their standard deviation, so that any diffusers pipeline sees
latents of zero mean and unit variance.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional

from unicond.data import latents
from unicond.data.renders import PICTURES, as_picture
from unicond.evaluation.metrics_pictures import psnr
from unicond.training import sheets
from unicond.training.budget import Budget
from unicond.training.loop import LoopConfig
from unicond.training.processes import Part

CHARBONNIER = 0.1


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """The autoencoder and how it is trained.

    Args:
        latent_channels: 4 to 8.
        block_out_channels: of the four levels, 128 pixels first.
        layers_per_block: residual blocks a level (one more in the decoder).
        norm_num_groups: of every group normalisation.
        drawings: maps that are learned beside pictures, one after the other in each batch.
        scenes: training scenes.
        crop: pixels a side of the random parts that are learned from, if pictures are larger.
        picture_share: share of pictures among the samples; the rest are drawings.
        kl_weight: of the mean KL divergence of a latent number.
        gradient_weight: of the error of neighbour differences.
        coarse_weight: of the squared error after 4 x 4 averaging.
        loop: how it is optimised.
    """

    latent_channels: int = 8
    block_out_channels: tuple[int, ...] = (16, 32, 64, 128)
    layers_per_block: int = 1
    norm_num_groups: int = 4
    drawings: tuple[str, ...] = ("depth", "normals", "edges", "skeleton", "segmentation")
    scenes: int = 16384
    crop: int = 64
    picture_share: float = 0.6
    kl_weight: float = 2e-4
    gradient_weight: float = 0.5
    coarse_weight: float = 3.0
    loop: LoopConfig = field(
        default_factory=lambda: LoopConfig(
            batch_size=16, lr=1.5e-3, matrix_lr=2e-3, budget=Budget(minutes=30), average=0.999
        )
    )

    def __post_init__(self) -> None:
        if not 1 <= self.latent_channels <= 16:
            raise ValueError(f"latent_channels must be 1 to 16, got {self.latent_channels}")
        if len(self.block_out_channels) != 4:
            raise ValueError("factor-8 latents need four levels of block_out_channels")
        if not self.drawings or not set(self.drawings) <= set(PICTURES[1:]):
            raise ValueError(f"drawings must be some of {PICTURES[1:]}, got {self.drawings}")
        if not 0 <= self.picture_share <= 1 or self.scenes < 1:
            raise ValueError(
                f"picture_share must be in [0, 1] and scenes positive, got {self.picture_share}, "
                f"{self.scenes}"
            )
        if self.crop < 8 or self.crop % 8:
            raise ValueError(f"crop must be a positive multiple of 8, got {self.crop}")
        if min(self.kl_weight, self.gradient_weight, self.coarse_weight) < 0:
            raise ValueError("loss weights must not be negative")

    def build(self) -> AutoencoderKL:
        """An untrained autoencoder."""
        levels = len(self.block_out_channels)
        shape = {
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "block_out_channels": self.block_out_channels,
            "layers_per_block": self.layers_per_block,
            "latent_channels": self.latent_channels,
            "norm_num_groups": self.norm_num_groups,
            "mid_block_add_attention": False,
            "sample_size": 128,
            "scaling_factor": 1.0,
        }
        vae = cast(AutoencoderKL, AutoencoderKL.from_config(shape))
        _start_lively(vae)
        return vae


class AutoencoderTask:
    """The autoencoder as a `Task` of the loop.

    Args:
        config: what and how.
        train: {"image", and each of the recipe's drawings: uint8 (N, C, H, W)}, on the
            training device.
        held: the same of held-out scenes.
        vae: an autoencoder to go on with, or None.
    """

    def __init__(
        self,
        config: AutoencoderConfig,
        train: dict[str, Tensor],
        held: dict[str, Tensor],
        vae: AutoencoderKL | None = None,
    ) -> None:
        self.config, self.train, self.held = config, train, held
        self.device = train["image"].device
        self.vae = vae or config.build()
        self.vae.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def trained(self) -> nn.Module:
        """The autoencoder."""
        return self.vae

    def batch(self, count: int, generator: torch.Generator) -> Tensor:
        """Random parts of pictures and drawings, (count, 3, crop, crop)."""
        pictures = round(self.config.picture_share * count)
        kinds = ["image"] * pictures
        names = self.config.drawings
        first = generator.initial_seed() % len(names)  # differs from step to step
        kinds += [names[(first + n) % len(names)] for n in range(count - pictures)]
        total = len(self.train["image"])
        rows = torch.randint(total, (count,), generator=generator, device=self.device)
        side = min(self.train["image"].shape[2:])
        crop = min(self.config.crop, side)
        room = side - crop
        corners = torch.randint(room + 1, (count, 2), generator=generator, device=self.device)
        parts = [
            self.train[kind][row, :, y : y + crop, x : x + crop].expand(3, -1, -1)
            for kind, row, (y, x) in zip(kinds, rows.tolist(), corners.tolist(), strict=True)
        ]
        return as_picture(torch.stack(parts)).contiguous(memory_format=torch.channels_last)

    def losses(self, part: Part, generator: torch.Generator) -> Tensor:
        """Losses of a part of a random batch."""
        pictures = part.of(self.batch(part.count, generator))
        posterior = latents.posterior(self.vae, pictures)
        shape = (part.count, *posterior.mean.shape[1:])
        noise = part.of(torch.randn(shape, generator=generator, device=self.device))
        drawn = posterior.mean + posterior.std * noise.to(posterior.mean)
        error = latents.pictures_of(self.vae, drawn) - pictures
        config = self.config
        across, down = error.diff(dim=3), error.diff(dim=2)
        kl = posterior.kl() / drawn[0].numel()
        return (
            charbonnier(error)
            + config.gradient_weight * 0.5 * (charbonnier(across) + charbonnier(down))
            + config.coarse_weight * functional.avg_pool2d(error, 4).square().flatten(1).mean(1)
            + config.kl_weight * kl.float()
        )

    def reconstruct(self, pictures: Tensor) -> Tensor:
        """Pictures in [-1, 1] through the latents' mean and back."""
        with torch.no_grad():
            parts = [
                latents.pictures_of(self.vae, latents.posterior(self.vae, part).mode())
                for part in pictures.split(32)
            ]
        return torch.cat(parts).clamp(-1, 1)

    def scores(self) -> dict[str, float]:
        """Held-out PSNR in dB of pictures and of each kind of drawing, mean over pictures."""
        out: dict[str, float] = {}
        for kind in ("image", *self.config.drawings):
            pictures = as_picture(self.held[kind][:96]).expand(-1, 3, -1, -1)
            out[f"psnr_{kind}"] = float(psnr(self.reconstruct(pictures), pictures).mean())
        return out

    def show(self, folder: Path) -> None:
        """Two lines for each kind: pictures and their reconstructions."""
        rows = []
        for kind in ("image", "image", *self.config.drawings):
            start = 12 if kind == "image" and rows else 0
            pictures = as_picture(self.held[kind][start : start + 12]).expand(-1, 3, -1, -1)
            rows += [pictures, self.reconstruct(pictures)]
        sheets.write(folder / "samples.png", rows)

    def finish(self) -> AutoencoderKL:
        """Normalise the latents (see the module) and return the autoencoder."""
        mean, std = latent_statistics(self.vae, as_picture(self.train["image"][:512]))
        fold_mean(self.vae, mean)
        self.vae.register_to_config(scaling_factor=round(1 / std, 5))
        return self.vae.eval()


@torch.no_grad()
def _start_lively(vae: AutoencoderKL) -> None:
    """Start values with which colours are learned in hundreds of steps instead of thousands.

    torch's convolutions shrink what passes by sqrt(3); over a dozen of them in a row the picture
    fades, its colours (which vary less than its brightness) first. Those on the direct path are
    enlarged by that much (+2.3 dB after 200 steps). The latents' noise starts at a standard
    deviation of 0.05 instead of 1.
    """
    for name, part in vae.named_modules():
        if isinstance(part, nn.Conv2d) and not name.endswith(("conv1", "conv2")):
            part.weight.mul_(3**0.5)
    assert vae.quant_conv is not None
    assert vae.quant_conv.bias is not None
    vae.quant_conv.bias[len(vae.quant_conv.bias) // 2 :] = -6.0


def charbonnier(error: Tensor) -> Tensor:
    """(B,) mean of `sqrt(d^2 + c^2) - c`: quadratic near 0, linear far from it."""
    return (torch.sqrt(error.square() + CHARBONNIER**2) - CHARBONNIER).flatten(1).mean(1)


@torch.no_grad()
def latent_statistics(vae: AutoencoderKL, pictures: Tensor) -> tuple[Tensor, float]:
    """Mean of each latent channel, and the standard deviation of all around them."""
    parts = [latents.posterior(vae, part).mean for part in pictures.split(32)]
    found = torch.cat(parts).float()
    mean = found.mean((0, 2, 3))
    return mean, float((found - mean[:, None, None]).std())


@torch.no_grad()
def fold_mean(vae: AutoencoderKL, mean: Tensor) -> None:
    """Shift the latents by `-mean` (C,) without changing any reconstruction.

    `quant_conv` gives `z - mean`; `post_quant_conv` gets `W (z + mean) + b`.
    """
    encode, decode = vae.quant_conv, vae.post_quant_conv
    assert encode is not None
    assert decode is not None
    assert encode.bias is not None
    assert decode.bias is not None
    encode.bias[: len(mean)] -= mean
    decode.bias += decode.weight[:, :, 0, 0] @ mean
