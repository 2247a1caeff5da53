"""The base's training: every field matters, prompts are dropped, samples come from the one loop."""

from dataclasses import replace

import pytest
import torch

from unicond.training import tokenizer
from unicond.training.autoencoder import AutoencoderConfig
from unicond.training.captions import CaptionTable
from unicond.training.loop import seeded
from unicond.training.processes import Part
from unicond.training.text2image import Pictured, TextToImageConfig, TextToImageTask

SMALL = TextToImageConfig(
    block_out_channels=(16, 16),
    head_width=8,
    norm_num_groups=4,
    text_width=16,
    text_layers=1,
    scenes=8,
    normal_scenes=4,
)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    names = ("a", "red", "blue", "ball", "box", "normal", "map", ",")
    return tokenizer.build(names, tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def made(words):
    def make(config):
        generator = torch.Generator().manual_seed(0)
        captions = CaptionTable.of(words, [["a red ball", "a blue box"]] * 8)
        normals = CaptionTable.of(words, [["a box"]] * 4, "normal map, ")
        draws = (torch.randn(n, 4, 16, 16, generator=generator) for n in (8, 4))
        both = tuple(Pictured(x, c) for x, c in zip(draws, (captions, normals), strict=True))
        with seeded(0):
            vae = AutoencoderConfig(
                latent_channels=4, block_out_channels=(4, 4, 8, 8), norm_num_groups=2
            ).build()
            return TextToImageTask(config, vae.eval(), words, both, both[0], torch.device("cpu"))

    return make


def losses(task):
    return task.losses(Part(0, 10), torch.Generator().manual_seed(0)).detach()


def test_every_field_is_used(made):
    plain = losses(made(SMALL))
    for name, value in {
        "block_out_channels": (16, 32),
        "head_width": 16,
        "norm_num_groups": 2,
        "text_width": 32,
        "text_layers": 2,
        "normal_share": 0.5,
        "drop": 0.9,
    }.items():
        assert not torch.equal(losses(made(replace(SMALL, **{name: value}))), plain), name


def test_the_text_is_heard_unless_it_is_dropped(made):
    heard, deaf = made(replace(SMALL, drop=0.0)), made(replace(SMALL, drop=0.999999))
    for task, changes in ((heard, True), (deaf, False)):
        before = losses(task)
        table = task.train[0].captions.table
        kept = table.clone()
        table[:, :, 1:4] = 5
        assert torch.equal(losses(task), before) is not changes
        table.copy_(kept)


def test_parts_of_a_batch_are_the_batch(made):
    task = made(SMALL)
    parts = [
        task.losses(Part(3, 10, process, 2), torch.Generator().manual_seed(0)).detach()
        for process in range(2)
    ]
    assert torch.allclose(torch.cat(parts), losses(task), atol=1e-5)  # sums of other batch sizes


def test_heads_have_their_width(made):
    from diffusers.models.attention_processor import Attention

    unet = made(SMALL).parts["unet"]
    layers = [part for part in unet.modules() if isinstance(part, Attention)]
    assert {part.inner_dim // part.heads for part in layers} == {8}
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    assert all(len(block.attentions) > 0 for block in blocks)  # cross-attention at each level


def test_sample_sheets_come_from_the_one_loop(made, tmp_path, monkeypatch):
    calls = []
    from unicond.training import sampling

    run = sampling.loop.run
    monkeypatch.setattr(sampling.loop, "run", lambda *a: calls.append(a) or run(*a))
    task = made(SMALL)
    task.parts.eval()
    with torch.no_grad():
        task.show(tmp_path)
    assert len(calls) == 1
    assert (tmp_path / "samples.png").stat().st_size > 1000


def test_scores_repeat(made):
    task = made(SMALL)
    task.parts.eval()
    assert task.scores() == task.scores()


def test_bad_recipes_are_refused():
    for changes, message in (
        ({"head_width": 48}, "multiples of head_width"),
        ({"drop": 1.0}, "drop"),
        ({"normal_scenes": 0}, "normal_scenes"),
    ):
        with pytest.raises(ValueError, match=message):
            TextToImageConfig(**changes)
