"""Loading: dtypes, ordinary LoRAs, adapters of other bases, damaged files."""

import re
import shutil
import warnings
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

import unicond
from unicond.adapter_loading import check_base
from unicond.adapters.attach import check_fit
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.adapters.readout import ReadoutConfig, ReadoutHead
from unicond.data.folders import fingerprint
from unicond.loading import load_readout

DEPTH = Path(__file__).parent / "golden" / "unicon" / "weights" / "depth"


@pytest.fixture
def lora(tiny_base, tmp_path):
    """A LoRA of the network's self-attention, as diffusers saves it."""
    network = UNet2DConditionModel.from_pretrained(tiny_base / "unet")
    network.add_adapter(LoraConfig(r=2, target_modules=["attn1.to_q", "attn1.to_v"]))
    generator = torch.Generator().manual_seed(0)
    state = {
        f"unet.{name}": torch.randn(value.shape, generator=generator) * 0.3
        for name, value in get_peft_model_state_dict(network).items()
    }
    path = tmp_path / "style.safetensors"
    save_file(state, path)
    return path


def test_an_ordinary_lora_acts_by_its_scale_beside_an_adapter(tiny_base, lora):
    picture = torch.zeros(3, 64, 64)
    arguments = {"prompt": "a dog", "depth": picture, "branches": ["image"]}

    def image(scale):
        loras = None if scale is None else {str(lora): scale}
        return unicond.load(tiny_base, {"depth": DEPTH}, loras=loras)(**arguments)

    plain, off, on = image(None), image(0.0), image(1.0)
    assert torch.allclose(plain.latents["image"], off.latents["image"], atol=1e-4)
    assert not torch.allclose(plain.latents["image"], on.latents["image"], atol=1e-2)
    assert on.record.loras == {str(lora): 1.0}


def test_a_loras_part_for_the_text_encoder_is_loaded_too(tiny_base, tmp_path):
    base = unicond.load(tiny_base)
    encoder = base.backbone.text_encoders[0]
    encoder.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    network = base.backbone.network
    network.add_adapter(LoraConfig(r=2, target_modules=["attn1.to_q"]))
    state = {
        f"{part}.{name}": torch.ones_like(value) * (0.3 if part == "text_encoder" else 0.0)
        for part, module in (("unet", network), ("text_encoder", encoder))
        for name, value in get_peft_model_state_dict(module).items()
    }
    save_file(state, tmp_path / "word.safetensors")
    encoded = {}
    for scale in (0.0, 0.5, 1.0):
        model = unicond.load(tiny_base, loras={str(tmp_path / "word.safetensors"): scale})
        encoded[scale] = model.backbone.encode_prompts(["a dog"]).tokens
    plain = unicond.load(tiny_base).backbone.encode_prompts(["a dog"]).tokens
    assert torch.allclose(encoded[0.0], plain, atol=1e-6)
    moved = [float((encoded[scale] - plain).abs().max()) for scale in (0.5, 1.0)]
    assert 1e-3 < moved[0] < moved[1]


@pytest.mark.parametrize("name", ["seed", "my depth", "depth-map", "callback"])
def test_a_branch_that_no_call_can_give_is_refused(tiny_base, name):
    with pytest.raises(ValueError, match=f"'{name}' cannot be a branch of a call: take letters"):
        unicond.load(tiny_base, {name: DEPTH})


def test_two_adapters_of_one_branch_are_refused(tiny_base, tmp_path):
    shutil.copytree(DEPTH, tmp_path / "depth")
    with pytest.raises(ValueError, match="two branches would be called 'depth'"):
        unicond.load(tiny_base, [DEPTH, tmp_path / "depth"])
    with pytest.raises(ValueError, match="two branches would be called 'depth'"):
        unicond.load(tiny_base, [DEPTH, DEPTH])


def test_a_methods_name_is_not_given_to_another(tiny_base, grounders, prompter, tmp_path):
    JointAdapter.from_pretrained(DEPTH).save_pretrained(tmp_path / "joint")
    for name, folder, what in (
        ("gligen", grounders["interact"], "interact"),
        ("interact", grounders["migc"], "migc"),
        ("image-prompt", grounders["gligen"], "gligen"),
        ("migc", prompter, "image-prompt"),
        ("gligen", tmp_path / "joint", "the condition 'depth'"),
    ):
        with pytest.raises(ValueError, match=f"^'{name}' was given an adapter of {what} "):
            unicond.load(tiny_base, {name: folder})
    model = unicond.load(tiny_base, {"mine": grounders["gligen"], "gligen": grounders["gligen"]})
    assert list(model.grounders) == ["mine", "gligen"]


