"""The weights that ship: they load, other programs open them, and they do what they are for."""

import re
from itertools import combinations
from typing import get_args

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

import unicond
from unicond import Box, Grounding, Interaction
from unicond.adapter_loading import IMAGE_PROMPT
from unicond.adapters import hub
from unicond.adapters.grounding.config import Method
from unicond.adapters.image_prompt.encoder import FOLDER
from unicond.adapters.image_prompt.prompter import Prompter
from unicond.backbones.files import EMBEDDED
from unicond.conditions import CONDITIONS, named
from unicond.data.latents import encode
from unicond.evaluation.cases import TABLE_WORLD, HeldOut
from unicond.evaluation.chunk import Chunk
from unicond.evaluation.judge import load_judge
from unicond.evaluation.measures import FIDELITIES
from unicond.evaluation.tables import SHARES
from unicond.loading import load_readout
from unicond.training import cards
from unicond.training.captions import CaptionTable
from unicond.training.diffusion import Noising, mini_scheduler
from unicond.training.readout import SHIPPED as HEADS
from unicond.training.readout import Mapped, ReadoutTask, ReadoutTrainingConfig
from unicond.training.supplies import Base
from unicond.training.text2image import Pictured

MB = 1_000_000
METHODS = get_args(Method)
LIMITS = {
    **{"mini": 30, "mini-pixel": 10, "probes": 6},
    **{f"adapters/{one.name}": 3 for one in CONDITIONS},
    **{"adapters/gligen": 9, "adapters/interact": 9, "adapters/migc": 4},
    f"adapters/{IMAGE_PROMPT}": 4,
    **{f"readout/{name}": 1 for name in HEADS},
}
"""All that ships, and MB at most, an image prompt with its encoder."""
BASES = [name for name in LIMITS if name.startswith("mini")]
ADAPTERS = [name.removeprefix("adapters/") for name in LIMITS if name.startswith("adapters/")]
SCENES = 4
CHANGED = 0.02
"""By how much pictures in [-1, 1] differ in the mean where something else was told."""
LEFT, RIGHT = (0.1, 0.4, 0.4, 0.9), (0.6, 0.4, 0.9, 0.9)
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
    return unicond.load("mini", adapters=ADAPTERS)


def test_nothing_ships_but_what_is_in_the_table():
    cards = {path.parent.relative_to(EMBEDDED) for path in EMBEDDED.rglob("card.json")}
    whole = {folder.as_posix() for folder in cards if folder.parent not in cards}
    assert whole == {*LIMITS}


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


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
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


@pytest.mark.parametrize("size", [(128, 128), (75, 90)])
def test_diffusers_opens_the_image_prompt_and_sees_the_same(size):
    """In the published layout: weights in a subfolder, and the encoder beside them."""
    folder = EMBEDDED / "adapters" / IMAGE_PROMPT
    pipeline = StableDiffusionPipeline.from_pretrained(EMBEDDED / "mini", safety_checker=None)
    pipeline.load_ip_adapter(
        str(EMBEDDED),
        subfolder=f"adapters/{IMAGE_PROMPT}",
        weight_name=hub.MODEL_FILE,
        image_encoder_folder=FOLDER,
    )
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(256, (*size, 3), generator=generator, dtype=torch.uint8)
    image, ours = Image.fromarray(values.numpy()), Prompter.from_pretrained(folder)
    found = ours.embeds([values.permute(2, 0, 1) / 127.5 - 1])
    with torch.no_grad():
        [wanted] = pipeline.prepare_ip_adapter_image_embeds(image, None, "cpu", 1, False)
        [tokens] = pipeline.unet.encoder_hid_proj([wanted])
    assert wanted.std() > 0.1
    assert torch.equal(found, wanted)
    mine = ours.adapter.tokens(found)[:1]
    torch.testing.assert_close(mine, tokens.flatten(1, 2), rtol=0, atol=1e-5)  # of two rows here
    theirs = [
        one
        for name, one in pipeline.unet.attn_processors.items()
        if name.endswith("attn2.processor")
    ]
    for layer, other in zip(ours.adapter.layers(), theirs, strict=True):
        assert torch.equal(layer.to_k_ip.weight, other.to_k_ip[0].weight)
        assert torch.equal(layer.to_v_ip.weight, other.to_v_ip[0].weight)


