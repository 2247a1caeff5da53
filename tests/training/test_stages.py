"""All trainers in their order, with the tiny preset: folders, cards, what is up to date."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer
from typer.testing import CliRunner

import unicond
from unicond import conditions
from unicond.adapters.grounding.adapter import GroundingAdapter
from unicond.adapters.image_prompt.adapter import ImagePromptAdapter
from unicond.adapters.image_prompt.encoder import ImageEncoder
from unicond.adapters.joint import JointAdapter
from unicond.adapters.readout import ReadoutHead
from unicond.backbones import precision
from unicond.cli.train import app
from unicond.data import latents, partners, renders
from unicond.data.folders import fingerprint
from unicond.data.renders import RenderRecipe
from unicond.evaluation.probes import Probe
from unicond.training import (
    checkpoints,
    image_prompt,
    image_prompt_stages,
    presets,
    readout,
    stages,
    supplies,
    text2image,
    tokenizer,
    workshop,
)
from unicond.training.captions import world_words
from unicond.training.checkpoints import SaveError
from unicond.training.grounding import METHODS
from unicond.training.workshop import Workshop
from unicond.world import World
from unicond.world.vocabulary import PARTS, STYLES


@pytest.fixture(scope="module", autouse=True)
def _quick():
    """Few scenes at once, and few pictures of each sheet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text2image, "SHEET_PROMPTS", text2image.SHEET_PROMPTS[-2:])
        patch.setattr(image_prompt, "SHEET_PROMPTS", image_prompt.SHEET_PROMPTS[:1])
        patch.setattr(image_prompt_stages, "SHOWN", 2)
        patch.setattr(renders, "SHARD", 8)
        patch.setattr(partners, "BLOCK", 64)
        patch.setattr("unicond.training.captions.WORD_SCENES", 20)
        yield


