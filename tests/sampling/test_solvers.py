"""Solvers against closed forms, against diffusers, and against their own properties."""

import itertools
from dataclasses import dataclass

import diffusers
import numpy as np
import pytest
import torch

from unicond.denoisers.exact import JointGaussian
from unicond.sampling import plans, schedules
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.predictions import Prediction
from unicond.sampling.solvers import DDIM, SOLVERS, DPMSolverPP2M, Heun, named
from unicond.sampling.state import Move, State

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
VP = schedules.from_config(SD)
FLOW = schedules.FlowSchedule()


@dataclass(frozen=True)
class VE:
    """Variance exploding: alpha = 1, sigma = 10 t."""

    prediction_type: schedules.PredictionType = "eps"

    def alpha(self, t):
        return 1.0

    def sigma(self, t):
        return 10.0 * t

    def index(self, t):
        return t

    def times(self, num_inference_steps, spacing=None):
        return tuple(np.linspace(1, 1 / num_inference_steps, num_inference_steps))


def smooth_vp():
    """A VP schedule without kinks: t is the angle."""

    @dataclass(frozen=True)
    class Cosine(VE):
        def alpha(self, t):
            return float(np.cos(np.pi * t / 2))

        def sigma(self, t):
            return float(np.sin(np.pi * t / 2))

    return Cosine()


def gaussian(mean=0.5, variance=0.3):
    return JointGaussian(
        ("image",),
        torch.tensor([[variance]], dtype=torch.float64),
        {"positive": torch.tensor([mean], dtype=torch.float64)},
    )


def state_of(latents, t, schedule, seeds=(0,)):
    return State({"image": latents}, {"image": t}, schedule, Generators(seeds))


def finish(state, denoiser, plan, solver, mechanisms=()):
    for progress in run(state, denoiser, plan, solver, mechanisms):
        state = progress.state
    return state


def exact_flow(latents, t, s, schedule, mean=0.5, variance=0.3):
    """The ODE's solution for one Gaussian: the standardised state is constant."""
    spread = [np.sqrt(schedule.alpha(u) ** 2 * variance + schedule.sigma(u) ** 2) for u in (t, s)]
    return schedule.alpha(s) * mean + (latents - schedule.alpha(t) * mean) * spread[1] / spread[0]


@pytest.mark.parametrize("schedule", [smooth_vp(), VE(), FLOW], ids=["vp", "ve", "flow"])
@pytest.mark.parametrize(("solver", "order"), [(DDIM(), 1), (Heun(), 2), (DPMSolverPP2M(), 2)])
def test_error_falls_with_the_solvers_order(schedule, solver, order):
    start = torch.tensor([[[[1.7]]]], dtype=torch.float64)
    first, last = 0.9, 0.1
    counts = [16, 32, 64, 128, 256]
    errors = []
    for count in counts:
        plan = plans.segments([{"image": first}, {"image": last}], [count])
        end = finish(state_of(start, first, schedule), gaussian(), plan, solver)
        errors.append(abs(float(end.latents["image"] - exact_flow(start, first, last, schedule))))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.3, f"order {slope:.2f}, errors {errors}"


def network_output(latents, index):
    """A smooth stand-in for a network: bounded, and different at every timestep."""
    return torch.tanh(latents * (0.5 + index / 2000)) * 0.8 + 0.1 * torch.sin(3 * latents)


@dataclass(frozen=True)
class Standin:
    def __call__(self, state, variants=()):
        from unicond.sampling.predictions import from_output

        latents = state.latents["image"]
        index = state.schedule.index(state.t["image"])
        alpha, sigma = state.scales("image")
        output = network_output(latents, index)
        kind = state.schedule.prediction_type
        return [{"image": from_output(output, latents, alpha, sigma, kind)}]


CASES = {
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": True}, "ddim"),
    "ddpm": (diffusers.DDPMScheduler, {"clip_sample": False}, "ddpm"),
    "euler": (diffusers.EulerDiscreteScheduler, {}, "euler"),
    "euler_ancestral": (diffusers.EulerAncestralDiscreteScheduler, {}, "euler_ancestral"),
    "heun": (diffusers.HeunDiscreteScheduler, {}, "heun"),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}, "dpmpp_2m"),
}
SIGMA_SPACE = ("euler", "euler_ancestral", "heun")


