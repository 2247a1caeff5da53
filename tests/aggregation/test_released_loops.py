"""AMDM's published loops, all recorded runs: the same loop, in the `released` setting."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from unicond.aggregation.aggregate import Aggregate, lockstep
from unicond.aggregation.manifold import Past, pulled, released_mean
from unicond.aggregation.mixing import mixed
from unicond.denoisers.parallel import Member, MemberNoise, Parallel
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.sampling import released, schedules
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.plans import descend
from unicond.sampling.predictions import from_output
from unicond.sampling.rows import Variant
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import Mechanism, Move, State
from unicond.sampling.window import Window

GOLDEN = Path(__file__).parents[1] / "golden" / "amdm"
META = json.loads((GOLDEN / "meta.json").read_text())
RECORDED = load_file(GOLDEN / "loops.safetensors")
CASES = {name: META["cases"][name] for name in ("migc2_10", "migc2_10_plain", "ip2_10")}
"""All of which the states are in the golden file. `meta.json` names more, of which they are left
out there; of three models the golden file has the rule by which they are mixed."""
SCHEDULE = schedules.from_config(META["scheduler"])
TOYS = load_file(GOLDEN / "toy_models.safetensors")
ATOL = 1e-4  # of states of unit variance, after ten float32 steps
ONCE = 1e-5  # likewise, of one formula


class Toy:
    """The recorded toy predictor; counts its calls."""

    def __init__(self, name):
        self.name, self.calls = name, 0
        self.weights = {
            k: TOYS[f"toy.{name}.{k}"] for k in ("c1w", "c1b", "c2w", "c2b", "lw", "tb")
        }

    def words(self, side):
        tokens = TOYS[f"enc.{self.name}.{side}"]
        if self.name == "ip":
            tokens = torch.cat([tokens, TOYS[f"enc.ip_image.{side}"]], 1)
        return tokens.mean(1)

    def __call__(self, state, variants):
        self.calls += 1
        alpha, sigma = state.scales("image")
        x, w, found = state.latents["image"], self.weights, []
        for variant in variants:
            words = self.words("uncond" if variant.prompt == "negative" else "cond")
            first = F.conv2d(x, w["c1w"], w["c1b"], padding=1)
            told = SCHEDULE.index(state.t["image"]) / 1000 * w["tb"] + words @ w["lw"].T
            second = F.conv2d(F.silu(first + told[..., None, None]), w["c2w"], w["c2b"], padding=1)
            eps = sigma * x + 0.3 * alpha * second
            found.append({"image": from_output(eps, x, alpha, sigma, "eps")})
        return found


class Stepped(Mechanism):
    """Keeps what a move led to, before it is mixed."""

    def __init__(self):
        self.latents = []

    def settle(self, state, predictions, move):
        self.latents.append(dict(state.latents))
        return state


def names_of(case):
    """The models, the kept one first."""
    return ["interact", "ip" if case["kind"] == "interactip" else "migc"]


def run_case(name, batch=1, more=(), to_the_end=False):
    """Their auxiliary models go on to the end; ours only where that is asked for."""
    case = CASES[name]
    params, names, count = case["params"], names_of(case), case["num_inference_steps"]
    toys = {model: Toy(model) for model in names}
    noise = Generators(range(batch))
    members = [
        Member(model if n else "", toys[model], ("image",), noise, [ClassifierFree(7.5)])
        for n, model in enumerate(names)
    ]
    branches = [member.named("image") for member in members]
    times = released.times_of(SCHEDULE, "ddim", count)
    end = released.end_of(SCHEDULE, "ddim")
    window = Window.steps(params["optim_start"], params["optim_end"] + 1)
    plans = [descend(times, {branch: 1.0}, end=end) for branch in branches]
    latents = {
        branch: RECORDED[f"{name}/init/{model}"].expand(batch, -1, -1, -1)
        for branch, model in zip(branches, names, strict=True)
    }
    aggregate = Aggregate(
        branches=branches,
        weights=[params["omega"]],
        mix="released",
        mean="released",
        # theirs are for these latents, ours for 64 x 64
        step_sizes=[params.get(f"{model}_p", 0.0) * math.sqrt(16384 / 1024) for model in names],
        window=window,
    )
    parallel = Parallel(members)
    mechanisms = [parallel, *more, *([aggregate] if params["is_mixed"] else [])]
    start = {branch: times[0] for branch in branches}
    state = State(latents, start, SCHEDULE, MemberNoise(members))
    whole = lockstep(plans, branches, Window.steps(0, count) if to_the_end else window)
    progress = list(run(state, parallel, whole, DDIM(), mechanisms))
    return dict(zip(branches, names, strict=True)), progress, toys


def test_every_recorded_loop_is_run():
    assert {key.split("/")[0] for key in RECORDED} == {*CASES}


@pytest.mark.parametrize("name", CASES)
def test_every_state_is_the_recorded_one(name):
    """A state is `optimized` where that is recorded, else `stepped`: so the window is theirs."""
    names, progress, toys = run_case(name)
    last = CASES[name]["params"]["optim_end"]
    compared = 0
    for number, made in enumerate(progress):
        for branch, model in names.items():
            if branch not in made.predictions:
                continue
            after = f"{name}/{number:02d}/optimized/{model}"
            if after not in RECORDED:
                after = after.replace("optimized", "stepped")
            eps = f"{name}/{number:02d}/eps/{model}"
            for found, key in (
                (made.predictions[branch].eps, eps),
                (made.state.latents[branch], after),
            ):
                error = (found - RECORDED[key]).abs().max()
                assert error < ATOL, f"{key}: {error:.2e}"
                compared += 1
    final = RECORDED[f"{name}/final/interact"]
    assert (progress[-1].state.latents["image"] - final).abs().max() < ATOL
    others = [model for model in names.values() if model != "interact"]
    assert compared == 2 * (10 + len(others) * (last + 1))
    assert toys["interact"].calls == 10  # one call a model and step
    assert all(toys[model].calls == last + 1 for model in others)


def intermediate(name):
    """(key, ours) of all that is recorded of a case, its start apart."""
    stepped, params = Stepped(), CASES[name]["params"]
    names, progress, _ = run_case(name, more=[stepped], to_the_end=True)
    for number, (made, before) in enumerate(zip(progress, stepped.latents, strict=True)):
        mixes = params["is_mixed"] and params["optim_start"] <= number <= params["optim_end"]
        at = f"{name}/{number:02d}"
        if mixes:
            states = [before[branch] for branch in names]
            yield f"{at}/mixed", mixed(states, [params["omega"]], "released")
        for branch, model in names.items():
            yield f"{at}/eps/{model}", made.predictions[branch].eps
            yield f"{at}/stepped/{model}", before[branch]
            if mixes:
                yield f"{at}/optimized/{model}", made.state.latents[branch]
    for branch, model in names.items():
        yield f"{name}/final/{model}", progress[-1].state.latents[branch]


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_of_a_move_is_the_recorded_one(name):
    """Predicted, stepped, mixed and optimised, of the auxiliary models to the end as well."""
    found = dict(intermediate(name))
    of_moves = {key for key in RECORDED if key.startswith(f"{name}/") and "/init/" not in key}
    assert {*found} == of_moves
    for key, value in found.items():
        error = (value - RECORDED[key]).abs().max()
        assert error < ATOL, f"{key}: {error:.2e}"


@pytest.mark.parametrize("name", ["migc2_10", "ip2_10"])
def test_samples_of_a_batch_are_runs_of_one(name):
    one, two = (run_case(name, batch)[1][-1].state.latents["image"] for batch in (1, 2))
    torch.testing.assert_close(two, one.expand_as(two), rtol=0, atol=1e-5)


def case_of(tag):
    return next(each for each in META["functions"] if each["tag"] == tag)


@pytest.mark.parametrize("tag", [each["tag"] for each in META["functions"]])
def test_mean_and_optimisation_are_the_recorded_ones(tag):
    """At batch 2 the recorded norm is over the batch: each sample of ours has its own."""
    told = load_file(GOLDEN / "functions.safetensors")
    past = Past(SCHEDULE.time(case_of(tag)["opt_alpha_index"]), told[f"{tag}/eps"])
    mean = released_mean(told[f"{tag}/x"], past, SCHEDULE)
    scale = math.sqrt(16384 / told[f"{tag}/x"][0].numel())
    for p in (1.0, 4.5, 45.0, 55.0):
        found = pulled(told[f"{tag}/mixed"], mean, p * scale, clip=False)
        wanted = told[f"{tag}/optimized_p{p}"]
        if tag.endswith("b1"):
            torch.testing.assert_close(found, wanted, rtol=0, atol=ATOL)
        apart = told[f"{tag}/mixed"] - mean
        mine = torch.stack(
            [a - p * b / b.norm() for a, b in zip(told[f"{tag}/mixed"], apart, strict=True)]
        )
        torch.testing.assert_close(found, mine, rtol=0, atol=ATOL)


@pytest.mark.parametrize("tag", [each["tag"] for each in META["functions"]])
def test_the_mean_is_the_recorded_one_at_the_time_of_the_state_too(tag):
    told = load_file(GOLDEN / "functions.safetensors")
    past = Past(SCHEDULE.time(case_of(tag)["t"]), told[f"{tag}/eps"])
    found = released_mean(told[f"{tag}/x"], past, SCHEDULE)
    torch.testing.assert_close(found, told[f"{tag}/mu_at_t"], rtol=0, atol=ONCE)


@pytest.mark.parametrize("tag", sorted({each["tag"][:-3] for each in META["functions"]}))
def test_the_mean_of_a_network_is_the_recorded_one(tag):
    """Of both rows by themselves, the negative one first, and guided."""
    told = load_file(GOLDEN / "functions.safetensors")
    t, x = SCHEDULE.time(case_of(f"{tag}_b1")["t"]), told[f"{tag}/cfg_x"]
    toy, move = Toy("interact"), Move({"image": t}, {"image": t})
    state = State({"image": x}, move.t, SCHEDULE, Generators(range(1)))
    rows = toy(state, [Variant("negative"), Variant("positive")])
    guided = ClassifierFree(7.5).wrap(toy, move)(state)
    wanted = [*told[f"{tag}/mu_nocfg_batch"].split(1), told[f"{tag}/mu_cfg7.5"]]
    for said, mean in zip([*rows, *guided], wanted, strict=True):
        found = released_mean(x, Past(t, said["image"].eps), SCHEDULE)
        torch.testing.assert_close(found, mean, rtol=0, atol=ONCE)


def test_published_sizes_are_for_latents_of_64_x_64():
    told = load_file(GOLDEN / "functions.safetensors")
    case = case_of("N50_i1_b1")
    past = Past(SCHEDULE.time(case["opt_alpha_index"]), told["size64_N50_i1/eps"])
    mean = released_mean(told["size64_N50_i1/x"], past, SCHEDULE)
    for p in (45, 55):
        found = pulled(told["size64_N50_i1/mixed"], mean, float(p), clip=False)
        torch.testing.assert_close(found, told[f"size64_N50_i1/opt{p}"], rtol=0, atol=ATOL)


def test_mixes_are_the_recorded_ones():
    told = load_file(GOLDEN / "functions.safetensors")
    for name in (key for key in told if key.startswith("mix/two_w")):
        weight = float(name.removeprefix("mix/two_w"))
        found = mixed([told["mix/a"], told["mix/b"]], [weight], "released")
        torch.testing.assert_close(found, told[name], rtol=0, atol=1e-5)


def test_three_are_mixed_by_the_published_rule():
    told = load_file(GOLDEN / "functions.safetensors")
    states = [told[f"mix/{name}"] for name in "abc"]
    for pair, squares in META["mix_sq_coeff_sum_three"].items():
        weights = [float(weight) for weight in pair.split(",")]
        unit = [torch.eye(3)[n].view(1, 3, 1, 1) for n in range(3)]
        shares = mixed(unit, weights, "released").flatten()
        assert abs(float((shares**2).sum()) - squares) < 1e-4  # as rounded in the record
        found = mixed(states, weights, "released")
        wanted = sum(share * state for share, state in zip(shares, states, strict=True))
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
