"""PiGDM, DPS, MCG and a classifier on closed-form Gaussians."""

import math
from itertools import pairwise

import pytest
import torch
from measured import (
    FLOW,
    MEAN,
    SHAPE,
    TRUTH,
    VP,
    WHITE,
    Drawn,
    Fixed,
    N,
    dense,
    gaussian,
    law,
    measured,
    posterior,
    random,
    sample,
    start,
)

from unicond.denoisers.exact import JointGaussian
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.guidance.classifier import Classifier
from unicond.mechanisms.guidance.dps import DPS
from unicond.mechanisms.guidance.mcg import MCG
from unicond.mechanisms.guidance.pigdm import PiGDM
from unicond.mechanisms.measurement import Measurement
from unicond.operators.denoising import Identity
from unicond.operators.quantisation import Quantisation
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.rows import Variant
from unicond.sampling.solvers import DDIM, named
from unicond.sampling.state import Move, State
from unicond.sampling.window import Window

SCHEDULES = pytest.mark.parametrize("schedule", [VP, FLOW], ids=["vp", "flow"])
PLAIN = (Variant(),)
PLACE = torch.arange(N).double()
SMOOTH = 0.9 * torch.exp(-((PLACE[:, None] - PLACE) ** 2) / 4) + 0.1 * WHITE


def says(latents, t):
    """`log p(c | x_t)` of c = x0 + n: exact, for white pixels of mean MEAN."""
    alpha, sigma = VP.alpha(t), VP.sigma(t)
    noisy = alpha**2 + sigma**2
    x0 = MEAN + alpha / noisy * (latents.flatten(1) - alpha * MEAN)
    return -(TRUTH - x0).square().sum(1) / (2 * (sigma**2 / noisy + 0.25))


METHODS = {
    "dps": lambda scale=0.3, **options: DPS(measurement=measured(), scale=scale, **options),
    "mcg": lambda scale=0.3, **options: MCG(measurement=measured(), scale=scale, **options),
    "pigdm": lambda scale=1.0, **options: PiGDM(
        measurement=measured(noise_std=0.2), scale=scale, **options
    ),
    "published": lambda scale=1.0, **options: PiGDM(
        measurement=measured(), scale=scale, published=True, **options
    ),
    "classifier": lambda scale=1.0, **options: Classifier(
        log_probability=says, scale=scale, **options
    ),
}


@SCHEDULES
@pytest.mark.parametrize("noise_std", [0.0, 0.5])
def test_pigdm_samples_the_posterior_of_a_unit_prior(noise_std, schedule):
    """Mean and covariance; what is left is the solver's and falls as 1 / steps."""
    m = measured(noise_std=noise_std)
    mean, covariance = posterior(m)
    errors = {}
    for steps in (50, 200):
        found = law([PiGDM(measurement=m)], steps=steps, schedule=schedule)
        errors[steps] = max((found[0] - mean).abs().max(), (found[1] - covariance).abs().max())
    assert errors[200] < 0.02
    assert errors[200] < 0.4 * errors[50]


def test_pigdm_as_published_has_the_posteriors_mean():
    m = measured()
    found, _ = law([PiGDM(measurement=m, published=True)], steps=200)
    assert torch.allclose(found, posterior(m)[0], atol=1e-3)


def test_pigdm_as_published_is_its_formula():
    """`x_s += alpha_s alpha_t r^2 g`, with g by matrices."""
    m, latents = measured(), random(2, *SHAPE)
    a, (alpha, sigma) = m.operator.matrix, (VP.alpha(0.6), VP.sigma(0.6))
    noisy = alpha**2 + sigma**2
    x0 = MEAN + alpha / noisy * (latents.flatten(1) - alpha * MEAN)
    r2 = sigma**2 / noisy
    g = (m.values - x0 @ a.T) @ torch.linalg.inv(r2 * a @ a.T) @ a * (alpha / noisy)
    plain, found = (one_move(list(one), latents) for one in ([], [METHODS["published"]()]))
    assert torch.allclose(found - plain, VP.alpha(0.5) * alpha * r2 * g, atol=1e-10)


def one_move(mechanisms, latents, t=0.6, s=0.5, denoiser=None):
    """Latents (B, n) after a DDIM move."""
    plan = [Move({"image": t}, {"image": s})]
    steps = run(start(latents, t), denoiser or gaussian(), plan, DDIM(), mechanisms)
    return next(steps).state.latents["image"].flatten(1)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_dps_is_its_formula(scale):
    """`- zeta grad || y - A x0_hat ||`, with x0_hat linear: `zeta c A^T gap / || gap ||`."""
    m, latents = measured(), random(3, *SHAPE) * torch.tensor([0.1, 1, 30]).view(3, 1, 1, 1)
    a, (alpha, sigma) = m.operator.matrix, (VP.alpha(0.6), VP.sigma(0.6))
    slope = alpha / (alpha**2 + sigma**2)
    gap = m.values - (MEAN + slope * (latents.flatten(1) - alpha * MEAN)) @ a.T
    want = scale * slope * (gap / gap.norm(dim=1, keepdim=True)) @ a
    plain = one_move([], latents)
    found = one_move([DPS(measurement=m, scale=scale)], latents)
    assert torch.allclose(found - plain, want, atol=1e-12)


