"""Grounding adapters as files: ours, the published ones, and everything that can be wrong."""

import json
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_grounding import (
    BLOCK,
    ROOT,
    gligen,
    instances,
    interact,
    interactions,
    migc,
    network,
    part,
    some_boxes,
    tensors,
)
from safetensors.torch import load_file, save_file

from unicond.adapters import hub
from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.grounding.attach import Attachment
from unicond.adapters.grounding.config import GroundingConfig
from unicond.adapters.grounding.names import ours_of
from unicond.adapters.joint import JointAdapter
from unicond.adapters.network import attention_layers

MAKERS = {
    "gligen": lambda: gligen(network("interact")),
    "interact": interact,
    "migc": migc,
}


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in mine.items())


def refuses(source, message, error=ValueError, **options):
    with pytest.raises(error, match=message):
        GroundingAdapter.from_pretrained(source, **options)


# ---- our layout


@pytest.mark.parametrize("method", MAKERS)
def test_round_trip(method, tmp_path):
    adapter = MAKERS[method]()
    card = hub.Card("the world", "unicond train", {"success": 0.5}, "apache-2.0")
    adapter.save_pretrained(tmp_path, card)
    found = GroundingAdapter.from_pretrained(tmp_path)
    same(found, adapter)
    assert found.config == adapter.config
    assert not any(value.requires_grad for value in found.parameters())
    text = (tmp_path / "README.md").read_text()
    for word in (method, "the world", "| success | 0.5 |", "license: apache-2.0", "grounding"):
        assert word in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        hub.CARD_FILE,
        hub.CONFIG_FILE,
        hub.MODEL_FILE,
    ]


def test_half_precision_files(tmp_path):
    interact().save_pretrained(tmp_path, dtype=torch.float16)
    assert load_file(tmp_path / hub.MODEL_FILE)["position_net.linears.0.bias"].dtype == torch.half
    same(GroundingAdapter.from_pretrained(tmp_path), interact())  # the golden ones are exact in it
    half = GroundingAdapter.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {value.dtype for value in half.parameters()} == {torch.bfloat16}


def test_fresh_adapters():
    unet = network("interact")
    make = GroundingAdapter.for_network
    first = make(unet, "interact", generator=torch.Generator().manual_seed(1))
    again = make(unet, "interact", generator=torch.Generator().manual_seed(1))
    same(first, again)
    before = torch.get_rng_state()
    other = make(unet, "interact", text=48, slots=7)
    assert torch.equal(torch.get_rng_state(), before)
    assert (other.config.text, other.config.tokens, other.config.slots) == (48, 32, 7)
    assert other.config.heads == (8,) * len(first.widths)
    sample, words = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 32)
    with torch.no_grad():
        plain = unet(sample, 1, words).sample
        with Attachment(unet, first, interactions()).active():
            assert torch.equal(unet(sample, 1, words).sample, plain)  # its gates are closed
    small = make(network("migc"), "migc", text=24, hidden=16, slots=5, blocks=("mid_block",))
    assert list(small.widths) == ["mid_block.attentions.0.transformer_blocks.0"]
    assert small.config == GroundingConfig(
        method="migc", text=24, tokens=24, hidden=16, slots=5, heads=(8,)
    )
    with pytest.raises(ValueError, match="UNet2DConditionModel has no transformer blocks in up_9"):
        make(unet, "migc", blocks=("up_9",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "glide"}, "method is 'glide'; allowed are"),
        ({"slots": 0}, "slots is 0; give integers of at least 1"),
        ({"text": True}, "text is True; give integers"),
        ({"heads": []}, r"heads is \(\); give integers"),
        ({"heads": 8}, "heads are 8; they must be a list"),
        ({"heads": [8, 8]}, r"heads are \(8, 8\); give one number, or 4 of them"),
        ({"heads": [5]}, "has 32 features, which 5 heads do not divide"),
        ({"base": ""}, "base is ''; it must be a text"),
        ({"method": "gligen", "hidden": 8}, "hidden is 8; GLIGEN's position net has 512"),
        ({"method": "migc", "text": 8}, "tokens is 32 and text 8; MIGC's box tokens"),
        ({"text": 48}, "has shape .*, but its configuration and layers need"),
        ({"format": 2}, "has format 2; this is 1"),
        ({"type": "unicond.joint"}, "something else, not a grounding adapter"),
    ],
)
def test_wrong_configs_are_named(change, message, tmp_path):
    interact().save_pretrained(tmp_path)
    path = tmp_path / hub.CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    refuses(tmp_path, message)


