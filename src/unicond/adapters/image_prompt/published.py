"""Files of image prompt adapters, ours and published ones, read without executing anything.

    adapter_config.json + adapter_model.safetensors    ours
    ip-adapter_*.safetensors                           published: image_proj.*, ip_adapter.*
    ip-adapter_*.bin                                   the same as a pickle of two dictionaries

Of the published kinds the plain one is read, whose pictures are one embedding each. The others make
tokens of the encoder's patches or of a face, and are told by their names.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from unicond.adapters import hub, released
from unicond.adapters.image_prompt.config import ImagePromptConfig

_FILES = (".safetensors", ".bin")
_PARTS = ("image_proj", "ip_adapter")
_OTHERS = {
    "image_proj.latents": "IP-Adapter Plus, which looks at the encoder's patches",
    "image_proj.proj.3.weight": "IP-Adapter Full Face, which looks at the encoder's patches",
    "image_proj.perceiver_resampler.proj_in.weight": "IP-Adapter FaceID Plus, which needs a face "
    "recogniser",
    "image_proj.proj.0.weight": "IP-Adapter FaceID, which needs a face recogniser",
}
_BASES = {768: "stable-diffusion-v1-5/stable-diffusion-v1-5",
          2048: "stabilityai/stable-diffusion-xl-base-1.0"}  # fmt: skip
"""The networks of published files, by the width of their words."""


def read(
    source: str | Path, subfolder: str | None, revision: str | None
) -> tuple[ImagePromptConfig, Mapping[str, Tensor]]:
    """Read an adapter of any layout from a file, a folder or the Hub.

    Args:
        source: a file, a folder, or the id of a repository.
        subfolder: inside of it, or a file.
        revision: of the repository.

    Returns:
        The configuration and {parameter name: weight}.

    Raises:
        FileNotFoundError: there is nothing of that name, or a file is missing.
        ValueError: a file cannot be read, or holds no plain image prompt adapter.
    """
    names = (hub.CONFIG_FILE, hub.MODEL_FILE)
    path = hub.find(source, subfolder, revision, names, _FILES)
    if path.is_file():
        return _of_shapes(_tensors(path), str(path))
    config = path / hub.CONFIG_FILE
    if not config.is_file():
        found = sorted(one.name for one in path.iterdir())[:8]
        raise FileNotFoundError(
            f"{path} is no image prompt adapter: it has no {hub.CONFIG_FILE}, but {found}; of a "
            "published .safetensors or .bin give the file"
        )
    values = released.load_tensors(path / hub.MODEL_FILE)
    return ImagePromptConfig.from_json(config.read_text(encoding="utf-8"), str(config)), values


def inner_widths(values: Mapping[str, Tensor], source: str) -> list[int]:
    """The width of keys and values of each cross-attention layer, in the files' order.

    Args:
        values: {parameter name: weight}.
        source: where they came from, for messages.

    Returns:
        One number a layer.

    Raises:
        ValueError: there is no layer, or their numbers are not 1, 3, 5, ...
    """
    found = dict[int, int]()
    for name, value in values.items():
        match = re.fullmatch(r"ip_adapter\.(\d+)\.to_k_ip\.weight", name)
        if match:
            found[int(match[1])] = len(value) if value.ndim else 0
    if not found or sorted(found) != [2 * n + 1 for n in range(len(found))]:
        raise ValueError(
            f"{source}: the layers ip_adapter.<n>.to_k_ip.weight are {sorted(found)}; they must be "
            "1, 3, 5, ..., one for each cross-attention layer of a U-Net"
        )
    return [found[number] for number in sorted(found)]


def _tensors(path: Path) -> Mapping[str, Tensor]:
    """{parameter name: weight} of a published file."""
    if path.suffix == ".safetensors":
        return released.load_tensors(path)
    content = released.unpickled(path)
    if {*content} != {*_PARTS}:
        raise ValueError(
            f"{path} is no image prompt adapter: it holds {sorted(content)[:4]}, not {_PARTS}"
        )
    found = dict[str, Tensor]()
    for part, inner in content.items():
        for name, value in inner.items() if isinstance(inner, Mapping) else ():
            if not isinstance(value, Tensor):
                raise ValueError(f"{path}: '{part}.{name}' is not a tensor")
            found[f"{part}.{name}"] = value.detach()
    return found


def _of_shapes(
    values: Mapping[str, Tensor], source: str
) -> tuple[ImagePromptConfig, Mapping[str, Tensor]]:
    """The configuration that names and shapes tell."""
    for name, kind in _OTHERS.items():
        if name in values:
            raise ValueError(
                f"{source} is {kind}; the plain kind is read, as ip-adapter_sd15.safetensors is"
            )
    proj, norm = (values.get(f"image_proj.{name}.weight") for name in ("proj", "norm"))
    if proj is None or norm is None or proj.ndim != 2 or norm.ndim != 1:
        raise ValueError(
            f"{source} is no image prompt adapter: image_proj.proj.weight or "
            "image_proj.norm.weight is missing, or no matrix and no vector"
        )
    width = len(norm)
    tokens, rest = divmod(len(proj), max(1, width))
    if rest or not tokens:
        raise ValueError(
            f"{source}: image_proj.proj makes {len(proj)} numbers of a picture, which are no "
            f"tokens of width {width}"
        )
    base = _BASES.get(width, "unknown")
    config = ImagePromptConfig(embedding=proj.shape[1], width=width, tokens=tokens, base=base)
    return config, values