def test_dps_moves_nothing_where_the_prediction_fits():
    """The norm has no gradient at 0; none is taken for one."""
    latents = VP.alpha(0.6) * MEAN.view(1, *SHAPE)
    operator = dense()
    m = Measurement(operator=operator, values=MEAN[None] @ operator.matrix.T, noise_std=0.0)
    found = one_move([DPS(measurement=m)], latents)
    assert torch.allclose(found, one_move([], latents), atol=1e-6)


@pytest.mark.parametrize(("method", "scale"), [(DPS, 0.5), (MCG, 1.0)])
def test_dps_and_mcg_move_the_mean_to_the_posteriors(method, scale):
    """Correlated pixels: the free ones go where the conditional mean is, measured ones to y.

    How far depends on zeta times the number of steps; which way does not. Zeta sets the free
    pixels' spread, too (as the norm's gradient has one length however small the error), so that no
    covariance is theirs to check; what MCG has measured without noise has none.
    """
    m = measured(type(dense())(torch.eye(N).double()[:3]))  # the first three pixels
    want, _ = posterior(m, SMOOTH)
    options = {"denoiser": gaussian(SMOOTH), "latents": random(400, *SHAPE), "noise": Drawn()}
    plain = sample([], steps=50, **options).mean(0)
    found = sample([method(measurement=m, scale=scale)], steps=50, **options)
    shift, wanted = found.mean(0) - plain, want - plain
    assert torch.cosine_similarity(shift, wanted, 0) > 0.97
    assert torch.cosine_similarity(shift[3:], wanted[3:], 0) > 0.95
    assert (found.mean(0) - want).norm() < 0.25 * wanted.norm()
    if method is MCG:
        assert (found[:, :3] - TRUTH[:3]).abs().max() < 1e-10
        assert found[:, 3:].T.cov().diagonal().min() > 0.01  # while the free ones are drawn


def test_what_is_not_measured_and_not_correlated_is_not_moved():
    m = measured()
    free = m.operator.v[3:]
    latents = random(2, *SHAPE)
    plain = sample([], latents=latents) @ free.T
    for name in ("dps", "pigdm"):
        found = sample([METHODS[name]()], latents=latents) @ free.T
        assert torch.allclose(found, plain, atol=1e-10)


def test_a_classifier_is_bayes_rule():
    """Gaussian data, Gaussian likelihood: mean and covariance of the posterior."""
    mean, covariance = law([METHODS["classifier"]()], steps=400)
    weight = 1 / (1 + 0.25)
    assert torch.allclose(mean, MEAN + weight * (TRUTH - MEAN), atol=0.01)
    assert torch.allclose(covariance, 0.2 * WHITE, atol=0.01)


