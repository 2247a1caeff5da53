"""Adapters as files of this package's layout, as repositories, and what can be wrong with them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden_unicon import ROOT, unet_case
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file
from spoiling import BLOCK, edit, refuses

from unicond.adapters import hub, stored
from unicond.adapters.attach import attached
from unicond.adapters.config import JointConfig
from unicond.adapters.hub import Card
from unicond.adapters.joint import JointAdapter

DEPTH = ROOT / "weights" / "depth"


@pytest.fixture
def saved(tmp_path) -> Path:
    """The released depth adapter in this package's layout."""
    JointAdapter.from_pretrained(DEPTH).save_pretrained(tmp_path / "ours")
    return tmp_path / "ours"


# ---- round trips


def test_released_and_saved_adapters_give_the_same_output(saved, unet):
    case = unet_case("b2_depth_pair_cfg")
    outputs = []
    for source in (DEPTH, saved):
        adapter = JointAdapter.from_pretrained(source)
        with torch.no_grad(), attached(unet, {"depth": adapter}), case.rows.active():
            outputs.append(unet(*case.inputs).sample)
    assert torch.equal(*outputs)


def test_round_trip_keeps_weights_and_config(tmp_path, adapters):
    for name, adapter in adapters.items():
        config = replace(adapter.config, roles=("two_way", "image_held"), base="mini#12ab")
        adapter.config = config
        adapter.save_pretrained(tmp_path / "adapters", dtype=torch.float32)
        again = JointAdapter.from_pretrained(tmp_path, subfolder="adapters")
        assert again.config == config, name
        assert all(p.requires_grad for p in again.parameters())
        assert list(again.state_dict()) == list(adapter.state_dict())
        assert all(torch.equal(v, again.state_dict()[k]) for k, v in adapter.state_dict().items())


def test_no_start_values_are_drawn_for_weights_that_are_loaded(monkeypatch):
    def drawn(*_, **__):
        raise AssertionError("start values were drawn")

    monkeypatch.setattr(torch, "randn", drawn)
    JointAdapter.from_pretrained(DEPTH)


def test_half_precision_file_is_loaded_as_float32(tmp_path, adapters):
    adapters["id"].save_pretrained(tmp_path, dtype=torch.float16)
    assert {v.dtype for v in load_file(tmp_path / hub.MODEL_FILE).values()} == {torch.float16}
    again = JointAdapter.from_pretrained(tmp_path)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    half = JointAdapter.from_pretrained(tmp_path, dtype=torch.float16)
    assert {p.dtype for p in half.parameters()} == {torch.float16}
    for name, value in adapters["id"].state_dict().items():
        assert torch.equal(again.state_dict()[name], value.half().float())


def test_a_folder_holds_three_files_and_is_overwritten_whole(saved, adapters):
    adapters["id"].save_pretrained(saved)
    assert sorted(p.name for p in saved.iterdir()) == [
        hub.CARD_FILE,
        hub.CONFIG_FILE,
        hub.MODEL_FILE,
    ]
    assert JointAdapter.from_pretrained(saved).config.y == "id"


