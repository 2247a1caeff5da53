"""Loading a base model: its family is read from its configurations."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from pydantic import TypeAdapter
from torch import nn

from unicond.backbones.base import Backbone, Settings
from unicond.backbones.files import LAYOUT, Folder, first_line, locate
from unicond.backbones.offload import offload as offload_parts
from unicond.backbones.pixels import UNSHUFFLE, PixelDiffusion, UnshuffledUNet, check_unshuffle
from unicond.backbones.precision import autoencoder_dtype, check_dtype, dtype_for, text_dtype
from unicond.backbones.quick import quicken
from unicond.backbones.single_file import SUFFIXES, open_file
from unicond.backbones.stable_diffusion import StableDiffusion
from unicond.backbones.stable_diffusion_xl import StableDiffusionXL
from unicond.sampling import schedules

_FAMILIES: dict[object, type[Backbone]] = {None: StableDiffusion, "text_time": StableDiffusionXL}
"""{`addition_embed_type` of the network: family}."""


def load(
    base: str | Path,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    config: str | Path | None = None,
    offload: bool = False,
    slicing: bool = False,
) -> Backbone:
    """Load a base model.

    Args:
        base: folder in diffusers' layout, hub id, embedded name, or a single file; `FILE@CONFIG`
            names a file and its configurations.
        dtype: of the denoising network; None takes what suits the device (see `precision`).
        device: where it runs.
        config: of a single file: a folder or hub id with its configurations and tokenizers.
        offload: keep parts on the CPU while they are not called.
        slicing: compute the network's attention a slice at a time.

    Returns:
        The base, frozen, in evaluation mode.

    Raises:
        ValueError: a part is missing or damaged, the family is unknown, or the device cannot do
            what is asked.
    """
    device = torch.device(device)
    if dtype is not None:
        check_dtype(dtype, device)
    if offload and device.type == "cpu":
        raise ValueError(
            "offload moves parts between the CPU and an accelerator, but this model runs on the "
            "CPU: leave it out"
        )
    source = _source(base, config, _half(dtype, device))
    family = _family(source)
    chosen = dtype or dtype_for(device, _parameters(source))
    try:
        return replace(_assemble(source, family, chosen, device, offload), slicing=slicing)
    except OSError as error:
        raise _unreadable(source, first_line(error)) from error


def _half(dtype: torch.dtype | None, device: torch.device) -> bool:
    """Whether weights in float16 are enough to download."""
    return device.type != "cpu" if dtype is None else dtype != torch.float32


def _source(base: str | Path, config: str | Path | None, half: bool) -> Folder:
    """Where the parts come from: a folder, or a file with the folder of its configurations."""
    name = str(base)
    if config is None and "@" in name and not Path(name).exists():
        name, _, config = name.rpartition("@")
    file = Path(name)
    if file.is_file() and file.suffix not in SUFFIXES:
        raise ValueError(f"{file} is no base model: a file must end in {' or '.join(SUFFIXES)}")
    if file.suffix in SUFFIXES and not file.is_dir():
        if not file.is_file():
            raise ValueError(f"there is no file {name!r}")
        return open_file(file, config)
    if config is not None:
        raise ValueError(f"config {str(config)!r} is for single files; {name!r} has its own")
    return Folder(name, locate(name, half))


def _family(source: Folder) -> type[Backbone]:
    """The family of the network that the configurations describe."""
    index = source.json("model_index.json", optional=True)
    parts = ["unet", "scheduler", "text_encoder", "tokenizer"]
    _check_parts(source, parts if UNSHUFFLE in index else [*parts, "vae"])
    config = source.json("unet/config.json")
    kind = config.get("addition_embed_type")
    other = [name for name in ("encoder_hid_dim_type", "class_embed_type") if config.get(name)]
    if kind not in _FAMILIES or other:
        what = f"{other[0]} {config[other[0]]!r}" if other else f"addition_embed_type {kind!r}"
        raise _unreadable(source, f"a network with {what} belongs to no family that is known here")
    if UNSHUFFLE in index:
        try:
            check_unshuffle(index[UNSHUFFLE], config)
        except ValueError as error:
            raise _unreadable(source, str(error)) from error
        return PixelDiffusion
    channels = config.get("in_channels", 4)
    if channels != source.json("vae/config.json").get("latent_channels", 4):
        raise _unreadable(
            source,
            f"its network takes {channels} channels, more than the latents have; of "
            "inpainting there is no need: give a mask to an ordinary base",
        )
    family = _FAMILIES[kind]
    _check_parts(source, [*family.TEXT_PARTS, *map(_tokenizer, family.TEXT_PARTS)])
    return family


def _tokenizer(text_part: str) -> str:
    return text_part.replace("text_encoder", "tokenizer")


def _check_parts(source: Folder, parts: Sequence[str]) -> None:
    missing = [part for part in parts if not (source.root / part).is_dir()]
    if missing:
        raise _unreadable(source, f"it has no {' and no '.join(missing)}")


def _unreadable(source: Folder, why: str) -> ValueError:
    return ValueError(
        f"{source.name} cannot be read as a base model: {why}. A base is a folder in diffusers' "
        f"layout ({LAYOUT}) with safetensors weights, its hub id, or one safetensors file"
    )


def _parameters(source: Folder) -> int:
    """Of the network; none is read."""
    return _counted(json.dumps(dict(source.json("unet/config.json")), sort_keys=True))


@lru_cache(maxsize=64)
def _counted(config: str) -> int:
    """The parameters of a network of this configuration, which is built to count them."""
    with torch.device("meta"):
        network = UNet2DConditionModel.from_config(json.loads(config))
    assert isinstance(network, UNet2DConditionModel)
    return sum(parameter.numel() for parameter in network.parameters())


def _assemble(
    source: Folder,
    family: type[Backbone],
    dtype: torch.dtype,
    device: torch.device,
    offload: bool,
) -> Backbone:
    pixels = issubclass(family, PixelDiffusion)
    network = source.module(UnshuffledUNet if pixels else UNet2DConditionModel, "unet", dtype)
    vae = None
    if not pixels:
        upcast = bool(source.json("vae/config.json").get("force_upcast", True))
        vae = source.module(AutoencoderKL, "vae", autoencoder_dtype(dtype, upcast))
    texts = [
        source.module(kind, part, text_dtype(dtype)) for part, kind in family.TEXT_PARTS.items()
    ]
    parts: list[nn.Module] = [*texts, network, *([] if vae is None else [vae])]
    for part in parts:
        nn.Module.to(part.requires_grad_(False).eval(), "cpu" if offload else device)
    if device.type == "cpu" and dtype == torch.float32:
        quicken(network)
    if offload:
        offload_parts(parts, device)
        if vae is not None:
            vae.enable_slicing()
    usual = asdict(family.DEFAULTS) | dict(source.json("unicond.json", optional=True))
    return family(
        source.name,
        network,
        vae,
        tuple(texts),
        tuple(source.tokenizer(_tokenizer(part)) for part in family.TEXT_PARTS),
        schedules.from_config(source.json("scheduler/scheduler_config.json")),
        device,
        TypeAdapter(Settings).validate_python(usual),
        source.json("model_index.json", optional=True),
    )
