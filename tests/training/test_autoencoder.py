"""The autoencoder's task: its latents are normalised without changing a picture."""

from dataclasses import replace

import pytest
import torch

from unicond.data import latents
from unicond.training.autoencoder import AutoencoderConfig, AutoencoderTask, charbonnier
from unicond.training.loop import seeded
from unicond.training.processes import Part

SMALL = AutoencoderConfig(
    latent_channels=4, block_out_channels=(4, 4, 8, 8), norm_num_groups=2, scenes=16
)


def pictures(count=16, size=32):
    generator = torch.Generator().manual_seed(0)
    draws = {"image": 3, "depth": 1, "normals": 3, "edges": 1, "skeleton": 3, "segmentation": 3}
    return {
        name: torch.randint(
            256, (count, channels, size, size), dtype=torch.uint8, generator=generator
        )
        for name, channels in draws.items()
    }


def task(config=SMALL):
    with seeded(0):
        return AutoencoderTask(config, pictures(), pictures())


def losses(config):
    made = task(config)
    return made.losses(Part(0, 8), torch.Generator().manual_seed(1)).detach()


def test_a_batch_has_pictures_and_every_drawing():
    batch = task(replace(SMALL, picture_share=0.5)).batch(12, torch.Generator().manual_seed(0))
    assert batch.shape == (12, 3, 32, 32)
    grey = (batch[:, 0] == batch[:, 1]).flatten(1).all(1)
    assert 0 < int(grey.sum()) < 6  # depth and edges have one channel


def test_parts_of_a_batch_are_the_batch():
    made = task()
    parts = [
        made.losses(Part(0, 8, process, 2), torch.Generator().manual_seed(1)).detach()
        for process in range(2)
    ]
    assert torch.allclose(torch.cat(parts), losses(SMALL), atol=1e-5)  # sums of other batch sizes


def test_finishing_centres_and_scales_the_latents_and_keeps_the_pictures():
    made = task()
    made.vae.eval()
    given = latents.as_picture(made.train["image"])
    before = made.reconstruct(given)
    vae = made.finish()
    found = latents.encode(vae, given)
    assert float(found.mean((0, 2, 3)).abs().max()) < 1e-3
    assert float(found.std()) == pytest.approx(1.0, abs=1e-2)
    assert torch.allclose(latents.decode(vae, found), before, atol=1e-4)


def test_the_loss_of_a_perfect_picture_is_zero():
    zero = torch.zeros(2, 3, 8, 8)
    assert torch.equal(charbonnier(zero), torch.zeros(2))


def test_every_field_is_used():
    plain = losses(SMALL)
    for name, value in {
        "latent_channels": 6,
        "block_out_channels": (4, 8, 8, 8),
        "layers_per_block": 2,
        "norm_num_groups": 4,
        "drawings": ("normals",),
        "picture_share": 0.2,
        "kl_weight": 0.1,
        "gradient_weight": 2.0,
        "coarse_weight": 0.0,
    }.items():
        assert not torch.equal(losses(replace(SMALL, **{name: value})), plain), name


def test_bad_recipes_are_refused():
    for changes, words in (
        ({"latent_channels": 0}, "1 to 16"),
        ({"block_out_channels": (4, 8)}, "four levels"),
        ({"drawings": ("image",)}, "drawings"),
        ({"picture_share": 1.5}, "picture_share"),
        ({"kl_weight": -1.0}, "negative"),
    ):
        with pytest.raises(ValueError, match=words):
            AutoencoderConfig(**changes)


def test_it_learns_every_drawing_of_the_world():
    from unicond.data.renders import PICTURES

    assert set(AutoencoderConfig().drawings) == set(PICTURES) - {"image"}
