"""What the stages are given: earlier weights, and scenes as latents, captions, maps, labels."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from unicond.data import latents, renders, texts
from unicond.data.renders import RenderRecipe
from unicond.training.captions import CaptionTable
from unicond.training.joint import PairData
from unicond.training.labels import Labels
from unicond.training.probes import MAPS, Annotated
from unicond.training.text2image import Pictured
from unicond.training.workshop import Workshop

TRAIN, HELD = 0, 1
"""Worlds of the training and of the held-out scenes."""


def load_vae(folder: Path, device: torch.device) -> tuple[AutoencoderKL, str]:
    """A trained autoencoder, frozen, and what tells it from others."""
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)
    vae.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return vae.requires_grad_(False).eval(), latents.identity(folder)


def load_parts(folder: Path) -> nn.ModuleDict:
    """U-Net and text encoder of a pipeline folder, float32."""
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return nn.ModuleDict({"unet": unet, "text_encoder": text})


def pictured(
    shop: Workshop,
    vae: tuple[AutoencoderKL, str],
    words: CLIPTokenizer,
    seed: int,
    count: int,
    variants: int,
    name: str = "image",
    prefix: str = "",
) -> Pictured:
    """Latents of one kind of picture with captions.

    Args:
        shop: where.
        vae: the autoencoder and its identity.
        words: the tokenizer.
        seed: of the world.
        count: scenes.
        variants: wordings of each caption.
        name: of the map.
        prefix: in front of the captions, which then say no style.

    Returns:
        `count` latents and captions, on the training device.
    """
    folder = shop.drawn(seed, count, (name,))
    found = latents.cached(*vae, folder, name, count, shop.device)
    said = texts.captions(folder, RenderRecipe(seed=seed), count, variants, styled=not prefix)
    return Pictured(found, CaptionTable.of(words, said, prefix, shop.device))


def pairs(
    shop: Workshop,
    vae: tuple[AutoencoderKL, str],
    words: CLIPTokenizer,
    seed: int,
    count: int,
    variants: int,
    condition: str,
    trigger: str,
) -> PairData:
    """Pairs of latents with the captions of both branches; arguments as in `pictured`."""
    folder = shop.drawn(seed, count, ("image", condition))
    said = texts.captions(folder, RenderRecipe(seed=seed), count, variants)
    image, other = (
        latents.cached(*vae, folder, name, count, shop.device) for name in ("image", condition)
    )
    plain, triggered = (
        CaptionTable.of(words, said, prefix, shop.device) for prefix in ("", trigger)
    )
    return PairData(image, other, plain, triggered)


def annotated(
    shop: Workshop, vae: tuple[AutoencoderKL, str], seed: int, count: int, copies: int
) -> Annotated:
    """Renders with all their annotations; `copies` of them also through the autoencoder."""
    folder = shop.drawn(seed, count, MAPS)
    maps = renders.load(folder, MAPS, count, shop.device)
    scenes = RenderRecipe(seed=seed).scenes(0, count)
    labels = Labels.of(scenes, maps["image"].shape[-1], shop.device)
    worn = latents.reconstructed(*vae, folder, copies, shop.device) if copies else None
    return Annotated(maps, labels, worn)