def test_failed_saving_leaves_the_old_files(saved, adapters):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    adapters["id"].get_submodule(f"{BLOCK}.attn1.joint.proj_out").weight.data[0, 0] = 1e6
    with pytest.raises(
        ValueError, match=r"proj_out.weight holds values that are not finite in torch"
    ):
        adapters["id"].save_pretrained(saved, dtype=torch.float16)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_interrupted_saving_leaves_the_old_files(saved, adapters, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def interrupted(values, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(stored, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        adapters["id"].save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_full_disk_is_told_and_leaves_the_old_files(saved, adapters, full_disk):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    room = full_disk(1000)
    with room, pytest.raises(OSError, match=rf"cannot write .*{hub.MODEL_FILE}: .*File too large"):
        adapters["id"].save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_parameter_names_are_readable_and_stable(saved):
    names = sorted(load_file(saved / hub.MODEL_FILE))
    assert len(names) == 4 * (4 * 2 * 2 + 1) + 8 * 4 * 2
    assert names[:3] == [
        f"{BLOCK}.attn1.joint.proj_out.weight",
        f"{BLOCK}.attn1.joint.xy.to_k.A",
        f"{BLOCK}.attn1.joint.xy.to_k.B",
    ]
    assert f"{BLOCK}.attn2.y.to_out.B" in names


# ---- the card and the Hub


def test_card_tells_data_command_scores_and_licence(tmp_path, adapters):
    card = Card("500 scenes", "unicond train joint --seed 7", {"AbsRel": 0.105}, "apache-2.0")
    adapters["depth"].save_pretrained(tmp_path, card)
    text = (tmp_path / "README.md").read_text()
    for part in (
        "license: apache-2.0",
        "base_model: runwayml/stable-diffusion-v1-5",
        "500 scenes",
        "unicond train joint --seed 7",
        "| AbsRel | 0.105 |",
        "`depth_map, `",
    ):
        assert part in text
    adapters["depth"].save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == text  # a card is kept where none is given


def test_push_to_hub_uploads_the_folder(adapters, monkeypatch):
    uploaded = {}

    def create_repo(self, repo_id, private, exist_ok):
        uploaded["private"] = private
        return type("RepoUrl", (), {"repo_id": repo_id})

    def upload_folder(self, repo_id, folder_path):
        uploaded["files"] = sorted(path.name for path in Path(folder_path).iterdir())
        return f"https://huggingface.co/{repo_id}/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", create_repo)
    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    url = adapters["id"].push_to_hub("me/id", private=True)
    assert url == "https://huggingface.co/me/id/commit/1"
    files = [hub.CARD_FILE, hub.CONFIG_FILE, hub.MODEL_FILE]
    assert uploaded == {"private": True, "files": files}


def test_from_pretrained_downloads_what_is_no_folder(saved, monkeypatch):
    asked = {}

    def snapshot_download(repo_id, revision, allow_patterns):
        asked.update(repo_id=repo_id, revision=revision, patterns=allow_patterns)
        return str(saved.parent)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    adapter = JointAdapter.from_pretrained("someone/unicon", "ours", revision="v1")
    assert adapter.config.y == "depth"
    assert asked["repo_id"] == "someone/unicon"
    assert asked["revision"] == "v1"
    assert asked["patterns"][:2] == [f"ours/{hub.CONFIG_FILE}", f"ours/{hub.MODEL_FILE}"]


def test_what_is_neither_folder_nor_repository_is_named(monkeypatch, tmp_path):
    def snapshot_download(repo_id, **options):
        raise RepositoryNotFoundError("404: no such repository", response=FakeResponse())

    class FakeResponse:
        headers, request, status_code = {}, None, 404

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    message = "'some/thing' is not a folder here, and could not be had from .* 404: no such"
    refuses("some/thing", message, FileNotFoundError)
    monkeypatch.undo()
    refuses(tmp_path / "nowhere", "nowhere' is not a folder here.*HFValidation", FileNotFoundError)
    refuses(tmp_path, r"is no joint adapter.*but \[\]", FileNotFoundError)
    (tmp_path / "notes.txt").touch()
    refuses(tmp_path, r"but \['notes.txt'\]", FileNotFoundError)
    refuses(tmp_path, "has no folder 'depth'", FileNotFoundError, subfolder="depth")


# ---- what can be wrong


OURS = f"{BLOCK}.attn1.joint.xy.to_q.A"
TENSORS = {
    "missing$": lambda values: values.pop(OURS),
    r"tensors 1 missing \(first: .*yx.to_q.A\)": lambda values: values.pop(
        OURS.replace("xy", "yx")
    ),
    r"tensors 1 not expected \(first: more\)": lambda values: values.update(more=torch.zeros(1)),
    r"to_q.A has shape \(4,\), not a matrix's": (
        lambda values: values.update({OURS: torch.zeros(4)})
    ),
    r"to_q.A has shape \(8, 32\), but its rank and layer need \(4, 32\)": (
        lambda values: values.update({OURS: torch.zeros(8, 32)})
    ),
    "holds no weights of a joint adapter": lambda values: values.clear(),
}


@pytest.mark.parametrize("message", TENSORS)
def test_wrong_tensors_of_a_saved_adapter_are_named(message, saved):
    edit(saved / hub.MODEL_FILE, TENSORS[message])
    refuses(saved, message)


def test_damaged_files_of_a_saved_adapter_are_named(saved):
    path = saved / hub.MODEL_FILE
    path.write_bytes(path.read_bytes()[:1000])
    refuses(saved, "adapter_model.safetensors is damaged")
    path.unlink()
    refuses(saved, "adapter_model.safetensors is missing", FileNotFoundError)


CONFIGS = {
    r"adapter_config.json is not JSON": "{",
    r"describes a peft adapter, not a joint adapter": '{"peft_type": "LORA"}',
    r"describes something else, not a joint adapter": "[1]",
    r"has format 9; this is 1": '{"type": "unicond.joint", "format": 9}',
}


@pytest.mark.parametrize("message", CONFIGS)
def test_foreign_configs_are_named(message, saved):
    (saved / hub.CONFIG_FILE).write_text(CONFIGS[message])
    refuses(saved, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "rank is 0; it must be an integer of at least 1"),
        ({"rank": True}, "rank is True"),
        ({"y_rank": 1.5}, "y_rank is 1.5"),
        ({"y": ""}, "y is ''; it must be a text"),
        ({"x": "depth"}, "x and y are both 'depth'"),
        ({"trigger": None}, "trigger is None"),
        ({"post_joint": "scale"}, "post_joint is 'scale'; allowed are .*'conv_fuse'"),
        ({"text": 0}, "text is 0; it must be an integer of at least 1"),
        ({"prediction_type": "noise"}, "prediction_type is 'noise'; allowed are .*'eps'"),
        ({"roles": []}, "roles are .*give a tuple of some of"),
        ({"roles": ["two_way", "two_way"]}, "roles are .*each once"),
        ({"roles": ["one_way"]}, r"roles are \('one_way',\); allowed are"),
        ({"roles": "two_way"}, "roles are 'two_way'; they must be a list"),
        ({"colour": 1}, r"unknown fields \['colour'\]"),
    ],
)
def test_wrong_config_fields_are_named(change, message, saved):
    path = saved / hub.CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refuses(saved, f"adapter_config.json: {message}")


def test_a_config_without_a_field_is_refused():
    text = json.dumps({"type": "unicond.joint", "format": 1, "rank": 4})
    with pytest.raises(
        ValueError, match=r"file: unknown fields \[\], missing fields \['attention', 'base'"
    ):
        JointConfig.from_json(text, "file")
