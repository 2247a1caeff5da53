"""Aggregation against closed forms: two Gaussian models, formulas, neutral values, refusals."""

import math
from itertools import pairwise

import pytest
import torch

from unicond.aggregation.aggregate import Aggregate, eta_of, lockstep
from unicond.aggregation.joining import Joined
from unicond.aggregation.manifold import pulled
from unicond.aggregation.mixing import even_weights, mixed, share_of, slerp
from unicond.denoisers.exact import PixelGaussian
from unicond.denoisers.parallel import Member, MemberNoise, Parallel
from unicond.mechanisms.guidance.gradients import displaced
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.plans import descend
from unicond.sampling.schedules import FlowSchedule, from_config
from unicond.sampling.solvers import DDIM, SOLVERS, Heun
from unicond.sampling.state import Mechanism, Setup, State
from unicond.sampling.window import Window

SCHEDULE = from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})
TIGHT = 1e-4
POINT = (2.0, -1.0)
"""Model a knows the first value, model b the second: this is where both are likely."""


def gaussian(variances, mean):
    return PixelGaussian(torch.tensor(variances).double().diag(), torch.tensor(mean).double())


def models():
    return gaussian((TIGHT, 1.0), (POINT[0], 0.0)), gaussian((1.0, TIGHT), (0.0, POINT[1]))


def sampled(denoisers, aggregate=None, joined=False, **changes):
    """(B, 2) the first model's picture."""
    last = ran(denoisers, aggregate, joined, **changes)
    return last.latents["image"][:, 0, 0]


def ran(
    denoisers,
    aggregate=None,
    joined=False,
    steps=20,
    solver=None,
    seeds=(0, 1, 2),
    schedule=SCHEDULE,
):
    """The last state."""
    members = [
        Member(
            "" if n == 0 else str(n), denoiser, ("image",), Generators([s + 100 * n for s in seeds])
        )
        for n, denoiser in enumerate(denoisers)
    ]
    branches = [member.named("image") for member in members]
    times = schedule.times(steps)
    plans = [descend(times, {branch: 1.0}) for branch in branches]
    window = aggregate.window if aggregate else Window.steps(1, 4)
    like = torch.zeros(len(seeds), 1, 1, 2, dtype=torch.float64)
    latents = {m.named("image"): m.noise.draw("image", like) for m in members}
    state = State(latents, dict.fromkeys(branches, times[0]), schedule, MemberNoise(members))
    plan = lockstep(plans, branches, window, joined)
    state = state.at(state.latents, plan[0].t)
    parallel = Parallel(members)
    joining = Joined(members=members, branch="image", number=int(window.from_t))
    joins = [joining] if joined else []
    mechanisms = [parallel] if aggregate is None else [parallel, *joins, aggregate]
    *_, last = run(state, parallel, plan, solver or DDIM(), mechanisms)
    return last.state


def aggregate(count=2, **changes):
    branches = ("image", *(f"{n}:image" for n in range(1, count)))
    asked = {"weights": [0.5] * (count - 1), "mix": "lerp", "mean": None} | changes
    asked = {"window": Window.steps(1, 4)} | asked
    return Aggregate(branches=branches, **asked)


def flow(x, t, s, variance, mean):
    """One DDIM step of one value of a Gaussian model, written as its posterior."""
    (alpha, sigma), (to_alpha, to_sigma) = (
        (SCHEDULE.alpha(each), SCHEDULE.sigma(each)) for each in (t, s)
    )
    x0 = mean + variance * alpha / (alpha**2 * variance + sigma**2) * (x - alpha * mean)
    return to_alpha * x0 + to_sigma * (x - alpha * x0) / sigma


