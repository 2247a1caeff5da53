"""Reconstruction guidance on closed-form Gaussians: across branches, in one, by an optimiser."""

from dataclasses import dataclass, replace

import pytest
import torch

from unicond.denoisers.exact import JointGaussian
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.correction.replacement import Replacement
from unicond.mechanisms.guidance.gradients import AdamW
from unicond.mechanisms.guidance.reconstruction import Reconstruction, Target
from unicond.sampling import plans, schedules
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.predictions import Prediction
from unicond.sampling.rows import Variant
from unicond.sampling.solvers import DDIM, SOLVERS, named
from unicond.sampling.state import Move, State
from unicond.sampling.window import Window

R, VALUE = 0.8, 0.7
SIDE = 64
HALF = SIDE * SIDE // 2
BRANCHES = ("image", "depth")
PLAIN = (Variant(),)
VP = schedules.from_config(
    {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
)
FLOW = schedules.FlowSchedule()


def joint(mean=0.0):
    means = {
        "positive": torch.full((2,), mean, dtype=torch.float64),
        "negative": torch.full((2,), -1.0, dtype=torch.float64),
    }
    return JointGaussian(BRANCHES, torch.tensor([[1.0, R], [R, 1.0]]).double(), means)


def noise_of(seed, shape=(1, 1, SIDE, SIDE)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def left_half(shape=(1, 1, SIDE, SIDE)):
    mask = torch.zeros(shape, dtype=torch.float64)
    mask[..., : shape[-1] // 2] = 1
    return mask


def sample(
    mechanisms,
    solver="ddim",
    steps=50,
    schedule=VP,
    start=None,
    latents=None,
    denoiser=None,
    seeds=(7,),
):
    latents = latents or {"image": noise_of(1), "depth": noise_of(2)}
    start = start or {"image": 1.0, "depth": 1.0}
    plan = plans.descend(schedule.times(steps), start)
    state = State(latents, dict(plan[0].t), schedule, Generators(seeds, BRANCHES))
    for progress in run(state, denoiser or joint(), plan, named(solver), mechanisms):
        state = progress.state
    return state.latents


def known_half(weight=1.0, **options):
    mask = left_half()
    known = torch.full_like(mask, VALUE)
    target = Target(branch="image", known=known, mask=mask, weight=weight)
    return [Reconstruction([target], **options), Replacement("image", known, mask)]


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpmpp_2m", "heun"])
@pytest.mark.parametrize("schedule", [VP, FLOW], ids=["vp", "flow"])
def test_the_other_branch_takes_its_conditional_mean(solver, schedule):
    """E[depth | image] = R image; replacement alone sees the image through noise only.

    What is left of the error (0.03) is that r^2 is a unit prior's and not the pair's.
    """
    want, error = R * VALUE, 4 * ((1 - R * R) / HALF) ** 0.5
    bias = {}
    for name, mechanisms in {"alone": known_half()[1:], "guided": known_half()}.items():
        out = sample(mechanisms, solver, schedule=schedule)
        assert (out["image"][..., : SIDE // 2] == VALUE).all()
        bias[name] = abs(float(out["depth"][..., : SIDE // 2].mean()) - want)
    assert bias["guided"] < 0.03 + error
    assert bias["guided"] < 0.3 * bias["alone"]
    assert abs(out["depth"][..., : SIDE // 2].var() - (1 - R * R)) < 0.06  # 50 steps


def test_what_is_not_connected_is_not_moved():
    plain, guided = sample(known_half()[1:]), sample(known_half())
    for branch in BRANCHES:
        assert torch.equal(plain[branch][..., SIDE // 2 :], guided[branch][..., SIDE // 2 :])


@dataclass(frozen=True)
class Field:
    """`E[x0 | latents]` of one branch whose pixels correlate: `C = K K^T` with K a blur."""

    covariance: torch.Tensor

    def __call__(self, state, variants=PLAIN):
        alpha, sigma = state.scales("image")
        noisy = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.covariance)).double()
        gain = alpha * torch.linalg.solve(noisy, self.covariance).T
        latents = state.latents["image"]
        x0 = (latents.flatten(2) @ gain.T).view_as(latents)
        eps = (latents - alpha * x0) / max(sigma, 1e-300)
        return [{"image": Prediction(x0, eps)} for _ in variants]


def test_inside_a_picture_the_free_part_follows_the_known_one():
    """Inpainting of a correlated line of pixels, against the exact conditional mean."""
    size, count = 16, 4000
    place = torch.arange(size, dtype=torch.float64)
    covariance = 0.98 * torch.exp(-((place[:, None] - place) ** 2) / 8) + 0.02 * torch.eye(size)
    mask = left_half((1, 1, 1, size))
    known = mask * torch.tensor([0.5, 1.0, 1.5, 1.0, 0.5, 0.0, 0.5, 1.2] * 2).double()
    left, right = slice(0, size // 2), slice(size // 2, size)
    want = covariance[right, left] @ torch.linalg.solve(
        covariance[left, left], known[0, 0, 0, left]
    )
    errors = {}
    for weight in (0.0, 1.0):
        target = Target(branch="image", known=known, mask=mask, weight=weight)
        out = sample(
            [Reconstruction([target]), Replacement("image", known, mask)],
            denoiser=Field(covariance),
            latents={"image": noise_of(1, (count, 1, 1, size))},
            start={"image": 1.0},
            seeds=range(count),
        )
        errors[weight] = (out["image"].mean(0)[0, 0, right] - want).square().mean().sqrt()
    assert errors[1.0] < 0.5 * errors[0.0], errors


@pytest.mark.parametrize("solver", SOLVERS)
def test_depth_guidance_reaches_the_target_and_takes_the_image_along(solver):
    """No mask: the depth is generated towards a given one, and the image becomes R times it."""
    target = Target(branch="depth", known=torch.full((1, 1, 1, 1), VALUE).expand(1, 1, SIDE, SIDE))
    out = sample([Reconstruction([replace(target, replaced=False)])], solver)
    assert (out["depth"] - VALUE).abs().max() < 0.15  # 50 steps
    assert abs(out["image"].mean() - R * VALUE) < 0.03 + 4 / SIDE
    assert abs(out["image"].var() - (1 - R * R)) < 0.08


@pytest.mark.parametrize("beside", [[], [ClassifierFree(3.0)]], ids=["alone", "text guidance"])
def test_a_ddim_step_is_formula_7(beside):
    """`x_s + (- lambda (1 - m) grad E)`, with the gradient taken here, at times that differ.

    E is of the bare prediction, with text guidance beside it too.
    """
    mask, known = noise_of(4, (2, 1, 4, 4)).sigmoid(), noise_of(5, (2, 1, 4, 4))
    latents = {"image": noise_of(1, (2, 1, 4, 4)), "depth": noise_of(2, (2, 1, 4, 4))}
    move = Move({"image": 0.7, "depth": 0.4}, {"image": 0.6, "depth": 0.3})
    state = State(latents, move.t, VP, Generators([1, 2], BRANCHES))
    leaves = {b: v.clone().requires_grad_() for b, v in latents.items()}
    x0 = joint()(replace(state, latents=leaves))[0]["image"].x0
    alpha, sigma = VP.alpha(0.7), VP.sigma(0.7)
    energy = 1.3 * (alpha**2 + sigma**2) / (2 * sigma**2) * (mask * (known - x0)).square().sum()
    gradients = torch.autograd.grad(energy, list(leaves.values()))
    guide = Reconstruction([Target(branch="image", known=known, mask=mask, weight=1.3)])
    plain = next(run(state, joint(), [move], DDIM(), beside)).state.latents
    found = next(run(state, joint(), [move], DDIM(), [guide, *beside])).state.latents
    for branch, gradient, loose in zip(BRANCHES, gradients, (1 - mask, 1), strict=True):
        a, o, to_a, to_o = (
            f(when[branch]) for when in (move.t, move.s) for f in (VP.alpha, VP.sigma)
        )
        step = to_a * o**2 / a - to_o * o
        assert torch.allclose(found[branch], plain[branch] - step * loose * gradient, atol=1e-12)
        assert not torch.allclose(found[branch], plain[branch], atol=1e-4)


def test_the_optimiser_is_adamw_on_the_free_part():
    """One sign-like step of the learning rate a move; more iterations lower the energy further."""
    mask, known = left_half((2, 1, 8, 8)), torch.full((2, 1, 8, 8), 2.0, dtype=torch.float64)
    latents = {"image": noise_of(1, (2, 1, 8, 8)), "depth": noise_of(2, (2, 1, 8, 8))}
    move = Move({"image": 0.5, "depth": 0.5}, {"image": 0.45, "depth": 0.45})
    state = State(latents, move.t, VP, Generators([1, 2], BRANCHES))
    plain = next(run(state, joint(), [move], DDIM())).state.latents
    target = Target(branch="image", known=known, mask=mask)
    ratio = VP.sigma(0.45) / VP.sigma(0.5)
    gaps = []
    for iterations in (1, 2, 8):
        guide = Reconstruction([target], AdamW(iterations=iterations, learning_rate=0.05))
        found = next(run(state, joint(), [move], DDIM(), [guide])).state.latents
        shift = (found["depth"] - plain["depth"]) / ratio
        assert torch.allclose(found["image"] * mask, plain["image"] * mask, atol=1e-12)
        assert torch.count_nonzero(shift[..., 4:]) == 0
        if iterations == 1:  # all of one sign: Adam's step is the learning rate, but for its eps
            assert torch.allclose(shift[..., :4].abs(), torch.tensor(0.05).double(), rtol=0.2)
        there = {"image": latents["image"], "depth": latents["depth"] + shift}
        x0 = joint()(replace(state, latents=there))[0]["image"].x0
        gaps.append(float((mask * (known - x0)).square().sum()))
    assert gaps[0] > gaps[1] > gaps[2]


def test_the_size_of_the_energy_is_nothing_to_the_optimiser():
    shape = (1, 1, 8, 8)
    latents = {"image": noise_of(1, shape), "depth": noise_of(2, shape)}
    known, mask = torch.full(shape, VALUE, dtype=torch.float64), left_half(shape)
    found = []
    for weight in (1e-4, 1.0, 1e4):
        target = Target(branch="image", known=known, mask=mask, weight=weight)
        guide = Reconstruction([target], AdamW(iterations=2))
        found.append(sample([guide], steps=4, latents=latents)["depth"])
    assert torch.allclose(found[0], found[1], atol=1e-10)
    assert torch.allclose(found[2], found[1], atol=1e-10)


def test_the_optimiser_leaves_no_trace_at_the_clean_end():
    """Its displacement is carried like noise: a move to 0 ends on the prediction itself."""
    move = Move({"image": 0.1, "depth": 0.1}, {"image": 0.0, "depth": 0.0})
    latents = {"image": noise_of(1), "depth": noise_of(2)}
    state = State(latents, move.t, VP, Generators([1], BRANCHES))
    guide = known_half(optimizer=AdamW())[0]
    step = next(run(state, joint(), [move], DDIM(), [guide]))
    assert torch.equal(step.state.latents["depth"], step.predictions["depth"].x0)


class Counting:
    """A joint Gaussian that counts its calls, the rows of each, and whether a graph is built."""

    def __init__(self):
        self.calls = []

    def __call__(self, state, variants=PLAIN):
        self.calls.append((tuple(variants), torch.is_grad_enabled()))
        return joint()(state, variants)


@pytest.mark.parametrize(("optimizer", "calls"), [(None, 1), (AdamW(iterations=3), 3)])
@torch.no_grad()
def test_one_network_call_a_move_and_a_graph_in_the_window_only(optimizer, calls):
    """With text guidance too: the bare row is the positive prompt's, which is there already."""
    network = Counting()
    guide = known_half(optimizer=optimizer, window=Window.steps(1, 2))
    sample([guide[0], ClassifierFree(3.0), guide[1]], steps=3, denoiser=network)
    graphs = [graph for _, graph in network.calls]
    assert graphs == [False] + [True] * calls + [False]
    assert {variant.prompt for variant in network.calls[1][0]} == {"positive", "negative"}
    for variants, _ in network.calls[2:-1]:  # further iterations need no negative prompt
        assert {variant.prompt for variant in variants} == {"positive"}


@torch.no_grad()
def test_a_solvers_second_call_is_guided_by_a_weight_and_not_displaced():
    """Heun's: the score is followed at both ends of a move, a displacement belongs to its start."""
    graphs = {}
    for optimizer in (None, AdamW()):
        network = Counting()
        sample(known_half(optimizer=optimizer), "heun", steps=4, denoiser=network)
        graphs[optimizer] = [graph for _, graph in network.calls]
    assert graphs[None] == [False, True, True, True, True, True]  # from pure noise, to clean: one
    assert graphs[AdamW()] == [True, True, False, True, False, True]


@pytest.mark.parametrize("solver", ["ddpm", "heun", "dpmpp_2m"])
def test_weight_0_and_a_closed_window_are_absent(solver):
    plain = sample(known_half()[1:], solver, steps=8)
    off = sample(known_half(0.0), solver, steps=8)
    closed = sample(known_half(window=Window.steps(0, 0)), solver, steps=8)
    for branch in BRANCHES:
        assert torch.equal(plain[branch], off[branch])
        assert torch.equal(plain[branch], closed[branch])
    late = sample(known_half(window=Window(0.5, 0.0)), solver, steps=8)
    full = sample(known_half(), solver, steps=8)
    assert not torch.allclose(late["depth"], plain["depth"], atol=1e-3)
    assert not torch.allclose(late["depth"], full["depth"], atol=1e-3)


def test_a_part_known_to_a_noise_level_pulls_no_further():
    mask, known = left_half(), torch.full((1, 1, SIDE, SIDE), VALUE, dtype=torch.float64)
    target = Target(branch="image", known=known, mask=mask, until=0.5)
    found = sample([Reconstruction([target])], steps=10)
    window = [Reconstruction([replace(target, until=0.0)], window=Window(1.0, 0.55))]
    assert torch.allclose(found["depth"], sample(window, steps=10)["depth"], atol=1e-12)


class Restless:
    """`x0 = slope x_t` at all times: near pure noise its gradient does not vanish with alpha."""

    def __init__(self, slope):
        self.slope = slope

    def __call__(self, state, variants=PLAIN):
        def one(branch):
            alpha, sigma = state.scales(branch)
            latents = state.latents[branch]
            x0 = self.slope * latents
            return Prediction(x0=x0, eps=(latents - alpha * x0) / sigma)

        return [{branch: one(branch) for branch in state.latents} for _ in variants]


@pytest.mark.parametrize("weight", [0.5, 1.0])
@pytest.mark.parametrize("slope", [0.01, 0.5])
def test_nothing_moves_further_than_the_known_part_is_wrong(slope, weight):
    """At alpha 0.055 a slope of 0.5 would move x0 by 9 times what is wrong."""
    known, mask = torch.full((1, 1, 8, 8), VALUE, dtype=torch.float64), left_half((1, 1, 8, 8))
    state = State(
        {"image": noise_of(1, (1, 1, 8, 8))}, {"image": 0.9}, VP, Generators((7,), ("image",))
    )
    target = Target(branch="image", known=known, mask=mask, weight=weight, replaced=False)
    move = Move({"image": 0.9}, {"image": 0.8})
    denoiser = Restless(slope)
    plain, moved = denoiser(state)[0]["image"], Reconstruction([target]).wrap(denoiser, move)
    guided = moved(state)[0]["image"]
    alpha, sigma = state.scales("image")
    wrong = mask * (known - plain.x0)
    most = weight * (wrong.square().sum() / mask.sum()).sqrt()
    exact = weight * sigma**2 / alpha * (alpha**2 + sigma**2) / sigma**2 * slope * wrong
    short = min(1.0, float(most / exact.square().mean().sqrt()))
    assert (short < 1) == (slope > 0.1)
    assert torch.allclose(guided.x0 - plain.x0, short * exact, atol=1e-12)
    assert torch.allclose(alpha * guided.x0 + sigma * guided.eps, state.latents["image"])


@pytest.mark.parametrize("optimizer", [None, AdamW(iterations=2)])
def test_a_sample_does_not_depend_on_its_batch(optimizer):
    """Energies and the optimiser's scale are each sample's own."""
    shape, seeds = (3, 1, 8, 8), (4, 5, 6)
    mask, known = (
        left_half((1, 1, 8, 8)),
        noise_of(9, shape) * torch.tensor([0.1, 1, 30])[:, None, None, None],
    )

    def draw(rows):
        latents = {"image": noise_of(1, shape)[rows], "depth": noise_of(2, shape)[rows]}
        target = Target(branch="image", known=known[rows], mask=mask)
        guide = [Reconstruction([target], optimizer), Replacement("image", known[rows], mask)]
        own = [seeds[row] for row in rows]
        return sample(guide, "ddpm", steps=6, latents=latents, seeds=own)

    together = draw([0, 1, 2])
    for row in range(3):
        alone = draw([row])
        for branch in BRANCHES:
            assert torch.allclose(alone[branch][0], together[branch][row], atol=1e-10)


class Sharing:
    """A joint Gaussian that computes equal variants once, as a network's denoiser does."""

    def __call__(self, state, variants=PLAIN):
        distinct = {(variant.prompt, variant.joint): variant for variant in variants}
        found = dict(zip(distinct, joint()(state, [*distinct.values()]), strict=True))
        return [found[variant.prompt, variant.joint] for variant in variants]


def test_two_mechanisms_are_one_with_two_targets():
    """Guidance inside of guidance keeps the outer one's graph."""
    shape = (1, 1, 8, 8)
    parts = {"image": left_half(shape), "depth": left_half(shape).flip(-1)}
    targets = [Target(branch=b, known=noise_of(9, shape), mask=m) for b, m in parts.items()]
    latents = {"image": noise_of(1, shape), "depth": noise_of(2, shape)}
    start, plan = (
        {"image": 0.9, "depth": 0.9},
        [Move(dict.fromkeys(BRANCHES, 0.9), dict.fromkeys(BRANCHES, 0.8))],
    )
    state = State(latents, start, VP, Generators([1], BRANCHES))
    free = [replace(target, replaced=False) for target in targets]
    one = next(run(state, Sharing(), plan, DDIM(), [Reconstruction(free)])).state
    stacked = [Reconstruction([target]) for target in free]
    two = next(run(state, Sharing(), plan, DDIM(), stacked)).state
    for branch in BRANCHES:
        assert torch.allclose(one.latents[branch], two.latents[branch], atol=1e-12)


def test_held_branches_stay_the_object_that_they_are():
    known = torch.full((1, 1, SIDE, SIDE), 1.3, dtype=torch.float64)
    latents = {"image": noise_of(1), "depth": known}
    out = sample(known_half(), steps=5, latents=latents, start={"image": 1.0, "depth": 0.0})
    assert out["depth"] is known


def test_it_works_where_the_caller_is_in_inference_mode():
    with torch.inference_mode():
        guided = sample(known_half(), steps=5)
    assert torch.equal(guided["depth"], sample(known_half(), steps=5)["depth"])


class Detached:
    """A denoiser that lets no gradient through."""

    def __call__(self, state, variants=PLAIN):
        with torch.no_grad():
            return joint()(state, variants)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: Reconstruction([]), "needs what is known"),
        (lambda k: Reconstruction([Target(branch="image", known=k)] * 2), "one target a branch"),
        (lambda k: Target(branch="image", known=k, weight=-1.0), "it must be 0"),
        (lambda k: Target(branch="image", known=k, weight=float("nan")), "it must be 0"),
        (lambda _: AdamW(iterations=0), "iterations >= 1"),
        (lambda _: AdamW(learning_rate=0.0), "learning_rate > 0"),
        (
            lambda k: sample([Reconstruction([Target(branch="pose", known=k)])]),
            "of 'pose', but the branches of this run are image, depth",
        ),
        (
            lambda k: sample([Reconstruction([Target(branch="image", known=k[..., :3])])]),
            r"what is known of 'image' has shape \(1, 1, 64, 3\), its latents \(1, 1, 64, 64\)",
        ),
        (
            lambda k: sample(
                [Reconstruction([Target(branch="image", known=k)])], denoiser=Detached()
            ),
            "something inside it detaches them",
        ),
    ],
)
def test_what_cannot_guide_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(torch.zeros(1, 1, SIDE, SIDE))