def test_what_is_wrong_with_adapters_and_loras_is_told_before_the_base_is_loaded(tmp_path):
    """The base is not even there, of which nothing is said."""
    adapter = JointAdapter.from_pretrained(DEPTH)
    for name, made_for in (("one", "base@0123456789ab"), ("two", "base@ba9876543210")):
        adapter.config = replace(adapter.config, y=name, base=made_for)
        adapter.save_pretrained(tmp_path / name)
    (tmp_path / "style.bin").touch()
    nowhere = tmp_path / "nowhere"
    for adapters, loras, message in (
        (["depht"], {}, "no adapter 'depht'"),
        ([DEPTH, DEPTH], {}, "two branches would be called 'depth'"),
        ({"my depth": DEPTH}, {}, "'my depth' cannot be a branch of a call"),
        ([tmp_path / "one", tmp_path / "two"], {}, "'one' and 'two' were made for different"),
        ([], {str(tmp_path / "style.bin"): 1.0}, "style.bin is not a safetensors file"),
        ([DEPTH], {}, f"there is no folder '{nowhere}'"),
    ):
        with pytest.raises(ValueError, match=message):
            unicond.load(nowhere, adapters, loras=loras)


def test_a_readout_head_is_found_by_name_and_by_folder(tmp_path, monkeypatch):
    for name, kind in (("weights/readout/depth", "depth"), ("own", "haze")):
        config = ReadoutConfig(kind=kind, blocks=(8,), width=8)
        ReadoutHead(config).save_pretrained(tmp_path / name)
    monkeypatch.setattr("unicond.loading.EMBEDDED", tmp_path / "weights")
    assert load_readout("depth").config.kind == "depth"
    assert load_readout(tmp_path / "own").config.kind == "haze"
    with pytest.raises(ValueError, match="no readout head 'pose': embedded are depth"):
        load_readout("pose")


def test_an_adapter_takes_the_networks_format(tiny_base):
    model = unicond.load(tiny_base, {"depth": DEPTH}, dtype=torch.bfloat16)
    adapter = model.adapters["depth"].adapter
    assert {value.dtype for value in adapter.parameters()} == {torch.bfloat16}


def test_a_lora_that_is_a_pickle_is_refused(tiny_base, tmp_path):
    path = tmp_path / "style.bin"
    path.write_bytes(b"anything")
    with pytest.raises(ValueError, match=r"style.bin is not a safetensors file"):
        unicond.load(tiny_base, loras={str(path): 1.0})


def test_a_lora_of_something_else_is_named(tiny_base, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"transformer.blocks.0.lora_A.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(ValueError, match="holds no LoRA of this network; its first key is"):
        unicond.load(tiny_base, loras={str(path): 1.0})
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="cannot be read as a LoRA"):
        unicond.load(tiny_base, loras={str(path): 1.0})


def test_half_precision_is_close(tiny_base):
    adapters, picture = {"depth": DEPTH}, torch.zeros(3, 64, 64)
    arguments = {"prompt": "a dog", "depth": picture, "branches": ["image"], "guidance_scale": 1.0}
    full = unicond.load(tiny_base, adapters)(**arguments).latents["image"]
    half = unicond.load(tiny_base, adapters, dtype=torch.bfloat16)(**arguments).latents["image"]
    error = (full - half).std() / full.std()
    assert error < 0.05, f"{error:.3f}"  # bfloat16 keeps 8 bits; three steps of a random network


def test_an_adapter_of_another_base_is_refused(tiny_base, tmp_path):
    with torch.device("meta"):
        other = UNet2DConditionModel(
            block_out_channels=(64, 64), sample_size=8, cross_attention_dim=32, norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1,
        )  # fmt: skip
    adapter = JointAdapter.for_network(other, JointConfig(rank=2, y_rank=2, base="another"))
    network = UNet2DConditionModel.from_pretrained(tiny_base / "unet")
    told = r"was made for another network \(another\): .*; load it with the base that it was made"
    with pytest.raises(ValueError, match=rf"'depth' {told}"):
        check_fit(network, "depth", adapter)
    folder = tmp_path / "other"
    adapter.to_empty(device="cpu").load_state_dict(
        {name: torch.zeros(value.shape) for name, value in adapter.state_dict().items()}
    )
    adapter.save_pretrained(folder)
    with pytest.raises(ValueError, match=rf"{folder}' {told}"):
        unicond.load(tiny_base, [folder])


