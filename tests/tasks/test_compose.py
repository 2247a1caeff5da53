"""Compositions: every method makes a picture of its own, keeps what is given, refuses the rest."""

import json
import shutil

import pytest
import torch
from pydantic import TypeAdapter

from unicond.calls.output import read_record
from unicond.mechanisms.blending.regions import MOST_REGIONS
from unicond.pictures.metadata import write_png
from unicond.tasks.base import pictures_back
from unicond.tasks.compose import METHODS, WEIGHTS, Compose
from unicond.tasks.filled import Filled
from unicond.tasks.forms import ANY

SCENE = "a meadow"
ROUNDING = 1e-4  # across batch sizes, in float32
USUAL = {"num_inference_steps": 3, "guidance_scale": 3.0}
BALL = ("a red ball", 0.0, 0.25, 0.5, 1.0)
BOX = ("a blue box", 0.5, 0.5, 1.0, 1.0)


@pytest.fixture
def picture():
    return torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def of_method(tiny_base, picture):
    """What each method needs."""
    return {
        "composable": {"texts": {"a red ball": 4.0, "a person": -2.0}},
        "semantic": {"texts": {"a red ball": 6.0}},
        "magic_fusion": {"texts": {"a red ball": 1.0}, "other": str(tiny_base)},
        "multidiffusion": {"regions": (BALL, BOX)},
        "noise_collage": {"regions": (BALL, BOX)},
        "panorama": {"size": (64, 128)},
        "blended": {"regions": (BALL,), "picture": picture},
    }


def again(task, recorded):
    """A task from its record, through JSON."""
    found = pictures_back(task, json.loads(json.dumps(recorded)))
    return TypeAdapter(task).validate_python(found)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_composes(tiny, of_method, method):
    task = Compose(SCENE, method=method, **of_method[method], **USUAL)
    out = task.run(tiny)
    assert out.pictures["image"].isfinite().all()
    assert out.record.generated == ("image",)
    plain = tiny(SCENE, branches=["image"], size=out.record.size, **USUAL)
    assert not torch.equal(out.latents["image"], plain.latents["image"])
    if method == "blended":
        assert torch.equal(out.before, of_method[method]["picture"][None])
    else:
        assert out.before is None


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("composable", {}),
        ("magic_fusion", {}),
        ("multidiffusion", {}),
        ("multidiffusion", {"size": 64}),
        ("panorama", {}),
        ("panorama", {"regions": (BALL,)}),
        ("blended", {}),
    ],
)
def test_the_method_follows_from_what_is_given(tiny, of_method, method, more):
    """And is recorded, so that a picture says how it was made."""
    usual = {**USUAL, "num_inference_steps": 1, **of_method[method], **more}
    out = Compose(SCENE, **usual).run(tiny)
    assert out.record.task["method"] == method
    asked = Compose(SCENE, method=method, **usual).run(tiny)
    assert torch.equal(out.latents["image"], asked.latents["image"])


@pytest.mark.parametrize("other", ["", "second"])
def test_texts_of_a_form_have_the_usual_weight_of_the_method_that_follows(other):
    form = ANY.validate_python({"task": "compose", "with": {"a ball": None}, "other": other})
    task = Filled(form, str, {"second": "elsewhere"}).task()
    assert task.texts == {"a ball": WEIGHTS["magic_fusion" if other else "composable"]}


def test_what_is_blended_stays_outside(tiny, picture):
    """The latents that no box touches are the picture's own, whichever sample."""
    out = Compose(regions=(BALL,), picture=picture, method="blended", count=2, **USUAL).run(tiny)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:, :4] = True
    changed = (out.latents["image"] - tiny.backbone.encode(picture[None])).abs().amax(1)
    assert changed[:, ~inside].max() == 0
    assert changed[:, inside].min() > 0


def test_a_mask_belongs_to_the_picture_before_it_is_cropped(tiny, picture):
    """The middle of a wide picture is what a square run sees, of its mask, too."""
    wide = torch.cat([picture, picture], -1)
    mask = torch.zeros(64, 128)
    mask[:, 64:] = 1.0
    blended = {"picture": wide, "method": "blended", "size": 64, **USUAL}
    out = Compose(masks={"a red ball": mask}, **blended).run(tiny)
    assert torch.equal(out.before, wide[None, :, :, 32:96])
    change = (out.latents["image"] - tiny.backbone.encode(out.before)).abs().amax((0, 1, 2))
    assert change[:4].max() == 0
    assert change[4:].min() > 0


def test_a_condition_is_cropped_as_the_picture_is(tiny, picture):
    """A map of all of a wide picture goes with it; one of its middle alone does not."""
    wide = torch.cat([picture, picture], -1)
    blended = {"picture": wide, "regions": (BALL,), "method": "blended", "size": 64, **USUAL}
    out = Compose(conditions={"depth": wide.flip(0)}, **blended).run(tiny)
    assert torch.equal(out.before, wide[None, :, :, 32:96])
    assert torch.equal(out.pictures["depth"], out.before.flip(1))
    with pytest.raises(ValueError, match="'image' has height 64, width 128, but 'depth' 64, 64"):
        Compose(conditions={"depth": picture}, **blended).run(tiny)