def files_of(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    root = tmp_path_factory.mktemp("shop")
    return Workshop("tiny", root / "weights", root / "runs", root / "cache")


@pytest.fixture(scope="module")
def made(shop):
    return stages.train_all(shop)


def test_everything_is_made_and_loads(made):
    vae, mini, *joined, pixels, probes = made
    *joined, eyes, prompts = joined
    many, few = len(conditions.NAMES), len(METHODS)
    adapters, heads, grounded = joined[:many], joined[many:-few], joined[-few:]
    assert [folder.name for folder in adapters] == list(conditions.NAMES)
    for folder, condition in zip(adapters, conditions.CONDITIONS, strict=True):
        config = JointAdapter.from_pretrained(folder).config
        assert (config.y, config.kind) == (condition.branch, condition.shows)
        assert (config.post_joint == "conv_fuse") == (config.y_rank > 0) == condition.aligned
        assert config.trigger == condition.trigger
        assert condition.note in (folder / "README.md").read_text()
    for folder, name in zip(heads, readout.SHIPPED, strict=True):
        config = ReadoutHead.from_pretrained(folder).config
        assert (folder.parent.name, folder.name, config.kind) == ("readout", name, name)
        assert (config.blocks, config.width) == ((16, 16), 8)
        assert config.channels == (3 if name == "pose" else 1)
        assert config.base.startswith("mini@")
        scores = json.loads((folder / "card.json").read_text())["scores"]
        assert config.error == scores["held_out_error"]
    for folder, method in zip(grounded, METHODS, strict=True):
        config = GroundingAdapter.from_pretrained(folder).config
        assert (folder.parent.name, folder.name, config.method) == ("adapters", method, method)
        assert (config.text, config.slots) == (16, presets.tiny().grounding.slots)
        assert config.base.startswith("mini@")
        assert "red ball" in (folder / "README.md").read_text()
        scores = json.loads((folder / "card.json").read_text())["scores"]
        assert {"v_error", "v_error_without", "gain_at_0.7"} < scores.keys()
    assert (eyes.name, prompts.name) == ("image_encoder", "image-prompt")
    prompted = ImagePromptAdapter.from_pretrained(prompts)
    assert (prompted.config.embedding, prompted.config.tokens) == (8, 2)
    assert prompted.config.base == JointAdapter.from_pretrained(adapters[0]).config.base
    for encoder in (ImageEncoder.from_pretrained(eyes), ImageEncoder.beside(prompts)):
        assert encoder.embed([torch.zeros(3, 40, 50)]).shape == (1, 8)
    assert (eyes / "card.json").read_text() == (prompts / "image_encoder" / "card.json").read_text()
    assert Probe.from_pretrained(probes).config.widths == (4, 8)
    assert AutoencoderKL.from_pretrained(vae).config["latent_channels"] == 4
    pipeline = StableDiffusionPipeline.from_pretrained(mini)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(torch.float32)
    drawn = pipeline("a red ball", num_inference_steps=2, output_type="pt").images
    assert drawn.shape == (1, 3, 128, 128)
    assert bool(torch.isfinite(drawn).all())
    pixel = unicond.load(pixels)
    assert pixel("a red ball", num_inference_steps=2).pictures["image"].shape == (1, 3, 64, 64)
    assert pixel.backbone.defaults == presets.tiny().pixels.sampling
    assert (mini / "vae" / "card.json").read_text() == (vae / "card.json").read_text()
    scheduler = json.loads((mini / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["timestep_spacing"] == "trailing"
    assert scheduler["rescale_betas_zero_snr"]
    for folder in made:
        tensors = list(folder.rglob("*.safetensors"))
        assert tensors
        assert not list(folder.rglob("*.bin"))


def test_cards_tell_how_it_was_made(made):
    for folder in made:
        card = json.loads((folder / "card.json").read_text())
        assert card["steps"] == 2
        assert card["command"].startswith("unicond train ")
        assert "--preset tiny" in card["command"]
        assert card["scores"]
        assert card["recipe"]["loop"]["lr"] == 1e-3
        assert (folder / "README.md").stat().st_size > 100
    for folder, condition in zip(made[2:], conditions.CONDITIONS, strict=False):
        parents = json.loads((folder / "card.json").read_text())["parents"]
        assert parents.keys() == {"mini", condition.starts_from} - {""}


def test_metric_depth_starts_from_depth(shop, made, tmp_path):
    weights = tmp_path / "w"
    for part in ("mini", "adapters/depth"):
        shutil.copytree(shop.weights / part, weights / part)
    file = weights / "adapters" / "depth" / "adapter_model.safetensors"
    marked = {name: torch.full_like(value, 0.25) for name, value in load_file(file).items()}
    save_file(marked, file)
    folder = stages.train_joint(replace(shop, weights=weights, runs=tmp_path), "depth-metric")
    found = load_file(folder / "adapter_model.safetensors")
    gaps = [float((value.float() - 0.25).abs().max()) for value in found.values()]
    assert 0 < max(gaps) < 0.01  # two steps of lr 1e-3 at most


def test_heads_learn_the_renders_own_maps(shop, made):
    vae = supplies.load_vae(made[0], shop.device)
    words = tokenizer.build(("a", "ball"), shop.runs / "words")
    pose = conditions.named("pose")
    found = supplies.mapped(shop, vae, words, 0, 16, 1, pose)
    rows = partners.scene_rows("people", 0, 16)
    assert 0 < len(rows) < 16
    folder = shop.drawn(RenderRecipe(seed=0), 16, ("image", "skeleton"))
    pictures = renders.load(folder, ("skeleton",), 16)["skeleton"][rows].float()
    means = pictures.unflatten(3, (16, 8)).unflatten(2, (16, 8)).mean((3, 5))
    assert (found.maps.float() - means).abs().max() <= 0.5
    latent = latents.cached(*vae, folder, "image", 16, "cpu")[rows]
    assert torch.equal(found.pictures.latents, latent)
    assert len(found.pictures.captions.table) == len(found) == len(rows)


@pytest.mark.parametrize("name", ["identity", "appearance"])
def test_what_loose_pairs_have_in_common_weighs_alike_in_both_pictures(shop, made, name):
    vae = supplies.load_vae(made[0], shop.device)
    words = tokenizer.build(("a", "ball"), shop.runs / "words")
    condition = conditions.named(name)
    found = supplies.pairs(shop, vae, words, 0, 64, 1, condition, 2.0)
    rows = partners.scene_rows(condition.scenes, 0, 64)
    shown = "parts" if name == "identity" else "instances"
    folder = shop.drawn(RenderRecipe(seed=0), 64, (shown,))
    maps = renders.load(folder, (shown,), 64)[shown][rows].long()
    assert found.focus is not None
    for number, drawn in enumerate(maps):
        worn = [PARTS.index(part) for part in ("skin", "hair", "shirt", "trousers")]
        numbers = worn if name == "identity" else range(2, int(maps.max()) + 1)
        seen = [(drawn == each).float() for each in numbers if (drawn == each).any()]
        expected = torch.zeros(16, 16)
        for here in seen:
            here = here.unflatten(1, (16, 8)).unflatten(0, (16, 8)).mean((1, 3))
            expected += 2.0 / len(seen) * here / max(float(here.mean()), 1 / 256)
        # shares are kept in 255 steps
        assert torch.allclose(found.focus[0][number, 0], expected, rtol=0.05, atol=0.3)
    make, world = partners.PARTNERS[condition.source][0], World(0)
    alike = [n for n, row in enumerate(rows) if make(world[row]).style == world[row].style]
    assert len(found.image) == len(rows) + len(alike) > len(rows)
    for row, number in zip(alike, range(len(rows), len(found.image)), strict=True):
        assert found.image[number].equal(found.condition[row])
        assert found.focus[0][number].equal(found.focus[1][row])
        assert found.focus[1][number].equal(found.focus[0][row])


def test_aligned_pairs_have_no_focus(shop, made):
    vae = supplies.load_vae(made[0], shop.device)
    words = tokenizer.build(("a", "ball"), shop.runs / "words")
    depth = conditions.named("depth")
    assert supplies.pairs(shop, vae, words, 0, 16, 1, depth).focus is None
    with pytest.raises(ValueError, match="train one of appearance, identity"):
        supplies.pairs(shop, vae, words, 0, 16, 1, depth, 2.0)


def test_an_adapter_goes_on_at_gentler_rates(shop, made, tmp_path):
    weights, old = tmp_path / "w", shop.weights / "adapters" / "depth"
    shutil.copytree(shop.weights / "mini", weights / "mini")
    place = replace(shop, weights=weights, runs=tmp_path / "r", steps=1, init=old)
    file = "adapter_model.safetensors"
    before, folder = load_file(old / file), stages.train_joint(place, "depth")
    after = load_file(folder / file)
    gaps = [float((after[name].float() - one.float()).abs().max()) for name, one in before.items()]
    assert 0 < max(gaps) < 0.01  # one step of a quarter of lr 1e-3
    rates = [
        json.loads((each / "card.json").read_text())["recipe"]["loop"] for each in (old, folder)
    ]
    assert rates[1]["lr"] == rates[0]["lr"] / 4


def test_a_card_tells_what_an_adapter_started_from(shop, made, tmp_path):
    weights, old = tmp_path / "w", shop.weights / "adapters" / "depth-metric"
    shutil.copytree(shop.weights / "mini", weights / "mini")
    place = replace(shop, weights=weights, runs=tmp_path / "r", steps=1, init=old)
    folder = stages.train_joint(place, "depth-metric")
    told = f"started from the adapter depth@{fingerprint(shop.weights / 'adapters' / 'depth')}."
    assert f"\nIt {told}\n" in (old / "README.md").read_text()
    assert f"\nThe first run {told}\n" in (folder / "README.md").read_text()
    parents = [json.loads((one / "card.json").read_text())["parents"] for one in (old, folder)]
    assert parents[0] == parents[1]
    assert "started" not in (shop.weights / "adapters" / "depth" / "README.md").read_text()


def test_adapters_learn_at_full_rates_first():
    recipes = presets.mini()
    quarter = presets.gentler(recipes.joint.loop)
    for condition in conditions.CONDITIONS:
        fresh, goes_on = (recipes.joint_of(condition, told).loop for told in (False, True))
        assert (goes_on.lr, goes_on.matrix_lr) == (quarter.lr, quarter.matrix_lr), condition.name
        seconds = 60 * fresh.budget.minutes
        assert fresh.lr * fresh.budget.rate(0, 0.1 * seconds) == recipes.joint.loop.lr
        assert fresh.lr * fresh.budget.rate(0, 0.2 * seconds) == pytest.approx(quarter.lr)
        assert goes_on.budget.rate(0, 0.2 * seconds) == 1.0


def test_a_head_goes_on_from_an_earlier_one(shop, made, tmp_path):
    weights, head = tmp_path / "w", shop.weights / "readout" / "softedge"
    shutil.copytree(shop.weights / "mini", weights / "mini")
    place = replace(shop, weights=weights, runs=tmp_path / "r", steps=1, init=head)
    file = "readout_model.safetensors"
    before = load_file(head / file)
    after = load_file(stages.train_readout(place, "softedge") / file)
    gaps = [float((after[name].float() - old.float()).abs().max()) for name, old in before.items()]
    assert 0 < max(gaps) < 0.01  # one step of lr 1e-3
    with pytest.raises(ValueError, match="kind 'softedge', not 'pose'; channels 1, not 3"):
        stages.train_readout(place, "pose")
    with pytest.raises(ValueError, match=r"--init: .*mini is no readout head"):
        stages.train_readout(replace(place, init=made[1]), "pose")
    with pytest.raises(ValueError, match=r"identity is no map of the picture.*one of depth, "):
        stages.train_readout(place, "identity")


def test_a_grounding_adapter_goes_on_from_an_earlier_one(shop, made, tmp_path):
    weights, old = tmp_path / "w", shop.weights / "adapters" / "interact"
    shutil.copytree(shop.weights / "mini", weights / "mini")
    place = replace(shop, weights=weights, runs=tmp_path / "r", steps=1, init=old)
    file = "adapter_model.safetensors"
    before = load_file(old / file)
    after = load_file(stages.train_grounding(place, "interact") / file)
    gaps = [float((after[name].float() - one.float()).abs().max()) for name, one in before.items()]
    assert 0 < max(gaps) < 0.01  # one step of lr 1e-3
    with pytest.raises(ValueError, match="is not the same kind: method 'interact', not"):
        stages.train_grounding(place, "gligen")
    with pytest.raises(ValueError, match="holds no weights of a grounding adapter"):
        stages.train_grounding(replace(place, init=made[1]), "gligen")


def test_image_prompts_are_of_pictures_alike_and_words_without_style(shop, made):
    prompted, styled = image_prompt_stages.prompted, image_prompt_stages.styled
    words = CLIPTokenizer.from_pretrained(str(made[1] / "tokenizer"))
    encoder = ImageEncoder.from_pretrained(shop.weights / "image_encoder")
    vae = supplies.load_vae(made[0], shop.device)
    found = prompted(shop, vae, words, encoder, 0, 64, 2)
    scenes = RenderRecipe(seed=0).scenes(0, 64)
    kinds = [(scene.style, scene.place.ground, scene.place.sky) for scene in scenes]
    others = found.alike.another(torch.arange(64), torch.Generator().manual_seed(0)).tolist()
    assert all(kinds[row] == kinds[other] for row, other in enumerate(others))
    assert sum(row != other for row, other in enumerate(others)) > 10
    said = words.batch_decode(found.pictures.captions.table.flatten(0, 1), skip_special_tokens=True)
    names = ("photo", *STYLES[1:])
    tells = [any(name in text.split() for name in names) for text in said]
    tells = torch.tensor(tells).view(64, 2, 2)
    drawn = torch.tensor([scene.style != "photo" for scene in scenes])
    assert bool(tells[drawn, 0].all())
    assert not bool(tells[:, 1].any())
    folder = shop.drawn(RenderRecipe(seed=0), 64, ("image",))
    pictures = renders.load_small(folder, "image", 64, 32)
    torch.testing.assert_close(
        found.embeds[:2], encoder.embed([one / 127.5 - 1 for one in pictures[:2]])
    )
    held = styled(shop, words, presets.tiny().image_encoder, 1, 8)
    text = words.batch_decode(held.every[:, 3], skip_special_tokens=True)
    assert all("neon" in one for one in text)
    wanted = [STYLES.index(scene.style) for scene in RenderRecipe(seed=1).scenes(0, 8)]
    assert held.styles.tolist() == wanted


def test_image_prompts_go_on_from_earlier_ones(shop, made, tmp_path):
    weights, name = tmp_path / "w", "adapters/image-prompt"
    for part in ("mini", "image_encoder"):
        shutil.copytree(shop.weights / part, weights / part)
    place = replace(shop, weights=weights, runs=tmp_path / "r", steps=1, init=shop.weights / name)
    before = load_file(shop.weights / name / "adapter_model.safetensors")
    after = load_file(stages.train_image_prompt(place) / "adapter_model.safetensors")
    gaps = [float((after[key].float() - old.float()).abs().max()) for key, old in before.items()]
    assert 0 < max(gaps) < 0.01  # one step of lr 1e-3
    eyes = shop.weights / "image_encoder"
    before = load_file(eyes / "model.safetensors")
    after = load_file(stages.train_image_encoder(replace(place, init=eyes)) / "model.safetensors")
    gaps = [float((after[key].float() - old.float()).abs().max()) for key, old in before.items()]
    assert 0 < max(gaps) < 0.01
    with pytest.raises(ValueError, match=r"--init: .*no image prompt adapter"):
        stages.train_image_prompt(replace(place, init=made[0]))
    with pytest.raises(ValueError, match=r"--init: .*no image encoder: it has no model\.safe"):
        stages.train_image_encoder(replace(place, init=made[0]))


def test_what_is_up_to_date_is_skipped(shop, made):
    before = [(folder / "card.json").stat().st_mtime_ns for folder in made]
    lines = []
    again = replace(shop, report=lambda _, line: lines.append(line))
    assert stages.train_all(again) == made
    assert [(folder / "card.json").stat().st_mtime_ns for folder in made] == before
    assert all("up to date" in line for line in lines)


def test_another_recipe_or_parent_is_not_up_to_date(shop, made):
    from unicond.training.stages import train_joint
    from unicond.training.workshop import Job

    recipes = presets.tiny()
    base = Job("x", "x", "x", made[0], recipes.vae, {"vae": "1"})
    assert base.key != replace(base, parents={"vae": "2"}).key
    assert base.key != replace(base, config=replace(recipes.vae, kl_weight=0.5)).key
    assert base.key == replace(base, title="y").key
    lines = []
    longer = replace(shop, steps=3, report=lambda _, line: lines.append(line))
    train_joint(longer)
    card = json.loads((made[2] / "card.json").read_text())
    assert card["steps"] == 3
    assert "--steps 3" in card["command"]
    assert any("is ready" in line for line in lines)


def test_a_checkpoint_of_other_parents_is_not_gone_on_with(shop, made, tmp_path):
    lines = []
    first = replace(shop, runs=tmp_path, weights=tmp_path / "w", cache=shop.cache)
    stages.train_vae(first)
    more = replace(first, steps=3, report=lambda _, line: lines.append(line))
    stages.train_vae(more)  # more time: goes on
    assert not any("begun anew" in line for line in lines)
    assert json.loads((tmp_path / "w" / "vae" / "card.json").read_text())["steps"] == 3
    kept = files_of(tmp_path / "vae")
    stages.train_vae(replace(more, scenes=8))
    (told,) = [line for line in lines if "begun anew" in line]
    aside = tmp_path / "vae.another-run-1"
    assert f"(recipe, parents or start differ): it is kept as {aside}," in told
    assert files_of(aside) == kept
    shutil.rmtree(tmp_path / "vae")
    aside.rename(tmp_path / "vae")
    lines.clear()
    stages.train_vae(replace(more, steps=4))
    assert not any("begun anew" in line for line in lines)
    assert checkpoints.position(tmp_path / "vae" / "checkpoint").step == 4


def test_a_checkpoint_of_another_world_is_not_gone_on_with(shop, made, tmp_path, monkeypatch):
    """A renderer that draws other pictures; runs that do not say of which world they are go on."""
    lines, place = [], tmp_path / "vae"
    first = replace(shop, runs=tmp_path, weights=tmp_path / "w", steps=1)
    first = replace(first, report=lambda _, line: lines.append(line))
    stages.train_vae(first)
    state = json.loads((place / "checkpoint" / "state.json").read_text())
    del state["about"]["world"]
    (place / "checkpoint" / "state.json").write_text(json.dumps(state))
    stages.train_vae(replace(first, steps=2))
    assert checkpoints.position(place / "checkpoint").step == 2
    assert not list(tmp_path.glob("*another-run*"))
    kept = files_of(place)
    monkeypatch.setattr(workshop, "world", lambda: "renders-of-tomorrow")
    stages.train_vae(replace(first, steps=1))
    assert any("(the pictures of the world differ)" in line for line in lines)
    assert files_of(tmp_path / "vae.another-run-1") == kept
    assert checkpoints.position(place / "checkpoint").step == 1


def test_a_disk_that_fills_up_at_the_very_end_loses_no_training(
    shop, made, tmp_path, full_disk, monkeypatch
):
    """Of the embedded world; the finished weights are written when there is room again."""
    place = replace(shop, runs=tmp_path / "r", weights=tmp_path / "w", steps=1)
    folder = stages.train_vae(place)
    weights = folder / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    (folder / "card.json").unlink()  # not up to date any more
    told = r"cannot write .*w/vae .* its training is done and kept in .*r/vae/checkpoint: make room"
    write = AutoencoderKL.save_pretrained

    def filling(*arguments, **options):
        with full_disk(len(before) - 1):
            write(*arguments, **options)

    monkeypatch.setattr(AutoencoderKL, "save_pretrained", filling)
    with pytest.raises(SaveError, match=told):
        stages.train_vae(place)
    monkeypatch.undo()
    assert weights.read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["vae"]
    assert (stages.train_vae(place) / "card.json").exists()


def test_training_can_start_from_earlier_weights(shop, made):
    stages.train_probes(replace(shop, init=made[-1], steps=1, resume=False))
    stages.train_vae(replace(shop, init=made[0], steps=1, resume=False, runs=shop.runs / "again"))


def test_what_ships_is_published_whole(shop, made, tmp_path):
    target = tmp_path / "package"
    found = {path.relative_to(target).as_posix() for path in stages.publish(shop, target)}
    assert found == {
        "mini",
        "mini-pixel",
        "probes",
        "adapters/image-prompt",
        *(f"adapters/{name}" for name in conditions.NAMES),
        *(f"adapters/{method}" for method in METHODS),
        *(f"readout/{name}" for name in readout.SHIPPED),
    }
    for name in found:
        ours = {path.relative_to(shop.weights / name) for path in (shop.weights / name).rglob("*")}
        assert ours == {path.relative_to(target / name) for path in (target / name).rglob("*")}
    assert Probe.from_pretrained(target / "probes")
    assert (target / "mini" / "unet" / "config.json").stat().st_mode & 0o777 == 0o644


def test_a_base_is_fine_tuned_to_one_style(shop, made, tmp_path):
    place = replace(shop, weights=tmp_path / "w", runs=tmp_path / "r", init=made[1], scenes=64)
    toon = stages.train_text2image(place, "toon")
    assert toon == tmp_path / "w" / "mini-toon"
    vae = "vae/diffusion_pytorch_model.safetensors"
    assert (toon / vae).read_bytes() == (made[1] / vae).read_bytes()
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert (toon / unet).read_bytes() != (made[1] / unet).read_bytes()
    assert json.loads((toon / "card.json").read_text())["recipe"]["style"] == "toon"
    with pytest.raises(ValueError, match="fine-tuned from a base; name it: --init mini"):
        stages.train_text2image(replace(place, init=None), "toon")
    with pytest.raises(ValueError, match="style 'cubist' is not one of photo, toon"):
        stages.train_text2image(place, "cubist")


def test_the_base_on_pixels_goes_on(shop, made, tmp_path):
    before = load_file(made[-2] / "unet" / "diffusion_pytorch_model.safetensors")
    told = replace(shop, weights=tmp_path / "w", runs=tmp_path / "r", init=made[-2], steps=1)
    folder = stages.train_pixels(told)
    after = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    gaps = [float((after[name].float() - old.float()).abs().max()) for name, old in before.items()]
    assert 0 < max(gaps) < 0.05  # one step of lr 1e-3


def test_a_card_tells_the_runs_before_it(shop, made, tmp_path):
    folder = made[-2]
    for number in (1, 2):
        place = replace(shop, weights=tmp_path / f"w{number}", runs=tmp_path / "r", steps=number)
        folder = stages.train_pixels(replace(place, init=folder))
    card = json.loads((folder / "card.json").read_text())
    first, second = card["earlier"]
    assert card["command"] == "unicond train pixels --preset tiny --steps 2 --init mini-pixel"
    assert first.startswith("`unicond train pixels --preset tiny`: 2 steps, ")
    assert second.startswith("`unicond train pixels --preset tiny --steps 1 --init mini-pixel`: 1 ")
    assert f"- {second}" in (folder / "README.md").read_text()


def test_missing_parents_name_the_command(tmp_path):
    empty = Workshop("tiny", tmp_path / "w", tmp_path / "r", tmp_path / "c")
    with pytest.raises(ValueError, match="make it first: unicond train vae --preset tiny"):
        stages.train_text2image(empty)
    with pytest.raises(ValueError, match="make it first: unicond train text2image"):
        stages.train_joint(empty)
    with pytest.raises(ValueError, match="make it first: unicond train text2image"):
        stages.train_readout(empty)
    with pytest.raises(ValueError, match="make it first: unicond train text2image"):
        stages.train_grounding(empty, "migc")
    for train in (stages.train_image_encoder, stages.train_image_prompt):
        with pytest.raises(ValueError, match="make it first: unicond train text2image"):
            train(empty)
    with pytest.raises(ValueError, match=r"condition 'smell' .*choose one of depth, "):
        stages.train_joint(empty, "smell")
    with pytest.raises(ValueError, match="preset 'huge' is not known; choose one of mini, tiny"):
        stages.train_vae(replace(empty, preset="huge"))
    assert not (tmp_path / "w").exists()


def test_the_command_line_says_errors_in_one_line(tmp_path):
    folders = ["--out", str(tmp_path / "w"), "--runs", str(tmp_path / "r")]
    found = CliRunner().invoke(app, ["text2image", "--preset", "tiny", *folders])
    assert found.exit_code == 2
    assert "make it first" in " ".join(found.output.split())
    both = CliRunner().invoke(app, ["vae", "--minutes", "1", "--steps", "1", *folders])
    assert both.exit_code == 2
    (tmp_path / "file").write_text("")
    blocked = ["--out", str(tmp_path / "file" / "w"), "--runs", str(tmp_path / "r")]
    found = CliRunner().invoke(app, ["vae", "--preset", "tiny", *blocked])
    assert found.exit_code == 2
    assert "cannot write" in " ".join(found.output.split())


def test_latents_are_kept_and_follow_the_autoencoder(shop, made):
    vae = AutoencoderKL.from_pretrained(made[0], torch_dtype=torch.float32).eval()
    key = latents.identity(made[0])
    folder = shop.drawn(RenderRecipe(seed=0), 8, ("image", "depth"))
    told = []

    def report(*counts):
        told.append(counts)

    found = latents.cached(vae, key, folder, "depth", 8, "cpu", report)
    assert found.shape == (8, 4, 16, 16)
    with torch.no_grad():
        for value in vae.parameters():
            value.zero_()
    told.clear()
    assert torch.equal(latents.cached(vae, key, folder, "depth", 8, "cpu", report), found)
    assert told == []  # nothing was to be done
    other = latents.cached(vae, "other", folder, "depth", 8, "cpu", report)
    assert not torch.equal(other, found)
    assert told == [(8, 8)]


def test_a_cpu_that_is_slow_in_bfloat16_trains_in_float32(monkeypatch):
    loop, cpu = presets.mini().vae.loop, torch.device("cpu")
    assert loop.precision == "bf16"
    for speed, wanted in ((1.2, "bf16"), (0.04, "no")):
        monkeypatch.setattr(precision, "bfloat16_speed", lambda speed=speed: speed)
        assert presets.as_fast(loop, cpu).precision == wanted
        assert presets.as_fast(loop, torch.device("cuda")) == loop
    half = replace(loop, precision="fp16")
    assert presets.as_fast(half, cpu) == half


@pytest.mark.parametrize(("speed", "kept"), [(1.2, "bf16"), (0.04, "no")])
def test_stages_and_latents_are_computed_as_the_cpu_is_quicker(
    shop, made, tmp_path, monkeypatch, speed, kept
):
    """A stage's loop and card, what is said of it, and the latents that are kept."""
    monkeypatch.setattr(precision, "bfloat16_speed", lambda: speed)
    seen, said = [], []

    def fit(task, loop, *_, **__):
        seen.append(loop.precision)
        raise KeyboardInterrupt

    monkeypatch.setattr(workshop, "fit", fit)
    shop = replace(shop, report=lambda _, line: said.append(line), init=None)
    config = replace(shop.recipes.vae, loop=replace(shop.recipes.vae.loop, precision="bf16"))
    job = workshop.Job("precise", "", "", tmp_path / "vae", config)
    with pytest.raises(KeyboardInterrupt):
        workshop.run(shop, job, lambda: (None, None))
    assert seen == [kept]
    assert any("in float32" in line for line in said) is (kept == "no")
    vae = AutoencoderKL.from_pretrained(made[0], torch_dtype=torch.float32).eval()
    cast = []
    vae.encoder.register_forward_hook(lambda *_: cast.append(torch.is_autocast_enabled("cpu")))
    folder = shop.drawn(RenderRecipe(seed=1), 8, ("image", "depth"))
    latents.cached(vae, f"precise-{kept}", folder, "depth", 8, "cpu")
    assert {*cast} == {kept == "bf16"}


def test_a_gpu_takes_larger_batches_for_fewer_minutes():
    loop = presets.mini().vae.loop
    assert presets.on_gpu(loop).batch_size == 4 * loop.batch_size
    assert presets.on_gpu(loop).budget.minutes == loop.budget.minutes / presets.CUDA_SPEED
    assert presets.on_gpu(loop, own_budget=True).budget == loop.budget
    assert presets.on_gpu(loop, own_budget=True).batch_size == 4 * loop.batch_size
    assert presets.on_gpu(presets.tiny().vae.loop) == presets.tiny().vae.loop
    assert presets.with_budget(loop, steps=7).budget.steps == 7
    assert presets.with_budget(loop).budget == loop.budget


def test_the_shipped_sizes(tmp_path):
    recipes = presets.mini()
    vae, unet = recipes.vae.build(), recipes.text2image.unet(recipes.vae.latent_channels)
    count = sum(value.numel() for net in (vae, unet) for value in net.parameters())
    assert 2 * count <= 29e6  # the text encoder takes less than the rest of 30 MB
    with torch.device("meta"):
        words = tokenizer.build(world_words(), tmp_path)
        pixels = recipes.pixels.unet(3), recipes.pixels.text_encoder(words)
    assert 8.5e6 < 2 * sum(value.numel() for net in pixels for value in net.parameters()) < 9.8e6
    for condition in conditions.CONDITIONS:
        adapter = recipes.joint_of(condition).adapter(unet, condition, "mini")
        assert 2 * sum(value.numel() for value in adapter.parameters()) <= 2.95e6, condition.name
    for method, most in (("gligen", 9e6), ("interact", 9e6), ("migc", 4e6)):
        adapter = recipes.grounding_of(method).adapter(unet, "mini")
        assert 2 * sum(value.numel() for value in adapter.parameters()) <= most, method


def test_recipes_differ_by_condition():
    recipes = presets.mini()
    depth, metric, identity = (
        recipes.joint_of(conditions.named(name)) for name in ("depth", "depth-metric", "identity")
    )
    minutes = recipes.joint.loop.budget.minutes
    for name, recipe in (("depth", depth), ("depth-metric", metric)):
        assert recipe.loop.budget.minutes == presets.MINUTE_SHARES[name] * minutes
    assert identity.rank == presets.LOOSE_RANKS * depth.rank
    assert (depth.noise_share > 0, identity.noise_share) == (True, 0.0)
    assert (depth.focus, identity.focus) == (0.0, presets.LOOSE_FOCUS)
    assert metric.role_shares == presets.TAUGHT_SHARES
    assert identity.role_shares == presets.LOOSE_SHARES
    assert set(presets.MINUTE_SHARES) == {*conditions.NAMES, *METHODS}
    tiny = presets.tiny()
    steps = tiny.joint_of(conditions.named("depth")).loop.budget.steps
    assert steps == tiny.joint.loop.budget.steps  # budgets in steps stay


def test_weights_that_ship_are_found_by_their_names(shop, made, tmp_path):
    place = ["--preset", "tiny", "--out", str(shop.weights), "--runs", str(tmp_path)]
    for told, words in (("normals", "weights/adapters/normals"), ("none", "no folder")):
        command = ["joint", "--condition", "normals", "--init", told, "--steps", "1", *place]
        found = CliRunner().invoke(app, command)
        assert found.exit_code == 2
        assert words in found.output.replace("\n", ""), told
