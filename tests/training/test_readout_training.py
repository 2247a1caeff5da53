"""Readout heads: what they are trained on and scored by, and that they learn."""

from dataclasses import replace

import pytest
import small
import torch

from unicond.training.captions import CaptionTable
from unicond.training.diffusion import Noising, mini_scheduler
from unicond.training.processes import Part
from unicond.training.readout import SCORED, Mapped, ReadoutTask, ReadoutTrainingConfig
from unicond.training.text2image import Pictured

CONFIG = ReadoutTrainingConfig(width=16, variants=1)
N = 6


@pytest.fixture(scope="module")
def base():
    return small.base()


@pytest.fixture
def made(base):
    """Of pictures whose map is their latents' first channel, enlarged by nothing."""

    def make(config=CONFIG):
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(N, 4, 16, 16, generator=generator)
        table = torch.randint(18, (N, 1, 77), generator=generator, dtype=torch.int16)
        pictures = Pictured(latents, CaptionTable(table, torch.full((77,), 19)))
        maps = (latents[:, :1] * 40 + 120).clamp(0, 255).to(torch.uint8)
        data = Mapped(pictures, maps)
        head = config.head(base["unet"], "depth", 1, "test")
        return ReadoutTask(config, head, base, Noising.of(mini_scheduler(), "cpu"), data, data)

    return make


def losses(task, seed=0, part=None):
    return task.losses(part or Part(0, N), torch.Generator().manual_seed(seed))


def changed(task, **changes):
    """The same task, the data of which are changed."""
    task.train = replace(task.train, **changes)
    return task


def test_the_loss_falls_on_a_fixed_batch(made):
    task = made(replace(CONFIG, drop=0.0))
    adam = torch.optim.Adam(task.trained().parameters(), lr=1e-2)
    found = []
    for _ in range(60):
        loss = losses(task).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.3 * found[0]
    assert all(weight.grad is None for weight in (*task.unet.parameters(),))
    assert all(weight.grad is None for weight in (*task.text_encoder.parameters(),))


def test_losses_are_the_errors_of_readings_of_noisy_latents(made):
    """The same draws, the network run by hand and looked into by hooks."""
    task = made()
    found = losses(task, 3).detach()
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(N, (N,), generator=generator)
    dropped = torch.rand(N, generator=generator) < 0.1
    tokens = task.train.pictures.captions.drawn(rows, dropped, generator)
    index = torch.randint(1000, (N,), generator=generator)
    noise = torch.randn(N, 4, 16, 16, generator=generator)
    alpha, sigma = (
        table[index].view(N, 1, 1, 1) for table in (task.noising.alpha, task.noising.sigma)
    )
    noisy = alpha * task.train.pictures.latents[rows] + sigma * noise
    seen = []
    hooks = [
        block.register_forward_hook(lambda _, __, out: seen.append(out))
        for block in task.unet.up_blocks
    ]
    with torch.no_grad():
        task.unet(noisy, index, task.text_encoder(tokens).last_hidden_state)
        t = torch.tensor([task.noising.schedule.time(int(one)) for one in index])
        read = task.head(seen, t)
    for hook in hooks:
        hook.remove()
    wanted = task.train.maps[rows] / 127.5 - 1
    torch.testing.assert_close(
        found, (read - wanted).square().mean((1, 2, 3)), rtol=1e-4, atol=1e-5
    )


def test_parts_of_a_batch_are_the_batch(made):
    task = made()
    parts = [losses(task, part=Part(9, N, number, 3)).detach() for number in range(3)]
    torch.testing.assert_close(torch.cat(parts), losses(task).detach(), rtol=1e-4, atol=1e-5)


def test_the_text_is_heard_unless_it_is_dropped(made):
    for drop, heard in ((0.0, True), (1.0, False)):
        task = made(replace(CONFIG, drop=drop))
        before = losses(task).detach()
        other = replace(task.train.pictures.captions, table=torch.full((N, 1, 77), 5))
        changed(task, pictures=replace(task.train.pictures, captions=other))
        assert torch.equal(losses(task).detach(), before) is not heard


def test_every_field_is_used(made):
    plain = losses(made()).detach()
    for changes in ({"width": 8}, {"drop": 0.9}, {"loop": replace(CONFIG.loop, seed=1)}):
        assert not torch.equal(losses(made(replace(CONFIG, **changes))).detach(), plain), changes


def test_a_head_is_one_of_its_network_and_map(made, base):
    config = CONFIG.head(base["unet"], "pose", 3, "mini@1").config
    assert (config.kind, config.base, config.channels) == ("pose", "mini@1", 3)
    assert (config.blocks, config.width) == ((24, 16), 16)


def test_scores_are_errors_and_shares_of_the_maps_variance(made):
    """A head that always reads one number has scores in closed form."""
    task = made()
    with torch.no_grad():
        task.head.out.weight.zero_()
        task.head.out.bias.fill_(0.3)
    maps = task.held.maps / 127.5 - 1
    error = float((maps - 0.3).square().mean())
    variance = float(maps.var(0, correction=0).mean())
    found = task.scores()
    assert found.pop("held_out_error") == pytest.approx(error, rel=1e-5)
    assert found == {
        f"explained_at_{t}": pytest.approx(1 - error / variance, rel=1e-4) for t in SCORED
    }


def test_scores_repeat_and_are_of_the_held_out(made):
    task = made()
    before = task.scores()
    changed(task, maps=255 - task.train.maps)
    assert task.scores() == before
    task.held = task.train
    assert task.scores() != before


def test_held_out_latents_are_read_at_their_time(made):
    """Pure noise shows nothing of them; later they are seen."""
    task = made()
    before = [task.read(N, t) for t in (1.0, 0.2)]
    task.held = replace(
        task.held, pictures=replace(task.held.pictures, latents=-task.held.pictures.latents)
    )
    after = [task.read(N, t) for t in (1.0, 0.2)]
    assert torch.equal(after[0], before[0])
    assert (after[1] - before[1]).abs().max() > 1e-2


def test_maps_and_readings_are_drawn(made, tmp_path):
    from PIL import Image

    made().show(tmp_path)
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.height > 4 * 64  # the maps, and readings at three times, enlarged
        assert sheet.width > N * 64


def test_bad_recipes_are_refused():
    for changes, words in (
        ({"width": 12}, "multiple of 8"),
        ({"drop": 1.5}, "drop"),
        ({"variants": 0}, "variants"),
    ):
        with pytest.raises(ValueError, match=words):
            ReadoutTrainingConfig(**changes)
