"""Measurements: what is refused, and restoration on decoded pictures."""

from types import SimpleNamespace

import pytest
import torch
from measured import SHAPE, TRUTH, Fixed, dense, gaussian, measured, random, sample, start
from torch import nn

import unicond
from unicond.mechanisms.correction.ccdf import CCDF
from unicond.mechanisms.guidance.dps import DPS
from unicond.mechanisms.guidance.mcg import MCG
from unicond.mechanisms.guidance.pigdm import PiGDM
from unicond.mechanisms.measurement import Decoded, Measurement, Pixels, space_of
from unicond.mechanisms.process.ddnm import DDNM
from unicond.mechanisms.process.ddrm import DDRM
from unicond.operators.resizing import super_resolution

PICTURE, LATENTS = (3, 4, 4), (12, 2, 2)
SOLVING = {
    "ddnm": lambda m: DDNM(measurement=m),
    "ddrm": lambda m: DDRM(measurement=m),
    "dps": lambda m: DPS(measurement=m, scale=0.3),
    "mcg": lambda m: MCG(measurement=m, scale=0.3),
    "pigdm": lambda m: PiGDM(measurement=m),
}


class Shuffling(nn.Module):
    """An autoencoder without loss: latents are blocks of 2 x 2 pixels."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()).double(), requires_grad=False)
        self.config = {"scaling_factor": scale, "shift_factor": 0.1}

    def decode(self, z):
        return SimpleNamespace(sample=nn.functional.pixel_shuffle(self.weight * z, 2))


class Shuffled:
    """What `Decoded` asks of a backbone, around that autoencoder."""

    factor = 2

    def __init__(self, scale=1.0):
        self.vae, self.scale = Shuffling(scale), scale

    def encode(self, pictures):
        return self.scale * (nn.functional.pixel_unshuffle(pictures, 2) - 0.1)


def test_decoding_and_encoding_are_the_autoencoders():
    space, latents, wanted = Decoded(Shuffled(0.5)), random(2, *LATENTS), random(2, *PICTURE)
    picture = space.decode(latents)
    assert torch.allclose(picture, nn.functional.pixel_shuffle(latents / 0.5 + 0.1, 2))
    assert torch.allclose(space.decode(space.changed(latents, picture, wanted)), wanted)
    assert torch.equal(space.changed(latents, picture, picture), latents)
    assert space.shape(latents) == PICTURE
    leaf = latents.clone().requires_grad_()
    assert torch.autograd.grad(space.decode(leaf).sum(), leaf)[0].eq(2.0).all()


@pytest.mark.parametrize("name", [*SOLVING, "ccdf"])
def test_decoded_pictures_are_restored_as_pictures_are(name):
    """An autoencoder without loss or scale changes nothing but the shape.

    Without noise: what is drawn for latents is another draw, and DDRM's free part is not the same.
    """
    operator = super_resolution(PICTURE, 2)
    values = operator.forward(random(2, *PICTURE, seed=4))
    prior = gaussian(torch.eye(48).double(), torch.zeros(48).double())
    found = {}
    noise = Fixed()
    for space in (Pixels(), Decoded(Shuffled())):
        m = Measurement(operator=operator, values=values, noise_std=0.0, space=space)
        latents = random(2, *PICTURE)
        estimate = torch.zeros(1, *PICTURE).double()
        if isinstance(space, Decoded):  # latents are 0.1 less than pictures: so is their mean
            latents, estimate = (space.backbone.encode(v + 0.1) for v in (latents, estimate))
            prior = gaussian(prior.covariance, torch.full((48,), -0.1).double())
        method = CCDF(measurement=m, estimate=estimate) if name == "ccdf" else SOLVING[name](m)
        t = 0.4 if name == "ccdf" else 1.0
        out = sample([method], 10, latents=latents, noise=noise, denoiser=prior, t=t)
        shape = PICTURE if isinstance(space, Pixels) else LATENTS
        found[type(space)] = space.decode(out.view(2, *shape))
    if name in ("ddnm", "ddrm", "ccdf"):
        assert m.gap(found[Decoded]).abs().max() < 1e-10
    if name in ("ddnm", "dps", "pigdm"):
        assert torch.allclose(found[Decoded], found[Pixels], atol=1e-6)
    start_gap = m.gap(Decoded(Shuffled()).decode(latents))
    assert m.gap(found[Decoded]).norm() < start_gap.norm()


def test_a_whole_model_is_conditioned_beside_its_depth(tiny):
    """Through the public call, on a latent model with random weights and a held branch."""
    backbone = tiny.backbone
    side = backbone.factor * 8
    operator = super_resolution((3, side, side), 4)
    values = operator.forward(random(1, 3, side, side, seed=4).clamp(-1, 1).float())
    m = Measurement(operator=operator, values=values, noise_std=0.0, space=Decoded(backbone))
    depth = random(3, side, side, seed=5).clamp(-1, 1).float()
    photo = random(3, side, side, seed=6).clamp(-1, 1).float()
    options = {"depth": depth, "branches": ["image"], "num_inference_steps": 2, "seed": [1, 2]}
    plain = tiny("", **options)
    for make in SOLVING.values():
        found = tiny("", **options, mechanisms=[make(m)])
        assert found.latents["image"].isfinite().all()
        assert not torch.allclose(found.latents["image"], plain.latents["image"], atol=1e-4)
        assert torch.equal(found.pictures["depth"][0], depth)
    start_at = CCDF(measurement=m, estimate=backbone.encode(photo[None]))
    late = tiny("", **options, image=unicond.given(photo, noise=0.3), mechanisms=[start_at])
    assert late.latents["image"].isfinite().all()


@pytest.mark.parametrize("noise_std", [None, -0.1, float("nan"), float("inf")])
def test_the_noise_is_asked_for(noise_std):
    with pytest.raises(ValueError, match="say how noisy the measurement is"):
        measured(noise_std=noise_std)


def test_the_noise_has_no_default():
    with pytest.raises(TypeError, match="noise_std"):
        Measurement(operator=dense(), values=torch.zeros(1, 3))


@pytest.mark.parametrize("name", SOLVING)
def test_measurements_that_do_not_fit_are_refused_before_sampling(name):
    operator, truth = dense(), TRUTH.view(1, *SHAPE)
    with pytest.raises(ValueError, match=r"measurements of shape \(1, 2\) do not fit"):
        Measurement(operator=operator, values=torch.zeros(1, 2), noise_std=0.0)
    other = start(torch.zeros(2, 1, 2, 2).double())
    with pytest.raises(ValueError, match=r"pictures of \(1, 2, 3\), but those of 'image' are"):
        SOLVING[name](measured()).begin(other)
    three = operator.forward(truth.expand(3, *SHAPE))
    m = Measurement(operator=operator, values=three, noise_std=0.0)
    with pytest.raises(ValueError, match="3 measurements were given for 2 samples"):
        SOLVING[name](m).begin(start(torch.zeros(2, *SHAPE).double()))
    elsewhere = start().__class__(
        {"pose": torch.zeros(1, *SHAPE)}, {"pose": 1.0}, start().schedule, Fixed()
    )
    with pytest.raises(ValueError, match="'image' was measured, but the branches of this run are"):
        SOLVING[name](measured()).begin(elsewhere)


def test_the_space_is_the_bases_own():
    latent = Shuffled()
    space = space_of(latent)
    assert isinstance(space, Decoded)
    assert space.backbone is latent
    bare = SimpleNamespace(vae=None, factor=1)
    assert space_of(bare) == Pixels()
    with pytest.raises(ValueError, match=r"use Pixels\(\), or space_of\(\)"):
        Decoded(bare)
