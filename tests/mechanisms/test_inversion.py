"""Inversion on exact mixtures of Gaussians, in float64: there and back, and what must come out."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
import torch

from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.inversion.ascent import trajectory
from unicond.mechanisms.inversion.ddim import DDIMInversion
from unicond.mechanisms.inversion.direct import Direct
from unicond.mechanisms.inversion.edict import EDICT
from unicond.mechanisms.inversion.edit_friendly import EditFriendly
from unicond.mechanisms.inversion.fixed_point import FixedPoint, residuals
from unicond.mechanisms.inversion.methods import plan_edit
from unicond.mechanisms.inversion.negative_prompt import NegativePrompt
from unicond.mechanisms.inversion.null_text import NullText, embeddings
from unicond.mechanisms.inversion.paths import jump_and_down, latest, up_and_down
from unicond.mechanisms.inversion.sdedit import sdedit
from unicond.sampling import plans, schedules
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.predictions import Prediction
from unicond.sampling.prompts import Prompt, reworded
from unicond.sampling.rows import Variant
from unicond.sampling.solvers import DDIM, DPMSolverPP2M, Heun
from unicond.sampling.state import State

CONFIG = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
}
ZERO_SNR = schedules.from_config({**CONFIG, "rescale_betas_zero_snr": True})
SCHEDULES = {
    "vp": schedules.from_config(CONFIG),
    "zero snr": ZERO_SNR,
    "flow": schedules.FlowSchedule(),
}
PLAIN = (Variant(),)
VARIANCE = 0.3
WORDS = {
    "positive": {"source": (-0.8, 0.9), "target": (0.2, 1.5)},
    "negative": {"source": (-0.3, 0.4), "target": (-0.3, 0.4)},
}


def table(words=WORDS):
    """Prompts whose only token is the means of both components."""
    return {
        name: {b: Prompt(torch.tensor([[m]], dtype=torch.float64)) for b, m in branches.items()}
        for name, branches in words.items()
    }


@dataclass
class Mixture:
    """`E[x0 | latents]` of pixels from two Gaussians, whose means are the prompt's token."""

    prompts: dict = field(default_factory=table)
    calls: list = field(default_factory=list)

    def __call__(self, state, variants=PLAIN):
        self.calls.append((tuple(state.latents), tuple(variants), torch.is_grad_enabled()))
        prompts = reworded(self.prompts, state)
        return [
            {b: self.predict(state, b, prompts[v.prompt][b].tokens) for b in state.latents}
            for v in variants
        ]

    def predict(self, state, branch, tokens):
        (alpha, sigma), latents = state.scales(branch), state.latents[branch][..., None]
        means = tokens[:, :, None, None, :]
        spread = alpha**2 * VARIANCE + sigma**2
        gap = latents - alpha * means
        share = (-(gap**2) / (2 * spread)).softmax(-1)
        x0 = (share * (means + alpha * VARIANCE / spread * gap)).sum(-1)
        eps = (latents[..., 0] - alpha * x0) / sigma if sigma > 0 else torch.zeros_like(x0)
        return Prediction(x0, eps)