@pytest.mark.parametrize("last", [4, 16])
def test_two_gaussian_models_against_the_recursion(last):
    """lerp without a mean: one state for both, whose every value is an affine recursion."""
    steps, share, seeds = 20, share_of(0.5), (0, 1, 2)
    found = sampled(models(), aggregate(window=Window.steps(0, last)), steps=steps, seeds=seeds)
    times = [*SCHEDULE.times(steps), 0.0]
    like = torch.zeros(len(seeds), 1, 1, 2, dtype=torch.float64)
    starts = [Generators([s + 100 * n for s in seeds]).draw("image", like)[:, 0, 0] for n in (0, 1)]
    for value in (0, 1):
        a, b = (start[:, value] for start in starts)
        for number, (t, s) in enumerate(pairwise(times)):
            a = flow(a, t, s, (TIGHT, 1.0)[value], (POINT[0], 0.0)[value])
            b = flow(b, t, s, (1.0, TIGHT)[value], (0.0, POINT[1])[value])
            if number < last:
                a = b = (1 - share) * a + share * b
        # the narrow model divides by its variance of 1e-4: some digits of float64 are gone
        torch.testing.assert_close(found[:, value], a, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "mix", ["slerp", "lerp"]
)  # `released` grows the norm of states of two values
def test_the_kept_model_learns_what_the_other_knows(mix):
    """Near the models' intersection; alone the second value is free, with a deviation of 1."""
    seeds = tuple(range(64))
    alone = sampled(models(), None, seeds=seeds)
    whole = aggregate(mix=mix, mean="posterior", step_sizes=(2.0, 2.0), window=Window.steps(0, 16))
    both = sampled(models(), whole, seeds=seeds)
    for found in (alone, both):
        assert (found[:, 0] - POINT[0]).abs().max() < 4 * math.sqrt(TIGHT)
    far, near = ((found[:, 1] - POINT[1]).square().mean().sqrt() for found in (alone, both))
    assert near < 0.5 * far


@pytest.mark.parametrize("first", [0, 5])
def test_models_that_join_against_the_recursion(first):
    """From the move on at which the window begins, from the first model's state there."""
    steps, share, seeds = 20, share_of(0.5), (0, 1, 2)
    asked = aggregate(window=Window.steps(first, first + 4))
    found = sampled(models(), asked, joined=True, steps=steps, seeds=seeds)
    times = [*SCHEDULE.times(steps), 0.0]
    like = torch.zeros(len(seeds), 1, 1, 2, dtype=torch.float64)
    start = Generators(seeds).draw("image", like)[:, 0, 0]
    for value in (0, 1):
        a = b = start[:, value]
        for number, (t, s) in enumerate(pairwise(times)):
            b = a if number == first else b
            a = flow(a, t, s, (TIGHT, 1.0)[value], (POINT[0], 0.0)[value])
            b = flow(b, t, s, (1.0, TIGHT)[value], (0.0, POINT[1])[value])
            if first <= number < first + 4:
                a = b = (1 - share) * a + share * b
        torch.testing.assert_close(found[:, value], a, rtol=0, atol=1e-9)


def test_models_that_join_are_asked_in_the_window_alone():
    class Counted:
        def __init__(self, model):
            self.model, self.calls = model, 0

        def __call__(self, state, variants):
            self.calls += 1
            return self.model(state, variants)

    counted = [Counted(model) for model in models()]
    sampled(counted, aggregate(window=Window.steps(7, 10)), joined=True)
    assert [each.calls for each in counted] == [20, 3]


def test_a_model_that_joins_moves_its_image_alone():
    names, times = ("image", "1:image"), SCHEDULE.times(10)
    plans = [descend(times, {"image": 1.0}), descend(times, {"1:image": 1.0, "1:depth": 0.5})]
    lockstep(plans, names, Window.steps(0, 2), joined=True)
    with pytest.raises(ValueError, match="this one moves '1:depth' before: give start='own'"):
        lockstep(plans, names, Window.steps(1, 3), joined=True)


