"""Pictures under maps: by an adapter, or by a readout head; what was given is told."""

import json
import warnings
from dataclasses import replace

import pytest
import torch
from pydantic import TypeAdapter

import unicond
from unicond.calls.output import read_record
from unicond.calls.request import Given
from unicond.calls.rerun import repeat
from unicond.data.folders import fingerprint
from unicond.loading import load_readout
from unicond.pictures.metadata import write_png
from unicond.tasks.filled import Filled
from unicond.tasks.forms import Generate as Form
from unicond.tasks.forms import Picture
from unicond.tasks.generate import Generate
from unicond.tasks.heads import READ, SHARE, follow, has_head

PROMPT = "a red ball"
USUAL = {"num_inference_steps": 3, "guidance_scale": 3.0}
MAP = torch.linspace(-1, 1, 64).expand(3, 64, 64)


@pytest.fixture(scope="module")
def plain(tiny):
    return tiny(PROMPT, branches=["image"], **USUAL).latents["image"]


def left_half():
    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1
    return mask


def test_heads_ship_by_the_name_of_their_map(tiny, heads, monkeypatch):
    assert not has_head("depth", tiny)
    for module in ("unicond.loading", "unicond.tasks.heads"):
        monkeypatch.setattr(f"{module}.EMBEDDED", heads)
    assert has_head("depth", tiny)
    assert not has_head("pose", tiny)


def test_an_adapter_is_given_the_map(tiny):
    out = unicond.generate(tiny, PROMPT, conditions={"depth": MAP}, **USUAL)
    same = tiny(PROMPT, branches=["image"], depth=MAP, **USUAL)
    assert torch.equal(out.latents["image"], same.latents["image"])
    assert torch.equal(out.given["depth"], MAP[None])
    part = unicond.generate(
        tiny, PROMPT, conditions={"depth": MAP}, masks={"depth": left_half()}, **USUAL
    )
    known = unicond.given(MAP, mask=left_half())
    same = tiny(PROMPT, branches=["image", "depth"], depth=known, **USUAL)
    assert torch.equal(part.latents["image"], same.latents["image"])


def test_a_head_follows_the_map_in_the_place_of_the_adapter(tiny, plain, head_ships, tmp_path):
    asked = {"conditions": {"depth": MAP}, "method": "readout", **USUAL}
    out = unicond.generate(tiny, PROMPT, **asked)
    assert set(out.pictures) == {"image"}
    assert out.record.mechanisms == ("Readout",)
    assert (out.given["depth"] - MAP).abs().max() < 1e-6  # the mean of its channels
    assert not torch.equal(out.latents["image"], plain)
    off = unicond.generate(tiny, PROMPT, scale=0.0, **asked)
    assert torch.equal(off.latents["image"], plain)
    usual = unicond.generate(tiny, PROMPT, scale=READ, head=str(head_ships), **asked)
    assert torch.equal(usual.latents["image"], out.latents["image"])
    surer = load_readout(head_ships)
    surer.config = replace(surer.config, error=SHARE / (3 * READ))
    surer.save_pretrained(tmp_path / "surer")
    found = [
        unicond.generate(tiny, PROMPT, scale=scale, head=str(tmp_path / head), **asked)
        for scale, head in ((None, "surer"), (3 * READ, head_ships))
    ]
    assert torch.equal(*(each.latents["image"] for each in found))
    assert not torch.equal(found[0].latents["image"], out.latents["image"])
    part = unicond.generate(tiny, PROMPT, masks={"depth": left_half()}, **asked)
    other = torch.where(left_half() == 1, MAP, -MAP)
    same = Generate(
        PROMPT, **{**asked, "conditions": {"depth": other}}, masks={"depth": left_half()}
    )
    assert torch.allclose(same.run(tiny).latents["image"], part.latents["image"], atol=1e-5)
    assert not torch.allclose(part.latents["image"], out.latents["image"], atol=1e-3)


