"""Image prompt adapters: what they are trained on and scored by, and that they learn."""

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from unicond.adapters.image_prompt.attach import Attachment
from unicond.training import image_prompt, sampling, tokenizer
from unicond.training.captions import CaptionTable
from unicond.training.diffusion import Noising, mini_scheduler
from unicond.training.image_prompt import (
    Alike,
    ImagePromptTask,
    ImagePromptTrainingConfig,
    Prompted,
)
from unicond.training.loop import seeded
from unicond.training.presets import mini
from unicond.training.processes import Part
from unicond.training.text2image import Pictured, TextToImageConfig

CONFIG = ImagePromptTrainingConfig(tokens=2, variants=1)
N, E = 8, 6


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    with seeded(0):
        words = tokenizer.build(("a", "red", "ball"), tmp_path_factory.mktemp("words"))
        text = CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=len(words) - 2,
            eos_token_id=len(words) - 1,
        )
        shape = TextToImageConfig(
            block_out_channels=(16, 24), head_width=8, norm_num_groups=4, text_width=16
        )
        vae = AutoencoderKL(block_out_channels=(4, 4), norm_num_groups=2, latent_channels=4)
        noising = Noising.of(mini_scheduler(), "cpu")
        parts = sampling.Parts(shape.unet(4), CLIPTextModel(text), words, noising.schedule)
        return parts, vae, noising


@pytest.fixture
def made(base):
    """Of pictures in two groups, whose embeddings tell their latents."""

    def make(config=CONFIG):
        parts, vae, noising = base
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(N, 4, 16, 16, generator=generator)
        table = torch.randint(3, (N, 2, 77), generator=generator, dtype=torch.int16)
        pictures = Pictured(latents, CaptionTable(table, torch.full((77,), 4)))
        embeds = torch.randn(N, E, generator=generator)
        shown = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
        alike = Alike.of([row % 2 for row in range(N)], "cpu")
        styled = torch.arange(N) % 4 == 0
        data = Prompted(pictures, embeds, alike, styled, shown)
        adapter = config.adapter(parts.unet, E, "test")
        return ImagePromptTask(config, adapter, parts, vae, noising, data, data)

    return make


def losses(task, seed=0, part=None):
    return task.losses(part or Part(0, N), torch.Generator().manual_seed(seed))


def test_another_one_that_is_alike():
    keys = ["a", "b", "a", "c", "a", "b"]
    alike = Alike.of(keys, "cpu")
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(6).repeat(300)
    found = alike.another(rows, generator)
    seen = {row: set(found[rows == row].tolist()) for row in range(6)}
    assert seen == {0: {2, 4}, 1: {5}, 2: {0, 4}, 3: {3}, 4: {0, 2}, 5: {1}}
    share = (found[rows == 0] == 2).float().mean()
    assert abs(share.item() - 0.5) < 0.12  # 4 standard errors of 300 draws


def test_other_styles_than_photos_are_drawn_more_often(made):
    data, count = made().train, 3000

    def share(styled):
        rows = data.drawn(count, styled, torch.Generator().manual_seed(0))
        found = rows.bincount(minlength=N) / count
        return found[data.styled], found[~data.styled]

    styled, photos = share(0.6)  # two of eight; four standard errors
    assert styled.tolist() == pytest.approx([0.3] * 2, abs=0.034)
    assert photos.tolist() == pytest.approx([0.4 / 6] * 6, abs=0.02)
    data = replace(data, styled=torch.ones(N, dtype=torch.bool))
    assert share(0.0)[0].tolist() == pytest.approx([1 / N] * N, abs=0.025)


def test_the_loss_falls_on_a_fixed_batch(made):
    task = made(replace(CONFIG, drop=0.0, other=0.0))
    adam = torch.optim.Adam(task.trained().parameters(), lr=3e-2)
    found = []
    for _ in range(25):
        loss = losses(task).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        found.append(loss.item())
    assert found[-1] < 0.9 * found[0]
    assert all(weight.grad is not None for weight in task.adapter.parameters())
    frozen = (*task.unet.parameters(), *task.text_encoder.parameters())
    assert all(weight.grad is None for weight in frozen)


