"""Attention in slices: the numbers of attention all at once, of fewer scores at a time."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.overrides import TorchFunctionMode
from typer.testing import CliRunner

import unicond
from unicond.cli import app
from unicond.sampling import slicing
from unicond.sampling.rows import Rows, Variant, current

PICTURE = Image.linear_gradient("L").resize((64, 64))
ONE_HEAD = 64 * 77  # of the tiny base: every place by every word


class Scores(TorchFunctionMode):
    """The largest number of scores of an attention inside of a network call."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        del types
        if func is F.scaled_dot_product_attention and current() is not None:
            q, k = args[:2]
            self.most = max(self.most, q.shape[:-1].numel() * k.shape[-2])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options",
    [
        {"branches": ["image"]},
        {},
        {"depth": PICTURE, "held": "two_way", "branches": ["image"]},
        {"depth": PICTURE, "held": "one_way", "attention": "aligned", "branches": ["image"]},
        {"depth": PICTURE, "perturbed_guidance": 1.0, "branches": ["image"]},
    ],
)
def test_slices_give_the_same_pictures(tiny, monkeypatch, options):
    monkeypatch.setattr(slicing, "SCORES", ONE_HEAD)
    sliced = replace(tiny, backbone=replace(tiny.backbone, slicing=True))
    told = {"prompt": "a dog", "num_inference_steps": 2, "guidance_scale": 2.0, "seed": [3, 4]}
    with Scores() as whole:
        want = tiny(**told, **options).latents["image"]
    with Scores() as parts:
        found = sliced(**told, **options).latents["image"]
    assert parts.most == ONE_HEAD < whole.most
    torch.testing.assert_close(found, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scores", [1, 15, 30, 60, 100, 10**6])
@pytest.mark.parametrize(
    "mask", [None, (5, 3), (3, 4, 5, 3), (1, 1, 1, 3), (3, 1, 5, 3), (1, 4, 1, 3)]
)
def test_every_size_of_slice(monkeypatch, scores, mask):
    """Some heads of a row, a row, several rows: three rows of four heads of 15 scores."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 4, n, 6, generator=generator) for n in (5, 3, 3))
    seen = None if mask is None else torch.randn(mask, generator=generator)
    want = slicing.attention(q, k, v, seen)
    assert torch.equal(want, F.scaled_dot_product_attention(q, k, v, attn_mask=seen))
    monkeypatch.setattr(slicing, "SCORES", scores)
    with Rows((Variant(),), ("image",), 3, slicing=True).active(), Scores() as parts:
        found = slicing.attention(q, k, v, seen)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-6)
    assert parts.most <= max(15, scores)


def test_it_is_off_unless_asked_for(tiny_base):
    assert not unicond.load(tiny_base).backbone.slicing
    assert unicond.load(tiny_base, slicing=True).backbone.slicing


def test_it_is_asked_for_on_the_command_line(tiny_base, tmp_path, monkeypatch):
    monkeypatch.setattr(slicing, "SCORES", ONE_HEAD)
    line = ["generate", "--base", str(tiny_base), "--steps", "1", "--out", str(tmp_path)]
    with Scores() as parts:
        made = CliRunner().invoke(app, [*line, "--slicing"])
    assert made.exit_code == 0, made.output
    assert parts.most == ONE_HEAD
