"""What a measurement says of pictures, against matrices written out."""

import pytest
import torch

from unicond.mechanisms.measurement import Measurement
from unicond.operators.registry import make_operator
from unicond.sampling.schedules import FlowSchedule
from unicond.tasks.likelihoods import gain_of, noisy_likelihood, residual_energy

SHAPE = (3, 8, 8)
SIZE = 192


def matrix(operator):
    """A, (m, n)."""
    basis = torch.eye(SIZE, dtype=torch.float64).view(SIZE, *SHAPE)
    return operator.forward(basis).flatten(1).T


def known(text, noise):
    operator = make_operator(text, SHAPE)
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(1, *SHAPE, generator=generator, dtype=torch.float64)
    return Measurement(operator=operator, values=operator.forward(clean), noise_std=noise)


@pytest.mark.parametrize(("text", "noise"), [("sr2", 0.0), ("blur:1", 0.1), ("inpaint-box", 0.0)])
def test_the_likelihood_is_that_of_a_unit_gaussian_prior(text, noise):
    """E[x0 | x_t] and Var[x0 | x_t] of x0 ~ N(0, I), measured; ratios of two places compared."""
    seen, schedule = known(text, noise), FlowSchedule()
    said = noisy_likelihood(seen, schedule)
    a, y = matrix(seen.operator), seen.values.flatten().double()
    places = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    rank = torch.linalg.matrix_rank(a)
    for t in (0.9, 0.3):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        whole = alpha**2 + sigma**2
        covariance = sigma**2 / whole * a @ a.T + noise**2 * torch.eye(len(a)).double()
        left, values, _ = torch.linalg.svd(covariance)
        inverse = left[:, :rank] / values[:rank] @ left[:, :rank].T
        gaps = y - alpha / whole * places.flatten(1) @ a.T
        wanted = -0.5 * ((gaps @ inverse) * gaps).sum(1)
        found = said(places, t)
        assert torch.allclose(found[0] - found[1], wanted[0] - wanted[1], rtol=1e-6)


def test_its_gradient_leads_to_what_measures_so():
    seen, schedule = known("sr2", 0.0), FlowSchedule()
    said = noisy_likelihood(seen, schedule)
    latents = torch.zeros(1, *SHAPE, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(said(latents, 0.5).sum(), latents)
    alpha, sigma = schedule.alpha(0.5), schedule.sigma(0.5)
    moved = sigma**2 / alpha * gradient  # what classifier guidance adds to x0
    assert torch.allclose(moved, seen.operator.pinv(seen.values), atol=1e-9)


@pytest.mark.parametrize("text", ["sr2", "blur:1", "quantize"])
def test_the_energy_is_of_curvature_one_at_most(text):
    """So that gradient descent of rate 1 does not overshoot, whatever the operator measures."""
    seen = known(text, 0.0)
    energy = residual_energy(seen, 1)
    generator = torch.Generator().manual_seed(2)
    pictures = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64)
    gap = (seen.values - seen.operator.forward(pictures)).flatten(1)
    largest = (
        1.0 if text == "quantize" else float(torch.linalg.matrix_norm(matrix(seen.operator), 2))
    )
    assert gain_of(seen) == pytest.approx(largest**2, rel=1e-6)
    wanted = gap.square().sum(1) / (2 * largest**2)
    assert torch.allclose(energy(pictures), wanted, rtol=1e-6)