def test_a_classifiers_scale_is_a_power_of_the_likelihood():
    """`g` times the score, by the module's two lines."""
    latents, (alpha, sigma) = random(2, *SHAPE), (VP.alpha(0.6), VP.sigma(0.6))
    state = start(latents, 0.6)
    move = Move({"image": 0.6}, {"image": 0.5})
    before = gaussian()(state)[0]
    after = METHODS["classifier"](scale=3.0).revise(before, state, move)["image"]
    leaf = latents.clone().requires_grad_()
    (slope,) = torch.autograd.grad(says(leaf, 0.6).sum(), leaf)
    assert torch.allclose(after.eps, before["image"].eps - 3 * sigma * slope, atol=1e-12)
    assert torch.allclose(after.x0, before["image"].x0 + 3 * sigma**2 / alpha * slope, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("solver", ["ddpm", "heun", "dpmpp_2m"])
def test_scale_0_and_a_closed_window_are_absent(name, solver):
    latents, noises = random(2, *SHAPE), [Fixed(random(2, *SHAPE, seed=8)) for _ in range(3)]
    options = [[], [METHODS[name](scale=0.0)], [METHODS[name](window=Window.steps(0, 0))]]
    plain, off, closed = (
        sample(one, steps=6, solver=solver, latents=latents, noise=noise)
        for one, noise in zip(options, noises, strict=True)
    )
    assert torch.equal(plain, off)
    assert torch.equal(plain, closed)
    assert len({noise.draws for noise in noises}) == 1
    on = sample([METHODS[name]()], steps=6, solver=solver, latents=latents, noise=Fixed())
    assert (on - plain).abs().max() > 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_a_sample_does_not_depend_on_its_batch(name):
    latents, seeds = random(3, *SHAPE) * torch.tensor([0.1, 1, 30]).view(3, 1, 1, 1), (4, 5, 6)

    def draw(rows):
        noise = Generators([seeds[row] for row in rows])
        return sample([METHODS[name]()], 6, "ddpm", latents[rows], noise)

    together = draw([0, 1, 2])
    for row in range(3):
        assert torch.allclose(draw([row])[0], together[row], atol=1e-9)


class Counting:
    """A Gaussian that notes each call: its variants, and whether a graph is built."""

    def __init__(self):
        self.calls = []

    def __call__(self, state, variants=PLAIN):
        self.calls.append((tuple(variants), torch.is_grad_enabled()))
        return gaussian()(state, variants)


@pytest.mark.parametrize("name", ["dps", "mcg", "pigdm"])
def test_one_call_a_move_and_a_graph_in_the_window_only(name):
    network = Counting()
    mechanism = METHODS[name](window=Window.steps(1, 2))
    with torch.inference_mode():
        sample([mechanism, ClassifierFree(3.0)], steps=3, denoiser=network)
    assert [graph for _, graph in network.calls] == [False, True, False]
    assert {variant.prompt for variant in network.calls[1][0]} == {"positive", "negative"}


def test_a_measured_depth_steers_the_image_and_held_branches_stay():
    r, shape = 0.8, (1, 16, 16)
    joint = JointGaussian(
        ("image", "depth"),
        torch.tensor([[1.0, r], [r, 1.0]]).double(),
        {"positive": torch.zeros(2).double()},
    )
    values = torch.full((1, *shape), 0.7).double()
    m = Measurement(operator=Identity(shape=shape), values=values, noise_std=0.0)
    for held in (False, True):
        latents = {"image": random(1, *shape), "depth": random(1, *shape, seed=1)}
        times = [{"image": 0.0 if held else t / 40, "depth": t / 40} for t in range(40, -1, -1)]
        plan = [Move(a, b) for a, b in pairwise(times)]
        state = State(latents, times[0], VP, Generators([1], ("image", "depth")))
        for progress in run(
            state, joint, plan, named("ddim"), [PiGDM(measurement=m, branch="depth")]
        ):
            state = progress.state
        if held:
            assert state.latents["image"] is latents["image"]
        else:
            assert abs(state.latents["image"].mean() - r * 0.7) < 4 * math.sqrt(1 - r * r) / 16
        assert (state.latents["depth"] - 0.7).abs().max() < 0.05


@pytest.mark.parametrize("method", [DPS, PiGDM])
def test_a_clean_branch_is_what_it_is(method):
    """Its prediction does not depend on anything: there is nothing to guide."""
    shape = (1, 2, 2)
    joint = JointGaussian(
        ("image", "depth"),
        torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double(),
        {"positive": torch.zeros(2).double()},
    )
    m = Measurement(operator=Identity(shape=shape), values=random(1, *shape, seed=3), noise_std=0.0)
    times = [{"image": 0.6, "depth": 0.0}, {"image": 0.5, "depth": 0.0}]
    later = Move(times[1], {"image": 0.5, "depth": 0.3}, kind="renoise")
    latents = {"image": random(1, *shape), "depth": random(1, *shape, seed=1)}
    state = State(latents, times[0], VP, Generators([1], ("image", "depth")))
    plain, guided = (
        next(run(state, joint, [Move(*times), later], DDIM(), mechanisms)).state.latents["image"]
        for mechanisms in ([], [method(measurement=m, branch="depth")])
    )
    assert torch.equal(plain, guided)


def test_dps_takes_what_is_not_linear():
    operator = Quantisation(shape=SHAPE, levels=4)
    truth = TRUTH.view(1, *SHAPE)
    m = Measurement(operator=operator, values=operator.forward(truth), noise_std=0.0)
    found = sample([DPS(measurement=m, scale=0.1)], steps=50)
    assert m.gap(found.view(1, *SHAPE)).norm() < 0.5 * m.gap(sample([]).view(1, *SHAPE)).norm()
    for method in (PiGDM, MCG):
        with pytest.raises(ValueError, match="is not linear; DPS takes it"):
            method(measurement=m)


def unasked(mechanisms):
    """A run in which the network must not be asked."""
    sample(mechanisms, latents=random(2, *SHAPE), denoiser=pytest.fail)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: METHODS["dps"](scale=-1.0), "it must be 0"),
        (lambda: METHODS["pigdm"](scale=float("nan")), "it must be 0"),
        (
            lambda: PiGDM(measurement=measured(noise_std=0.1), published=True),
            "the published form is for exact measurements",
        ),
        (
            lambda: sample([Classifier(log_probability=says, branch="pose")]),
            "classifier guidance is asked of 'pose', but the branches of this run are image",
        ),
        (
            lambda: unasked([Classifier(log_probability=lambda x, _: x)]),
            r"returned shape \(2, 1, 2, 3\) for 2 samples; it must be \(2,\)",
        ),
        (
            lambda: unasked(
                [Classifier(log_probability=lambda x, _: x.detach().flatten(1).sum(1))]
            ),
            "has no gradient by the latents",
        ),
        (
            lambda: unasked([Classifier(log_probability=lambda x, _: float(x.detach().sum()))]),
            r"log_probability returned [-\d.]+; it must be a tensor \(2,\)",
        ),
        (
            lambda: unasked(
                [Classifier(log_probability=lambda x, _: (-x.square().flatten(1).sum(1)).log())]
            ),
            r"log_probability returned \[.*nan.*\]: all must be finite",
        ),
    ],
)
def test_what_cannot_guide_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
