"""The checkpoint layout of UniCon's authors, read without executing anything.

    <folder>/xy_lora/pytorch_lora_weights.safetensors   LoRA of what is computed from the image
    <folder>/yx_lora/pytorch_lora_weights.safetensors   LoRA of what is computed from the condition
    <folder>/y_lora/pytorch_lora_weights.safetensors    y-LoRA, absent for loosely related pairs
    <folder>/model.pth                                  ProjOut ("conv1n"), and each LoRA once more

`model.pth` is a pickle: `torch.load(weights_only=True)` refuses one that names any code. No file
says which kind of condition or projection it holds: the folder's name tells the first, the shape of
ProjOut the second.

Parity: lixirui142/UniCon@4936ffc ignores missing and unexpected names, and an empty `model.pth`;
here they are errors. The LoRA copies in `model.pth` are not read, as there.
"""

import pickle  # noqa: TID251  (only for its exception: weights_only=True raises it)
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from unicond.adapters.config import JointConfig, PostJoint
from unicond.adapters.network import PROJECTIONS
from unicond.adapters.tensors import compare_names

TRIGGERS: Mapping[str, str] = {
    "depth": "depth_map, ",
    "edge": "edge_map, ",
    "pose": "pose_map, ",
    "id": "",
    "appearance": "",
}
BASE = "runwayml/stable-diffusion-v1-5"
StandIn = Callable[..., object] | tuple[Callable[..., object], str]
"""A class that a pickle may make, or one in the place of another that it names."""
_LORA_FILE = "pytorch_lora_weights.safetensors"
_PROJ_OUT = ".conv1n.weight"
_STEPS = (("lora.down", "A"), ("lora.up", "B"))
_TO_OUT = {"to_out": "to_out.0"}


def is_released(folder: Path) -> bool:
    """Whether a folder has the released layout."""
    return (folder / "model.pth").is_file() or (folder / "xy_lora").is_dir()


def read(folder: Path, kind: str | None = None) -> tuple[JointConfig, Mapping[str, Tensor]]:
    """Read a released checkpoint.

    Args:
        folder: of the layout above.
        kind: what the condition shows; None takes it from the folder's name.

    Returns:
        Its configuration, and its weights under this package's names.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the kind cannot be told, or a file is damaged, incomplete or would run code.
    """
    kind = _kind(folder) if kind is None else kind
    proj_out = _proj_out(folder / "model.pth")
    values = {f"{block}.attn1.joint.proj_out.weight": weight for block, weight in proj_out.items()}
    for part in ("xy", "yx"):
        values |= _lora(folder, part, proj_out, {"attn1n": f"attn1.joint.{part}"})
    if (folder / "y_lora").is_dir():
        values |= _lora(folder, "y", proj_out, {"attn1": "attn1.y", "attn2": "attn2.y"})
    block, weight = next(iter(proj_out.items()))
    config = JointConfig(
        y=kind,
        kind=kind,
        rank=len(values[f"{block}.attn1.joint.xy.to_q.A"]),
        y_rank=len(values.get(f"{block}.attn1.y.to_q.A", ())),
        post_joint=_post_joint(weight, len(values[f"{block}.attn1.joint.xy.to_out.B"]), folder),
        trigger=TRIGGERS.get(kind, ""),
        base=BASE,
    )
    return config, values


def _kind(folder: Path) -> str:
    name = folder.resolve().name.lower()
    words = name.replace("-", "_").replace(".", "_").split("_")
    kinds = [kind for kind in TRIGGERS if kind in words]
    if len(kinds) != 1:
        raise ValueError(
            f"the name of the folder {folder} does not tell what kind of condition this released "
            f"checkpoint is for: give kind=..., one of {sorted(TRIGGERS)} or a name of your own"
        )
    return kinds[0]


def _post_joint(weight: Tensor, width: int, folder: Path) -> PostJoint:
    if tuple(weight.shape) == (width, width):
        return "conv"
    if tuple(weight.shape) == (2 * width, 2 * width):
        return "conv_fuse"
    raise ValueError(
        f"{folder / 'model.pth'}: conv1n has shape {tuple(weight.shape)}; for layers of {width} "
        f"features it must be {(width, width)} (conv) or {(2 * width, 2 * width)} (conv_fuse)"
    )


def _proj_out(path: Path) -> Mapping[str, Tensor]:
    """{transformer block: ProjOut} of `model.pth`."""
    model = _load_pickle(path)
    others = sorted(key for key in model if not key.endswith(_PROJ_OUT) and ".lora_" not in key)
    if others:
        raise ValueError(f"{path}: {len(others)} names not expected (first: {others[0]})")
    found = {key: value for key, value in model.items() if key.endswith(_PROJ_OUT)}
    if not found:
        raise ValueError(f"{path} holds no output projection (conv1n): it is empty or incomplete")
    return {key.removesuffix(_PROJ_OUT): value.detach() for key, value in found.items()}


def _lora(
    folder: Path, part: str, blocks: Iterable[str], layers: Mapping[str, str]
) -> Mapping[str, Tensor]:
    """One LoRA file under this package's names.

    Args:
        folder: of the checkpoint.
        part: "xy", "yx" or "y".
        blocks: the transformer blocks that it must hold.
        layers: {attention layer in the file: ours}.

    Returns:
        {parameter name: weight}.
    """
    path = folder / f"{part}_lora" / _LORA_FILE
    names = {
        f"unet.{block}.{theirs}.{_TO_OUT.get(name, name)}.{step}.weight": (
            f"{block}.{ours}.{name}.{factor}"
        )
        for block in blocks
        for theirs, ours in layers.items()
        for name in PROJECTIONS
        for step, factor in _STEPS
    }
    values = load_tensors(path)
    compare_names(names, values, str(path))
    return {ours: values[key] for key, ours in names.items()}


def load_tensors(path: Path) -> Mapping[str, Tensor]:
    """Read a safetensors file, with messages that name it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): get it from its source again") from error


def _load_pickle(path: Path) -> Mapping[str, Tensor]:
    """Read tensors from a pickle in which nothing but tensors is allowed."""
    content = unpickled(path)
    wrong = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if wrong:
        raise ValueError(f"{path}: {wrong[0]!r} is not a tensor")
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def unpickled(
    path: Path, allowed: Callable[[Path], Sequence[StandIn]] | None = None
) -> Mapping[str, object]:
    """Read plain data and tensors from a pickle in which nothing that could run is allowed.

    Args:
        path: of the file.
        allowed: looks into the file for what may be made beside tensors; None is nothing.

    Returns:
        {name: what the file holds under it}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, could run code, or holds no names.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        with torch.serialization.safe_globals([*(allowed(path) if allowed else ())]):
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        script = "torchscript" in str(error).lower()  # has no exception of its own
        if script or isinstance(error, pickle.UnpicklingError):
            raise ValueError(
                f"{path} was refused, and nothing in it was executed: it is no plain file of "
                "tensors, so that loading it could run code. Get it from its source again, or have "
                "someone who trusts it save its tensors as safetensors. "
                f"(torch: {_first_line(error)})"
            ) from error
        raise ValueError(
            f"{path} is damaged ({_first_line(error)}): get it from its source again"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not named tensors")
    return {str(key): value for key, value in content.items()}


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
