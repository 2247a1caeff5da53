"""Files of grounding adapters, ours and published ones, read without executing anything.

    adapter_config.json + adapter_model.safetensors    ours
    config.json + diffusion_pytorch_model.safetensors  a whole U-Net in diffusers' layout (`unet/`):
                                                       GLIGEN, InteractDiffusion; or its
                                                       .fp16.safetensors, or its .bin
    *.pth                                              InteractDiffusion's own, and for the WebUI
    *.ckpt                                             MIGC's own
    *.safetensors                                      any of these, and MIGC's port to diffusers

The method is told by the names of the tensors. GLIGEN's and InteractDiffusion's position nets share
some of them, in the same shapes: a stock network takes one for the other; here every name must
match. Of a whole network only the grounding weights are read.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unicond.adapters import hub, released
from unicond.adapters.grounding.config import GroundingConfig, Method
from unicond.adapters.grounding.names import ours_of

_STEM = "diffusion_pytorch_model"
_NETWORKS = (f"{_STEM}.safetensors", f"{_STEM}.fp16.safetensors", f"{_STEM}.bin")
"""The first that is there is read; of a repository, the others are not downloaded."""
_FILES = (".safetensors", ".pth", ".ckpt", ".bin")
_ONE_FOUR = "CompVis/stable-diffusion-v1-4"
_ONE_FIVE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
_VERSIONED = re.compile(r"(?:interact-diffusion-|ext_interactdiff_)v1(?:[-.]([012]))?")
"""Files of InteractDiffusion's authors: v1.0 was made for 1.4, those after it for 1.5."""


def read(
    source: str | Path, subfolder: str | None, revision: str | None
) -> tuple[GroundingConfig, Mapping[str, Tensor]]:
    """Read an adapter of any layout from a file, a folder or the Hub.

    Args:
        source: a file, a folder, or the id of a repository.
        subfolder: inside of it, or a file.
        revision: of the repository.

    Returns:
        The configuration and {parameter name: weight}.

    Raises:
        FileNotFoundError: there is nothing of that name, or a file is missing.
        ValueError: a file cannot be read, or holds no grounding adapter.
    """
    found = list[str]()
    for network in _NETWORKS:
        both = ("config.json", network)
        names = (hub.CONFIG_FILE, hub.MODEL_FILE, *both, *(f"unet/{name}" for name in both))
        path = hub.find(source, subfolder, revision, names, _FILES)
        if path.is_file():
            return _of_names(_named(path), str(path), (8,))
        if (path / hub.CONFIG_FILE).is_file():
            return _ours(path)
        for folder in (path, path / "unet"):
            file = folder / network
            if file.is_file():
                return _of_names(_named(file), str(file), _heads(folder))
        found = sorted(one.name for one in path.iterdir())[:8]
    raise FileNotFoundError(
        f"{source} is no grounding adapter: it has neither {hub.CONFIG_FILE} nor one of "
        f"{', '.join(_NETWORKS)}, but {found}; of a published .pth or .ckpt give the file"
    )


def _ours(folder: Path) -> tuple[GroundingConfig, Mapping[str, Tensor]]:
    """The configuration and the weights of this package's layout."""
    config = folder / hub.CONFIG_FILE
    values = released.load_tensors(folder / hub.MODEL_FILE)
    return GroundingConfig.from_json(config.read_text(encoding="utf-8"), str(config)), values


def widths(values: Mapping[str, Tensor], source: str) -> Mapping[str, int]:
    """The transformer blocks that tensors are for, and the features of their tokens.

    Args:
        values: {parameter name: weight}.
        source: where they came from, for messages.

    Returns:
        {block: features}.

    Raises:
        ValueError: there is no such block, or a tensor that gives a width is missing or wrong.
    """
    found = dict[str, int]()
    for name in values:
        match = re.match(r"(.+)\.(attn2\.migc|fuser)\.", name)
        if match and match[1] not in found:
            key = f"{match[1]}.{match[2]}.{'norm' if 'migc' in match[2] else 'norm1'}.weight"
            if key not in values:
                raise ValueError(f"{source}: {key} is missing")
            found[match[1]] = values[key].numel()
    if not found:
        raise ValueError(f"{source} holds no weights of a grounding adapter")
    return found