class Replay:
    """Draws what diffusers draws: one generator for the whole batch."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, branch, like):
        return torch.randn(like.shape, generator=self.generator)


def diffusers_walk(scheduler, name, latents, seed):
    """The latents after every step of diffusers' own loop, in VP coordinates, and its times."""
    generator = torch.Generator().manual_seed(seed)
    states, indices = [], []
    kwargs = {} if name in ("heun", "dpmpp_2m") else {"generator": generator}
    if name in SIGMA_SPACE:
        latents = latents * float(scheduler.sigmas[0])
    for step, index in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, index)
        output = network_output(scaled, float(index))
        latents = scheduler.step(output, index, latents, **kwargs).prev_sample
        indices.append(float(index))
        scale = 1.0
        if name in SIGMA_SPACE:
            scale = float(1 / (scheduler.sigmas[step + 1] ** 2 + 1) ** 0.5)
        states.append(latents * scale)
    return states, indices


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_parity_with_diffusers(name, prediction, steps):
    cls, options, solver = CASES[name]
    config = {**SD, "num_train_timesteps": 1000, "prediction_type": prediction, **options}
    scheduler = cls.from_config(config)
    scheduler.set_timesteps(steps)
    schedule = schedules.from_config(config)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    expected, indices = diffusers_walk(scheduler, name, noise, seed=9)
    if name == "heun":  # diffusers lists the second call of every move as a timestep of its own
        expected, indices = [*expected[1::2], expected[-1]], indices[::2]
        expected = expected[: len(indices)]
    times = [*(schedule.time(index) for index in indices), 0.0]
    start = noise
    if name in SIGMA_SPACE:
        start = noise * schedule.sigma(times[0])
    state = State({"image": start}, {"image": times[0]}, schedule, Replay(9))
    plan = plans.path({"image": times})
    worst = 0.0
    for progress, want in zip(run(state, Standin(), plan, named(solver)), expected, strict=True):
        got = progress.state.latents["image"]
        worst = max(worst, float((got - want).abs().max()))
        # chained float32 steps of diffusers against ours in float64 coefficients
        assert torch.allclose(got, want, rtol=1e-5, atol=1e-4), (
            f"step {progress.move.number}: {worst}"
        )


def test_eta_scales_the_standard_deviation():
    """In between 0 and 1 too: diffusers' sense, not the variance's."""
    config = {**SD, "clip_sample": False, "set_alpha_to_one": True}
    scheduler = diffusers.DDIMScheduler.from_config(config)
    scheduler.set_timesteps(6)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    schedule = schedules.from_config(config)
    times = [*(schedule.time(float(index)) for index in scheduler.timesteps), 0.0]
    state = State({"image": latents}, {"image": times[0]}, schedule, Replay(9))
    found = finish(state, Standin(), plans.path({"image": times}), DDIM(eta=0.5))
    generator = torch.Generator().manual_seed(9)
    for index in scheduler.timesteps:
        output = network_output(latents, float(index))
        latents = scheduler.step(output, index, latents, eta=0.5, generator=generator).prev_sample
    assert torch.allclose(found.latents["image"], latents, atol=1e-4)


