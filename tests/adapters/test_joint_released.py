"""The layout of the authors' released checkpoints, and everything that can be wrong with it."""

import shutil
from pathlib import Path

import pytest
import torch
from golden_unicon import ROOT
from spoiling import BLOCK, edit, refuses

from unicond.adapters.attach import attached
from unicond.adapters.joint import JointAdapter

LORA = "pytorch_lora_weights.safetensors"


@pytest.fixture
def released(tmp_path) -> Path:
    """A copy of the released depth checkpoint, to be spoilt."""
    return Path(shutil.copytree(ROOT / "weights" / "depth", tmp_path / "depth"))


def edit_pickle(path: Path, change) -> None:
    values = torch.load(path, weights_only=True)
    change(values)
    torch.save(values, path)


def test_released_config_is_told_by_name_and_shapes(adapters):
    depth, id_ = adapters["depth"].config, adapters["id"].config
    assert (depth.y, depth.trigger, depth.post_joint) == ("depth", "depth_map, ", "conv_fuse")
    assert (depth.rank, depth.y_rank, depth.roles) == (4, 4, ("two_way",))
    assert (id_.y, id_.trigger, id_.post_joint, id_.y_rank) == ("id", "", "conv", 0)


@pytest.mark.parametrize(
    ("name", "trigger"),
    [
        ("edge", "edge_map, "),
        ("unicon-pose", "pose_map, "),
        ("appearance", ""),
        ("Depth_v2", "depth_map, "),
    ],
)
def test_released_kind_is_told_by_the_folder(name, trigger, released):
    renamed = released.rename(released.with_name(name))
    assert JointAdapter.from_pretrained(renamed).config.trigger == trigger


def test_released_kind_can_be_given(released):
    renamed = released.rename(released.with_name("checkpoint-300"))
    refuses(renamed, "does not tell what kind.*give kind=..., one of .*'appearance'")
    edge = JointAdapter.from_pretrained(renamed, kind="edge").config
    assert (edge.kind, edge.y, edge.trigger) == ("edge", "edge", "edge_map, ")
    own = JointAdapter.from_pretrained(renamed, kind="normal", y="bumps", trigger="normal map, ")
    assert (own.config.kind, own.config.y, own.config.trigger) == (
        "normal",
        "bumps",
        "normal map, ",
    )


def test_released_y_lora_of_another_rank(released, unet):
    def shrink(values):
        for key in values:
            part = values[key][:2] if ".down." in key else values[key][:, :2]
            values[key] = part.clone(memory_format=torch.contiguous_format)

    edit(released / "y_lora" / LORA, shrink)
    adapter = JointAdapter.from_pretrained(released)
    assert (adapter.config.rank, adapter.config.y_rank) == (4, 2)
    with attached(unet, {"depth": adapter}):
        pass


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_would_run_code_is_refused(released, tmp_path):
    edit_pickle(released / "model.pth", lambda values: values.update(extra=Bomb(tmp_path / "ran")))
    refuses(released, "model.pth was refused, and nothing in it was executed.*safetensors")
    assert not (tmp_path / "ran").exists()
    torch.load(released / "model.pth", weights_only=False)
    assert (tmp_path / "ran").exists()  # so the bomb was a live one


def test_every_truncation_of_a_pickle_is_an_error(released):
    path = released / "model.pth"
    content = path.read_bytes()
    for share in (0, 0.0001, 0.1, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        refuses(released, r"model.pth (is damaged|was refused)")


def test_a_truncated_lora_file_is_an_error(released):
    path = released / "xy_lora" / LORA
    path.write_bytes(path.read_bytes()[:-100])
    refuses(released, rf"xy_lora/{LORA} is damaged .*get it from its source again")


def test_missing_files_of_a_released_checkpoint_are_named(released):
    (released / "yx_lora" / LORA).rename(released / "yx_lora" / "other")
    refuses(released, f"yx_lora/{LORA} is missing", FileNotFoundError)
    (released / "model.pth").unlink()
    refuses(released, "model.pth is missing", FileNotFoundError)


PICKLES = {
    "holds no output projection": lambda values: values.clear(),
    r"1 names not expected \(first: extra\)": lambda values: values.update(extra=torch.zeros(1)),
    "'epoch' is not a tensor": lambda values: values.update(epoch=3),
    "conv1n has shape .5, 5.; for layers of 32 features it must be .32, 32. .conv. or .64, 64.": (
        lambda values: values.update({f"{BLOCK}.conv1n.weight": torch.zeros(5, 5)})
    ),
    r"mid_block.*proj_out.weight has shape \(64, 64\), but its rank and layer need \(128, 128\)": (
        lambda values: values.update(
            {"mid_block.attentions.0.transformer_blocks.0.conv1n.weight": torch.zeros(64, 64)}
        )
    ),
    r"xy_lora.*tensors 8 not expected \(first: unet.mid_block": (
        lambda values: values.pop("mid_block.attentions.0.transformer_blocks.0.conv1n.weight")
    ),
}


@pytest.mark.parametrize("message", PICKLES)
def test_wrong_content_of_a_released_pickle_is_named(message, released):
    edit_pickle(released / "model.pth", PICKLES[message])
    refuses(released, message)


def test_a_released_pickle_that_is_no_mapping_is_named(released):
    torch.save([1, 2], released / "model.pth")
    refuses(released, "model.pth holds a list, not named tensors")


KEY = f"unet.{BLOCK}.attn1n.to_q.lora.down.weight"
LORAS = {
    rf"tensors 1 missing \(first: {KEY}\)$": lambda values: values.pop(KEY),
    r"tensors 1 not expected \(first: alpha\)": lambda values: values.update(alpha=torch.ones(1)),
    r"attn1.joint.yx.to_q.A has shape \(3, 32\), but its rank and layer need \(4, 32\)": (
        lambda values: values.update({KEY: torch.zeros(3, 32)})
    ),
}


@pytest.mark.parametrize("message", LORAS)
def test_wrong_content_of_a_released_lora_is_named(message, released):
    edit(released / "yx_lora" / LORA, LORAS[message])
    refuses(released, message)
