"""Settings of a call that change when and how it samples, and what of them is refused."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import unicond
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat

DEPTH = torch.linspace(-1, 1, 64).repeat(3, 64, 1)


def image(model, **settings):
    out = model("a dog", branches=["image"], seed=3, **settings)
    return out.latents["image"]


def test_guidance_acts_inside_its_window_only(tiny):
    closed = unicond.Window.steps(9, 10)
    plain = image(tiny, guidance_scale=1.0)
    assert torch.equal(image(tiny, guidance_scale=5.0, guidance_window=closed), plain)
    late = image(tiny, guidance_scale=5.0, guidance_window=unicond.Window.steps(2, 3))
    whole = image(tiny, guidance_scale=5.0)
    assert not torch.allclose(late, plain, atol=1e-3)
    assert not torch.allclose(late, whole, atol=1e-3)
    known = {"depth": DEPTH, "condition_guidance": 2.0}
    off = image(tiny, depth=DEPTH, condition_guidance=0.0)
    assert torch.equal(image(tiny, **known, guidance_window=closed, guidance_scale=1.0), off) is (
        tiny.backbone.defaults.guidance_scale == 1.0
    )


def test_condition_guidance_against_fewer_weights(tiny):
    """The formula by hand, for one move: prediction is linear in what is blended."""
    known = {"depth": DEPTH, "guidance_scale": 1.0, "num_inference_steps": 1}
    whole, half = (image(tiny, **known, condition_guidance=0.0, joint_scale=w) for w in (1.0, 0.5))
    found = image(tiny, **known, condition_guidance=2.0, condition_guidance_against=0.5)
    assert torch.allclose(found, whole + 2.0 * (whole - half), atol=1e-4)
    with pytest.raises(ValueError, match="compares the model with itself"):
        image(tiny, **known, condition_guidance=2.0, condition_guidance_against=1.0)


def test_condition_guidance_emphasises_one_of_two(tiny, tmp_path):
    """Against weights of one branch alone: of what is given, it is the one that stands out."""
    known = {"depth": DEPTH, "id": DEPTH.rot90(1, (1, 2)), "guidance_scale": 1.0}
    known |= {"num_inference_steps": 1, "held": "one_way"}
    asked = {"condition_guidance": 2.0, "condition_guidance_against": {"depth": 0.3}}
    for cache in (None, False):
        whole, less, other = (
            image(tiny, **known, condition_guidance=0.0, conditioning_scale=weights, cache=cache)
            for weights in ({}, {"depth": 0.3}, {"id": 0.3})
        )
        found = image(tiny, **known, **asked, cache=cache)
        assert torch.allclose(found, whole + 2.0 * (whole - less), atol=1e-4)
        assert not torch.allclose(found, whole + 2.0 * (whole - other), atol=1e-2)
    made = tiny("a dog", branches=["image"], **known, **asked)
    (path,) = made.save(tmp_path)
    assert read_record(path) == made.record


def test_weights_that_condition_guidance_moves_away_from_are_checked(tiny):
    known = {"depth": DEPTH, "condition_guidance": 2.0}
    for weights, message in (
        ({"pose": 0.0}, "condition_guidance_against names 'pose'; the conditions of this run are"),
        ({"depth": float("inf")}, "condition_guidance_against of 'depth' is inf"),
        ({"depth": 1.0}, "compares the model with itself"),
        ({"depth": (1.0, 0.5), "id": 0.0}, "'depth' is held one-way, so that it receives nothing"),
    ):
        options = {"held": "one_way", "condition_guidance_against": weights}
        with pytest.raises(ValueError, match=message):
            tiny("a dog", **known, **options)


@pytest.mark.parametrize("against", [0.5, {"depth": 0.0}])
def test_nothing_is_moved_away_from_without_condition_guidance(tiny, against):
    with pytest.raises(ValueError, match="but condition guidance is off: give a weight"):
        tiny("a dog", depth=DEPTH, condition_guidance_against=against)


def test_a_held_branch_that_the_weaker_weights_let_hear_is_not_kept(tiny):
    """Its rows change in that variant, though not in the others."""
    known = {"depth": DEPTH, "held": "two_way", "conditioning_scale": {"depth": (1.0, 0.0)}}
    known |= {"condition_guidance": 1.0, "branches": ["image"]}
    tiny("a dog", **known, cache=True)
    with pytest.raises(ValueError, match="depth hears the others and so changes with them"):
        tiny("a dog", **known, cache=True, condition_guidance_against={"depth": (0.0, 1.0)})


@pytest.mark.parametrize(
    "asked", [{"condition_guidance": 3.0}, {"joint_scale": 0.5}, {"attention": "global"}]
)
def test_settings_of_joint_attention_are_refused_where_there_is_none(tiny, asked):
    [(name, value)] = asked.items()
    said = f"{name} is {value!r}, which is of joint attention .* the branches of this run are"
    with pytest.raises(ValueError, match=f"{said} image: "):
        tiny.prepare("a dog", branches=["image"], **asked)
    with pytest.raises(ValueError, match=f"{said} image: "):
        tiny.only().prepare("a dog", **asked)
    with pytest.raises(ValueError, match=f"{said} depth: "):
        tiny.prepare("a dog", branches=["depth"], **asked)
    tiny.prepare("a dog", **asked)
    tiny.prepare("a dog", branches=["image"], condition_guidance=0.0, joint_scale=0.0)


def test_a_record_of_such_settings_is_repeated(tiny, tmp_path):
    """Those of a base that guides by conditions once said that it did, where there were none."""
    guides = replace(tiny.backbone.defaults, condition_guidance=0.5)
    model = replace(tiny, backbone=replace(tiny.backbone, defaults=guides))
    half = np.zeros((64, 64), np.uint8)
    half[:32] = 255
    for name in ("image", "mask"):
        Image.fromarray(half).save(tmp_path / f"{name}.png")
    part = {"image": unicond.given(tmp_path / "image.png", mask=tmp_path / "mask.png")}
    out = model("a dog", branches=["image"], seed=3, **part)
    assert out.record.condition_guidance == 0.0
    assert model.prepare("a dog", branches=["image", "depth"], **part).record.condition_guidance
    old = replace(out.record, condition_guidance=0.5, joint_scale=0.7, attention="global")
    assert torch.equal(repeat(model, old).latents["image"], out.latents["image"])


def test_the_spacing_is_chosen_recorded_and_repeated(tiny, tmp_path):
    spaced = {name: image(tiny, spacing=name) for name in ("leading", "linspace", "trailing")}
    assert torch.equal(spaced[tiny.backbone.schedule.spacing], image(tiny))
    assert not torch.allclose(spaced["linspace"], spaced["trailing"], atol=1e-3)
    (path,) = tiny("a dog", branches=["image"], spacing="linspace", seed=3).save(tmp_path)
    again = repeat(tiny, read_record(path))
    assert torch.equal(again.latents["image"], spaced["linspace"])
    with pytest.raises(ValueError, match="not by spacing 'linspace': drop one of them"):
        image(tiny, spacing="linspace", sampling="released")
    with pytest.raises(ValueError, match="sideways"):
        image(tiny, spacing="sideways")


def test_a_weight_of_zero_is_the_end_of_small_ones(tiny):
    """The condition's own LoRA stays at work: it is no part of what w scales."""
    pairs = {
        w: tiny("a dog", branches=["image", "depth"], conditioning_scale={"depth": w})
        for w in (0.0, 1e-6, 1.0)
    }
    for branch in ("image", "depth"):
        none, little, much = (pairs[w].latents[branch] for w in (0.0, 1e-6, 1.0))
        assert torch.allclose(none, little, atol=1e-4)
        assert not torch.allclose(none, much, atol=1e-3)


