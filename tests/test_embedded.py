"""The weights that ship: they load, other programs open them, and they do what they are for."""

import re

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import unicond
from unicond.backbones.files import EMBEDDED
from unicond.conditions import CONDITIONS
from unicond.evaluation.cases import TABLE_WORLD, HeldOut
from unicond.evaluation.chunk import Chunk
from unicond.evaluation.judge import load_judge
from unicond.evaluation.measures import FIDELITIES
from unicond.evaluation.tables import SHARES
from unicond.training import cards

MB = 1_000_000
LIMITS = {"mini": 30, "probes": 6} | {f"adapters/{one.name}": 3 for one in CONDITIONS}
SCENES = 6
BETTER = {"depth": (1.3, 1.8)}
"""How many times better than of another scene a condition is at least, in images and in drawings;
of the others 1.2, which chance does not reach."""


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def error_of(fidelity, values):
    """The mean error over scenes; of a metric that is a share, what lacks to 1."""
    main = fidelity.metrics[0]
    known = [value for value in values[main] if value is not None]
    mean = sum(known) / len(known)
    return 1 - mean if main in SHARES else mean


@pytest.fixture(scope="module")
def mini():
    """With everything that ships: they go together."""
    return unicond.load("mini", adapters=[one.name for one in CONDITIONS])


@pytest.mark.parametrize("name", LIMITS)
def test_each_is_small_and_has_a_card(name):
    folder = EMBEDDED / name
    assert size_of(folder) <= LIMITS[name] * MB
    card = (folder / "README.md").read_text()
    assert "apache-2.0" in card.lower()
    assert re.search(r"unicond train ", card)
    assert not [
        path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")
    ]


@pytest.mark.parametrize("condition", SHIPPED, ids=lambda condition: condition.name)
def test_cards_tell_what_an_adapter_started_from(condition):
    folder = EMBEDDED / "adapters" / condition.name
    card = cards.read(folder)
    assert card.parents.keys() == {"mini", condition.starts_from} - {""}
    assert card.made in (folder / "README.md").read_text()


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


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_conditions_are_obeyed_by_images_and_read_from_them(condition, mini, tmp_path):
    """As the tables measure it; of another scene it is what it would be without any relation."""
    cases = HeldOut(TABLE_WORLD, 3, 128, tmp_path, condition).cases(range(SCENES))
    judge, branch = load_judge(None, None), condition.branch
    chunk, fidelity = Chunk(cases, None, judge, tmp_path), FIDELITIES[condition.name]
    obeyed, read = BETTER.get(condition.name, (1.2, 1.2))
    told = {"seed": list(cases.seeds), "branches": ["image"], "num_inference_steps": 8}
    images = mini(list(cases.captions), **told, **{branch: cases.condition}).pictures["image"]
    own, other = (
        error_of(fidelity, fidelity.of_images(chunk, judge(each)))
        for each in (images, images.roll(1, 0))
    )
    assert obeyed * own < other
    if condition.aligned:
        drawn = mini(image=cases.images, branches=[branch]).pictures[branch]
        own, other = (
            error_of(fidelity, fidelity.of_drawings(chunk, each))
            for each in (drawn, drawn.roll(1, 0))
        )
        assert read * own < other
