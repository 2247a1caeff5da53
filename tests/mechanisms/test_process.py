"""DDNM and DDRM on closed-form Gaussians: consistency, the mean, and each step by its formula."""

import math

import pytest
import torch
from measured import (
    FLOW,
    MEAN,
    SHAPE,
    TRUTH,
    VP,
    Drawn,
    Fixed,
    N,
    dense,
    gaussian,
    measured,
    posterior,
    random,
    sample,
    spread,
    start,
)

from unicond.mechanisms.correction.repaint import resampled
from unicond.mechanisms.process.ddnm import DDNM
from unicond.mechanisms.process.ddrm import DDRM
from unicond.operators.masking import Mask
from unicond.operators.quantisation import Quantisation
from unicond.operators.resizing import super_resolution
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.solvers import DDIM, SOLVERS
from unicond.sampling.state import Move
from unicond.sampling.window import Window

METHODS = [DDNM, DDRM]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schedule", [VP, FLOW], ids=["vp", "flow"])
def test_an_exact_measurement_is_met_and_the_rest_keeps_its_mean(method, schedule):
    """White pixels: the posterior's mean is y where measured, the prior's elsewhere."""
    m = measured()
    drawn = sample([method(measurement=m)], latents=random(5, *SHAPE), noise=Drawn())
    assert (m.operator.matrix @ drawn.T - m.values.T).abs().max() < 1e-10
    assert (drawn[0] - drawn[1]).abs().max() > 0.1  # the free part is drawn
    mean = sample([method(measurement=m)], schedule=schedule)[0]  # no noise: the mean's own path
    assert torch.allclose(mean, posterior(m)[0], atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("schedule", [VP, FLOW], ids=["vp", "flow"])
def test_without_new_noise_the_law_is_the_posterior_in_the_limit(method, schedule):
    """White pixels, eta = 0: the free part goes by DDIM's own steps, from its prior to its prior.

    The flow keeps that law, so that all error is of the steps: of first order, measured 0.065,
    0.034, 0.018 of the posterior covariance's norm (flow: 0.050, 0.025, 0.013) in 50, 100, 200.
    With the usual eta it stays, at 0.26. What a covariance is does not depend on y and mean.
    """
    m = measured()
    m = m.__class__(operator=m.operator, values=torch.zeros_like(m.values), noise_std=0.0)
    want, prior = posterior(m)[1], gaussian(mean=torch.zeros_like(MEAN))
    options = {"schedule": schedule, "denoiser": prior}
    errors = [
        float((spread([method(measurement=m, eta=0.0)], SHAPE, steps=s, **options) - want).norm())
        for s in (50, 100, 200)
    ]
    assert errors[1] < 0.55 * errors[0], errors
    assert errors[2] < 0.55 * errors[1], errors
    assert errors[2] < 0.02 * want.norm(), errors


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_step_is_the_methods_beside_every_solver(method, solver):
    """Only ddim draws nothing itself, so noise is left out."""
    m = measured(noise_std=0.2)
    latents = random(2, *SHAPE)
    plain = sample([method(measurement=m)], latents=latents)
    other = sample([method(measurement=m)], solver=solver, latents=latents)
    assert torch.equal(plain, other)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mask", "super-resolution"])
def test_operators_of_the_package(method, name):
    shape = (3, 8, 8)
    operator = (
        super_resolution(shape, 4)
        if name == "super-resolution"
        else Mask(shape=shape, known=random(8, 8) > 0)
    )
    truth = random(2, *shape, seed=3).clamp(-1, 1)
    m = measured().__class__(operator=operator, values=operator.forward(truth), noise_std=0.0)
    n = math.prod(shape)
    prior = gaussian(torch.eye(n).double(), torch.zeros(n).double())
    out = sample(
        [method(measurement=m)],
        latents=random(2, *shape),
        noise=Drawn(),
        denoiser=prior,
        steps=5,
    )
    assert m.gap(out.view(2, *shape)).abs().max() < 1e-10


def one_step(mechanism, t=0.6, s=0.5, latents=None, z=None):
    """A move of one mechanism, beside DDIM, and the bare prediction it began with."""
    latents = random(2, *SHAPE, seed=5) if latents is None else latents
    state = start(latents, t, Fixed(z))
    found = gaussian()(state)[0]["image"]
    move = Move({"image": t}, {"image": s})
    # `begin` would make DDRM's own start
    predictions = mechanism.revise({"image": found}, state, move)
    state, _ = DDIM().step(lambda _: predictions, state, move)
    state = mechanism.settle(state, predictions, move)
    return found, state.latents["image"].flatten(1)


@pytest.mark.parametrize("noise_std", [0.05, 0.3, 2.0])
def test_ddnm_plus_is_its_formula(noise_std):
    """Coordinate by coordinate, by numbers."""
    m, z, eta = measured(noise_std=noise_std), random(2, *SHAPE, seed=8), 0.7
    found, stepped = one_step(DDNM(measurement=m, eta=eta), z=z)
    alpha, sigma = VP.alpha(0.5), VP.sigma(0.5)
    x0, e, z = (v.flatten(1) @ m.operator.v.T for v in (found.x0, found.eps, z))
    seen = m.values @ m.operator.u
    for i in range(N):
        s, sd = float(m.operator.singulars[i]), eta * sigma
        weight = min(1.0, sd * s / (alpha * noise_std))
        spread, fresh = x0[:, i], sd
        if s > 0:
            spread = x0[:, i] + weight * (seen[:, i] / s - x0[:, i])
            fresh = math.sqrt(max(sd**2 - (alpha * weight * noise_std / s) ** 2, 0.0))
        want = alpha * spread + sigma * math.sqrt(1 - eta**2) * e[:, i] + fresh * z[:, i]
        assert torch.allclose(stepped @ m.operator.v[i], want, atol=1e-10), (i, s)


@pytest.mark.parametrize("noise_std", [0.0, 0.05, 0.3, 2.0])
@pytest.mark.parametrize("s_time", [0.5, 0.0])
def test_ddrm_is_its_formula(noise_std, s_time):
    """Coordinate by coordinate, by numbers; the three cases all occur."""
    m, z, eta, eta_b = measured(noise_std=noise_std), random(2, *SHAPE, seed=8), 0.7, 0.9
    found, stepped = one_step(DDRM(measurement=m, eta=eta, eta_b=eta_b), s=s_time, z=z)
    alpha, sig = VP.alpha(s_time), VP.sigma(s_time) / VP.alpha(s_time)
    x0, e, z = (v.flatten(1) @ m.operator.v.T for v in (found.x0, found.eps, z))
    seen = m.values @ m.operator.u
    for i in range(N):
        s, x, keep = float(m.operator.singulars[i]), x0[:, i], math.sqrt(1 - eta**2)
        if s == 0:
            want = x + sig * (keep * e[:, i] + eta * z[:, i])
        elif sig < noise_std / s:
            pull = (seen[:, i] / s - x) / (noise_std / s)
            want = x + keep * sig * pull + eta * sig * z[:, i]
        else:
            fresh = math.sqrt(sig**2 - (eta_b * noise_std / s) ** 2)
            want = (1 - eta_b) * x + eta_b * seen[:, i] / s + fresh * z[:, i]
        assert torch.allclose(stepped @ m.operator.v[i], alpha * want, atol=1e-10), (i, s)


@pytest.mark.parametrize("noise_std", [0.0, 0.3])
def test_ddrm_starts_at_the_measurement(noise_std):
    m, z = measured(noise_std=noise_std), random(1, *SHAPE, seed=8)
    for t in (1.0, 0.9, 0.2):
        state = DDRM(measurement=m).begin(start(t=t, noise=Fixed(z)))
        found = state.latents["image"].flatten(1) @ m.operator.v.T
        alpha, sigma = VP.alpha(t), VP.sigma(t)
        for i in range(N):
            s, own = float(m.operator.singulars[i]), float(z.flatten() @ m.operator.v[i])
            root = sigma**2 - (alpha * noise_std / s) ** 2 if s else -1.0
            seen = float((m.values @ m.operator.u)[0, i]) / s if s else 0.0
            want = alpha * seen + math.sqrt(root) * own if root >= 0 else sigma * own
            assert float(found[0, i]) == pytest.approx(want, abs=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_a_noisy_measurement_is_followed_as_far_as_it_tells(method):
    """Near the posterior's mean where the noise is small beside the prior.

    It is not exact: the prediction of a later step does not know the measurement, so that where
    noise and prior are alike y is followed too far. 0.02 is what that is at a tenth.
    """
    m = measured(noise_std=0.1, operator=dense((2.0, 1.0, 1.0)))
    want, _ = posterior(m)
    for schedule in (VP, FLOW):
        found = sample([method(measurement=m)], steps=100, schedule=schedule)[0]
        assert (found - want).norm() < 0.02 * (want - MEAN).norm()
        free = m.operator.v[3:]
        assert torch.allclose(free @ found, free @ MEAN, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_an_exact_step_is_the_limit_of_a_hardly_noisy_one(method):
    """But for the last, which with any noise at all is the model's own."""
    z = random(2, *SHAPE, seed=8)
    exact, nearly = (
        one_step(method(measurement=measured(noise_std=n)), z=z)[1] for n in (0.0, 1e-9)
    )
    assert torch.allclose(exact, nearly, atol=1e-7)


def test_time_travel_noises_the_corrected_prediction():
    m, z = measured(), random(1, *SHAPE, seed=8)
    plan = resampled([Move({"image": t}, {"image": t - 0.25}) for t in (0.75, 0.5, 0.25)], 2, 2)
    states = list(
        run(start(t=0.75, noise=Fixed(z)), gaussian(), plan, DDIM(), [DDNM(measurement=m)])
    )
    before, up = states[1], states[2]
    assert (before.move.kind, up.move.kind) == ("step", "renoise")
    x0 = before.predictions["image"].x0
    want = VP.alpha(0.75) * x0 + VP.sigma(0.75) * z
    assert torch.allclose(up.state.latents["image"], want, atol=1e-12)
    assert m.gap(states[-1].state.latents["image"]).abs().max() < 1e-10


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_does_not_depend_on_its_batch(method):
    latents, seeds = random(3, *SHAPE), (4, 5, 6)
    values = random(3, 3, seed=2)
    operator = dense()

    def draw(rows):
        m = measured().__class__(operator=operator, values=values[rows], noise_std=0.2)
        noise = Generators([seeds[row] for row in rows])
        return sample([method(measurement=m)], latents=latents[rows], noise=noise)

    together = draw([0, 1, 2])
    for row in range(3):
        assert torch.allclose(draw([row])[0], together[row], atol=1e-10)


def test_a_closed_window_is_absent():
    latents, plain = random(1, *SHAPE), Fixed()
    closed = DDNM(measurement=measured(), window=Window.steps(0, 0))
    noise = Fixed()
    found = sample([closed], latents=latents, noise=noise, solver="ddpm")
    assert torch.equal(found, sample([], latents=latents, noise=plain, solver="ddpm"))
    assert noise.draws == plain.draws


def test_nothing_is_drawn_without_new_noise():
    noise = Fixed()
    sample([DDNM(measurement=measured(), eta=0.0)], noise=noise)
    assert noise.draws == 0


def test_a_move_up_and_a_held_branch_are_left_alone():
    latents = random(1, *SHAPE)
    for mechanism in (DDNM(measurement=measured()), DDRM(measurement=measured())):
        for move in (Move({"image": 0.3}, {"image": 0.5}), Move({"image": 0.3}, {"image": 0.3})):
            state = start(latents, 0.3)
            predictions = gaussian()(state)[0]
            assert mechanism.revise(predictions, state, move) is predictions
            assert mechanism.settle(state, predictions, move) is state


def test_the_same_objects_run_twice_alike():
    mechanisms = [DDRM(measurement=measured(noise_std=0.1))]
    first, second = (sample(mechanisms, noise=Drawn()) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: DDNM(measurement=m, eta=1.5), r"eta must be in \[0, 1\]"),
        (lambda m: DDRM(measurement=m, eta_b=-0.1), r"eta_b must be in \[0, 1\]"),
        (lambda m: DDNM(measurement=m, eta=0.0), "give eta > 0"),
        (
            lambda m: sample([DDNM(measurement=m), DDRM(measurement=m)]),
            "DDNM and DDRM both make the steps of 'image'",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(measured(noise_std=0.1))


@pytest.mark.parametrize("method", METHODS)
def test_an_operator_that_is_not_linear_is_refused(method):
    operator = Quantisation(shape=SHAPE, levels=4)
    values = operator.forward(TRUTH.view(1, *SHAPE))
    m = measured().__class__(operator=operator, values=values, noise_std=0.0)
    with pytest.raises(ValueError, match="Quantisation is not linear; DPS takes it"):
        method(measurement=m)