def test_one_place_is_made_under_its_own_text_alone(tiny, picture):
    """The scene's prediction would only be written over: with it, the place comes out the same."""
    one = Compose(SCENE, regions=(BALL,), picture=picture, method="blended", **USUAL).run(tiny)
    twice = Compose(SCENE, regions=(BALL, BALL), picture=picture, method="blended", **USUAL).run(
        tiny
    )
    torch.testing.assert_close(one.latents["image"], twice.latents["image"], atol=ROUNDING, rtol=0)
    assert one.record.prompts == ("a red ball",)


def test_a_mask_is_the_place_that_it_shows(tiny, tmp_path):
    """White on the left is the box that is there; what falls outside of it does not matter."""
    mask = torch.full((3, 64, 64), -1.0)
    mask[:, 16:, :32] = 1.0
    path = write_png(mask, tmp_path / "mask.png", {})
    for method in ("multidiffusion", "noise_collage"):
        usual = {"method": method, **USUAL}
        by_mask = Compose(SCENE, masks={"a red ball": str(path)}, **usual).run(tiny)
        by_box = Compose(SCENE, regions=(BALL,), **usual).run(tiny)
        torch.testing.assert_close(by_mask.latents["image"], by_box.latents["image"])


def test_all_of_the_scene_is_what_a_place_over_everything_says(tiny):
    """Without bootstrapping's noise it would be the text alone: NoiseCollage without a scene is."""
    everywhere = (("a red ball", 0.0, 0.0, 1.0, 1.0),)
    out = Compose(SCENE, regions=everywhere, scene=0.0, method="noise_collage", **USUAL).run(tiny)
    alone = tiny("a red ball", branches=["image"], **USUAL)
    torch.testing.assert_close(out.latents["image"], alone.latents["image"], atol=ROUNDING, rtol=0)


def test_a_panorama_under_a_wide_depth_map_with_places_of_the_whole(tiny, tmp_path):
    """A box at the right end acts there, in the last of three windows, and not in each."""
    depth = torch.linspace(-1, 1, 128).expand(3, 64, 128)
    path = write_png(depth, tmp_path / "wide.png", {})
    usual = {**USUAL, "num_inference_steps": 2, "method": "panorama"}
    wide = {**usual, "conditions": {"depth": str(path)}}  # which says how large it is to be
    plain = Compose(SCENE, **wide).run(tiny)
    placed = Compose(SCENE, regions=(("a red ball", 0.9, 0.0, 1.0, 1.0),), **wide).run(tiny)
    assert {one.shape for one in plain.pictures.values()} == {(1, 3, 64, 128)}
    free = Compose(SCENE, size=(64, 128), **usual).run(tiny)
    assert not torch.equal(plain.latents["image"], free.latents["image"])
    drawn = {"depth": depth[..., :96], "id": depth}
    for conditions in (drawn, dict(reversed(drawn.items()))):
        panorama = Compose(SCENE, conditions=conditions, method="panorama")
        assert panorama.fitted_size(tiny) == (64, 96)
        square = Compose(SCENE, texts={"a ball": 4.0}, conditions=conditions)
        assert square.fitted_size(tiny) == (48, 80)
    change = (placed.latents["image"] - plain.latents["image"]).abs().amax((0, 1, 2))
    assert change[-2:].min() > 1e-2
    assert change[:8].max() < ROUNDING  # after two moves no window has carried it there