def picture(count=2, side=4):
    shape = (count, 1, side, side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def go(edit, known=None, *, beside=(), schedule=ZERO_SNR, denoiser=None, seeds=None):
    """All states of a run, the first included."""
    known = picture() if known is None else known
    noise = Generators(seeds or range(len(known)), edit.branches)
    states = [edit.state(known, schedule, noise)]
    mechanisms = [*edit.mechanisms, *edit.inner, *beside]
    for progress in run(states[0], denoiser or Mixture(), edit.plan, edit.solver, mechanisms):
        states.append(progress.state)
    return states


def off(states, branch="source", known=None):
    known = picture() if known is None else known
    return float((states[-1].latents[branch] - known).abs().max())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ahead", [False, True])
def test_the_error_of_ddims_round_trip_halves_with_twice_the_steps(schedule, ahead):
    errors = []
    for count in (25, 50, 100, 200):
        edit = plan_edit("ddim", SCHEDULES[schedule].times(count))
        edit = replace(edit, mechanisms=(replace(edit.mechanisms[0], ahead=ahead),))
        errors.append(off(go(edit, schedule=SCHEDULES[schedule])))
    ratios = [a / b for a, b in pairwise(errors)]
    assert all(1.6 < ratio < 2.4 for ratio in ratios), (errors, ratios)


def test_a_ddim_step_up_is_the_formula():
    edit = plan_edit("ddim", ZERO_SNR.times(10))
    states, network = go(edit), Mixture()
    for here, there in pairwise(states[1:10]):
        (a, o), (to_a, to_o) = here.scales("source"), there.scales("source")
        e = network(here)[0]["source"].eps
        want = to_a * (here.latents["source"] - o * e) / a + to_o * e
        assert torch.allclose(there.latents["source"], want, atol=1e-12)
    assert len(edit.plan) == 20
    assert list(trajectory(states[-1])) == [0.0, *reversed(ZERO_SNR.times(10))]


def test_told_the_time_ahead_only_eps_is_the_end_s():
    edit = plan_edit("ddim", ZERO_SNR.times(10))
    edit = replace(edit, mechanisms=(DDIMInversion(ahead=True),))
    here, there = go(edit)[4:6]
    (a, o), (to_a, to_o) = here.scales("source"), there.scales("source")
    e = Mixture()(here.at(here.latents, there.t))[0]["source"].eps
    want = to_a * (here.latents["source"] - o * e) / a + to_o * e
    assert torch.allclose(there.latents["source"], want, atol=1e-12)


def test_on_the_way_up_the_target_is_the_source_and_has_no_rows():
    network = Mixture()
    states = go(plan_edit("ddim", ZERO_SNR.times(5)), denoiser=network, beside=[ClassifierFree(3)])
    for state in states[:6]:
        assert torch.equal(state.latents["source"], state.latents["target"])
    up, down = network.calls[:5], network.calls[5:]
    assert {(branches, len(variants)) for branches, variants, _ in up} == {(("source",), 1)}
    assert {(b, len(v)) for b, v, _ in down} == {(("source", "target"), 2)}
    assert not torch.allclose(states[-1].latents["source"], states[-1].latents["target"], atol=0.1)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_fixed_point_is_the_exact_inverse_and_says_so(schedule):
    edit = plan_edit("fixed_point", SCHEDULES[schedule].times(20))
    edit = replace(edit, mechanisms=(FixedPoint(iterations=80, tolerance=1e-14),))
    states = go(edit, schedule=SCHEDULES[schedule])
    assert off(states) < 1e-10
    assert residuals(states[-1]).shape == (20, 2)
    assert residuals(states[-1]).max() < 1e-13
    there = states[11]
    e = Mixture()(there)[0]["source"].eps  # the papers' iteration stands still here
    (a, o), (to_a, to_o) = states[10].scales("source"), there.scales("source")
    again = to_a * (states[10].latents["source"] - o * e) / a + to_o * e
    assert torch.allclose(again, there.latents["source"], atol=1e-11)
    few = replace(edit, mechanisms=(FixedPoint(iterations=2, tolerance=0.0),))
    rough = go(few, schedule=SCHEDULES[schedule])
    assert residuals(rough[-1]).max() > 1e-6
    plain = go(plan_edit("ddim", SCHEDULES[schedule].times(20)), schedule=SCHEDULES[schedule])
    assert 1e-6 < off(rough) < 0.5 * off(plain)


def test_a_residual_is_what_the_step_down_misses():
    edit = plan_edit("fixed_point", ZERO_SNR.times(6))
    edit = replace(edit, mechanisms=(FixedPoint(iterations=1),))
    here, there = go(edit)[3:5]
    guess = here.at(here.latents, there.t)
    p, (a, o) = Mixture()(guess)[0]["source"], here.scales("source")
    miss = here.latents["source"] - (a * p.x0 + o * p.eps)
    assert torch.allclose(residuals(there)[3], miss.square().flatten(1).mean(1).sqrt(), atol=1e-12)


def test_samples_that_are_there_stop():
    network = Mixture()
    edit = plan_edit("fixed_point", ZERO_SNR.times(20))
    edit = replace(edit, mechanisms=(FixedPoint(iterations=200, tolerance=1e-5),))
    states = go(edit, denoiser=network)
    assert len(network.calls) < 20 * 30
    assert residuals(states[-1]).max() < 1e-5


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_edict_comes_back(schedule, scale):
    """To rounding, guided or not; each way up divides by 0.93 twice a move."""
    times = SCHEDULES[schedule].times(12)
    states = go(
        plan_edit("edict", times), schedule=SCHEDULES[schedule], beside=[ClassifierFree(scale)]
    )
    assert off(states) < 1e-12
    top = states[len(times)]
    assert not torch.allclose(top.latents["source"], top.memory["solver"]["source"], atol=1e-6)


def test_edict_of_one_state_is_ddim():
    """x and y are one at the start: the first half step down is DDIM's, then they mix."""
    state = State({"source": picture()}, {"source": 0.6}, ZERO_SNR, Generators([0, 1], ["source"]))
    plan = plans.path({"source": [0.6, 0.5]})
    ddim = next(run(state, Mixture(), plan, DDIM())).state.latents["source"]
    whole = next(run(state, Mixture(), plan, EDICT(mix=1.0))).state
    assert torch.allclose(whole.latents["source"], ddim, atol=1e-12)
    (a, o), (to_a, to_o) = ((ZERO_SNR.alpha(t), ZERO_SNR.sigma(t)) for t in (0.6, 0.5))
    c = a * to_a + o * to_o
    there = state.at({"source": ddim}, state.t)
    p = Mixture()(there)[0]["source"]
    y = c * picture() + (to_a - c * a) * p.x0 + (to_o - c * o) * p.eps
    assert torch.allclose(whole.memory["solver"]["source"], y, atol=1e-12)
    mixed = next(run(state, Mixture(), plan, EDICT(mix=0.9))).state
    x = 0.9 * ddim + 0.1 * y
    assert torch.allclose(mixed.latents["source"], x, atol=1e-12)
    assert torch.allclose(mixed.memory["solver"]["source"], 0.9 * y + 0.1 * x, atol=1e-12)


def test_edict_returns_the_models_type():
    known = picture().float()

    class Half(Mixture):
        def predict(self, state, branch, tokens):
            p = super().predict(state, branch, tokens)
            return Prediction(p.x0.float(), p.eps.float())

    states = go(plan_edit("edict", ZERO_SNR.times(12)), known, denoiser=Half())
    assert states[12].latents["source"].dtype == torch.float64
    assert states[-1].latents["source"].dtype == torch.float32
    assert off(states, known=known) < 1e-5


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_direct_inversion_keeps_the_source(scale):
    times = ZERO_SNR.times(10)
    plain = go(plan_edit("ddim", times), beside=[ClassifierFree(scale)])
    direct = go(plan_edit("direct", times), beside=[ClassifierFree(scale)])
    assert torch.equal(direct[-1].latents["source"], picture())
    assert off(plain) > 1e-3
    for up, down in zip(direct[:11], reversed(direct[10:]), strict=True):
        assert torch.equal(up.latents["source"], down.latents["source"])
    assert torch.equal(direct[-1].latents["target"], plain[-1].latents["target"])


def test_with_the_negative_prompt_of_the_source_guidance_does_nothing_to_it():
    times = ZERO_SNR.times(10)
    plain = go(plan_edit("ddim", times))
    guided = go(plan_edit("negative_prompt", times), beside=[ClassifierFree(7.5)])
    bad = go(plan_edit("ddim", times), beside=[ClassifierFree(7.5)])
    assert torch.allclose(guided[-1].latents["source"], plain[-1].latents["source"], atol=1e-10)
    assert off(bad) > 2 * off(guided)
    words = table({**WORDS, "negative": dict.fromkeys(("source", "target"), (-0.8, 0.9))})
    same = go(plan_edit("ddim", times), denoiser=Mixture(words), beside=[ClassifierFree(7.5)])
    for branch in ("source", "target"):
        assert torch.equal(guided[-1].latents[branch], same[-1].latents[branch])


def fit(times, scale=3.0, **options):
    edit = plan_edit("null_text", times)
    options = {"learning_rate": 0.2, "stop": 0.0, "slack": 0.0, **options}
    edit = replace(edit, inner=(NullText(**options),))
    return edit, [ClassifierFree(scale)]


def test_null_text_leads_the_guided_source_back():
    """One Gaussian a prompt: what guidance does wrong is a shift, which other words take back."""
    words = {
        "positive": {"source": (0.4, 0.4), "target": (0.9, 0.9)},
        "negative": dict.fromkeys(("source", "target"), (-0.6, -0.6)),
    }
    times, errors = ZERO_SNR.times(10), {}
    edit, guidance = fit(times, iterations=20)
    plain = plan_edit("ddim", times)
    for name, run_, beside in [
        ("fitted", edit, guidance),
        ("guided", plain, guidance),
        ("bare", plain, []),
    ]:
        states = go(run_, denoiser=Mixture(table(words)), beside=beside)
        errors[name] = (states[-1].latents["source"] - picture()).square().mean().sqrt()
        if name == "fitted":
            assert len(embeddings(states[-1])) == 10
    assert errors["fitted"] < errors["bare"] + 0.02 < 0.3 * errors["guided"], errors


def test_each_move_of_null_text_is_guided_by_its_own_words():
    """The step from t, computed again with the words that are remembered for it."""
    edit, guidance = fit(ZERO_SNR.times(5), iterations=4)
    states = go(edit, beside=guidance)
    words = embeddings(states[-1])
    for number, (here, there) in enumerate(pairwise(states[5:])):
        for branch in ("source", "target"):
            network, (a, o) = Mixture(), there.scales(branch)
            positive = network.predict(here, branch, table()["positive"][branch].tokens)
            negative = network.predict(here, branch, words[number])
            p = Prediction.blend([(3.0, positive), (-2.0, negative)])
            assert torch.allclose(there.latents[branch], a * p.x0 + o * p.eps, atol=1e-10)


def test_null_text_is_adam_with_a_falling_rate_from_the_words_before():
    """One iteration moves each number by the rate, `0.2 (1 - i / moves)`."""
    edit, guidance = fit(ZERO_SNR.times(5), iterations=1)
    words = embeddings(go(edit, beside=guidance)[-1])
    before = table()["negative"]["source"].tokens
    for number, after in enumerate(words):
        step = (after - before).abs()
        moved = step > 0  # no gradient, no step
        assert torch.allclose(step[moved], torch.tensor(0.2 * (1 - number / 10)).double(), rtol=0.1)
        before = after
    assert moved.any()


def test_null_text_stops_early_and_for_each_sample():
    edit, guidance = fit(ZERO_SNR.times(5), iterations=50, stop=1e9)
    network = Mixture()
    states = go(edit, beside=guidance, denoiser=network)
    assert len(network.calls) == 5 + 5 * 2
    initial = table()["negative"]["source"].tokens.expand(2, 1, 2)
    assert all(torch.equal(words, initial) for words in embeddings(states[-1]))
    plain = go(plan_edit("ddim", ZERO_SNR.times(5)), beside=guidance)
    assert torch.equal(states[-1].latents["target"], plain[-1].latents["target"])


def test_without_guidance_there_is_nothing_to_fit():
    edit, _ = fit(ZERO_SNR.times(5))
    found, plain = go(edit), go(plan_edit("ddim", ZERO_SNR.times(5)))
    for branch in ("source", "target"):
        assert torch.equal(found[-1].latents[branch], plain[-1].latents[branch])
    assert embeddings(found[-1]) == ()


@torch.no_grad()
def test_null_text_builds_its_own_graph_and_leaves_none():
    edit, guidance = fit(ZERO_SNR.times(3), iterations=2)
    network = Mixture()
    states = go(edit, beside=guidance, denoiser=network)
    assert [graph for *_, graph in network.calls] == [False] * 3 + [True, True, False] * 3
    assert not any(v.requires_grad for v in states[-1].latents.values())


@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_edit_friendly_noises_bring_the_picture_back_under_its_own_prompt(scale):
    same = table(
        {name: dict.fromkeys(("source", "target"), one["source"]) for name, one in WORDS.items()}
    )
    edit = plan_edit("edit_friendly", ZERO_SNR.times(20), strength=0.64)
    states = go(edit, denoiser=Mixture(same), beside=[ClassifierFree(scale)])
    assert off(states, "source") == 0
    assert off(states, "target") < 1e-10
    other = go(edit, beside=[ClassifierFree(scale)])
    assert off(other, "target") > 0.1
    assert off(other, "source") == 0


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_edit_friendly_noises_have_their_variance(eta):
    """One Gaussian: mu_t = m + A x_t, so that given x_0 `var r = sigma_s^2 + A^2 sigma_t^2`.

    The way itself is that of independent noises, `corr(n_s, n_t) = 0`.
    """
    known = picture(1, 128)
    edit = plan_edit("edit_friendly", ZERO_SNR.times(10), strength=0.5)
    edit = replace(edit, mechanisms=(EditFriendly(eta=eta),))
    words = table({"positive": {"source": (0.3, 0.3), "target": (2.0, 2.0)}})
    states = go(edit, known, denoiser=Mixture(words))
    here, there = states[2], states[3]
    (a, o), (to_a, to_o) = here.scales("source"), there.scales("source")
    noises = [
        (s.latents["source"] - s.scales("source")[0] * known) / s.scales("source")[1]
        for s in (here, there)
    ]
    error = 1 / known.numel() ** 0.5
    for n in noises:
        assert abs(n.var() - 1) < 4 * 2**0.5 * error
    assert abs((noises[0] * noises[1]).mean()) < 4 * error
    tau = eta**2 * (1 - (a * to_o / (to_a * o)) ** 2)
    p = Mixture(words)(here)[0]["source"]
    mean = to_a * p.x0 + to_o * (1 - tau) ** 0.5 * p.eps
    residual = there.latents["source"] - mean
    gain = a * VARIANCE / (a * a * VARIANCE + o * o)
    slope = to_a * gain + to_o * (1 - tau) ** 0.5 * (1 - a * gain) / o
    want = to_o**2 + slope**2 * o**2
    rest = residual - (to_a - slope * a) * known
    assert abs(rest.var() - want) < 4 * want * 2**0.5 * error
    p = Mixture(words)(here)[0]["target"]
    mean = to_a * p.x0 + to_o * (1 - tau) ** 0.5 * p.eps
    assert torch.allclose(there.latents["target"], mean + residual, atol=1e-12)


def test_sdedit_starts_from_the_noised_picture():
    known = torch.full((1, 1, 128, 128), 0.7, dtype=torch.float64)
    times = ZERO_SNR.times(10)
    for strength, count in ((0.3, 3), (0.75, 8), (1.0, 10)):
        states = go(plan_edit("sdedit", times, strength=strength), known)
        assert len(states) == count + 2
        start, error = states[1], 1 / 128
        alpha, sigma = start.scales("target")
        assert start.t["target"] == times[-count]
        assert abs(start.latents["target"].mean() - alpha * 0.7) < 4 * sigma * error
        assert abs(start.latents["target"].var() - sigma**2) < 4 * 2**0.5 * sigma**2 * error


def test_the_ends_of_sdedits_strength():
    """At 0.0 the picture, untouched; at 1.0 and zero terminal SNR nothing of it is left."""
    times = ZERO_SNR.times(6)
    assert torch.equal(
        go(plan_edit("sdedit", times, strength=0.0))[-1].latents["target"], picture()
    )
    one = go(plan_edit("sdedit", times))[-1].latents["target"]
    other = go(plan_edit("sdedit", times), picture() + 5)[-1].latents["target"]
    assert torch.equal(one, other)
    assert sdedit(times, 1.0, "image", {"depth": 0.0})[1].t == {"image": 1.0, "depth": 0.0}


def test_sdedit_keeps_the_models_law():
    """A picture of the model's own, noised and denoised, is one again: variance of a Gaussian."""
    known = 0.3 + VARIANCE**0.5 * picture(1, 128)
    words = table({"positive": {"target": (0.3, 0.3)}})
    edit = plan_edit("sdedit", ZERO_SNR.times(100), strength=0.5)
    out = go(edit, known, denoiser=Mixture(words))[-1].latents["target"]
    assert abs(out.mean() - 0.3) < 4 * VARIANCE**0.5 / 128 + 1e-3
    assert abs(out.var() - VARIANCE) < 4 * VARIANCE * 2**0.5 / 128 + 0.005  # 50 steps


def test_plans_join_up_and_hold():
    times = ZERO_SNR.times(7)
    for plan in (
        up_and_down(times, hold={"depth": 0.25}),
        jump_and_down(times, hold={"depth": 0.25}),
    ):
        plans.check(plan)
        assert plans.held(plan) == {"depth"}
        assert set(plan[0].t) == {"source", "target", "depth"}
        assert (plan[0].t["source"], plan[-1].s["source"]) == (0.0, 0.0)
    assert latest(times, 0.0) == ()
    assert latest(times, 0.01) == times[-1:]
    assert latest(times, 0.5) == times[-4:]
    assert up_and_down(()) == jump_and_down(()) == []


def test_a_held_branch_stays_and_conditions_both_ways():
    words = {name: {**one, "depth": (0.0, 0.0)} for name, one in WORDS.items()}
    edit = plan_edit("ddim", ZERO_SNR.times(4), hold={"depth": 0.0})
    depth, network = picture() + 1, Mixture(table(words))
    state = edit.state(picture(), ZERO_SNR, Generators([0, 1], edit.branches), {"depth": depth})
    for progress in run(state, network, edit.plan, edit.solver, edit.mechanisms):
        assert progress.state.latents["depth"] is depth
    assert {branches for branches, *_ in network.calls[:4]} == {("source", "depth")}
    with pytest.raises(ValueError, match=r"holds \['depth'\], but the latents of \[\]"):
        edit.state(picture(), ZERO_SNR, Generators([0, 1], edit.branches))


@pytest.mark.parametrize("fixed", [False, True])
def test_one_branch_alone_has_two_prompts(fixed):
    """Up under the source's words, down under others; under its own it comes back."""
    words = {
        "source": {"image": WORDS["positive"]["source"]},
        "positive": {"image": WORDS["positive"]["target"]},
    }
    known, times = picture(), ZERO_SNR.times(40)
    kind = FixedPoint if fixed else DDIMInversion
    inversion = kind(source="image", target=None, prompt="source")
    state = State({"image": known}, {"image": 0.0}, ZERO_SNR, Generators([0, 1]))
    ends = {}
    for name in ("edit", "back"):
        network = Mixture(
            table({**words, "positive": words["source"]} if name == "back" else words)
        )
        *_, last = run(state, network, up_and_down(times, ["image"]), DDIM(), [inversion])
        ends[name] = (last.state.latents["image"] - known).abs().max()
    assert ends["back"] < (1e-3 if fixed else 0.5) * ends["edit"], ends


METHODS = [
    "ddim",
    "fixed_point",
    "null_text",
    "negative_prompt",
    "direct",
    "edict",
    "edit_friendly",
]


@pytest.mark.parametrize("method", [*METHODS, "sdedit"])
def test_a_sample_does_not_depend_on_its_batch(method):
    known = picture(3) * torch.tensor([0.1, 1.0, 4.0])[:, None, None, None]
    edit = plan_edit(method, ZERO_SNR.times(4), strength=0.75)

    def end(rows):
        return go(edit, known[rows], beside=[ClassifierFree(2.0)], seeds=rows)[-1].latents

    together = end([0, 1, 2])
    for row in range(3):
        alone = end([row])
        for branch in edit.branches:
            assert torch.allclose(alone[branch][0], together[branch][row], atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_strength_0_is_the_picture(method):
    states = go(plan_edit(method, ZERO_SNR.times(4), strength=0.0))
    assert len(states) == 1
    assert torch.equal(states[0].latents["target"], picture())


def test_other_deterministic_solvers_go_up_and_down_too():
    times = SCHEDULES["vp"].times(50)
    first = off(go(plan_edit("ddim", times), schedule=SCHEDULES["vp"]))
    for solver in (Heun(), DPMSolverPP2M()):
        edit = plan_edit("direct", times, solver=solver)
        states = go(edit, schedule=SCHEDULES["vp"])
        assert torch.equal(states[-1].latents["source"], picture())
        plain = go(plan_edit("ddim", times, solver=solver), schedule=SCHEDULES["vp"])
        assert off(plain) < 0.7 * first, (off(plain), first)


def second(mechanism, solver):
    """A run that is put together by hand."""
    edit = plan_edit("ddim", ZERO_SNR.times(4))
    return go(replace(edit, mechanisms=mechanism, solver=solver), beside=[ClassifierFree(2.0)])


def other_words(name):
    return Mixture({n: one for n, one in table().items() if n != name})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: plan_edit("magic", t), "no inversion 'magic'; there are sdedit"),
        (lambda t: plan_edit("ddim", t, strength=1.2), "strength 1.2 is outside"),
        (lambda t: plan_edit("ddim", t, solver=DDIM(eta=0.5)), "eta=0.5 draws noise"),
        (lambda t: plan_edit("edit_friendly", t, solver=DDIM(eta=1)), "eta=1 draws noise"),
        (lambda t: plan_edit("null_text", t, solver=Heun()), "needs the 'ddim' solver"),
        (lambda t: plan_edit("direct", t, solver=EDICT()), "needs the 'ddim' solver"),
        (lambda t: plan_edit("edict", t, solver=DDIM()), "a solver of its own"),
        (lambda _: second((DDIMInversion(),), DDIM(eta=1)), "moves up, which is deterministic"),
        (lambda _: second((FixedPoint(),), DPMSolverPP2M()), "FixedPoint works on"),
        (lambda _: second((DDIMInversion(), NullText()), DPMSolverPP2M()), "NullText works on"),
        (lambda _: second((Direct(),), DDIM()), "passed nothing: put DDIMInversion"),
        (lambda _: second((NullText(),), DDIM()), "passed nothing: put DDIMInversion"),
        (lambda _: second((DDIMInversion(source="x"),), DDIM()), "branches of this run are source"),
        (lambda _: second((DDIMInversion(target="x"),), DDIM()), "target 'x' has to start beside"),
        (lambda _: go(plan_edit("edict", (1.0,))), "single move between"),
        (lambda _: go(plan_edit("fixed_point", (1.0,))), "single move between"),
        (
            lambda t: go(plan_edit("null_text", t), denoiser=other_words("negative")),
            "no prompt 'negative' of branch 'source' to fit",
        ),
        (
            lambda t: go(
                replace(
                    plan_edit("negative_prompt", t),
                    mechanisms=(NegativePrompt(prompt="source"),),
                )
            ),
            "no prompt 'source' of branch 'source' to move away from",
        ),
        (lambda _: DDIMInversion(source="a", target="a"), "both 'a'"),
        (lambda _: EditFriendly(source="a", target="a"), "both 'a'"),
        (lambda _: NullText(source="a", target="a"), "both 'a'"),
        (lambda _: EditFriendly(eta=0.0), r"eta must be in \(0, 1\]"),
        (lambda _: EDICT(mix=0.5), r"mix must be in \(0.5, 1\]"),
        (lambda _: FixedPoint(iterations=0), "iterations >= 1"),
        (lambda _: FixedPoint(tolerance=float("nan")), "tolerance >= 0"),
        (lambda _: NullText(iterations=0), "iterations >= 1"),
        (lambda _: NullText(stop=-1.0), "must not be negative"),
    ],
)
def test_what_cannot_be_inverted_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(ZERO_SNR.times(4))


def test_edit_friendly_starts_clean():
    state = State(
        {"source": picture(), "target": picture()},
        {"source": 0.5, "target": 0.5},
        ZERO_SNR,
        Generators([0, 1], ("source", "target")),
    )
    plan = plans.descend(ZERO_SNR.times(4)[2:], {"source": 0.5, "target": 0.5})
    with pytest.raises(ValueError, match="has to start clean"):
        next(run(state, Mixture(), plan, DDIM(), [EditFriendly()]))
