"""Image encoders: what they are trained on and scored by, and that they learn."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from unicond.training.captions import CaptionTable
from unicond.training.image_encoder import Captioned, ImageEncoderConfig, ImageEncoderTask, Styled
from unicond.training.image_prompt_stages import embedded
from unicond.training.loop import seeded
from unicond.training.presets import mini
from unicond.training.processes import Part

CONFIG = ImageEncoderConfig(size=16, patch=8, width=16, layers=1, head_width=8, embedding=8)
N = 8
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
"""CLIP's."""


@pytest.fixture(scope="module")
def text_encoder():
    with seeded(0):
        text = CLIPTextConfig(
            vocab_size=20,
            hidden_size=12,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=18,
            eos_token_id=19,
        )
        return CLIPTextModel(text)


@pytest.fixture
def made(text_encoder):
    """Eight pictures of noise, in two wordings each; picture n is of style n modulo 6."""

    def make(config=CONFIG):
        generator = torch.Generator().manual_seed(0)
        pictures = torch.randint(256, (N, 3, 16, 16), generator=generator, dtype=torch.uint8)
        words = torch.randint(18, (N, 6, 77), generator=generator, dtype=torch.int16)
        words[..., 9:] = 19
        data = Captioned(pictures, CaptionTable(words[:, :2], torch.full((77,), 19)))
        styles = torch.arange(N) % 6
        own = replace(data.captions, table=words[torch.arange(N), styles][:, None])
        held = Styled(replace(data, captions=own), words, styles)
        with seeded(config.loop.seed):
            contrast = config.contrast(12)
        return ImageEncoderTask(config, contrast, text_encoder, data, held)

    return make


def losses(task, seed=0, part=None):
    return task.losses(part or Part(0, N), torch.Generator().manual_seed(seed))


def trained(task, steps):
    adam = torch.optim.Adam(task.trained().parameters(), lr=3e-3)
    for step in range(steps):
        loss = losses(task, step).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return loss.item()


def test_it_learns_to_find_words(made):
    task = made()
    task.held = replace(task.held, pictures=task.train)
    before, first = task.scores(), losses(task).mean().item()
    assert trained(task, 150) < 0.3 * first
    assert task.scores()["caption"] > max(before["caption"], 0.7)
    assert all(weight.grad is None for weight in task.text_encoder.parameters())


def test_losses_are_those_of_finding_the_right_words(made):
    """By hand: the same draws, no word of the same scene or of equal words is a wrong one."""
    task = made()
    table = task.train.captions.table
    table[1] = table[0]  # two scenes of which the same is said
    found = losses(task, 3).detach()
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(N, (N,), generator=generator)
    assert len(set(rows.tolist())) < N
    assert {0, 1} <= set(rows.tolist())
    said = table[rows, torch.randint(2, (N,), generator=generator)].long()
    with torch.no_grad():
        words = task.contrast.words(task.text_encoder(said).pooler_output)
        pictures = (task.train.pictures[rows] / 255 - MEAN) / STD
        seen = task.contrast.vision(pictures).image_embeds
    for n in range(N):
        right = functional.cosine_similarity(seen[n], words[n], dim=0)
        wrong = [
            functional.cosine_similarity(seen[n], words[m], dim=0)
            for m in range(N)
            if rows[m] != rows[n] and not torch.equal(said[m], said[n])
        ]
        scores = torch.stack([right, *wrong]) / 0.07
        torch.testing.assert_close(found[n], -scores.log_softmax(0)[0], rtol=1e-4, atol=1e-4)


def test_parts_of_a_batch_are_the_batch(made):
    task = made()
    parts = [losses(task, part=Part(9, N, number, 2)).detach() for number in range(2)]
    torch.testing.assert_close(torch.cat(parts), losses(task).detach(), rtol=1e-4, atol=1e-5)


def test_the_scale_is_limited(made):
    contrast = made().contrast
    assert contrast.scale().item() == pytest.approx(1 / 0.07, rel=1e-5)
    with torch.no_grad():
        contrast.heat.fill_(9.0)
    assert contrast.scale().item() == 100


def test_scores_are_shares_of_what_is_nearest(made):
    """With words as pictures, all is right; with another style's words, no style is."""
    task = made()

    def sees(rows):
        with torch.no_grad():
            words = task.text_encoder(rows.long()).pooler_output
            vectors = iter([task.contrast.texts(words)])
        task.contrast.pictures = lambda _: next(vectors)

    sees(task.held.pictures.captions.table[:, 0])
    assert task.scores() == {"style": 1.0, "caption": 1.0}
    sees(task.held.every[torch.arange(N), (task.held.styles + 1) % 6])
    assert task.scores()["style"] == 0.0


def test_what_is_kept_sees_pictures_as_it_was_trained_to(made):
    task = made()
    encoder = task.contrast.encoder()
    values = task.train.pictures[:1]
    picture = values[0] / 127.5 - 1
    torch.testing.assert_close(encoder.preprocess(picture), (values[0] / 255 - MEAN) / STD)
    with torch.no_grad():
        wanted = task.contrast.pictures(values)[0]
    found = functional.normalize(encoder.embed([picture])[0], dim=0)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(embedded(encoder, values)[0], encoder.embed([picture])[0])


def test_neighbours_are_drawn(made, tmp_path):
    from PIL import Image

    made().show(tmp_path)
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.height >= N * 16
        assert sheet.width >= N * 16


def test_every_field_is_used(made):
    shapes = {"patch": 4, "width": 24, "layers": 2, "head_width": 16, "embedding": 9}
    plain = losses(made()).detach()
    for name, value in shapes.items():
        assert not torch.equal(losses(made(replace(CONFIG, **{name: value}))).detach(), plain), name
    assert made(replace(CONFIG, size=24)).contrast.vision.config.image_size == 24


def test_the_shipped_size():
    config = mini().image_encoder
    with torch.device("meta"):
        vision = config.contrast(128).vision
    count = sum(value.numel() for value in vision.parameters())
    assert 1.0e6 < count < 1.2e6


def test_bad_recipes_are_refused():
    for changes, words in (
        ({"patch": 7}, "multiple of patch"),
        ({"width": 20}, "multiple of head_width"),
        ({"layers": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(CONFIG, **changes)