def test_it_is_written_and_comes_back_from_its_record(tiny, picture, tmp_path):
    """Pictures by their paths and hashes, those of a mapping too."""
    given = str(write_png(picture, tmp_path / "given.png", {}))
    grey = str(write_png(picture[:1].expand(3, -1, -1), tmp_path / "depth.png", {}))
    mask = torch.full((3, 64, 64), -1.0)
    mask[:, :32] = 1.0
    white = str(write_png(mask, tmp_path / "mask.png", {}))
    task = Compose(
        SCENE,
        regions=(BALL,),
        masks={"a cone": white},
        picture=given,
        method="blended",
        conditions={"depth": grey},
        **USUAL,
    )
    out = task.run(tiny)
    files = {one.name: one for one in out.save(tmp_path / "out")}
    assert set(files) == {"0_image.png", "0_before.png"}
    record = read_record(files["0_image.png"])
    assert record.task["masks"]["a cone"]["path"] == white
    same = again(Compose, record.task).run(tiny)
    assert torch.equal(same.latents["image"], out.latents["image"])
    write_png(-mask, tmp_path / "mask.png", {})
    with pytest.raises(ValueError, match=r"mask.png has changed since this was made"):
        again(Compose, record.task)
    memory = Compose(SCENE, texts={"a ball": 1.0}, conditions={"depth": picture}).recorded()
    with pytest.raises(ValueError, match="depth of this Compose was given from memory"):
        again(Compose, memory)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "magic"}, "no method 'magic': choose one of composable, semantic"),
        ({}, "method 'composable' needs texts"),
        ({"texts": {"a": 1.0}, "regions": (BALL,)}, "'multidiffusion' does not use texts: drop it"),
        (
            {"texts": {"a": 1.0}, "regions": (BALL,), "method": "composable"},
            "'composable' does not use regions: drop it",
        ),
        ({"size": 64}, r"is not larger than what .* draws at once \(64\)"),
        ({"texts": {"a": 1.0}, "scene": 0.0}, "does not use scene: drop it, or choose multidiff"),
        ({"method": "multidiffusion"}, "'multidiffusion' needs regions .* or masks"),
        ({"method": "blended", "regions": (BALL,)}, "'blended' needs picture"),
        ({"method": "magic_fusion", "texts": {"a": 1.0}}, "'magic_fusion' needs other"),
        ({"texts": {"a": 0.0}}, "the weights of 'a' are all 0, so that nothing is composed"),
        ({"prompt": "", "texts": {"a": -2.0}}, "nothing is left to be made"),
        ({"texts": {" ": 1.0}}, "give at least one text with its weight"),
        ({"texts": {"a": float("inf")}}, "the weight of 'a' is inf"),
        (
            {"method": "magic_fusion", "other": "x", "texts": {"a": 1.0, "b": 1.0}},
            "magic_fusion takes one text",
        ),
        (
            {"method": "multidiffusion", "regions": (("a", 0.1, 0.1, 1.4, 0.9),)},
            "the box .* leaves the picture",
        ),
        ({"method": "multidiffusion", "regions": (("a", 0.5, 0, 0.5, 1),)}, "is empty"),
        ({"method": "multidiffusion", "regions": (("a", 0.5, 0, 1),)}, "is no place: give"),
        (
            {"method": "noise_collage", "regions": (BALL,) * (MOST_REGIONS + 1)},
            "17 places are given, and 16 are the most",
        ),
        (
            {"method": "noise_collage", "regions": (BALL,), "scene": 0.0},
            "the objects leave 62% of the picture bare",
        ),
        (
            {"method": "multidiffusion", "regions": (BALL,), "scene": -1.0},
            "must be 0 .off. or positive",
        ),
        ({"method": "panorama", "size": (64, 128), "scene": 0.5}, "places are, and there are none"),
        ({"method": "panorama"}, r"is not larger than what .* draws at once \(64\)"),
        (
            {"method": "multidiffusion", "masks": {"a cone": torch.zeros(64, 64)}},
            r"the place of 'a cone' \(white is inside\): the mask is empty",
        ),
        (
            {"method": "multidiffusion", "masks": {"a": torch.eye(64)[:16]}},
            "other proportions",
        ),
        ({"texts": {"a": 1.0}, "conditions": {"image": "x.png"}}, "conditions names 'image'"),
        (
            {"texts": {"a": 1.0}, "conditions": {"pose": torch.zeros(3, 64, 64)}},
            "no branch 'pose' in this model",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_network_runs(
    tiny, arguments, message, monkeypatch
):
    def forbidden(*args, **kwargs):
        raise AssertionError("the network ran")

    monkeypatch.setattr(type(tiny.backbone.network), "forward", forbidden)
    with pytest.raises(ValueError, match=message):
        Compose(**{"prompt": SCENE, **USUAL, **arguments}).run(tiny)


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("scheduler/scheduler_config", {"beta_end": 0.02}, "must share the noise schedule, but at"),
        ("vae/config", {"scaling_factor": 0.5}, "must share the latents, but the autoencoder of"),
        ("vae/config", {"shift_factor": 0.1}, r"by 0.18215 and 0.1: take models with one auto"),
    ],
)
def test_two_models_must_share_latents_and_schedule(
    part, changed, message, tiny, tiny_base, tmp_path
):
    shutil.copytree(tiny_base, tmp_path / "v")
    path = tmp_path / "v" / f"{part}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    other = {"texts": {"a red ball": 1.0}, "other": str(tmp_path / "v")}
    with pytest.raises(ValueError, match=message):
        Compose(SCENE, method="magic_fusion", **other, **USUAL).run(tiny)


def test_pixels_and_latents_are_not_one_picture(tiny):
    other = {"texts": {"a red ball": 1.0}, "other": "mini-pixel"}
    with pytest.raises(ValueError, match=r"are \(4, 8, 8\), of mini-pixel \(3, 64, 64\)"):
        Compose(SCENE, method="magic_fusion", **other, **USUAL).run(tiny)