@pytest.mark.parametrize(
    ("cls", "solver"),
    [
        (diffusers.FlowMatchEulerDiscreteScheduler, DDIM()),
        (diffusers.FlowMatchHeunDiscreteScheduler, Heun()),
    ],
)
def test_parity_with_diffusers_on_flow_models(cls, solver):
    scheduler = cls(num_train_timesteps=1000, shift=1.0)
    scheduler.set_timesteps(20)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    latents, expected = noise, []
    for index in scheduler.timesteps:
        latents = scheduler.step(network_output(latents, float(index)), index, latents).prev_sample
        expected.append(latents)
    times = [float(sigma) for sigma in scheduler.sigmas]
    if isinstance(solver, Heun):
        expected, times = [*expected[1::2], expected[-1]], [*times[:-1:2], times[-1]]
        expected = expected[: len(times) - 1]
    plan = plans.path({"image": times})
    progress = list(run(state_of(noise, times[0], FLOW, (0, 1)), Standin(), plan, solver))
    for step, want in zip(progress, expected, strict=True):
        got = step.state.latents["image"]
        assert torch.allclose(got, want, rtol=1e-5, atol=1e-4), f"step {step.move.number}"


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_reaches_the_data(name):
    """At the clean end of many steps the samples have the data's mean and variance."""
    count = 40_000
    latents = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(1)).double()
    schedule = schedules.from_config(
        {**SD, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    )
    # ancestral steps lose variance in proportion to their length: they get 1000
    times = schedule.times(1000 if name in ("ddpm", "euler_ancestral") else 200, "trailing")
    plan = plans.descend(times, {"image": 1.0})
    end = finish(state_of(latents, times[0], schedule), gaussian(), plan, named(name))
    sample = end.latents["image"]
    # four standard errors of the mean and of the variance, and 2 % for the steps' length
    assert abs(sample.mean() - 0.5) < 4 * (0.3 / count) ** 0.5 + 0.01
    assert abs(sample.var() - 0.3) < 4 * 0.3 * (2 / count) ** 0.5 + 0.006


@pytest.mark.parametrize("solver", [DDIM(), DPMSolverPP2M(), Heun()])
def test_inversion_comes_back(solver):
    """Up and down again; the error of the round trip halves (or better) with twice the moves."""
    start = torch.linspace(-1, 2, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    errors = []
    for count in (25, 50, 100, 200):
        plan = plans.segments([{"image": 0.0}, {"image": 0.95}, {"image": 0.0}], [count, count])
        end = finish(state_of(start, 0.0, smooth_vp()), gaussian(), plan, solver)
        errors.append(float((end.latents["image"] - start).abs().max()))
    ratios = [before / after for before, after in itertools.pairwise(errors)]
    assert min(ratios) > 1.8, f"errors {errors}"


@pytest.mark.parametrize("name", SOLVERS)
def test_held_branches_are_the_same_object(name):
    clean = torch.randn(1, 1, 4, 4)
    joint = JointGaussian(
        ("image", "depth"),
        torch.tensor([[1.0, 0.8], [0.8, 1.0]]),
        {"positive": torch.zeros(2)},
    )
    times = VP.times(5)
    state = State(
        {"image": torch.randn(1, 1, 4, 4), "depth": clean},
        {"image": times[0], "depth": 0.0},
        VP,
        Generators([0], ("image", "depth")),
    )
    plan = plans.descend(times, {"image": 1.0, "depth": 0.0})
    assert finish(state, joint, plan, named(name)).latents["depth"] is clean


def test_noise_goes_up_only_without_eta():
    plan = plans.segments([{"image": 0.1}, {"image": 0.5}], [2])
    with pytest.raises(ValueError, match=r"moves up, which is deterministic: use eta=0"):
        finish(state_of(torch.zeros(1, 1, 2, 2), 0.1, VP), gaussian(), plan, DDIM(eta=1.0))


def test_renoise_keeps_the_marginal_and_forgets_the_history():
    count = 200 * 200
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(1, 1, 200, 200, generator=generator).double()
    low, high = 0.3, 0.6
    spread = (VP.alpha(low) ** 2 * 0.3 + VP.sigma(low) ** 2) ** 0.5
    latents = VP.alpha(low) * 0.5 + spread * z
    move = Move({"image": low}, {"image": high}, kind="renoise")
    state = state_of(latents, low, VP).remember("solver", "a history")
    end = finish(state, gaussian(), [move], DDIM())
    want = VP.alpha(high) ** 2 * 0.3 + VP.sigma(high) ** 2
    sample = end.latents["image"]
    assert abs(sample.var() - want) < 4 * want * (2 / count) ** 0.5
    assert abs(sample.mean() - VP.alpha(high) * 0.5) < 4 * (want / count) ** 0.5
    assert "solver" not in end.memory


def test_unknown_names_are_named():
    with pytest.raises(ValueError, match="solver 'plms' is not known; known: ddim"):
        named("plms")
    with pytest.raises(ValueError, match="eta is the 'ddim' solver's"):
        named("heun", eta=0.5)
    with pytest.raises(ValueError, match=r"eta must be in \[0, 1\], got 1.5"):
        named("ddim", eta=1.5)


def test_dpmpp_drops_its_history_on_a_turn():
    """After a turn the first step is a first-order one: the same as without a past."""
    start = torch.full((1, 1, 2, 2), 0.4, dtype=torch.float64)
    there = plans.segments([{"image": 0.2}, {"image": 0.5}], [3])
    back = plans.segments([{"image": 0.5}, {"image": 0.2}], [3])
    solver = DPMSolverPP2M()
    high = finish(state_of(start, 0.2, VP), gaussian(), there, solver)
    fresh = finish(state_of(high.latents["image"], 0.5, VP), gaussian(), back, solver)
    turned = finish(high, gaussian(), back, solver)
    assert torch.equal(fresh.latents["image"], turned.latents["image"])


def test_nudges_move_the_state_after_the_step():
    @dataclass(frozen=True)
    class Nudged:
        def __call__(self, state, variants=()):
            return [
                {"image": Prediction(p.x0, p.eps, torch.ones_like(p.x0))}
                for p in (gaussian()(state)[0]["image"],)
            ]

    start = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    plan = plans.segments([{"image": 0.5}, {"image": 0.4}], [1])
    plain = finish(state_of(start, 0.5, VP), gaussian(), plan, DDIM())
    nudged = finish(state_of(start, 0.5, VP), Nudged(), plan, DDIM())
    assert torch.equal(nudged.latents["image"], plain.latents["image"] + 1)
