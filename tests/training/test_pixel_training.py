"""The base on pixels: every field matters, pictures stay bytes, sizes that fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unicond.backbones.pixels import UnshuffledUNet
from unicond.data import renders
from unicond.training import presets, tokenizer
from unicond.training.captions import CaptionTable
from unicond.training.loop import seeded
from unicond.training.pixels import PixelConfig
from unicond.training.processes import Part
from unicond.training.text2image import Pictured, TextToImageTask

SMALL = presets.tiny().pixels


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return tokenizer.build(("a", "red", "ball"), tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def made(words):
    def make(config):
        generator = torch.Generator().manual_seed(0)
        shape = (8, 3, config.size, config.size)
        pictures = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        told = Pictured(pictures, CaptionTable.of(words, [["a red ball"]] * 8))
        with seeded(0):
            device = torch.device("cpu")
            return TextToImageTask(config, None, words, (told, told), told, device)

    return make


def losses(task):
    return task.losses(Part(0, 4), torch.Generator().manual_seed(0)).detach()


def test_every_field_is_used(made):
    plain = losses(made(SMALL))
    assert plain.shape == (4,)
    for name, value in {"size": 32, "unshuffle": 8, "block_out_channels": (16, 32)}.items():
        assert not torch.equal(losses(made(replace(SMALL, **{name: value}))), plain), name


def test_bytes_are_pictures(made):
    task = made(SMALL)
    assert task.train[0].latents.dtype == torch.uint8
    found = task.train[0].at(torch.tensor([2, 5]))
    assert torch.equal(found, renders.as_picture(task.train[0].latents[[2, 5]]))
    assert task.pipeline_parts().shape == (3, 64, 64)
    assert task.scores()["held_out_v_loss"] > 0


def test_the_network_sees_squares_of_pixels():
    network = SMALL.unet(3)
    assert isinstance(network, UnshuffledUNet)
    found = network.config
    assert (found["in_channels"], found["out_channels"], found["sample_size"]) == (48, 48, 16)
    assert network.factor == 4


@pytest.mark.parametrize("size", [0, 60, 96, 256])
def test_sizes_that_do_not_fit_are_refused(size):
    with pytest.raises(ValueError, match=f"size {size} is not one of 8, 16, 32, 64, 128"):
        PixelConfig(size=size)
    with pytest.raises(ValueError, match="unshuffle 0 must be 1 or more"):
        PixelConfig(unshuffle=0)


def test_renders_are_averaged(tmp_path, monkeypatch):
    monkeypatch.setattr(renders, "SHARD", 3)
    whole = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    for shard in range(2):
        (tmp_path / f"{shard:05d}").mkdir()
        np.save(tmp_path / f"{shard:05d}" / "image.npy", whole[3 * shard : 3 * shard + 3])
    found = renders.load_small(tmp_path, "image", 5, 4)
    means = whole[:5].reshape(5, 3, 4, 2, 4, 2).astype(float).mean((3, 5))
    assert found.dtype == torch.uint8
    assert found.shape == (5, 3, 4, 4)
    assert np.abs(found.numpy() - means).max() <= 0.5
    assert torch.equal(renders.load_small(tmp_path, "image", 5, 8), torch.from_numpy(whole[:5]))
    with pytest.raises(ValueError, match="renders of 8 pixels cannot be averaged to 3"):
        renders.load_small(tmp_path, "image", 5, 3)
    with pytest.raises(ValueError, match="has no 00002; draw 7 scenes first"):
        renders.load_small(tmp_path, "image", 7, 4)
