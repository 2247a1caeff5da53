"""Bases whose files do not belong together: refused, with the part and what to do."""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_bases import change

import unicond
from unicond.adapters.grounding.adapter import GroundingAdapter

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
WORDS = "token_embedding.weight"


@pytest.fixture
def folder(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "base")


def rewrite(path, name, change):
    """Change the tensor whose name ends so; None takes it out."""
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith(name))
    value = change(tensors.pop(key))
    save_file(tensors if value is None else tensors | {key: value}, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("file", "name", "change", "message"),
    [
        (UNET, "conv_out.weight", lambda _: torch.zeros(3, 3), "conv_out.weight expected shape"),
        (UNET, "conv_in.weight", lambda _: None, "tensors missing: 1, first conv_in.weight"),
        (VAE, "decoder.conv_in.bias", lambda _: None, "tensors missing: 1, first decoder.conv_in"),
        (TEXT, WORDS, lambda w: w[:5].clone(), rf"tensors of another size: 1, first .*{WORDS}"),
        (TEXT, WORDS, lambda _: None, rf"tensors missing: 1, first .*{WORDS}"),
    ],
)
def test_weights_of_another_shape_are_refused(folder, file, name, change, message):
    rewrite(folder / file, name, change)
    part = file.split("/")[0]
    whole = rf"{re.escape(str(folder))} cannot be read as a base model: the weights in {part} are "
    with pytest.raises(ValueError, match=rf"{whole}not those of its config.json \({message}"):
        unicond.load(folder)


def test_weights_that_the_network_does_not_know_are_refused(folder):
    tensors = load_file(folder / UNET)
    save_file(tensors | {"motion.weight": torch.zeros(1)}, folder / UNET, {"format": "pt"})
    with pytest.raises(ValueError, match=r"config.json \(tensors not expected: 1, first motion.w"):
        unicond.load(folder)


@pytest.mark.parametrize("attention_type", ["gated", "default"])
@pytest.mark.parametrize("method", ["interact", "gligen"])
def test_a_gated_network_is_a_plain_base_and_an_adapter(
    folder, tiny_base, grounders, method, attention_type
):
    """As its folder is published, where diffusers takes one position net for the other."""
    values = GroundingAdapter.from_pretrained(grounders[method]).state_dict()
    save_file(load_file(folder / UNET) | values, folder / UNET, {"format": "pt"})
    change(folder, "unet/config.json", attention_type=attention_type)
    with pytest.warns(UserWarning, match=rf"left out: .* adapters=\{{'{method}': '{folder}'\}}"):
        model = unicond.load(folder, {method: folder})
    plain = unicond.load(tiny_base).backbone.network.state_dict()
    found = model.backbone.network.state_dict()
    assert found.keys() == plain.keys()
    assert all(torch.equal(value, found[name]) for name, value in plain.items())
    assert model.grounders[method].adapter.state_dict().keys() == values.keys()


@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_damaged_configurations_are_named(folder, file):
    (folder / file).write_text("{")
    with pytest.raises(ValueError, match=rf"{file} is damaged \(.*get it from its source again"):
        unicond.load(folder)


def test_a_damaged_tokenizer_is_named(folder):
    for path in (folder / "tokenizer").iterdir():
        path.write_text("{")
    with pytest.raises(ValueError, match="its tokenizer is damaged or not complete"):
        unicond.load(folder)


@pytest.mark.parametrize("file", [UNET, VAE, TEXT])
def test_weights_that_are_a_pickle_are_not_opened(folder, file, monkeypatch):
    def opened(*args, **options):
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr(torch, "load", opened)
    path = folder / file
    path.rename(path.with_suffix(".bin"))
    name = f"{file.removesuffix('.safetensors')}.bin"
    with pytest.raises(ValueError, match=rf"{name} is a pickle, which could run code, and is not"):
        unicond.load(folder)
