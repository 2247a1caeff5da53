"""The weights that ship: they load, other programs open them, and they do what they are for."""

import re

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import unicond
from unicond.backbones.files import EMBEDDED
from unicond.evaluation.judge import load_judge
from unicond.evaluation.metrics_depth import score_depth, valid_pixels
from unicond.world import World, describe, render

MIB = 2**20
LIMITS = {"mini": 30, "probes": 6, "adapters/depth": 3}
SCENES = 6


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def mini():
    return unicond.load("mini", adapters=["depth"])


@pytest.fixture(scope="module")
def scenes():
    world = World(77, style="photo")
    found = [world[index] for index in range(SCENES)]
    return render(found, size=128), [describe(scene).text for scene in found]


@pytest.mark.parametrize("name", LIMITS)
def test_each_is_small_and_has_a_card(name):
    folder = EMBEDDED / name
    assert size_of(folder) <= LIMITS[name] * MIB
    card = (folder / "README.md").read_text()
    assert "apache-2.0" in card.lower()
    assert re.search(r"unicond train ", card)
    assert not [
        path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")
    ]


def test_diffusers_opens_the_base_and_draws_the_same(mini):
    """By its own pipeline and DDIM; they end at index 0, we at t = 0: set alike here."""
    pipeline = StableDiffusionPipeline.from_pretrained(EMBEDDED / "mini", safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, set_alpha_to_one=True)
    asked = {"num_inference_steps": 4, "guidance_scale": 3.0}
    ours = mini("a red ball", branches=["image"], seed=5, solver="ddim", **asked)
    theirs = pipeline(
        "a red ball", generator=torch.Generator().manual_seed(5), output_type="latent", **asked
    ).images
    error = (theirs - ours.latents["image"]).abs().max()
    assert error < 1e-3 * theirs.std()  # float32, four steps


def test_depth_is_read_from_images_and_obeyed_by_them(mini, scenes):
    """Against exact depth; a shuffled map is what it would be without any relation."""
    exact, captions = scenes
    depth = exact.depth.clone()
    valid = valid_pixels(depth, exact.valid)
    read = mini(image=exact.image.clone(), branches=["depth"]).pictures["depth"]
    inverse = (read.mean(1, keepdim=True) + 1) / 2
    error = score_depth(inverse, depth, valid).abs_rel.mean()
    shuffled = score_depth(inverse.roll(1, 0), depth, valid).abs_rel.mean()
    assert 1.8 * error < shuffled
    made = mini(captions, depth=exact.inverse_depth, branches=["image"], num_inference_steps=8)
    seen = load_judge(None, None)(made.pictures["image"]).inverse_depth
    obeyed = score_depth(seen, depth, valid).abs_rel.mean()
    other = score_depth(seen.roll(1, 0), depth, valid).abs_rel.mean()
    assert 1.3 * obeyed < other
