"""`unicond train gligen|interact|migc --data`: pictures with boxes become an adapter that loads."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import own_boxes
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import unicond
from unicond.backbones import loading as bases
from unicond.cli import app
from unicond.cli.own_pictures import Asked, box_job_of
from unicond.data.boxes import open_boxes, scene_of
from unicond.data.folders import fingerprint
from unicond.data.opening import Place
from unicond.grounding import NOTHING_MORE, Interaction, grounding_of
from unicond.training import stages
from unicond.training.grounding import METHODS, GroundingTask
from unicond.training.own import box_sheet, run_boxes
from unicond.training.own.boxes import BoxRecipe, latents_of, layout_of, placed
from unicond.training.own.pairs import Encoder
from unicond.training.own.run_boxes import read_scenes, train_boxes

sys.path.append(str(Path(__file__).parents[1] / "backbones"))
import tiny_bases

GOLDEN = Path(__file__).parents[1] / "golden" / "unicon"


def silent(share, line):
    del share, line


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return own_boxes.pictures(tmp_path_factory.mktemp("own") / "photos")


@pytest.fixture
def photos(data, tmp_path):
    """The pictures once more, to be spoilt."""
    return shutil.copytree(data, tmp_path / "photos")


# ---- from pictures to an adapter


def test_the_command_makes_an_adapter_and_prints_the_one_that_uses_it(
    tiny_base, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(run_boxes, "SHOWN", 1)
    folders = ["--out", str(tmp_path / "mine"), "--runs", str(tmp_path / "runs")]
    asked = ["--base", str(tiny_base), "--data", str(data), "--held-out", "1", "--steps", "2"]
    asked += ["--batch-size", "1", "--accumulate", "2", "--precision", "no", "--checkpointing"]
    done = CliRunner().invoke(app, ["train", "gligen", *asked, *folders])
    assert done.exit_code == 0, done.output
    card = (tmp_path / "mine" / "README.md").read_text()
    assert f"unicond train gligen --runs {tmp_path / 'runs'} --out {tmp_path / 'mine'}" in card
    assert "6 pictures with 15 boxes." in card
    assert "eps_error_without" in card
    assert (tmp_path / "runs" / "gligen-mine" / "checkpoint").is_dir()
    words = " ".join(done.output.split()).split("is ready: ")[1].split()
    (tmp_path / "boxes.json").write_text(json.dumps({"boxes": own_boxes.SAID["boxes"]}))
    given = {"FILE": str(tmp_path / "boxes.json"), "TEXT": "a red ball"}
    small = ["--out", str(tmp_path / "drawn"), "--steps", "1", "--dtype", "float32"]
    done = CliRunner().invoke(app, [*(given.get(word, word) for word in words[1:]), *small])
    assert done.exit_code == 0, done.output
    assert list((tmp_path / "drawn").glob("*.png"))


@pytest.mark.parametrize("method", METHODS)
def test_the_adapter_loads_and_changes_a_picture(tiny_base, data, tmp_path, method):
    job = own_boxes.job(tiny_base, data, tmp_path / "mine", method, loop={"lr": 0.05})
    train_boxes(job, silent)
    with Image.open(job.folder / "samples.png") as shown:
        assert shown.height > 3 * 64  # the picture, what is told, what is drawn of it
    model = unicond.load(tiny_base, adapters=[job.out])
    config = model.grounders[method].adapter.config
    assert (config.method, config.base) == (method, f"{tiny_base}@{fingerprint(tiny_base)}")
    assert config.slots == {"gligen": 30, "interact": 30, "migc": 28}[method]
    boxes = [("a red ball", 0.1, 0.2, 0.6, 0.9)]
    drawn = [
        unicond.layout(model, "a ball", boxes, method=one, seed=0, num_inference_steps=1)
        for one in (method, "text")
    ]
    pictures = [one.pictures["image"] for one in drawn]
    assert not torch.equal(*pictures)


@pytest.mark.parametrize("kind", ["two", "pixels"])
def test_bases_learn_by_their_own_schedule_and_precision(kind, data, tmp_path):
    """One that tells velocities, in bfloat16; one without an autoencoder."""
    save = tiny_bases.save_pixels if kind == "pixels" else lambda to: tiny_bases.save(kind, to)
    base, lines = save(tmp_path / "base"), []
    half = {"precision": "bf16" if kind == "two" else "no"}
    job = own_boxes.job(base, data, tmp_path / "mine", "migc", 1, loop=half)
    train_boxes(job, lambda _, line: lines.append(line))
    assert any(line.startswith("done: step 1 v_error") for line in lines)
    assert "migc" in unicond.load(base, adapters=[job.out]).grounders


def test_a_run_that_breaks_off_goes_on_bit_for_bit(tiny_base, data, tmp_path, monkeypatch):
    whole = own_boxes.job(tiny_base, data, tmp_path / "whole", steps=3)
    train_boxes(whole, silent)
    kept = list((tmp_path / "runs/cache").rglob("*.safetensors"))
    times = {path: path.stat().st_mtime_ns for path in kept}
    own = GroundingTask.losses

    def breaks(self, part, generator):
        if part.number == 1:
            raise RuntimeError("the power went")
        return own(self, part, generator)

    broken = replace(whole, out=tmp_path / "broken")
    with monkeypatch.context() as patched:
        patched.setattr(GroundingTask, "losses", breaks)
        with pytest.raises(RuntimeError, match="power"):
            train_boxes(broken, silent)
    train_boxes(broken, silent)
    weights = [(one.out / "adapter_model.safetensors").read_bytes() for one in (whole, broken)]
    assert weights[0] == weights[1]
    assert len(kept) == 6
    assert {path: path.stat().st_mtime_ns for path in kept} == times  # encoded once


def test_an_adapter_starts_from_another_of_its_shape(tiny_base, data, tmp_path):
    first = own_boxes.job(tiny_base, data, tmp_path / "first", "migc", 1, slots=5)
    train_boxes(first, silent)
    still = {"lr": 1e-9, "average": 0.0}
    second = own_boxes.job(tiny_base, data, tmp_path / "second", "migc", 1, loop=still,
                           init=first.out)  # fmt: skip
    train_boxes(second, silent)
    one, other = (
        unicond.load(tiny_base, adapters=[job.out]).grounders["migc"].adapter
        for job in (first, second)
    )
    assert other.config.slots == 5
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-3, atol=1e-3)
    for changes, words in (
        ({"slots": 6}, "takes 5 things, and --slots is 6: leave out one of them"),
        ({"init": Path("migc")}, "was made for another network"),
        ({"init": Path("gligen")}, "'migc' was given an adapter of gligen"),
        ({"init": Path("nothing")}, "no adapter 'nothing': embedded are"),
    ):
        with pytest.raises(ValueError, match=words):
            train_boxes(replace(second, out=tmp_path / "third", **changes), silent)


# ---- what is told


def test_what_is_told_is_what_a_call_tells(tiny_base, data, tmp_path):
    base = bases.load(tiny_base)
    job = own_boxes.job(tiny_base, data, tmp_path / "mine", "interact")
    source = open_boxes(job.data)
    scenes = [source.scene(row) for row in (0, 1)]
    latents = latents_of(job, Encoder(base, ""), source, (0, 1), 64, silent)
    found = placed(job, base, scenes, latents, 64)
    wanted = base.encode(torch.stack([source.picture(row, 64) for row in (0, 1)]))
    rows = torch.arange(2)
    torch.testing.assert_close(found.pictures.at(rows), wanted, rtol=2e-3, atol=2e-3)
    texts = ["a person", "a red ball", "a blue box", "holding", NOTHING_MORE]
    known, _ = base.encode_phrases(texts)
    assert torch.allclose(found.phrases.pooled[found.names[0, :, 3]], known[:3], atol=1e-5)
    assert torch.equal(found.names, found.names[..., :1].expand(-1, -1, 4))
    acts = found.phrases.pooled[found.relations[0, :, 1]]
    assert torch.allclose(acts, known[[3, 4, 4, 4]], atol=1e-5)
    assert found.relations[0][:, [0, 2]].tolist() == [[0, 1], [0, 0], [1, 1], [2, 2]]
    assert found.alone[0].tolist() == [False, True, True, True]
    assert torch.allclose(found.boxes[1, :2], torch.tensor(scenes[1].boxes), atol=1e-6)
    assert found.weights("interact").tolist() == [6, 4]  # a box of the second is lost


def test_what_is_drawn_in_between_is_told_as_calls_tell_it():
    said = grounding_of(own_boxes.SAID | {"cut": True})
    acts = (Interaction(0, "holding", 1),)  # by number, as scenes have it
    scene = scene_of(said, (64, 64), "x")
    assert box_sheet.grounding_of(scene, True) == replace(said, interactions=acts)
    assert box_sheet.grounding_of(scene, False) == replace(said, interactions=())


def test_a_thing_that_is_said_to_be_there_is_said_so_once(photos):
    said = own_boxes.SAID | {"interactions": [{"subject": 2, "action": "and", "object": 2}]}
    own_boxes.changed(photos, 0, said)
    layout = layout_of(open_boxes(Place(str(photos))).scene(0))
    assert layout.relations == [(n, NOTHING_MORE, n) for n in range(3)]
    assert not any(layout.firm)


# ---- bad input: before the base is loaded (it could not even be)


def refused(tmp_path, folder, words, base=None, method="gligen", **changes):
    if base is None:
        base = tmp_path / "bare"
        without = shutil.ignore_patterns("*.safetensors")
        shutil.copytree(GOLDEN / "base", base, ignore=without, dirs_exist_ok=True)
    job = own_boxes.job(base, folder, tmp_path / "mine", method, **changes)
    with pytest.raises(ValueError, match=words):
        train_boxes(job, silent)
    assert not any((tmp_path / "runs").rglob("*.safetensors"))


BALL = {"phrase": "a ball", "box": [0.3, 0.3, 0.6, 0.6]}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (None, "1 of 6 pictures in .* 1.png has no boxes: say what is in it, or remove its row"),
        ({"boxes": []}, "1.png: .*a grounding needs boxes"),
        ({"boxes": [{"box": [0, 0, 1, 1]}]}, r"1.png: boxes.0.phrase: Field required"),
        ({"boxes": [BALL | {"phrase": " "}]}, "1.png: .*a box needs a phrase"),
        ({"boxes": [BALL | {"box": [0.5, 0, 0.2, 1]}]}, "1.png: .*the box of 'a ball' is"),
        ({"boxes": [BALL | {"box": [10, 20, 30, 40]}]}, "1.png: .*shares of width and height"),
        ({"boxes": [BALL], "interactions": [{"subject": 0, "action": "on", "object": 1}]},
         "1.png: .*names box 1, but the boxes are 0 to 0"),
        ("nowhere.json", "boxes of 1.png is neither JSON nor a file: .*nowhere.json does not"),
        ("{boxes", "boxes of 1.png is no JSON"),
    ],
)  # fmt: skip
def test_boxes_that_are_none(said, words, photos, tmp_path):
    own_boxes.changed(photos, 1, said)
    refused(tmp_path, photos, words)


def test_datasets_that_cannot_be_trained_on(photos, tmp_path):
    refused(tmp_path, photos, "no picture in .* has a column places, .*: name another --column",
            column="places")  # fmt: skip
    refused(tmp_path, photos, "of 6 pictures 5 would be held out, which leaves 1",
            recipe={"held_out": 5})  # fmt: skip
    many = {"boxes": [BALL] * 30}
    own_boxes.changed(photos, 4, many)
    words = r"1 of 6 pictures have more boxes than the adapter's 28 slots: 4.png \(30\): give "
    refused(tmp_path, photos, words + "--slots 30, or remove some", method="migc")
    acts = [{"subject": 0, "action": "near", "object": 1}] * 9
    own_boxes.changed(photos, 4, {"boxes": [BALL] * 30, "interactions": acts})
    refused(tmp_path, photos, r"more interactions and boxes in none than .* 30 slots: 4.png \(37\)",
            method="interact")  # fmt: skip
    (photos / "2.png").write_bytes((photos / "2.png").read_bytes()[:200])
    refused(tmp_path, photos, "1 of 6 pictures .*2.png is damaged", slots=40)
    (photos / "2.png").unlink()
    refused(tmp_path, photos, "1 of 6 pictures .*2.png does not exist", slots=40)


def test_bases_and_sizes_that_do_not_fit(photos, tmp_path):
    base = tiny_bases.save("xl", tmp_path / "xl")
    for path in base.rglob("*.safetensors"):
        path.unlink()
    refused(tmp_path, photos, "has two text encoders .*give a --base of Stable Diffusion 1.x or 2",
            base=base)  # fmt: skip
    refused(tmp_path, photos, "of 72 pixels do not fit .*multiple of 16", recipe={"side": 72})


def test_phrases_that_the_text_encoder_would_cut(tiny_base, photos, tmp_path):
    long = {"boxes": [BALL | {"phrase": "ball " * 90}]}
    own_boxes.changed(photos, 3, long)
    job = own_boxes.job(tiny_base, photos, tmp_path / "mine")
    with pytest.raises(ValueError, match=r"3.png: the phrase .* takes 77: shorten it"):
        train_boxes(job, silent)
    own_boxes.changed(photos, 3, long | {"cut": True})
    assert open_boxes(job.data).scene(3).cut


def test_what_the_cut_leaves_out_is_told(photos, tmp_path):
    side = {"boxes": [BALL | {"box": [0.0, 0.3, 0.1, 0.6]}]}
    own_boxes.changed(photos, 1, side)
    job, lines = own_boxes.job("/no/base", photos, tmp_path / "mine", "interact"), []
    scenes = read_scenes(job, open_boxes(job.data), lambda _, line: lines.append(line))
    assert [*scenes] == [0, 2, 3, 4, 5]
    assert lines == [
        "3 of 16 boxes are left out: less than half of them is in the middle square of their "
        "pictures (first 'a ball' in 1.png)",
        "1 of 6 pictures have no boxes then, and are left out, too",
    ]
    for number in range(6):
        own_boxes.changed(photos, number, {"boxes": [BALL]})
    read_scenes(job, open_boxes(job.data), lambda _, line: lines.append(line))
    assert lines[-1].startswith("no picture has interactions: the adapter learns where")


def test_a_dataset_or_settings_that_changed_between_start_and_resume(tiny_base, photos, tmp_path):
    job = own_boxes.job(tiny_base, photos, tmp_path / "mine", steps=1)
    train_boxes(job, silent)
    with pytest.raises(ValueError, match="begun with slots 30, and this one has 12"):
        train_boxes(replace(job, slots=12), silent)
    (photos / "boxes.json").write_text(json.dumps({"boxes": [BALL]}))
    with pytest.raises(ValueError, match=r"still has 6 pictures, but files.*--accept-changed-data"):
        train_boxes(job, silent)


# ---- options


def test_options_that_do_not_go_together(data):
    for words, message in (
        (["--slots", "4"], "--slots is for pictures of your own: give --data, too"),
        (["--column", "places"], "--column is for pictures of your own: give --data, too"),
        (["--data", str(data), "--scenes", "8"], "not with --data"),
        (["--data", str(data), "--steps", "3", "--minutes", "1"], "not both"),
    ):
        for method in METHODS:
            done = CliRunner().invoke(app, ["train", method, *words])
            assert done.exit_code == 2
            assert message in " ".join(done.output.split())


def test_without_data_the_embedded_world_is_trained_on(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(
        stages, "train_grounding", lambda shop, method: found.append((shop, method))
    )
    told = ["--preset", "tiny", "--steps", "3", "--runs", str(tmp_path), "--init", "migc"]
    done = CliRunner().invoke(app, ["train", "migc", *told])
    assert done.exit_code == 0, done.output
    (shop, method), *_ = found
    assert (method, shop.preset, shop.steps, shop.runs) == ("migc", "tiny", 3, tmp_path)
    assert shop.weights == Path("runs/weights")
    assert shop.init.name == "migc"
    assert shop.init.is_dir()


def test_options_reach_the_training(tmp_path):
    asked = Asked(runs=tmp_path, data="x", base="a/b", size=64, held_out=3, slots=7, batch_size=2,
                  accumulate=3, lr=0.1, seed=5, steps=9, validate_every=4, column="places",
                  split="test", subset="small", image_column="b", caption_column="c",
                  checkpointing=True, accept_changed_data=True, init=Path("y"))  # fmt: skip
    job = box_job_of(asked, "interact")
    assert (job.out, job.folder) == (
        tmp_path / "adapters/interact-b",
        tmp_path / "interact-interact-b",
    )
    assert job.data == Place("x", "test", "small", "places", "b", "c")
    assert (job.slots, job.recompute, job.accept_changed, job.init) == (7, True, True, Path("y"))
    loop = job.recipe.loop
    assert (loop.batch_size, loop.lr, loop.seed, loop.budget.steps) == (6, 0.1, 5, 9)
    assert (job.recipe.side, job.recipe.held_out, job.recipe.method) == (64, 3, "interact")
    assert (job.setup.accumulate, job.setup.pause_steps) == (3, 4)
    assert job.command.startswith("unicond train interact --runs ")
    usual = box_job_of(Asked(runs=tmp_path, data="x"), "migc")
    assert (usual.base, usual.recipe.slots) == ("mini", 28)
    assert usual.recipe == BoxRecipe.of("migc", loop=usual.recipe.loop)
    assert (usual.recipe.early, usual.recipe.nothing, usual.recipe.both) == (1.0, 0.0, 0.0)