def test_a_head_for_other_weights_is_told(tiny, tiny_base, heads, tmp_path, monkeypatch):
    """As adapters are, where the hash of both is known; looking whether there is one is quiet."""
    head = load_readout(heads / "readout/depth")
    bases = {"same": fingerprint(tiny_base), "other": "0123456789ab"}
    for name, weights in bases.items():
        head.config = replace(head.config, base=f"tiny@{weights}")
        head.save_pretrained(tmp_path / name / "readout/depth")

    def read(root):
        return follow(tiny, "depth", Given(MAP), (64, 64), str(root / "readout/depth"), None)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for root in (heads, tmp_path / "same"):  # the first says no hash
            read(root)
        for module in ("unicond.loading", "unicond.tasks.heads"):
            monkeypatch.setattr(f"{module}.EMBEDDED", tmp_path / "other")
        assert has_head("depth", tiny)
    said = rf"'.*' was made for tiny@0123456789ab, and .* other weights \({bases['same']}\)"
    with pytest.warns(UserWarning, match=said):
        guide = read(tmp_path / "other")
    assert guide.scale == READ


def test_it_is_made_again_from_its_record(tiny, head_ships, tmp_path):
    path = write_png(MAP, tmp_path / "depth.png", {})
    mask = write_png(left_half().expand(3, -1, -1) * 2 - 1, tmp_path / "mask.png", {})
    told = {"conditions": {"depth": str(path)}, "masks": {"depth": str(mask)}}
    out = Generate(PROMPT, method="readout", count=2, **told, **USUAL).run(tiny)
    files = {one.name: one for one in out.save(tmp_path / "out", given=True)}
    assert set(files) == {f"{n}_{what}.png" for n in (0, 1) for what in ("image", "before_depth")}
    record = read_record(files["1_image.png"])
    assert json.loads(json.dumps(record.task)) == record.task
    assert torch.equal(repeat(tiny, record).latents["image"], out.latents["image"])


def test_a_form_is_the_task(tiny, head_ships, tmp_path):
    path = str(write_png(MAP, tmp_path / "depth.png", {}))
    form = Form(
        prompt=PROMPT,
        method="readout",
        scale=3.0,
        depth=Picture(upload="d"),
        seed=(4, 5),
        steps=3,
        guidance=3.0,
        only=("image",),
    )
    filled = Filled(form, lambda _: path, {})
    filled.check()
    out = filled.run(tiny)
    told = {"conditions": {"depth": path}, "method": "readout", "scale": 3.0}
    task = Generate(PROMPT, seed=4, count=2, **told, **USUAL)
    assert TypeAdapter(dict[str, object]).dump_python(task.recorded()) == out.record.task
    assert torch.equal(task.run(tiny).latents["image"], out.latents["image"])


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"method": "readout"}, "follows one map, and 0 conditions are given"),
        ({"method": "readout", "noise": {"depth": 0.5}}, "alone and takes no noise: leave it out"),
        (
            {"method": "readout", "solver": "ddim", "only": ("image", "depth")},
            "takes no only, solver",
        ),
        ({"method": "readout", "depth": Picture(upload="d"), "seed": (1, 3)}, "counts seeds up"),
        ({"scale": 2.0}, "scale is of method readout"),
    ],
)
def test_forms_that_do_not_fit(told, message):
    with pytest.raises(ValueError, match=message):
        Filled(Form(prompt=PROMPT, **told), lambda _: "x.png", {}).check()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"method": "magic"}, "no method 'magic': choose one of adapter, readout"),
        ({"scale": 1.0}, "'adapter' takes no scale: drop it, or choose readout"),
        ({"head": "x"}, "'adapter' takes no head"),
        ({"masks": {"pose": MAP}}, "masks names 'pose', of which no picture is given"),
        ({"method": "readout"}, "follows one map, and 0 conditions are given"),
        (
            {"method": "readout", "conditions": {"depth": MAP, "pose": MAP}},
            "follows one map, and 2 conditions are given",
        ),
        (
            {"method": "readout", "conditions": {"pose": MAP}},
            "no readout head 'pose': embedded are depth",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tiny, head_ships, told, message):
    with pytest.raises(ValueError, match=message):
        Generate(PROMPT, **told, **USUAL).run(tiny)
