"""The fixture set of the authors' released code, `tests/golden/unicon`, as rows and pairs."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from unicond.sampling.rows import Pairs, Rows, Variant

ROOT = Path(__file__).parents[1] / "golden" / "unicon"
PairRow = tuple[int, int, float, float, bool, bool]


def pairs_of(rows: list[PairRow]) -> Pairs:
    """`Pairs` from (x, y, w_x, w_y, hears_x, hears_y)."""
    return Pairs(*(torch.tensor(column) for column in zip(*rows, strict=True)))


def rows_of(count: int, joint_scale: float = 1.0, **pairs: list[PairRow]) -> Rows:
    """`count` rows that are branches of one sample."""
    branches = tuple(f"input{i}" for i in range(count))
    table = {name: pairs_of(rows) for name, rows in pairs.items()}
    return Rows((Variant(),), branches, 1, table, joint_scale)


@dataclass(frozen=True)
class UNetCase:
    rows: Rows
    joint_in: Callable[[str], bool] | None
    tensors: dict[str, Tensor]

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(self.tensors[k] for k in ("sample", "timesteps", "encoder_hidden_states"))


def unet_case_names() -> list[str]:
    return list(json.loads((ROOT / "unet_cases/cases.json").read_text()))


def unet_case(name: str) -> UNetCase:
    """Rows are [negative: input0 x b, input1 x b, ...; positive: the same], each with its pairs."""
    case = json.loads((ROOT / "unet_cases/cases.json").read_text())[name]
    starts = (0, case["input_len_without_cfg"]) if case["cfg"] else (0,)
    pairs: dict[str, list[PairRow]] = {}
    for start in starts:
        for x, y, w_x, w_y, model in case["pairs_expanded"]:
            pairs.setdefault(model, []).append((x + start, y + start, w_x, w_y, True, True))
    rows = Rows(
        variants=(Variant("negative"), Variant())[-len(starts) :],
        branches=tuple(f"input{i}" for i in range(case["inputs"])),
        batch=case["batch_per_input"],
        pairs={name: pairs_of(rows) for name, rows in pairs.items()},
        joint_scale=case["joint_scale"],
    )
    where = case["disabled_only_in_modules_containing"]
    joint_in = None
    if not case["joint_attention_enabled"]:
        joint_in = lambda layer: where is not None and where not in layer  # noqa: E731
    return UNetCase(rows, joint_in, load_file(ROOT / f"unet_cases/{name}.safetensors"))


def released_name(ours: str) -> str:
    """The name of a parameter in the released `model.pth`."""
    if ours.endswith(".attn1.joint.proj_out.weight"):
        return ours.replace(".attn1.joint.proj_out.weight", ".conv1n.weight")
    layer, projection, factor = ours.rsplit(".", 2)
    projection = {"to_out": "to_out.0"}.get(projection, projection)
    layer, part = layer.rsplit(".", 1)
    layer = layer.replace(".attn1.joint", ".attn1n")
    return f"{layer}.{projection}.lora_{factor}.{part}_lora.weight"
