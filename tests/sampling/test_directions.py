"""One joint Gaussian, every direction: joint, conditional, estimation, coarse, masked, guided."""

from dataclasses import replace

import pytest
import torch

from unicond.denoisers.exact import JointGaussian
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.blending.condition import ConditionGuidance
from unicond.mechanisms.correction.replacement import Replacement
from unicond.sampling import plans, schedules
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.rows import Variant
from unicond.sampling.solvers import DDIM, SOLVERS, named
from unicond.sampling.state import State
from unicond.sampling.window import Window

R = 0.8
SIDE = 160
COUNT = SIDE * SIDE
SCHEDULE = schedules.from_config(
    {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
)
TIMES = SCHEDULE.times(500)
FEW = SCHEDULE.times(50)
"""Of runs that are compared with each other, not with the exact law."""
BRANCHES = ("image", "depth")


def joint(means=None):
    zero = torch.zeros(2, dtype=torch.float64)
    return JointGaussian(
        BRANCHES,
        torch.tensor([[1.0, R], [R, 1.0]], dtype=torch.float64),
        {"positive": zero, "negative": zero - 1, **(means or {})},
    )


def noise_of(seed, shape=(1, 1, SIDE, SIDE)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(latents, start, hold=(), solver=None, mechanisms=(), denoiser=None, times=TIMES):
    state = State(latents, start, SCHEDULE, Generators([7] * len(latents["image"]), BRANCHES))
    plan = plans.descend(times, start, hold)
    for progress in run(state, denoiser or joint(), plan, solver or DDIM(), mechanisms):
        state = progress.state
    return state.latents


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "heun"])
def test_joint_has_the_datas_correlation(name):
    out = sample(
        {"image": noise_of(1), "depth": noise_of(2)},
        {"image": 1.0, "depth": 1.0},
        solver=named(name),
    )
    error = (1 - R * R) / COUNT**0.5
    assert abs(correlation(out["image"], out["depth"]) - R) < 4 * error + 0.005  # 500 steps
    assert abs(out["image"].var() - 1) < 4 * (2 / COUNT) ** 0.5 + 0.01


@pytest.mark.parametrize(("given", "made"), [("depth", "image"), ("image", "depth")])
def test_a_held_branch_conditions_the_other(given, made):
    known = torch.full((1, 1, SIDE, SIDE), 1.3, dtype=torch.float64)
    out = sample({given: known, made: noise_of(3)}, {"image": 1.0, "depth": 1.0, given: 0.0})
    assert out[given] is known
    variance = 1 - R * R
    assert abs(out[made].mean() - R * 1.3) < 4 * (variance / COUNT) ** 0.5
    assert abs(out[made].var() - variance) < 4 * variance * (2 / COUNT) ** 0.5 + 0.004


@pytest.mark.parametrize("hold", [False, True])
def test_a_coarse_branch_conditions_as_its_noisy_self(hold):
    """`E[x | y_r]` in closed form; lowered, the pair keeps its law given y_r (ancestral steps)."""
    r = TIMES[300]
    alpha, sigma = SCHEDULE.alpha(r), SCHEDULE.sigma(r)
    known = alpha * 1.3 + sigma * noise_of(5)
    out = sample(
        {"image": noise_of(4), "depth": known},
        {"image": 1.0, "depth": r},
        hold=("depth",) if hold else (),
        solver=named("ddim" if hold else "ddpm"),
        times=SCHEDULE.times(500 if hold else 1000),
    )
    gain = R * alpha / (alpha**2 + sigma**2)
    if hold:
        assert out["depth"] is known
        left = out["image"] - gain * known  # independent of what was given
        variance = 1 - R * gain * alpha
        assert abs(left.mean()) < 4 * (variance / COUNT) ** 0.5
        assert abs(left.var() - variance) < 4 * variance * (2 / COUNT) ** 0.5 + 0.004
        assert abs(correlation(left, known)) < 4 / COUNT**0.5
    else:
        # as a joint sample of (x, y) given y_r: E[y] = alpha 1.3 alpha, E[x] = R E[y]
        assert abs(out["depth"].mean() - alpha**2 * 1.3) < 4 / COUNT**0.5 + 0.01
        assert abs(out["image"].mean() - R * alpha**2 * 1.3) < 4 / COUNT**0.5 + 0.01
        # their conditional covariance keeps the pair's correlation: cov(x, y | y_r) = R var(y |
        # y_r)
        slope = torch.cov(torch.stack([out["image"].flatten(), out["depth"].flatten()]))
        assert abs(slope[0, 1] / slope[1, 1] - R) < 4 * (1 - R * R) ** 0.5 / COUNT**0.5 + 0.01


