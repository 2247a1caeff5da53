"""Readout heads: what they read, their loss by hand, and their files."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig

from unicond.adapters.readout import (
    CONFIG_FILE,
    MODEL_FILE,
    ReadoutConfig,
    ReadoutHead,
    channels_of,
)

CONFIG = ReadoutConfig(kind="depth", blocks=(16, 8), channels=2, width=8, base="tiny")


@pytest.fixture
def head():
    return ReadoutHead(CONFIG, torch.Generator().manual_seed(0))


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(1)
    shapes = ((3, 16, 4, 2), (3, 8, 8, 4))
    return [torch.randn(shape, generator=generator) for shape in shapes]


T = torch.tensor([0.1, 0.5, 0.9])


def test_a_reading_depends_on_all_features_and_the_time(head, features):
    found = head(features, T)
    assert found.shape == (3, 2, 8, 4)
    assert (head(features, T + 0.05) - found).abs().max() > 1e-3
    for row in range(3):
        alone = head([one[row : row + 1] for one in features], T[row : row + 1])
        torch.testing.assert_close(alone[0], found[row])
    for number in (0, 1):
        others = [one if i != number else one.flip(2) for i, one in enumerate(features)]
        assert (head(others, T) - found).abs().max() > 1e-2
    with pytest.raises(ValueError, match=r"reads blocks of \(16, 8\) channels.*made for 'tiny'"):
        head(features[:1], T)


def test_the_loss_is_each_samples_mean_squared_error(head, features):
    read = head(features, T).detach()
    wanted = read.repeat_interleave(2, 2).repeat_interleave(2, 3)  # twice as fine
    assert head.loss(features, T, wanted).abs().max() < 1e-10
    off = wanted + torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(head.loss(features, T, off), torch.tensor([0.0, 1.0, 4.0]))
    off[:, :, 8:] += 5.0
    known = torch.zeros(3, 1, 16, 8)
    known[:2, :, :8] = 1
    torch.testing.assert_close(head.loss(features, T, off, known), torch.tensor([0.0, 1.0, 0.0]))


def test_training_makes_the_loss_small(head, features):
    wanted = torch.stack([one.flip(1)[:, :2].tanh() for one in features[1:]])[0]
    adam = torch.optim.Adam(head.parameters(), lr=3e-2)
    losses = []
    for _ in range(40):
        loss = head.loss(features, T, wanted).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_a_head_comes_back_as_it_was_saved(head, features, tmp_path):
    head.save_pretrained(tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted([CONFIG_FILE, MODEL_FILE])
    again = ReadoutHead.from_pretrained(tmp_path / "a")
    assert again.config == CONFIG
    assert not any(weight.requires_grad for weight in again.parameters())
    assert torch.equal(again(features, T), head(features, T))
    head.save_pretrained(tmp_path / "a", dtype=torch.float16)
    half = ReadoutHead.from_pretrained(tmp_path / "a")
    assert half.out.weight.dtype == torch.float32
    torch.testing.assert_close(half(features, T), head(features, T), rtol=0, atol=1e-2)
    with torch.no_grad():
        head.out.bias[0] = torch.inf
    with pytest.raises(ValueError, match=r"out\.bias holds values that are not finite"):
        head.save_pretrained(tmp_path / "b")


def test_damaged_folders_are_refused(head, tmp_path):
    with pytest.raises(FileNotFoundError, match="no readout head"):
        ReadoutHead.from_pretrained(tmp_path / "nothing")
    head.save_pretrained(tmp_path)
    path = tmp_path / CONFIG_FILE
    good = json.loads(path.read_text())
    bad = {
        "describes something else, not a readout head": {**good, "type": "unicond.joint"},
        "has format 7": {**good, "format": 7},
        r"unknown fields \['more'\]": {**good, "more": 1},
        "multiples of 8": {**good, "width": 12},
        "integers of at least 1": {**good, "blocks": [16, "8"]},
        "blocks are 16; they must be a list": {**good, "blocks": 16},
        "kind is ''": {**good, "kind": ""},
        r"taken\.0\.weight has shape": {**good, "width": 16},
        r"not expected \(first: taken\.1": {**good, "blocks": [16]},
    }
    for said, content in bad.items():
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=said):
            ReadoutHead.from_pretrained(tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        ReadoutHead.from_pretrained(tmp_path)
    path.write_text(json.dumps(good))
    (tmp_path / MODEL_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=MODEL_FILE):
        ReadoutHead.from_pretrained(tmp_path)


def test_channels_are_those_of_the_networks_blocks(tiny):
    assert channels_of(tiny.backbone.network) == (64, 32)
    adapted = copy.deepcopy(tiny.backbone.network)
    adapted.add_adapter(LoraConfig(r=2, target_modules=["conv2"]))
    assert channels_of(adapted) == (64, 32)
    with pytest.raises(ValueError, match="no up_blocks"):
        channels_of(torch.nn.Linear(1, 1))


def test_the_error_is_said_where_it_was_measured(head, tmp_path):
    head.save_pretrained(tmp_path / "plain")
    assert "error" not in json.loads((tmp_path / "plain" / CONFIG_FILE).read_text())
    head.config = replace(CONFIG, error=0.02)
    head.save_pretrained(tmp_path / "told")
    assert ReadoutHead.from_pretrained(tmp_path / "told").config.error == 0.02
    for wrong in (0.0, -1.0, True, "small"):
        with pytest.raises(ValueError, match="give a number above 0, or leave it out"):
            replace(CONFIG, error=wrong)
