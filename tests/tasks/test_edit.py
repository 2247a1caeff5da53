"""Edits of a given picture: what each method keeps, and what it refuses."""

import json
from itertools import product

import pytest
import torch

import unicond
import unicond.pictures.metadata
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat
from unicond.mechanisms.attention import words
from unicond.tasks.edit import ALONE, ATTENTIONS, INVERSIONS, NAMED, UNPAIRED, Edit

WORDS = {"source_prompt": "a red ball", "num_inference_steps": 3, "guidance_scale": 3.0}
ROUNDING = 1e-4  # of latents near 1, over some steps in float32


@pytest.fixture
def picture():
    return torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("method", [*NAMED, *UNPAIRED, *ALONE, "direct"])
def test_every_method_edits(tiny, picture, method):
    """Those that promise the source back, whatever the guidance, keep it."""
    look = picture.flip(0) if method == "style_injection" else None
    out = Edit(picture, "a blue ball", method=method, style=look, **WORDS).run(tiny)
    assert torch.equal(out.before, picture[None])
    assert out.pictures["image"].isfinite().all()
    clean = tiny.backbone.encode(picture[None])
    assert not torch.equal(out.latents["image"], clean)
    inversion = method.partition("+")[0]
    if inversion in ("direct", "edit_friendly", "edict", "semantic"):
        gap = (out.latents["source"] - clean).abs().max()
        assert gap < (1e-2 if inversion == "edict" else ROUNDING)  # EDICT's own mixing grows it


@pytest.mark.parametrize(
    ("method", "asked", "used"),
    [("style_injection", None, 1.0), ("style_injection", 3.0, 3.0), ("direct", None, None)],
)
def test_a_style_of_a_picture_is_drawn_without_guidance_of_text(tiny, picture, method, asked, used):
    look = picture.flip(0) if method == "style_injection" else None
    said = {**WORDS, "guidance_scale": asked}
    record = Edit(picture, "a blue ball", method=method, style=look, **said).run(tiny).record
    assert record.guidance_scale == (used or tiny.backbone.defaults.guidance_scale)


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ({"source_prompt": "a red ball"}, "direct+p2p"),
        ({}, "sdedit"),
        ({"style": True}, "style_injection"),
        ({"style": True, "source_prompt": "a red ball"}, "style_injection"),
    ],
)
def test_the_method_follows_from_what_is_given(tiny, picture, given, method):
    """And is recorded, so that a picture says how it was made."""
    told = {**given, "style": picture.flip(0) if "style" in given else None}
    out = Edit(picture, "a blue ball", num_inference_steps=2, **told).run(tiny)
    assert out.record.task["method"] == method
    same = Edit(picture, "a blue ball", num_inference_steps=2, method=method, **told).run(tiny)
    assert torch.equal(out.latents["image"], same.latents["image"])
    assert out.record.guidance_scale == same.record.guidance_scale


def mechanism_of(tiny, **asked):
    [mechanism] = Edit("x.png", **{"prompt": "a big blue box", **WORDS, **asked}).attention(tiny)
    return mechanism


def test_options_make_the_variants_of_their_papers(tiny):
    """Swap, refine, reweight and local blend; MasaCtrl with masks; semantic edits beside others."""
    tokenizer = tiny.backbone.tokenizers[0]
    old, new = WORDS["source_prompt"], "a blue box"
    for align in (None, "swap", "refine"):
        expected = words.refined if align == "refine" else words.swapped
        made, want = mechanism_of(tiny, prompt=new, align=align), expected(tokenizer, old, new)
        assert torch.equal(made.alignment.mapper, want.mapper)
        assert torch.equal(made.alignment.shared, want.shared)
    blend = {"subject": "blue box", "source_subject": "ball", "weight": {"blue": 3.0}}
    made = mechanism_of(tiny, **blend)
    there = words.places(tokenizer, old, ["ball"])
    here = words.places(tokenizer, "a big blue box", ["blue box"])
    factors = words.scales(tokenizer, "a big blue box", {"blue": 3.0})
    assert torch.equal(made.scales, factors)
    assert torch.equal(made.blend.source, there)
    assert torch.equal(made.blend.target, here)
    del blend["weight"]
    masks = mechanism_of(tiny, method="direct+masactrl", **blend).subject
    assert torch.equal(masks.source, there)
    assert torch.equal(masks.target, here)
    same = mechanism_of(tiny, prompt="a blue ball", method="ddim+masactrl", subject="ball").subject
    assert torch.equal(same.source, there)
    several = mechanism_of(
        tiny, method="semantic", scale=-2.0, per="pixel", weight={"the snow": 4.0}
    )
    assert {one.prompt: one.scale for one in several.edits} == {
        "a big blue box": -2.0,
        "the snow": 4.0,
    }
    assert several.per == "pixel"


def test_words_that_do_not_stand_one_for_one_are_refined(tiny):
    """As many of them, but others in other places: a swap would be refused."""
    tokenizer = tiny.backbone.tokenizers[0]
    pair = {"source_prompt": "a ball on grass", "prompt": "a red ball grass"}
    want = words.refined(tokenizer, *pair.values())
    made = mechanism_of(tiny, **pair)
    assert torch.equal(made.alignment.mapper, want.mapper)


