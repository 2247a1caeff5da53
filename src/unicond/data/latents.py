"""Pictures as latents, encoded once and kept on disk."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor

from unicond.backbones.precision import slow_in_bfloat16
from unicond.data import renders
from unicond.data.renders import Told, as_bytes, as_picture
from unicond.pictures.files import whole_file


def identity(folder: Path) -> str:
    """What tells the autoencoder in a folder from others: its weights and its scale."""
    digest = hashlib.sha256((folder / "diffusion_pytorch_model.safetensors").read_bytes())
    digest.update(str(json.loads((folder / "config.json").read_text())["scaling_factor"]).encode())
    return digest.hexdigest()[:12]


def posterior(vae: AutoencoderKL, pictures: Tensor) -> DiagonalGaussianDistribution:
    """What an autoencoder says of pictures (B, 3, H, W) in [-1, 1]: Gaussian latents, unscaled."""
    output = cast(AutoencoderKLOutput, vae.encode(pictures))
    return cast(DiagonalGaussianDistribution, output.latent_dist)


def pictures_of(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), float32, of unscaled latents; not clipped."""
    output = cast(DecoderOutput, vae.decode(cast(torch.FloatTensor, latents)))
    return output.sample.float()


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Scaled means of the latents of pictures (B, 3, H, W) in [-1, 1], float32."""
    own = next(vae.parameters())
    found = posterior(vae, pictures.to(own.device, own.dtype))
    return found.mode().float() * vae.config["scaling_factor"]


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1], float32, of scaled latents."""
    own = next(vae.parameters())
    scaled = (latents / vae.config["scaling_factor"]).to(own.device, own.dtype)
    return torch.cat([pictures_of(vae, part) for part in scaled.split(32)]).clamp(-1, 1)


def cached(
    vae: AutoencoderKL,
    key: str,
    folder: Path,
    name: str,
    count: int,
    device: torch.device | str,
    report: Told | None = None,
) -> Tensor:
    """Latents of one map of the first `count` renders of a folder.

    Args:
        vae: the autoencoder, on its device.
        key: what tells this autoencoder from others: `identity` of its folder.
        folder: of the renders (`renders.draw`).
        name: "image", "depth" or "normals".
        count: how many scenes.
        device: where the result goes.
        report: told how many are encoded, and how many are wanted, where some are not yet.

    Returns:
        (count, C, H / 8, W / 8) float32, scaled.
    """

    def encoded(maps: Tensor) -> Tensor:
        pictures = as_picture(maps).expand(-1, 3, -1, -1).contiguous()
        return encode(vae, pictures).half()

    found = _derived(vae, folder, name, f"latents-{name}-{key}", count, encoded, report)
    return found.float().to(device)


def reconstructed(
    vae: AutoencoderKL,
    key: str,
    folder: Path,
    count: int,
    device: torch.device | str,
    report: Told | None = None,
) -> Tensor:
    """The first `count` pictures of a folder of renders, through the autoencoder and back.

    Args:
        vae: the autoencoder, on its device.
        key: `identity` of its folder.
        folder: of the renders.
        count: how many scenes.
        device: where the result goes.
        report: as of `cached`.

    Returns:
        (count, 3, H, W) uint8.
    """

    def there_and_back(maps: Tensor) -> Tensor:
        return as_bytes(decode(vae, encode(vae, as_picture(maps))))

    name = f"through-{key}"
    return _derived(vae, folder, "image", name, count, there_and_back, report).to(device)


def _derived(
    vae: AutoencoderKL,
    folder: Path,
    source: str,
    name: str,
    count: int,
    change: Callable[[Tensor], Tensor],
    report: Told | None,
) -> Tensor:
    """What is computed from a map, shard by shard, and kept beside it."""
    parts: dict[int, Tensor] = {}
    device = next(vae.parameters()).device
    quick = not slow_in_bfloat16(device)
    for done, (shard, place) in enumerate(renders.shards_of(folder, count), start=1):
        if not (place / f"{name}.npy").exists():
            maps = torch.from_numpy(np.load(place / f"{source}.npy"))
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=quick):
                changed = [change(part.to(device)).cpu() for part in maps.split(64)]
            with whole_file(place / f"{name}.npy") as file:
                np.save(file, torch.cat(changed).numpy())
            if report is not None:
                report(min(count, done * renders.SHARD), count)
        parts[shard] = torch.from_numpy(np.load(place / f"{name}.npy"))
    return torch.cat([parts[shard] for shard in sorted(parts)])[:count]
