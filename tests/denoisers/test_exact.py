"""The closed-form denoisers, against each other and the textbook."""

import pytest
import torch

from unicond.denoisers.exact import JointGaussian, PixelGaussian
from unicond.sampling.noise import Generators
from unicond.sampling.schedules import FlowSchedule
from unicond.sampling.state import State

SCHEDULE = FlowSchedule()
SHAPE = (2, 1, 2, 3)


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def state(t, latents=None):
    latents = random(*SHAPE) if latents is None else latents
    return State({"image": latents}, {"image": t}, SCHEDULE, Generators([1, 2]))


@pytest.mark.parametrize("t", [1.0, 0.4, 0.0])
def test_pixels_that_do_not_correlate_are_one_branch(t):
    """The same Gaussian in each pixel, said in two ways."""
    one = torch.tensor([[1.7]]).double()
    branch = JointGaussian(("image",), one, {"positive": torch.tensor([0.3]).double()})
    pixels = PixelGaussian(1.7 * torch.eye(6).double(), torch.full((6,), 0.3).double())
    want, found = (denoiser(state(t))[0]["image"] for denoiser in (branch, pixels))
    assert torch.allclose(found.x0, want.x0, atol=1e-12)
    assert torch.allclose(found.eps, want.eps, atol=1e-12)


def test_correlated_pixels_are_predicted_by_regression():
    """`E[x0 | latents]` from the joint covariance of both; a singular prior too."""
    root, mean = random(6, 4, seed=3), random(6, seed=4)
    covariance, t = root @ root.T, 0.6
    alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    latents = random(*SHAPE)
    found = PixelGaussian(covariance, mean)(state(t, latents))[0]["image"]
    noisy = alpha**2 * covariance + sigma**2 * torch.eye(6).double()
    slope = torch.linalg.solve(noisy, alpha * covariance)
    want = mean + (latents.flatten(1) - alpha * mean) @ slope
    assert torch.allclose(found.x0.flatten(1), want, atol=1e-12)
    assert torch.allclose(alpha * found.x0 + sigma * found.eps, latents, atol=1e-12)