def test_adapters_of_different_bases_are_refused_and_another_base_is_told(tiny_base, tmp_path):
    """By the hash of the weights, where one is known, else by name; the shapes are all alike."""
    network = UNet2DConditionModel.from_pretrained(tiny_base / "unet")
    here = fingerprint(tiny_base)
    told = {"depth": f"tiny@{here}", "pose": f"some/tiny@{here}", "haze": "tiny@0123456789ab"}
    told["edges"] = "style.safetensors@tiny"  # a file and its configurations: no hash
    told |= {"one": "owner/base", "two": "other/base", "three": "owner/another", "any": "unknown"}
    for name, base in told.items():
        config = JointConfig(y=name, kind=name, rank=1, y_rank=0, base=base)
        JointAdapter.for_network(network, config).save_pretrained(tmp_path / name)
    folders = {name: tmp_path / name for name in told}
    with pytest.raises(ValueError, match=f"'depth' and 'haze' were made for .* tiny@{here} and"):
        unicond.load(tiny_base, folders)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        unicond.load(tiny_base, [tmp_path / "depth", tmp_path / "any", tmp_path / "pose"])
        unicond.load(tiny_base, [tmp_path / "one", tmp_path / "any", tmp_path / "two"])
    with pytest.warns(UserWarning, match=f"haze were made for tiny@0123456789ab, .*{here}"):
        model = unicond.load(tiny_base, [tmp_path / "any", tmp_path / "haze"])
    assert list(model.adapters) == ["any", "haze"]
    for names, bases in (
        (("one", "two", "three"), "owner/base, other/base, owner/another"),
        (("edges", "depth"), f"style.safetensors@tiny, tiny@{here}"),
    ):
        words = f"{', '.join(names)} were made for {bases}: if these are not the same weights"
        with pytest.warns(UserWarning, match=words):
            unicond.load(tiny_base, [tmp_path / name for name in names])


def test_an_adapter_for_prompts_of_another_width_is_refused(tiny_base, tmp_path):
    """Without y-LoRA none of its weights tells."""
    network = UNet2DConditionModel.from_pretrained(tiny_base / "unet")
    adapter = JointAdapter.for_network(network, JointConfig(rank=1, y_rank=0, base="owner/base"))
    assert adapter.config.text == 32
    check_fit(network, "depth", adapter)
    adapter.config = replace(adapter.config, text=48)
    adapter.save_pretrained(tmp_path / "wide")
    told = (
        r"made for another network \(owner/base\): its prompts have width 48, .* hears 32; load it"
    )
    with pytest.raises(ValueError, match=told):
        check_fit(network, "depth", JointAdapter.from_pretrained(tmp_path / "wide"))
    adapter.config = replace(adapter.config, text=None)
    adapter.save_pretrained(tmp_path / "old")
    assert "text" not in (tmp_path / "old" / "adapter_config.json").read_text()
    check_fit(network, "depth", JointAdapter.from_pretrained(tmp_path / "old"))


@pytest.mark.parametrize(
    ("base", "tells", "message"),
    [
        ("stabilityai/stable-diffusion-2-1", None, "of Stable Diffusion 2.x, and .* Diffusion 1.x"),
        ("/bases/stable-diffusion-xl-base-1.0@0123456789ab", None, "of Stable Diffusion XL, and"),
        ("style.safetensors@runwayml/Stable-Diffusion-2", None, "of Stable Diffusion 2.x, and"),
        ("owner/base", "v", "whose network predicts 'v', and that of .* 'eps': it will not"),
        ("runwayml/stable-diffusion-v1-5", "eps", ""),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", None, ""),
        ("owner/stable-diffusion-20-steps", None, ""),
        ("unknown", None, ""),
    ],
)
def test_a_base_of_another_family_is_told(tiny, base, tells, message):
    adapter = copy(tiny.adapters["depth"].adapter)
    adapter.config = replace(adapter.config, base=base, prediction_type=tells)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        check_base("one", tiny.backbone, {"depth": adapter})
    assert len(told) == bool(message)
    for one in told:
        assert re.search(f"the adapter 'depth' was made for {base}, {message}", str(one.message))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer"])
def test_a_base_without_a_part_is_named(tiny_base, tmp_path, part):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_base, folder)
    shutil.rmtree(folder / part)
    with pytest.raises(ValueError, match="cannot be read as a base model"):
        unicond.load(folder)


def test_damaged_weights_are_named(tiny_base, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_base, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read as a base model"):
        unicond.load(folder)


def test_defaults_come_from_the_base(tiny_base, tmp_path):
    model = unicond.load(tiny_base)
    assert model.backbone.defaults.num_inference_steps == 3
    folder = tmp_path / "odd"
    shutil.copytree(tiny_base, folder)
    (folder / "unicond.json").write_text('{"num_inference_steps": "many"}')
    with pytest.raises(ValueError, match="num_inference_steps"):
        unicond.load(folder)


def test_hub_ids_that_cannot_be_reached_are_named(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="nobody/nothing is neither a local folder nor a hub id"):
        unicond.load("nobody/nothing")