@pytest.mark.parametrize("name", ["guidance_scale", "condition_guidance", "joint_scale"])
def test_numbers_that_are_none_are_refused_before_sampling(tiny, name):
    with pytest.raises(ValueError, match=f"{name} is nan; give a finite number"):
        tiny("a dog", **{name: float("nan")})
    with pytest.raises(ValueError, match="conditioning_scale of 'depth' is inf"):
        tiny("a dog", conditioning_scale={"depth": (0.0, float("inf"))})


def test_samples_of_one_seed_have_files_of_their_own(tiny, tmp_path):
    out = tiny(["a dog", "a cat", "a cow"], seed=[5, 6, 5], branches=["image"])
    names = [path.name for path in out.save(tmp_path)]
    assert names == ["5-0_image.png", "6_image.png", "5-1_image.png"]


def test_pictures_far_below_the_bases_size_are_scaled(tiny):
    side = tiny.backbone.sample_size
    small, near = DEPTH[:, : side // 4, : side // 4], DEPTH[:, :side, :side]
    for picture, expected in ((small, side), (near, side)):
        assert tiny("a dog", depth=picture, branches=["image"]).record.size == (expected, expected)


def test_metric_depth_goes_in_and_out_in_metres(tiny_base, tmp_path):
    base = unicond.load(tiny_base)
    config = JointConfig(y="far", kind="metric_depth", rank=2, y_rank=2)
    JointAdapter.for_network(base.backbone.network, config).save_pretrained(tmp_path / "far")
    model = unicond.load(tiny_base, [tmp_path / "far"])
    metres = np.tile(np.linspace(1, 40, 64, dtype=np.float32), (64, 1))
    np.save(tmp_path / "m.npy", metres)
    given = unicond.given(tmp_path / "m.npy", kind="metric", noise=0.5)
    out = model("a dog", far=given)
    names = [path.name for path in out.save(tmp_path / "out")]
    assert {"0_far.png", "0_far_16bit.png", "0_far_16bit.npy"} <= set(names)
    found = np.load(tmp_path / "out" / "0_far_16bit.npy")
    in_millimetres = np.asarray(Image.open(tmp_path / "out" / "0_far_16bit.png"))
    assert np.allclose(in_millimetres / 1000, found, atol=1e-3)
    exact = model("a dog", far=unicond.given(tmp_path / "m.npy", kind="metric"))
    # what is held comes back as it was given: one level of 16 bit
    read = 40 ** (1 - (exact.pictures["far"][0, 0].double() + 1) / 2)
    assert np.allclose(read.numpy(), metres, rtol=1e-4)


def shown(out):
    """The size of what a notebook shows."""
    return Image.open(io.BytesIO(out._repr_png_())).size


def test_a_notebook_shows_all_branches_side_by_side(tiny):
    assert shown(tiny("a dog", count=2, branches=["image", "depth"])) == (2 * 64, 2 * 64)


@pytest.mark.gpu
def test_pictures_come_back_from_an_accelerator(tiny_base):
    model = unicond.load(tiny_base, device="cuda")
    out = model("a dog")
    assert {picture.device.type for picture in out.pictures.values()} == {"cpu"}
    assert shown(out) == (64, 64)