def test_replacement_keeps_the_known_half_and_moves_the_rest():
    """Independent pixels: the known half is exact, the free half keeps its own law."""
    mask = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    mask[..., : SIDE // 2] = 1
    known = torch.full_like(mask, 0.7)
    keep = Replacement("image", known, mask)
    out = sample(
        {"image": noise_of(1), "depth": noise_of(2)},
        {"image": 1.0, "depth": 1.0},
        mechanisms=[keep],
    )
    assert torch.equal(out["image"][..., : SIDE // 2], known[..., : SIDE // 2])
    free = out["image"][..., SIDE // 2 :]
    assert abs(free.mean()) < 4 / (COUNT / 2) ** 0.5
    assert abs(free.var() - 1) < 4 * (4 / COUNT) ** 0.5 + 0.01
    # the joint model carries the known part over, if less than E[depth | image] = R image: that
    # replacement sees the known part through noise is its known bias
    carried = out["depth"][..., : SIDE // 2].mean()
    assert 4 / (COUNT / 2) ** 0.5 < carried < R * 0.7


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
def test_replacement_of_nothing_is_absent(solver):
    """Its random draws, too."""
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    latents = {"image": noise_of(1, (1, 1, 8, 8)), "depth": noise_of(2, (1, 1, 8, 8))}
    ones = {"image": 1.0, "depth": 1.0}
    plain, kept = (
        sample(latents, ones, mechanisms=mechanisms, solver=named(solver), times=FEW)
        for mechanisms in ([], [Replacement("image", torch.ones_like(mask), mask)])
    )
    assert torch.equal(plain["image"], kept["image"])


def test_replacement_ends_at_its_level():
    mask = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    keep = Replacement("image", torch.full_like(mask, 0.7), mask, until=0.5)
    start = {"image": noise_of(1, (1, 1, 4, 4)), "depth": noise_of(2, (1, 1, 4, 4))}
    ones = {"image": 1.0, "depth": 1.0}
    out = sample(start, ones, mechanisms=[keep], times=FEW)
    assert not torch.allclose(out["image"], keep.known, atol=1e-3)


@pytest.mark.parametrize("scale", [2.0, 5.0])
def test_text_guidance_of_two_gaussians_is_a_shifted_gaussian(scale):
    """Same covariance, other means: x0 of the blend is that of the mean `m_n + g (m_p - m_n)`."""
    shifted = torch.tensor([scale - 1, scale - 1], dtype=torch.float64)
    latents = {"image": noise_of(1, (1, 1, 16, 16)), "depth": noise_of(2, (1, 1, 16, 16))}
    ones = {"image": 1.0, "depth": 1.0}
    guided = sample(latents, ones, mechanisms=[ClassifierFree(scale)], times=FEW)
    direct = sample(latents, ones, denoiser=joint({"positive": shifted}), times=FEW)
    assert torch.allclose(guided["image"], direct["image"], atol=1e-10)


def test_guidance_composes_as_the_paper_writes_it():
    """`e_u + g (e_c - e_u) + g_c (e_c - e_c_off)`, in either form of the prediction."""
    latents = {"image": noise_of(1, (2, 1, 8, 8)), "depth": noise_of(2, (2, 1, 8, 8))}
    t = {"image": 0.6, "depth": 0.4}
    state = State(latents, t, SCHEDULE, Generators([1, 2], BRANCHES))
    plan = plans.segments([t, {"image": 0.5, "depth": 0.4}], [1])
    denoiser = joint()
    (negative, positive, off) = denoiser(
        state, [Variant("negative"), Variant(), Variant(joint=False)]
    )
    guided = denoiser
    for mechanism in (ClassifierFree(3.0), ConditionGuidance(1.5)):
        guided = mechanism.wrap(guided, plan[0])
    found = guided(state)[0]
    for branch in BRANCHES:
        for kind in ("x0", "eps"):
            u, c, o = (getattr(p[branch], kind) for p in (negative, positive, off))
            want = u + 3.0 * (c - u) + 1.5 * (c - o)
            assert torch.allclose(getattr(found[branch], kind), want, atol=1e-12)


def test_neutral_scales_are_absent():
    latents = {"image": noise_of(1, (2, 1, 4, 4)), "depth": noise_of(2, (2, 1, 4, 4))}
    ones = {"image": 1.0, "depth": 1.0}
    solver = named("ddpm")
    plain = sample(latents, ones, solver=solver, times=FEW)
    neutral = [ConditionGuidance(0.0), ClassifierFree(1.0)]
    with_neutral = sample(latents, ones, solver=solver, mechanisms=neutral, times=FEW)
    closed = [ClassifierFree(4.0, Window(0.0, -1.0)), ConditionGuidance(2.0, Window.steps(0, 0))]
    outside = sample(latents, ones, solver=solver, mechanisms=closed, times=FEW)
    for branch in BRANCHES:
        assert torch.equal(plain[branch], with_neutral[branch])
        assert torch.equal(plain[branch], outside[branch])


def test_both_orders_of_the_guidances_agree_with_the_window():
    """Guidance in an interval: outside it the conditional model runs alone."""
    latents = {"image": noise_of(1, (1, 1, 4, 4)), "depth": noise_of(2, (1, 1, 4, 4))}
    ones = {"image": 1.0, "depth": 1.0}
    late = ClassifierFree(3.0, Window.share(0.5, 1.0))
    both = sample(latents, ones, mechanisms=[late], times=FEW)
    assert not torch.allclose(both["image"], sample(latents, ones, times=FEW)["image"])
    full = sample(latents, ones, mechanisms=[ClassifierFree(3.0)], times=FEW)
    assert not torch.allclose(both["image"], full["image"])


@pytest.mark.parametrize("name", SOLVERS)
def test_a_sample_does_not_depend_on_its_batch(name):
    shape = (3, 1, 8, 8)
    latents = {"image": noise_of(1, shape), "depth": noise_of(2, shape)}
    ones = {"image": 1.0, "depth": 1.0}
    plan = plans.descend(SCHEDULE.times(12), ones)
    mechanisms = [ConditionGuidance(1.0), ClassifierFree(2.0)]
    alone, together = [], None
    for seeds, rows in [((4, 5, 6), slice(0, 3)), ((4,), [0]), ((5,), [1]), ((6,), [2])]:
        part = {branch: value[rows] for branch, value in latents.items()}
        state = State(part, ones, SCHEDULE, Generators(seeds, BRANCHES))
        for progress in run(state, joint(), plan, named(name), mechanisms):
            state = progress.state
        if together is None:
            together = state.latents
        else:
            alone.append(state.latents)
    for branch in BRANCHES:
        found = torch.cat([one[branch] for one in alone])
        assert torch.allclose(found, together[branch], atol=1e-10)


def test_branch_names_do_not_matter():
    ones = {"image": 1.0, "depth": 1.0}
    latents = {"image": noise_of(1, (1, 1, 4, 4)), "depth": noise_of(2, (1, 1, 4, 4))}
    solver = named("ddpm")
    plain = sample(latents, ones, solver=solver, times=FEW)
    denoiser = replace(joint(), branches=("a", "b"))
    state = State(
        {"a": latents["image"], "b": latents["depth"]},
        {"a": 1.0, "b": 1.0},
        SCHEDULE,
        Generators([7], ("a", "b")),
    )
    for progress in run(state, denoiser, plans.descend(FEW, {"a": 1.0, "b": 1.0}), solver):
        state = progress.state
    assert torch.equal(state.latents["a"], plain["image"])


def test_the_same_objects_run_twice_alike():
    latents = {"image": noise_of(1, (1, 1, 4, 4)), "depth": noise_of(2, (1, 1, 4, 4))}
    ones = {"image": 1.0, "depth": 1.0}
    solver, mechanisms, denoiser = named("dpmpp_2m"), [ClassifierFree(2.0)], joint()
    first, second = (
        sample(latents, ones, solver=solver, mechanisms=mechanisms, denoiser=denoiser, times=FEW)
        for _ in range(2)
    )
    assert torch.equal(first["image"], second["image"])