def _heads(folder: Path) -> tuple[int, ...]:
    """The heads that a network's configuration tells, of all its blocks."""
    path = folder / "config.json"
    if not path.is_file():
        return (8,)
    content: object = json.loads(path.read_text(encoding="utf-8"))
    # diffusers' U-Nets call their numbers of heads so
    heads = content.get("attention_head_dim", 8) if isinstance(content, dict) else None
    if type(heads) is not int:
        raise ValueError(f"{path}: attention_head_dim is {heads!r}; one number for all is read")
    return (heads,)


def _named(path: Path) -> Mapping[str, Tensor]:
    """The grounding weights of a file, under this package's names."""
    content = _picked(path) if path.suffix == ".safetensors" else _unpickled(path)
    found = dict[str, Tensor]()
    for name, value in content.items():
        ours = ours_of(name)
        if ours is None:
            continue
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: {name!r} is not a tensor")
        if ours in found:
            raise ValueError(f"{path} holds {ours} twice, once as {name!r}")
        found[ours] = value.detach()
    if not found:
        raise ValueError(
            f"{path} holds no weights of a grounding adapter: no name in it has position_net, "
            "fuser or migc"
        )
    return found


def _picked(path: Path) -> Mapping[str, Tensor]:
    """The grounding weights alone of what may be a whole network."""
    try:
        with safe_open(path, "pt") as file:
            names: list[str] = list(file.keys())
            return {name: file.get_tensor(name) for name in names if ours_of(name)}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): get it from its source again") from error


class _Setting:
    """Stands for any object of a settings library in a pickle: it holds and does nothing."""

    def __new__(cls, *_: object) -> "_Setting":
        return super().__new__(cls)

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


_PLAIN = {f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str", "tuple")}
_PLAIN |= {"collections.defaultdict", "typing.Any"}


def _settings(path: Path) -> list[released.StandIn]:
    """What takes the place of the settings that a file names."""
    if not is_zipfile(path):
        return []
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(_Setting, name) for name in names if name in _PLAIN or name.startswith("omegaconf.")]


def _unpickled(path: Path) -> Mapping[str, object]:
    """The named values of a pickle.

    InteractDiffusion's files hold their training's settings, too, as objects of omegaconf. Nothing
    of them is used, and none is made: a `_Setting` takes the place of each. All else that is more
    than a tensor is refused.
    """
    content = released.unpickled(path, _settings)
    for name in ("model", "state_dict"):
        inner = content.get(name)
        if isinstance(inner, Mapping):
            return {str(key): value for key, value in inner.items()}
    return content


def _of_names(
    values: Mapping[str, Tensor], source: str, heads: tuple[int, ...]
) -> tuple[GroundingConfig, Mapping[str, Tensor]]:
    """The configuration that names and shapes tell."""
    kinds = {name.split(".")[1] for name in values if name.startswith("position_net.")}
    method: Method = "interact" if kinds & {"linear_action", "interaction_embedding"} else "gligen"
    if not kinds:
        method = "migc"

    def size(key: str, axis: int) -> int:
        full = next((name for name in values if name.endswith(key)), None)
        if full is None or values[full].ndim <= axis:
            raise ValueError(f"{source}: {key} of {method} is missing or has no such shape")
        return values[full].shape[axis]

    net = "linears_position" if method == "migc" else "position_net.linears"
    out = size(f"{net}.4.weight", 0)
    slots = {
        "migc": "sac.cbam2.ChannelGate.mlp.1.weight",
        "interact": "interaction_embedding.emb.weight",
    }
    config = GroundingConfig(
        method=method,
        text=out if method == "migc" else size("position_net.null_positive_feature", 0),
        tokens=out,
        hidden=size(f"{net}.0.weight", 0),
        slots=30 if method == "gligen" else size(slots[method], 0) - 2 * (method == "migc"),
        heads=heads,
        base=_base(method, source),
    )
    return config, values


def _base(method: Method, source: str) -> str:
    """The base of a published file; of InteractDiffusion's, the file's name tells the version."""
    if method != "interact":
        return _ONE_FOUR
    stem = Path(source).stem
    if stem.removesuffix(".fp16") == _STEM:
        return _ONE_FIVE  # only v1.2 is published in diffusers' layout
    found = _VERSIONED.fullmatch(stem)
    if found is None:
        return "unknown"
    return _ONE_FIVE if found[1] in ("1", "2") else _ONE_FOUR