def test_losses_are_errors_of_the_base_with_the_drawn_pictures(made):
    """The same draws by hand: 64 samples, of whose words and pictures some are dropped."""
    task, count = made(), 64
    found = losses(task, 3, Part(0, count)).detach()
    generator = torch.Generator().manual_seed(3)
    rows = task.train.drawn(count, 0.6, generator)
    fate = torch.rand(count, generator=generator)
    only_words, only_picture = fate < 0.05, (fate >= 0.05) & (fate < 0.1)
    both = (fate >= 0.1) & (fate < 0.15)
    assert min(int(one.sum()) for one in (only_words, only_picture, both)) > 0
    data = task.train
    tokens = data.pictures.captions.drawn(rows, only_words | both, generator)
    other = torch.rand(count, generator=generator) < 0.6
    another = data.alike.another(rows, generator)
    embeds = data.embeds[torch.where(other, another, rows)]
    embeds[only_picture | both] = 0
    index = task.noising.spread(count, generator)
    noise = torch.randn(count, 4, 16, 16, generator=generator)
    alpha, sigma = (
        values[index].view(-1, 1, 1, 1) for values in (task.noising.alpha, task.noising.sigma)
    )
    x0 = data.pictures.latents[rows]
    with torch.no_grad(), Attachment(task.unet, task.adapter, embeds[:, None], without=()).active():
        hidden = task.text_encoder(tokens).last_hidden_state
        output = task.unet(alpha * x0 + sigma * noise, index, hidden).sample
    wanted = (output - (alpha * noise - sigma * x0)).square().mean((1, 2, 3))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_parts_of_a_batch_are_the_batch(made):
    task = made()
    parts = [losses(task, part=Part(9, N, number, 2)).detach() for number in range(2)]
    torch.testing.assert_close(torch.cat(parts), losses(task).detach(), rtol=1e-4, atol=1e-5)


def test_every_field_is_used(made):
    plain = losses(made()).detach()
    for changes in (
        {"tokens": 3},
        {"drop": 0.3},
        {"other": 1.0},
        {"styled": 0.0},
        {"loop": replace(CONFIG.loop, seed=1)},
    ):
        assert not torch.equal(losses(made(replace(CONFIG, **changes))).detach(), plain), changes


def test_scores_are_of_the_held_out_with_and_without(made):
    task = made()
    before = task.scores()
    assert before == task.scores()
    assert set(before) == {"v_error_without", "v_error_another", "v_error_itself"}
    assert len(set(before.values())) == 3
    alone = Alike.of(range(N), "cpu")
    task.held = replace(task.held, alike=alone)
    found = task.scores()
    assert found["v_error_another"] == found["v_error_itself"] == before["v_error_itself"]
    with torch.no_grad():
        for value in task.adapter.parameters():
            value.zero_()
    found = task.scores()
    assert found["v_error_itself"] == pytest.approx(before["v_error_without"], rel=1e-6)
    table = task.held.pictures.captions.table.clone()
    table[:, 0] = 1  # captions that say the style are not scored
    pictures = task.held.pictures
    captions = replace(pictures.captions, table=table)
    task.held = replace(task.held, pictures=replace(pictures, captions=captions))
    assert task.scores() == found


def test_pictures_are_drawn(made, tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(image_prompt, "SHEET_PROMPTS", ("a red ball",))
    made().show(tmp_path)
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.height >= 2 * 32
        assert sheet.width >= 3 * 32


def test_the_shipped_size():
    recipes = mini()
    with torch.device("meta"):
        unet = recipes.text2image.unet(recipes.vae.latent_channels)
        vision = recipes.image_encoder.contrast(recipes.text2image.text_width).vision
    adapter = recipes.image_prompt.adapter(unet.to_empty(device="cpu"), 128, "mini")
    assert adapter.config.embedding == recipes.image_encoder.embedding
    count = sum(value.numel() for one in (vision, adapter) for value in one.parameters())
    assert 2 * count < 4e6


def test_bad_recipes_are_refused():
    for changes, words in (
        ({"drop": 0.4}, "drop"),
        ({"other": 1.5}, "other"),
        ({"styled": -0.5}, "styled"),
        ({"tokens": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(CONFIG, **changes)
