"""A base model in one file, as it is often passed on: all weights, under the names of old.

The file says nothing of its configuration, so that a folder in diffusers' layout must: the one that
is given, else one beside the file that has its name (`model/` beside `model.safetensors`), else the
Hub's for what diffusers takes the file to be. Of a `.ckpt` file only tensors are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from zipfile import is_zipfile

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unicond.backbones.files import Folder, Part, first_line, locate

SUFFIXES = (".safetensors", ".ckpt")


@dataclass(frozen=True)
class Checkpoint(Folder):
    """A base in one file.

    Args:
        name: what the caller named it by.
        root: folder of its configurations and tokenizers.
        tensors: {name of old: weight}.
    """

    tensors: Mapping[str, Tensor]

    def module(self, kind: type[Part], part: str, dtype: torch.dtype) -> Part:
        """One part with its weights, by diffusers' own conversion.

        Args:
            kind: its class.
            part: folder of its configuration.
            dtype: of its parameters.

        Returns:
            The part, on the CPU.

        Raises:
            ValueError: the file does not hold such a part.
        """
        where, tensors = str(self.root), dict(self.tensors)
        try:
            if issubclass(kind, UNet2DConditionModel | AutoencoderKL):
                module = kind.from_single_file(
                    tensors,  # pyright: ignore[reportArgumentType] (diffusers says that it may be)
                    config=where,
                    subfolder=part,
                    torch_dtype=dtype,
                    local_files_only=True,
                )
            else:
                module = single_file_utils.create_diffusers_clip_model_from_ldm(
                    kind,
                    tensors,
                    subfolder=part,
                    config=where,
                    torch_dtype=dtype,
                    local_files_only=True,
                )
        except (KeyError, RuntimeError, ValueError) as error:
            raise self._misfit(part, first_line(error)) from error
        missing = [name for name, value in module.named_parameters() if value.is_meta]
        if missing:
            raise self._misfit(part, f"{missing[0]} is not in the file")
        return cast(Part, module)

    def _misfit(self, part: str, why: str) -> ValueError:
        return ValueError(
            f"{self.name} cannot be read as a base model: its weights do not fit {part} as "
            f"configured in {self.root} ({why}). Give the configurations of the model that the "
            "file was made from: load(file, config=folder or hub id)"
        )


def open_file(file: Path, config: str | Path | None) -> Checkpoint:
    """Read a file's tensors, and find its configurations.

    Args:
        file: ends in one of `SUFFIXES`.
        config: folder or hub id; None looks beside the file, then asks the Hub.

    Returns:
        The base.

    Raises:
        ValueError: the file is damaged, or holds more than tensors; no configuration can be found.
    """
    tensors = _tensors(file)
    beside = file.with_suffix("")
    if config is not None:
        return Checkpoint(f"{file}@{config}", locate(config, weights=False), tensors)
    if beside.is_dir():
        return Checkpoint(str(file), beside, tensors)
    likely = single_file_utils.fetch_diffusers_config(tensors)["pretrained_model_name_or_path"]
    try:
        return Checkpoint(str(file), locate(likely, weights=False), tensors)
    except ValueError as error:
        raise ValueError(
            f"{file} needs configurations and tokenizers, and {likely} cannot be reached for "
            "them: load(file, config=folder in diffusers' layout), or put such a folder at "
            f"{beside}"
        ) from error


def _tensors(file: Path) -> Mapping[str, Tensor]:
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(
                f"{file} is damaged ({error}): get it from its source again"
            ) from error
    try:
        mapped = is_zipfile(file)  # torch's older format is not one
        content: object = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged file can fail in any way
        raise ValueError(
            f"{file} was refused, and nothing in it was executed: it is damaged, or holds more "
            "than tensors, so that loading it could run code. Get this model's .safetensors file "
            f"instead ({first_line(error)})"
        ) from error
    while isinstance(content, Mapping) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise ValueError(f"{file} holds a {type(content).__name__}, not named tensors")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
