"""Loading a model: a base, its adapters, and ordinary LoRAs."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers.loaders import StableDiffusionLoraLoaderMixin as Loras
from diffusers.utils.peft_utils import set_weights_and_activate_adapters
from safetensors import SafetensorError
from torch import Tensor

from unicond.adapter_loading import (
    Adapter,
    check_base,
    check_name,
    check_together,
    find,
    name_of,
)
from unicond.adapters.attach import check_fit
from unicond.adapters.grounding import attach as grounding
from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.image_prompt import attach as image_prompt
from unicond.adapters.image_prompt.prompter import Prompter
from unicond.adapters.joint import JointAdapter
from unicond.adapters.readout import ReadoutHead
from unicond.backbones import loading as bases
from unicond.backbones.base import Backbone
from unicond.backbones.files import EMBEDDED
from unicond.model import Loaded, Model


def load(
    base: str | Path = "mini",
    adapters: Sequence[str | Path] | Mapping[str, str | Path] = (),
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    loras: Mapping[str, float] | None = None,
    config: str | Path | None = None,
    offload: bool = False,
    slicing: bool = False,
) -> Model:
    """Load a base model and its adapters.

    Args:
        base: `"mini"`, a folder in diffusers' layout, a hub id, or a single safetensors file.
        adapters: names of embedded adapters, folders, hub ids or `repo:subfolder`; or {branch: one
            of these}, which renames the condition's branch. Published files of other kinds go by
            `"gligen"`, `"interact"`, `"migc"` or `"image-prompt"`.
        device: where to run; CUDA where there is one, else the CPU.
        dtype: of the denoising network; default float32 for small ones, else float16 on CUDA, and
            on the CPU the faster of bfloat16 and float32.
        loras: {file or folder or hub id: scale} of ordinary LoRAs of the network.
        config: of a single file: a folder or hub id with its configurations and tokenizers; default
            the folder beside it of the same name, else the Hub's.
        offload: keep the base's parts on the CPU while they are not called: less memory on the
            accelerator, more time.
        slicing: compute the network's attention a slice at a time: less memory where its kernel
            holds all scores, more time.

    Returns:
        The model, in evaluation mode, its parameters frozen.

    Raises:
        ValueError: something cannot be found or does not fit; the message says what is there.

    Warns:
        UserWarning: the adapters were made for other weights than the base's, or perhaps than one
            another, or for a base of another family; or a base has a grounding adapter's weights,
            which are left out.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    _check_loras(loras or {})
    found = _found(adapters)
    every = {name: adapter for name, (_, adapter) in found.items()}
    check_together(every)
    backbone = bases.load(base, dtype, device, config, offload, slicing)
    _add_loras(backbone, loras or {})
    joint: dict[str, Loaded[JointAdapter]] = {}
    grounders: dict[str, Loaded[GroundingAdapter]] = {}
    prompters: dict[str, Loaded[Prompter]] = {}
    for name, (where, told) in found.items():
        adapter = told.to(device, backbone.network.dtype)
        if isinstance(adapter, JointAdapter):
            check_fit(backbone.network, where, adapter)
            joint[name] = Loaded(where, adapter.requires_grad_(False).eval())
        elif isinstance(adapter, GroundingAdapter):
            grounding.check_fit(backbone.network, adapter)
            grounders[name] = Loaded(where, adapter)
        else:
            image_prompt.check_fit(backbone.network, adapter.adapter)
            prompters[name] = Loaded(where, adapter)
    check_base(base, backbone, every)
    return Model(backbone, joint, dict(loras or {}), grounders, prompters)


def _found(
    adapters: Sequence[str | Path] | Mapping[str, str | Path],
) -> dict[str, tuple[str, Adapter]]:
    """{name: (where it lies, an adapter)}, on the CPU; no base is needed to tell what is wrong."""
    given = adapters.items() if isinstance(adapters, Mapping) else [(one, None) for one in adapters]
    found: dict[str, tuple[str, Adapter]] = {}
    for key, path in given:
        where, asked = str(key if path is None else path), None if path is None else str(key)
        adapter = find(where, asked)
        name = asked or name_of(adapter)
        if name in {*found, "image"}:
            raise ValueError(
                f"two branches would be called {name!r}; give adapters as {{branch: path}}"
            )
        if isinstance(adapter, JointAdapter) and not can_be_branch(name):
            raise ValueError(
                f"{name!r} cannot be a branch of a call: take letters, digits and _, and no "
                f"name of a setting, as in {{'depth': {where!r}}}"
            )
        check_name(name, where, adapter)
        found[name] = where, adapter
    return found


def can_be_branch(name: str) -> bool:
    """Whether `model(..., name=picture)` can be said: an identifier, and no setting of a call."""
    return name.isidentifier() and name not in inspect.signature(Model.__call__).parameters


def load_readout(name: str | Path) -> ReadoutHead:
    """Load a readout head, which `mechanisms.guidance.readout` guides by.

    Args:
        name: of an embedded head, as `"depth"`, or a folder.

    Returns:
        The head, on the CPU in float32, in evaluation mode, its parameters frozen.

    Raises:
        ValueError: there is no such head; the message says which are there.
    """
    for folder in (EMBEDDED / "readout" / name, Path(name)):
        if folder.is_dir():
            return ReadoutHead.from_pretrained(folder)
    names = sorted(path.name for path in (EMBEDDED / "readout").glob("*"))
    raise ValueError(
        f"no readout head {str(name)!r}: embedded are {', '.join(names) or 'none'}; else give a "
        "folder"
    )


def _check_loras(loras: Mapping[str, float]) -> None:
    """Refuse files that could run code."""
    for path in loras:
        if Path(path).is_file() and not path.endswith(".safetensors"):
            raise ValueError(f"{path} is not a safetensors file; a LoRA is not unpickled")


def _add_loras(backbone: Backbone, loras: Mapping[str, float]) -> None:
    """Put ordinary LoRAs on the network and the text encoders; they act in joint attention too."""
    names = [f"lora_{number}" for number in range(len(loras))]
    for name, path in zip(names, loras, strict=True):
        try:
            state, alphas = Loras.lora_state_dict(
                path, use_safetensors=True, unet_config=backbone.network.config
            )[:2]
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} cannot be read as a LoRA: {error}") from error
        try:
            Loras.load_lora_into_unet(state, alphas, backbone.network, adapter_name=name)
            _add_to_texts(backbone, state, alphas, name)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{path} does not fit this network ({backbone.family}); it may have been made for "
                f"another family: {str(error).strip().splitlines()[0]}"
            ) from error
        if name not in getattr(backbone.network, "peft_config", {}):
            first = next(iter(state), "nothing")
            raise ValueError(f"{path} holds no LoRA of this network; its first key is {first!r}")
    for module in (backbone.network, *backbone.text_encoders):
        here = [name for name in names if name in getattr(module, "peft_config", {})]
        if here:
            weights = dict(zip(names, loras.values(), strict=True))
            set_weights_and_activate_adapters(module, here, [weights[name] for name in here])
            module.requires_grad_(False)  # peft hands out trainable ones


def _add_to_texts(
    backbone: Backbone, state: Mapping[str, Tensor], alphas: object, name: str
) -> None:
    """A LoRA's parts for the text encoders, where it has any."""
    for part, encoder in zip(backbone.TEXT_PARTS, backbone.text_encoders, strict=True):
        if any(key.startswith(f"{part}.") for key in state):
            Loras.load_lora_into_text_encoder(
                state, alphas, encoder, prefix=part, adapter_name=name
            )