@pytest.mark.parametrize(
    "options",
    [
        {"weight": {"blue": 4.0}},
        {"align": "refine"},
        {"method": "direct+masactrl", "subject": "ball"},
        {"method": "semantic", "per": "pixel"},
        {"method": "semantic", "weight": {"the snow": -4.0}},
    ],
)
def test_options_change_the_edit_and_are_recorded(tiny, picture, tmp_path, options):
    path = unicond.pictures.metadata.write_png(picture, tmp_path / "given.png", {})
    plain = {"method": options.get("method", "direct+p2p"), **WORDS, "num_inference_steps": 4}
    before = unicond.edit(tiny, str(path), "a blue ball", **plain)
    out = unicond.edit(tiny, str(path), "a blue ball", **{**plain, **options})
    assert not torch.equal(before.latents["image"], out.latents["image"])
    record = read_record(out.save(tmp_path / "out")[0])
    assert torch.equal(repeat(tiny, record).latents["image"], out.latents["image"])


def test_named_pairs_are_methods():
    assert len(set(NAMED)) == 10
    assert all("" not in Edit("x.png", "a", source_prompt="b", method=m).parts() for m in NAMED)
    for inversion, attention in product(INVERSIONS, ("", *ATTENTIONS)):
        method = f"{inversion}+{attention}" if attention else inversion
        Edit("x.png", "a", source_prompt="b", method=method)


def test_an_edit_under_the_depth_of_the_picture_itself(tiny, picture):
    out = Edit(picture, "a blue ball", keep=("depth",), **WORDS).run(tiny)
    read = tiny(image=picture, branches=["depth"])
    assert torch.equal(out.pictures["depth"], read.pictures["depth"])
    free = Edit(picture, "a blue ball", **WORDS).run(tiny)
    assert not torch.allclose(out.latents["image"], free.latents["image"])


def test_the_depth_of_a_picture_that_is_cropped_is_that_of_the_crop(tiny, picture):
    wide = torch.cat([picture, picture], -1)
    out = Edit(wide, "a blue ball", keep=("depth",), size=64, **WORDS).run(tiny)
    read = tiny(image=wide, size=64, branches=["depth"])
    assert torch.equal(out.pictures["depth"], read.pictures["depth"])


def test_it_is_written_with_what_was_before_and_made_again(tiny, picture, tmp_path):
    path = unicond.pictures.metadata.write_png(picture, tmp_path / "given.png", {})
    out = unicond.edit(tiny, str(path), "a blue ball", **WORDS)
    files = {one.name: one for one in out.save(tmp_path / "out")}
    assert set(files) == {"0_image.png", "0_source.png", "0_before.png"}
    record = read_record(files["0_image.png"])
    assert record.task is not None
    assert json.loads(json.dumps(record.task)) == record.task
    again = repeat(tiny, record)
    assert torch.equal(again.latents["image"], out.latents["image"])


def test_memory_is_no_record(tiny, picture):
    out = Edit(picture, "a blue ball", method="sdedit", **WORDS).run(tiny)
    with pytest.raises(ValueError, match="picture of this Edit was given from memory"):
        repeat(tiny, out.record)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "magic"}, r"no method 'magic': write INVERSION\+ATTENTION with one of ddim"),
        ({"method": "ddim+magic"}, "no method 'ddim.magic'"),
        (
            {"source_prompt": "", "method": "direct+p2p"},
            "say what the picture shows with source_prompt",
        ),
        ({"source_prompt": "", "weight": {"ball": 2.0}}, "say what the picture shows"),
        ({"method": "style_injection"}, r"give style \(--style\)"),
        (
            {"style": "look.png", "method": "direct+p2p"},
            r"'direct\+p2p' takes no style: it is of style_injection",
        ),
        ({"style_prompt": "paint"}, r"takes no style_prompt: it is of style_injection"),
        ({"scale": 5.0}, r"'direct\+p2p' takes no scale: it is of semantic; leave it out"),
        ({"align": "magic"}, "align 'magic' is none of swap, refine"),
        (
            {"method": "semantic", "scale": 3.0, "weight": {"a blue ball": 2.0}},
            "weight names the prompt itself, 'a blue ball'",
        ),
        ({"method": "semantic", "per": "voxel"}, "per 'voxel' is none of value, pixel"),
        ({"per": "pixel"}, "takes no per: it is of semantic"),
        ({"method": "direct+pnp", "weight": {"ball": 2.0}}, "no weight: it is of p2p and semantic"),
        ({"method": "direct+masactrl", "align": "swap"}, "takes no align: it is of p2p"),
        ({"method": "sdedit", "subject": "ball"}, "no subject: it is of p2p and masactrl"),
        ({"source_subject": "ball"}, "source_subject is the source's word for a subject"),
        ({"weight": {"cat": 2.0}}, "'cat' not in the prompt 'a blue ball'"),
        ({"subject": "cat"}, "'cat' not in the prompt 'a red ball'"),
        ({"subject": "cat", "source_subject": "ball"}, "'cat' not in the prompt 'a blue ball'"),
        ({"align": "swap", "prompt": "a blue ball there"}, "do not stand one for one"),
        ({"keep": ("depth",), "weight": {"cat": 2.0}}, "'cat' not in the prompt"),
        ({"strength": 0.0}, r"strength 0.0 must be in \(0, 1\]"),
        ({"keep": ("pose",)}, "keep names 'pose', and no adapter of this model is for it; it has"),
        ({"prompt": "something else entirely", "source_prompt": "ball"}, "no word"),
        ({"seed": -1}, "seed -1 is out of range"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_network_runs(
    tiny, picture, arguments, message, monkeypatch
):
    def forbidden(*args, **kwargs):
        raise AssertionError("the network ran")

    monkeypatch.setattr(type(tiny.backbone.network), "forward", forbidden)
    with pytest.raises(ValueError, match=message):
        Edit(picture, **{"prompt": "a blue ball", **WORDS, **arguments}).run(tiny)