def told(name, cases):
    """What an adapter can be told: of either of two scenes, or of things in either order."""
    if name in METHODS:
        things = [
            (Box("a red ball", one), Box("a blue box", other))
            for one, other in ((LEFT, RIGHT), (RIGHT, LEFT))
        ]
        return [{"grounding": Grounding(boxes, (Interaction(0, "in front of", 1),))}
                for boxes in things]  # fmt: skip
    key = "image_prompt" if name == IMAGE_PROMPT else named(name).branch
    shown = cases.images if name == IMAGE_PROMPT else cases.condition
    return [{key: shown[:1]}, {key: shown[1:2]}]


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_an_adapter_is_told_changes_the_picture(name, mini, tmp_path):
    condition = CONDITIONS[0] if name in (*METHODS, IMAGE_PROMPT) else named(name)
    cases = HeldOut(TABLE_WORLD, 3, 128, tmp_path, condition).cases(range(2))
    asked = {"seed": 3, "branches": ["image"], "num_inference_steps": 4}
    pictures = [
        mini("a red ball and a blue box", **asked, **one).pictures["image"]
        for one in ({}, *told(name, cases))
    ]
    for one, other in combinations(pictures, 2):
        assert (one - other).abs().mean() > CHANGED


@pytest.mark.parametrize("name", BASES)
def test_a_base_draws_what_it_is_told(name):
    model = unicond.load(name)
    asked = {"seed": 3, "num_inference_steps": 4}
    one, other = (model(words, **asked).pictures["image"] for words in ("a red ball", "a blue box"))
    assert (one - other).abs().mean() > CHANGED


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_conditions_are_obeyed_by_images_and_read_from_them(condition, mini, tmp_path):
    """As the tables measure it, of one noise.

    Of another scene it is what it would be without any relation.
    """
    cases = HeldOut(TABLE_WORLD, 3, 128, tmp_path, condition).cases(range(SCENES))
    judge, branch = load_judge(None, None), condition.branch
    model = mini.only(branch)
    chunk, fidelity = Chunk(cases, None, judge, tmp_path), FIDELITIES[condition.name]
    obeyed, read = BETTER.get(condition.name, (1.2, 1.2))
    told = {"seed": list(cases.seeds), "branches": ["image"], "num_inference_steps": 5}
    images = model(list(cases.captions), **told, **{branch: cases.condition}).pictures["image"]
    own, other = (
        error_of(fidelity, fidelity.of_images(chunk, judge(each)))
        for each in (images, images.roll(1, 0))
    )
    assert obeyed * own < other
    if condition.aligned:
        asked = {"branches": [branch], "num_inference_steps": 4, "ensemble_size": 1}
        drawn = model(image=cases.images, **asked).pictures[branch]
        own, other = (
            error_of(fidelity, fidelity.of_drawings(chunk, each))
            for each in (drawn, drawn.roll(1, 0))
        )
        assert read * own < other


@pytest.fixture(scope="module")
def base():
    return Base.load(EMBEDDED / "mini", torch.device("cpu"))


@pytest.mark.parametrize("name", HEADS)
def test_a_readout_head_tells_the_maps_of_noisy_pictures_apart(name, base, tmp_path):
    """Read as its trainer does; each is nearer to its own map than to any other scene's."""
    cases = HeldOut(TABLE_WORLD, 3, 128, tmp_path, named(name)).cases(range(SCENES))
    head, captions = load_readout(name), [[caption] for caption in cases.captions]
    latents = encode(base.vae[0], cases.images)
    maps = adaptive_avg_pool2d(cases.condition[:, : head.channels], latents.shape[-2:])
    known = ((maps + 1) * 127.5).round().to(torch.uint8)
    held = Mapped(Pictured(latents, CaptionTable.of(base.words, captions)), known)
    noising = Noising.of(mini_scheduler(), "cpu")
    task = ReadoutTask(ReadoutTrainingConfig(), head, base.parts, noising, held, held)
    read = task.read(SCENES, 0.2)
    errors = (read[:, None] - held.at(torch.arange(SCENES))).square().flatten(2).mean(2)
    assert torch.equal(errors.argmin(1), torch.arange(SCENES)), errors