def test_pulling_correlated_states_to_the_step_taken_undoes_the_mix_and_says_so():
    """At eta 0 the mean is the model's own step; where it is nearer than p, nothing is left."""
    window, alone = Window.steps(10, 13), sampled(models())
    pulls = aggregate(mean="posterior", window=window)
    undone = ran(models(), pulls, joined=True)
    torch.testing.assert_close(undone.latents["image"][:, 0, 0], alone, rtol=0, atol=1e-9)
    report = undone.reports["aggregate"]
    assert report.missed() == [0, 1, 2]
    assert report.value.tolist() == [1.0] * 3
    short = aggregate(mean="posterior", window=window, step_sizes=(1e-3, 1e-3))
    left = ran(models(), short, joined=True)
    assert left.reports["aggregate"].missed() == []
    assert (left.latents["image"][:, 0, 0] - alone).abs().max() > 1e-2


def test_slerp_turns_directions_and_norms_evenly():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 4, 2, 2, generator=generator).double() for _ in range(2))
    for weight in (0.0, 0.3, 0.5, 0.9):
        share = 2 / math.pi * math.acos(weight)
        found = slerp(a, b, weight)
        for one, first, second in zip(found, a, b, strict=True):
            na, nb = first.norm(), second.norm()
            angle = torch.acos((first * second).sum() / (na * nb))
            assert abs(one.norm() - ((1 - share) * na + share * nb)) < 1e-10
            turned = torch.acos((one * first).sum() / (one.norm() * na))
            assert abs(turned - share * angle) < 1e-7  # acos near 0 loses half of the digits
    assert slerp(a, b, 1.0) is a
    torch.testing.assert_close(slerp(a, 2 * a, 0.5), a * 5 / 3, rtol=0, atol=1e-12)


def test_slerp_is_the_released_mix_of_orthogonal_states_of_one_norm():
    a, b = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    a[0, 0], b[0, 1] = 3.0, 3.0
    for weight in (0.1, 0.5, 0.8):
        torch.testing.assert_close(
            mixed([a, b], [weight], "slerp"), mixed([a, b], [weight], "released")
        )


@pytest.mark.parametrize("count", [2, 3, 5])
def test_even_weights_keep_for_the_first_what_it_has_of_two(count):
    weights, others = even_weights(count), 2 / math.pi * math.acos(0.2)
    unit = [torch.eye(count, dtype=torch.float64)[n].view(1, count, 1, 1) for n in range(count)]
    shares = mixed(unit, weights, "lerp").flatten().tolist()
    assert shares == pytest.approx([1 - others, *[others / (count - 1)] * (count - 1)])
    assert even_weights(2) == pytest.approx((0.2,))
    norm = mixed(unit, weights, "slerp").norm()
    assert float(norm) == pytest.approx(1.0)


def test_more_than_two_nest():
    states = list(torch.randn(4, 2, 3, 1, 1, generator=torch.Generator().manual_seed(1)))
    nested = slerp(slerp(slerp(states[0], states[1], 0.4), states[2], 0.5), states[3], 0.6)
    assert torch.equal(mixed(states, [0.4, 0.5, 0.6], "slerp"), nested)


def test_a_pull_is_a_step_of_a_length_and_no_farther_than_the_mean():
    """Of 16384 values p is the length; of a quarter as many, half of it."""
    generator = torch.Generator().manual_seed(2)
    state, mean = (torch.randn(2, 4, 32, 32, generator=generator).double() for _ in range(2))
    found = pulled(state, mean, 10.0, clip=True)
    for one, before, to in zip(found, state, mean, strict=True):
        assert abs((one - before).norm() - 5.0) < 1e-10
        assert abs((one - to).norm() - ((before - to).norm() - 5.0)) < 1e-10
    torch.testing.assert_close(pulled(state, mean, 1e6, clip=True), mean, rtol=0, atol=1e-12)
    beyond = pulled(state, mean, 1e6, clip=False)
    assert ((beyond - mean) * (mean - state)).sum() > 0
    assert torch.equal(pulled(state, state, 10.0, clip=True), state)
    assert pulled(state, mean, 0.0, clip=True) is state


