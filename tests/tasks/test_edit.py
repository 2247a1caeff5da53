"""Edits of a given picture: what each method keeps, and what it refuses."""

import json
from itertools import product

import pytest
import torch

import unicond
import unicond.pictures.metadata
from unicond.calls.output import read_record
from unicond.calls.rerun import repeat
from unicond.tasks.edit import ALONE, ATTENTIONS, INVERSIONS, NAMED, Edit

WORDS = {"source_prompt": "a red ball", "num_inference_steps": 3, "guidance_scale": 3.0}
ROUNDING = 1e-4  # of latents near 1, over some steps in float32


@pytest.fixture
def picture():
    return torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("method", [*NAMED, *ALONE, "direct"])
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


def test_named_pairs_are_methods():
    assert len(set(NAMED)) == 10
    for inversion, attention in product(INVERSIONS, ("", *ATTENTIONS)):
        method = f"{inversion}+{attention}" if attention else inversion
        Edit("x.png", "a", source_prompt="b", method=method)


def test_an_edit_under_the_depth_of_the_picture_itself(tiny, picture):
    out = Edit(picture, "a blue ball", keep=("depth",), **WORDS).run(tiny)
    read = tiny(image=picture, branches=["depth"])
    assert torch.equal(out.pictures["depth"], read.pictures["depth"])
    free = Edit(picture, "a blue ball", **WORDS).run(tiny)
    assert not torch.allclose(out.latents["image"], free.latents["image"])


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
        ({"source_prompt": ""}, "say what the picture shows with source_prompt"),
        ({"method": "style_injection"}, r"give style \(--style\)"),
        ({"style": "look.png"}, "'direct.p2p' takes no picture of a style"),
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
