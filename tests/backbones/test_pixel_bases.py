"""The pixel-space family: the network between shuffles, the state in pixels, what is refused."""

import json
import shutil

import pytest
import tiny_bases
import torch
from diffusers import UNet2DConditionModel
from torch.nn import functional
from typer.testing import CliRunner

import unicond
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.adapters.network import attention_shapes
from unicond.backbones.pixels import UnshuffledUNet
from unicond.cli import app
from unicond.denoisers.controlled import layers_of
from unicond.mechanisms.correction.ilvr import ILVR
from unicond.pictures.files import PictureError
from unicond.sampling.controls import Recorder, acting

PICTURE = torch.linspace(-1, 1, 64).expand(3, 64, 64)
TOLD = {"prompt": "a red ball", "num_inference_steps": 2, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def network():
    return tiny_bases.pixel_unet()


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    return tiny_bases.save_pixels(tmp_path_factory.mktemp("pixels") / "base", network)


@pytest.fixture(scope="module")
def model(folder):
    return unicond.load(folder)


def test_it_is_the_plain_network_between_shuffles(network, folder):
    plain = UNet2DConditionModel.from_pretrained(folder / "unet")
    x, words = torch.randn(2, 3, 24, 16), torch.randn(2, 5, 32)
    t = torch.tensor([3, 700])
    with torch.no_grad():
        found = network(x, t, words)
        inner = plain(functional.pixel_unshuffle(x, 4), t, words).sample
        want = functional.pixel_shuffle(inner, 4)
        assert inner.shape == (2, 48, 6, 4)
        assert torch.equal(found.sample, want)
        assert torch.equal(network(x, t, words, return_dict=False)[0], want)
    assert list(network.state_dict()) == list(plain.state_dict())
    assert attention_shapes(network) == attention_shapes(plain)
    with pytest.raises(ValueError, match="must have 3 channels in and out, but it has 4 in"):
        UnshuffledUNet.from_config(tiny_bases.unet("one").config)


def test_the_state_is_the_picture(model):
    backbone = model.backbone
    assert (backbone.family, backbone.vae) == ("pixel diffusion", None)
    assert (backbone.factor, backbone.multiple, backbone.sample_size) == (1, 8, 64)
    assert backbone.latent_shape((64, 32)) == (3, 64, 32)
    assert torch.equal(backbone.encode(PICTURE[None]), PICTURE[None])
    assert torch.equal(backbone.decode(3 * PICTURE[None]), (3 * PICTURE[None]).clamp(-1, 1))
    out = model(**TOLD)
    assert out.latents["image"].shape == out.pictures["image"].shape == (1, 3, 64, 64)
    assert torch.equal(out.pictures["image"], out.latents["image"].clamp(-1, 1))
    assert model(**TOLD, size=(32, 48)).pictures["image"].shape == (1, 3, 32, 48)
    mask = torch.zeros(1, 64, 64)
    mask[:, 5:9, 3:] = 1
    kept = model(**TOLD, image=unicond.given(PICTURE, mask=mask)).pictures["image"]
    assert torch.equal(kept[0, :, 5:9, 3:], PICTURE[:, 5:9, 3:])


def test_mechanisms_act_on_pixels(model):
    found = model(**TOLD, mechanisms=[ILVR(reference=PICTURE[None], factor=8)]).latents["image"]
    coarse, want = (functional.avg_pool2d(x, 8) for x in (found, PICTURE[None]))
    assert torch.allclose(coarse, want, atol=1e-4)  # float32
    assert (found - model(**TOLD).latents["image"]).abs().max() > 0.1


def test_layers_know_their_grid(model, network):
    levels = {layer.name: layer.level for layer in layers_of(dict(network.named_modules()))}
    assert levels["down_blocks.0.attentions.0.transformer_blocks.0.attn1"] == 2
    assert levels["mid_block.attentions.0.transformer_blocks.0.attn2"] == 3
    recorder = Recorder("image")
    with acting(recorder):
        model(**TOLD)
    for layer, maps in recorder.found.items():
        assert maps.shape[2] == layer.tokens((64, 64)), layer.name
    assert {layer.tokens((64, 64)) for layer in recorder.found} == {64, 256}


@pytest.mark.parametrize("attention", ["global", "aligned"])
def test_adapters_attach(attention, model, folder, tmp_path):
    config = JointConfig(y="depth", kind="depth", rank=2, y_rank=2, trigger="depth map, ")
    adapter = JointAdapter.for_network(model.backbone.network, config)
    generator = torch.Generator().manual_seed(0)
    for parameter in adapter.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    adapter.save_pretrained(tmp_path / "depth")
    both = unicond.load(folder, {"depth": tmp_path / "depth"})
    found = both(**TOLD, depth=PICTURE, attention=attention)
    other = both(**TOLD, depth=-PICTURE, attention=attention)
    assert (found.pictures["image"] - other.pictures["image"]).abs().max() > 1e-3


def test_sizes_that_do_not_fit_are_refused(model):
    with pytest.raises(PictureError, match="multiples of 8; nearest are height 56 or 64"):
        model(**TOLD, size=(60, 64))


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (2, "must have 12 channels in and out, but it has 48 in and 48 out"),
        (0, "pixel_unshuffle 0 of its model_index.json must be 1, 2, 3"),
        ("4", "pixel_unshuffle '4' of its model_index.json must be"),
    ],
)
def test_an_index_that_lies_is_refused(factor, message, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "base")
    tiny_bases.change(tmp_path / "base", "model_index.json", pixel_unshuffle=factor)
    with pytest.raises(ValueError, match=message):
        unicond.load(tmp_path / "base")


def test_without_the_entry_an_autoencoder_is_missed(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "base")
    index = json.loads((folder / "model_index.json").read_text())
    assert index.pop("pixel_unshuffle") == 4
    (tmp_path / "base" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="it has no vae"):
        unicond.load(tmp_path / "base")


def test_the_commands_take_it(folder, tmp_path):
    told = CliRunner().invoke(app, ["info", "--base", str(folder)], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    assert "network" in told.output
    assert "autoencoder" not in told.output
    options = ["--prompt", "a red ball", "--steps", "2", "--out", str(tmp_path / "out")]
    made = CliRunner().invoke(app, ["generate", "--base", str(folder), *options])
    assert made.exit_code == 0, made.output
    assert list((tmp_path / "out").rglob("*.png"))