@pytest.mark.parametrize("mean", ["posterior", None])
@pytest.mark.parametrize("mix", ["slerp", "lerp", "released"])
def test_weights_of_one_leave_the_first_model_alone_bit_for_bit(mix, mean):
    neutral = aggregate(weights=[1.0], mix=mix, mean=mean)
    assert torch.equal(sampled(models(), neutral), sampled(models()))


@pytest.mark.parametrize("solver", [DDIM(), DDIM(1.0), SOLVERS["dpmpp_2m"], Heun()])
@pytest.mark.parametrize("mix", ["slerp", "released"])
def test_a_sample_does_not_depend_on_its_batch(mix, solver):
    asked = aggregate(mix=mix, mean="posterior", step_sizes=(2.0, 3.0), eta=eta_of(solver))
    whole = sampled(models(), asked, solver=solver)
    for row, seed in enumerate((0, 1, 2)):
        one = sampled(models(), asked, solver=solver, seeds=(seed,))
        torch.testing.assert_close(whole[row : row + 1], one, rtol=0, atol=1e-10)


class Pushed(Mechanism):
    """Asks for a displacement of every branch after the step."""

    def __init__(self, by):
        self.by = by

    def revise(self, predictions, state, move):
        return displaced(predictions, {b: self.by + 0 * p.x0 for b, p in predictions.items()})


@pytest.mark.parametrize("guides", [[], [Pushed(0.25), Pushed(0.5)]], ids=["bare", "nudged"])
def test_the_mean_of_a_noisy_step_is_the_step_without_its_noise(guides):
    """At full length every model goes to its own mean, which no noise moves, but guidance does."""

    class Silent:
        def draw(self, branch, like):
            return torch.zeros_like(like)

    members = [
        Member("" if n == 0 else str(n), denoiser, ("image",), noise)
        for n, (denoiser, noise) in enumerate(
            zip(models(), [Generators([5]), Generators([6])], strict=True)
        )
    ]
    like = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    latents = {"image": like + 0.3, "1:image": like - 0.7}
    times = SCHEDULE.times(10)
    branches = ("image", "1:image")
    plan = lockstep([descend(times, {b: 1.0}) for b in branches], branches, Window.steps(0, 1))[:1]
    start = dict.fromkeys(branches, times[0])
    asked = aggregate(mean="posterior", step_sizes=(1e9, 1e9), window=Window.steps(0, 1), eta=0.7)
    found = []
    for noise, mechanisms in ((MemberNoise(members), [asked]), (Silent(), [])):
        parallel = Parallel(members)
        state = State(latents, start, SCHEDULE, noise)
        *_, last = run(state, parallel, plan, DDIM(0.7), [parallel, *guides, *mechanisms])
        found.append(last.state.latents)
    for branch in branches:
        torch.testing.assert_close(found[0][branch], found[1][branch], rtol=0, atol=1e-10)


def test_a_multistep_solver_forgets_the_paths_that_were_left():
    members = [
        Member("" if n == 0 else str(n), denoiser, ("image",), Generators([n]))
        for n, denoiser in enumerate(models())
    ]
    like = torch.zeros(1, 1, 1, 2, dtype=torch.float64)
    branches, times = ("image", "1:image"), SCHEDULE.times(6)
    plan = lockstep([descend(times, {b: 1.0}) for b in branches], branches, Window.steps(1, 3))
    latents = {m.named("image"): m.noise.draw("image", like) for m in members}
    state = State(latents, dict.fromkeys(branches, times[0]), SCHEDULE, MemberNoise(members))
    parallel = Parallel(members)
    mechanisms = [parallel, aggregate(window=Window.steps(1, 3))]
    steps = run(state, parallel, plan, SOLVERS["dpmpp_2m"], mechanisms)
    assert ["solver" in each.state.memory for each in steps] == [
        True,
        False,
        False,
        True,
        True,
        True,
    ]