def test_a_grounding_adapter_is_no_joint_one(tmp_path):
    interact().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="something else, not a joint adapter"):
        JointAdapter.from_pretrained(tmp_path)


FUSER = f"{BLOCK}.fuser"
WRONG = {
    r"tensors 1 missing \(first: .*alpha_dense\)": lambda v: v.pop(f"{FUSER}.alpha_dense"),
    r"norm1.weight is missing": lambda v: v.pop(f"{FUSER}.norm1.weight"),
    r"1 not expected \(first: position_net.more\)": lambda v: v.update(
        {"position_net.more": torch.zeros(1)}
    ),
    r"linear.weight has shape \(32, 33\), but .* need \(32, 32\)": lambda v: v.update(
        {f"{FUSER}.linear.weight": torch.zeros(32, 33)}
    ),
    "holds no weights of a grounding adapter": lambda v: v.clear(),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_tensors_are_named(message, tmp_path):
    interact().save_pretrained(tmp_path)
    values = load_file(tmp_path / hub.MODEL_FILE)
    WRONG[message](values)
    save_file(values, tmp_path / hub.MODEL_FILE)
    refuses(tmp_path, message)


def test_missing_and_damaged_files_are_named(tmp_path):
    refuses(tmp_path, r"is no grounding adapter.*but \[\]; of a published .pth", FileNotFoundError)
    refuses(tmp_path / "unet.pth", "unet.pth is missing", FileNotFoundError)
    refuses(tmp_path, "has no file 'a.ckpt'", FileNotFoundError, subfolder="a.ckpt")
    interact().save_pretrained(tmp_path)
    path = tmp_path / hub.MODEL_FILE
    path.write_bytes(path.read_bytes()[:1000])
    refuses(tmp_path, "is damaged")
    refuses(path, "is damaged")


# ---- published files


def keys():
    return json.loads((ROOT / "interact" / "keys_sd1x.json").read_text())


def test_every_name_of_the_original_file():
    """The map of the published keys, for all that is not of the base."""
    count = 0
    for theirs, name in keys()["ldm_to_diffusers"].items():
        grounding = name.startswith("position_net.") or ".fuser." in name
        assert ours_of(theirs) == ours_of(name) == (name if grounding else None)
        assert ours_of(f"model.diffusion_model.{theirs}") == ours_of(theirs)
        count += grounding
    assert count == 272 + 17


def test_the_published_shapes_are_those_of_stable_diffusion():
    shapes = keys()["diffusers_keys"]
    with torch.device("meta"):
        values = {key: torch.empty(shape) for key, shape in shapes.items() if ours_of(key)}
    config = GroundingConfig(method="interact")
    adapter = GroundingAdapter.from_tensors(config, values, "the published file")
    assert len(adapter.widths) == 16
    assert adapter.state_dict().keys() == values.keys()


def original(name):
    """A name of the golden network in the original naming, as if it were of Stable Diffusion 1.x.

    The golden network is smaller: its blocks are given numbers that map to its own names.
    """
    match = name.split(".")
    if match[0] == "mid_block":
        return ".".join(["middle_block", "1", *match[3:]])
    number = int(match[1]) * 3 + int(match[3])
    part = "output_blocks" if match[0] == "up_blocks" else "input_blocks"
    return ".".join([part, str(number + (part == "input_blocks")), "1", *match[4:]])


def original_weights():
    return {
        (original(key) if ".fuser." in key else key): value.clone()
        for key, value in interact().state_dict().items()
    }


def check_interact(source, **options):
    found = GroundingAdapter.from_pretrained(source, **options)
    assert found.config.method == "interact"
    assert (found.config.text, found.config.tokens, found.config.slots) == (32, 32, 30)
    same(found, interact())


def whole_network(folder, values, heads=8):
    folder.mkdir(parents=True)
    save_file(
        network("interact").state_dict() | values,
        folder / "diffusion_pytorch_model.safetensors",
    )
    (folder / "config.json").write_text(json.dumps({"attention_head_dim": heads}))


def test_a_network_in_diffusers_layout(tmp_path):
    values = {key: value.clone() for key, value in interact().state_dict().items()}
    whole_network(tmp_path / "model" / "unet", values)
    check_interact(tmp_path / "model" / "unet")
    check_interact(tmp_path / "model")
    check_interact(tmp_path / "model", subfolder="unet")
    check_interact(tmp_path, subfolder="model/unet/diffusion_pytorch_model.safetensors")
    half = {key: value.half() for key, value in values.items()}
    save_file(half, tmp_path / "half.safetensors")
    check_interact(tmp_path / "half.safetensors")
    (tmp_path / "model" / "unet" / "config.json").write_text('{"attention_head_dim": [5, 10]}')
    refuses(tmp_path / "model", r"attention_head_dim is \[5, 10\]; one number for all")


STEM = "diffusion_pytorch_model"


def test_a_network_by_its_other_names(tmp_path):
    """The first that is there is read: whole, else half precision, else a pickle of tensors."""
    whole = network("interact").state_dict() | interact().state_dict()
    other = {key: value + 1 if ".fuser." in key else value for key, value in whole.items()}
    unet = tmp_path / "unet"
    unet.mkdir()
    (unet / "config.json").write_text('{"attention_head_dim": 4}')
    torch.save(whole, unet / f"{STEM}.bin")
    for source in (unet, tmp_path, unet / f"{STEM}.bin"):
        check_interact(source)
    check_interact(tmp_path, subfolder=f"unet/{STEM}.bin")
    assert set(GroundingAdapter.from_pretrained(tmp_path).config.heads) == {4}
    torch.save(other, unet / f"{STEM}.bin")
    halves = {key: value.half() for key, value in whole.items()}
    save_file(halves, unet / f"{STEM}.fp16.safetensors")
    check_interact(tmp_path)  # the golden ones are exact in it
    save_file(other, unet / f"{STEM}.fp16.safetensors")
    save_file(whole, unet / f"{STEM}.safetensors")
    check_interact(unet)
    (tmp_path / "fuse").mkdir()
    fuse = tmp_path / "fuse" / "lit"
    torch.save({**whole, "more": Bomb(fuse)}, tmp_path / "fuse" / f"{STEM}.bin")
    refuses(tmp_path / "fuse", "was refused, and nothing in it was executed")
    assert not fuse.exists()


def test_gligen_is_not_taken_for_interactdiffusion(tmp_path):
    """The trap: both position nets share names and shapes."""
    adapter = gligen(network("interact"))
    values = {key: value.clone() for key, value in adapter.state_dict().items()}
    whole_network(tmp_path / "gligen", values)
    found = GroundingAdapter.from_pretrained(tmp_path / "gligen")
    assert found.config.method == "gligen"
    same(found, adapter)
    mixed = {**values, "position_net.interaction_embedding.emb.weight": torch.zeros(30, 32)}
    whole_network(tmp_path / "mixed", mixed)
    refuses(tmp_path / "mixed", r"missing \(first: position_net.linear_action.0.bias\)")
    with pytest.raises(TypeError, match="gligen takes Boxes, not Interactions"):
        found.check(interactions())
    pictures = {**values, "position_net.linears_text.0.weight": torch.zeros(512, 96)}
    whole_network(tmp_path / "pictures", pictures)
    refuses(tmp_path / "pictures", r"not expected \(first: position_net.linears_text.0.weight\)")


def test_the_original_file(tmp_path):
    base = {"time_embed.0.weight": torch.zeros(2, 2), "out.2.bias": torch.zeros(2)}
    settings = {"_content": {"model": {"target": "a.b", "params": {"n": 1}}, "lr": 1e-5}}
    content = {
        "model": original_weights() | base,
        "autoencoder": {"encoder.conv_in.weight": torch.zeros(1)},
        "text_encoder": {},
        "diffusion": {"betas": torch.zeros(1000)},
        "config_dict": settings,
    }
    torch.save(content, tmp_path / "interact-diffusion-v1.pth")
    check_interact(tmp_path / "interact-diffusion-v1.pth")
    check_interact(tmp_path, subfolder="interact-diffusion-v1.pth")


def test_the_webui_file(tmp_path):
    torch.save(original_weights(), tmp_path / "ext_interactdiff_v1.2.pth")
    check_interact(tmp_path / "ext_interactdiff_v1.2.pth")


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("interact-diffusion-v1.pth", "CompVis/stable-diffusion-v1-4"),
        ("interact-diffusion-v1-1.pth", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("interact-diffusion-v1-2.pth", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("ext_interactdiff_v1.2.pth", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("diffusion_pytorch_model.bin", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
        ("mine.pth", "unknown"),
    ],
)
def test_the_base_of_interactdiffusion_follows_from_its_version(name, base, tmp_path):
    torch.save(original_weights(), tmp_path / name)
    assert GroundingAdapter.from_pretrained(tmp_path / name).config.base == base


class Omega:
    """As omegaconf's classes are pickled: by name, and with a state."""

    def __init__(self, content):
        self.content = content

    def __setstate__(self, state):
        raise AssertionError("it was made")


Omega.__module__, Omega.__qualname__ = "omegaconf.dictconfig", "DictConfig"


def test_settings_of_a_library_are_not_made(tmp_path, monkeypatch):
    import sys
    from types import ModuleType

    module = ModuleType("omegaconf.dictconfig")
    module.DictConfig = Omega
    monkeypatch.setitem(sys.modules, "omegaconf", ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", module)
    held = {"ref": Any, "kind": int, "cache": defaultdict(dict), "list": [list]}
    content = {"model": original_weights(), "config_dict": {"_content": Omega(held)}}
    torch.save(content, tmp_path / "v1.pth")
    check_interact(tmp_path / "v1.pth")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "v1.pth", weights_only=True)


def check_migc(source):
    found = GroundingAdapter.from_pretrained(source)
    assert found.config == GroundingConfig(
        method="migc", slots=28, base="CompVis/stable-diffusion-v1-4"
    )
    same(found, migc())
    return found


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "unet.model.", ""])
def test_migcs_own_file(prefix, tmp_path):
    values = {prefix + original(key): value.clone() for key, value in migc().state_dict().items()}
    torch.save({"state_dict": values, "global_step": 3}, tmp_path / "MIGC_SD14.ckpt")
    check_migc(tmp_path / "MIGC_SD14.ckpt")


@pytest.mark.parametrize("prefix", ["", "unet."])
def test_migcs_port(prefix, tmp_path):
    values = {prefix + key: value.clone() for key, value in migc().state_dict().items()}
    save_file(values, tmp_path / "MIGC_SD14.safetensors")
    check_migc(tmp_path / "MIGC_SD14.safetensors")


def test_a_published_file_draws_what_the_golden_one_does(tmp_path):
    values = {original(key): value.clone() for key, value in migc().state_dict().items()}
    torch.save({"state_dict": values}, tmp_path / "MIGC.ckpt")
    found, unet = check_migc(tmp_path / "MIGC.ckpt"), network("migc")
    io = tensors("migc/io.safetensors")
    with torch.no_grad(), Attachment(unet, found, instances(), without=()).active():
        sample, words = io["unet/sample"][1:], io["unet/encoder_hidden_states"][1:2]
        out = unet(sample, 901, words).sample
    assert float((out - io["unet/migc_ith0/out"][1:]).abs().max()) < 1e-4


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_that_would_run_code_are_refused(tmp_path):
    fuse = tmp_path / "lit"
    for name, content in (
        ("flat.pth", {**original_weights(), "more": Bomb(fuse)}),
        ("deep.ckpt", {"state_dict": original_weights(), "callbacks": [Bomb(fuse)]}),
    ):
        torch.save(content, tmp_path / name)
        refuses(tmp_path / name, "was refused, and nothing in it was executed")
    assert not fuse.exists()


def test_files_of_something_else_are_named(tmp_path):
    torch.save({"state_dict": {"conv_in.weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    refuses(tmp_path / "other.ckpt", "holds no weights of a grounding adapter: no name in it has")
    torch.save([1, 2], tmp_path / "list.pth")
    refuses(tmp_path / "list.pth", "holds a list, not named tensors")
    (tmp_path / "torn.pth").write_bytes(b"half")
    refuses(tmp_path / "torn.pth", "torn.pth (is damaged|was refused)")
    torch.save(original_weights(), tmp_path / "four.pth", pickle_protocol=4)
    refuses(tmp_path / "four.pth", "four.pth was refused, and nothing in it was executed")
    for name, record, message in (
        ("zip.pth", "notes.txt", "zip.pth is damaged"),
        ("script.pth", "constants.pkl", "script.pth was refused, and nothing in it was executed"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("archive/version", "3")
            file.writestr(f"archive/{record}", "")
        refuses(tmp_path / name, message)
    values = original_weights()
    values["position_net.null_positive_feature"] = 3
    torch.save(values, tmp_path / "number.pth")
    refuses(tmp_path / "number.pth", "'position_net.null_positive_feature' is not a tensor")
    values = original_weights()
    values["unet.position_net.null_positive_feature"] = torch.zeros(32)
    torch.save(values, tmp_path / "twice.pth")
    refuses(tmp_path / "twice.pth", "holds position_net.null_positive_feature twice")
    fusers = {key: value for key, value in migc().state_dict().items() if "pos_net" not in key}
    save_file(fusers, tmp_path / "less.safetensors")
    refuses(tmp_path / "less.safetensors", "linears_position.4.weight of migc is missing")


def test_the_hub_is_asked_for_what_is_needed(tmp_path, monkeypatch):
    asked = []

    def snapshot_download(repo_id, revision, allow_patterns):
        asked.append((repo_id, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    torch.save(original_weights(), tmp_path / "v1.pth")
    check_interact("someone/weights", subfolder="v1.pth", revision="main")
    assert asked == [("someone/weights", "main", ["v1.pth"])]
    interact().save_pretrained(tmp_path / "ours")
    found = GroundingAdapter.from_pretrained("someone/weights", "ours")
    same(found, interact())
    assert "ours/adapter_config.json" in asked[1][2]
    assert "ours/unet/diffusion_pytorch_model.safetensors" in asked[1][2]
    assert len(asked) == 2
    (tmp_path / "unet").mkdir()
    torch.save(interact().state_dict(), tmp_path / "unet" / f"{STEM}.bin")
    check_interact("someone/weights")
    networks = [
        [name for name in patterns if name.startswith(f"unet/{STEM}")] for *_, patterns in asked[2:]
    ]
    endings = (".safetensors", ".fp16.safetensors", ".bin")
    assert networks == [[f"unet/{STEM}{ending}"] for ending in endings]  # one after the other


def test_no_weight_of_the_network_is_taken():
    unet = network("interact")
    adapter = gligen(unet)
    mine = {value.data_ptr() for value in adapter.parameters()}
    assert not mine & {value.data_ptr() for value in unet.parameters()}
    assert set(part(adapter.state_dict(), "position_net."))
    assert len(adapter.widths) == sum(name.endswith("attn1") for name in attention_layers(unet))
    assert some_boxes()