def test_a_flow_model_is_aggregated_too_but_has_no_table_of_betas():
    schedule = FlowSchedule()
    found = sampled(models(), aggregate(mean="posterior"), schedule=schedule)
    assert torch.isfinite(found).all()
    with pytest.raises(ValueError, match="a flow model has not: use mean='posterior'"):
        sampled(models(), aggregate(mean="released"), schedule=schedule)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [0.5, 0.5]}, "2 models are mixed by 1 weights"),
        ({"weights": [1.5]}, r"must be in \[0, 1\], got 1.5"),
        ({"weights": [math.nan]}, r"must be in \[0, 1\], got nan"),
        ({"mix": "average"}, "mix is 'average'; choose one of slerp, released, lerp"),
        ({"mean": "prior"}, "mean is 'prior'; choose one of posterior, released, or None"),
        ({"mean": "posterior", "step_sizes": (1.0,)}, "2 models need as many step sizes"),
        ({"mean": "posterior", "step_sizes": (1.0, -1.0)}, "of at least 0"),
        ({"step_sizes": (1.0, 1.0)}, "there is none: give mean posterior or released"),
        ({"count": 1}, "several models are aggregated, but 1 given: give at least two"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        aggregate(**changes)


def test_a_branch_twice_or_unknown_and_other_latents_are_refused():
    with pytest.raises(ValueError, match="aggregated twice"):
        Aggregate(branches=("image", "image"), weights=[0.5], window=Window.steps(1, 4))
    noise = Generators([0], ("image", "1:image"))
    like = torch.zeros(1, 1, 1, 2)
    state = State({"image": like}, {"image": 1.0}, SCHEDULE, noise)
    with pytest.raises(ValueError, match="'1:image' is to be aggregated, but the branches"):
        aggregate().check(Setup(state, [], DDIM(), []))
    wide = {"image": like, "1:image": torch.zeros(1, 1, 2, 2)}
    state = State(wide, dict.fromkeys(wide, 1.0), SCHEDULE, noise)
    with pytest.raises(ValueError, match="must share their latents"):
        aggregate().check(Setup(state, [], DDIM(), []))


def test_plans_that_do_not_go_together_are_refused():
    names = ("image", "1:image")
    ten, five = SCHEDULE.times(10), SCHEDULE.times(5)
    plans = [descend(ten, {"image": 1.0}), descend(five, {"1:image": 1.0})]
    with pytest.raises(ValueError, match=r"'1:image' takes 5 moves .* 'image' 10"):
        lockstep(plans, names, Window.steps(1, 4))
    plans[1] = descend(ten, {"1:image": 1.0})
    with pytest.raises(ValueError, match="moves 8 to 10 ends beyond the plan, whose moves are 0 t"):
        lockstep(plans, names, Window.steps(8, 11))
    with pytest.raises(ValueError, match="holds at none of the 10 moves"):
        lockstep(plans, names, Window(0.01, 0.005))


def test_a_solver_of_unknown_steps_is_refused():
    class Own:
        def step(self, predict, state, move):
            return DDIM().step(predict, state, move)

    assert eta_of(DDIM(0.3)) == 0.3
    asked = aggregate(mean="posterior")
    with pytest.raises(ValueError, match=r"steps have eta=1.0, .* not that of eta=0.0"):
        sampled(models(), asked, solver=DDIM(1.0))
    with pytest.raises(ValueError, match="not known of Own: choose a solver by name"):
        eta_of(Own())
    with pytest.raises(ValueError, match="not known of Own: choose a solver by name"):
        sampled(models(), asked, solver=Own())
    for mean in (None, "released"):  # neither is that of the solver's step
        assert torch.isfinite(sampled(models(), aggregate(mean=mean), solver=Own())).all()
