"""DiffEdit on Gaussians: the mask finds where two prompts differ, and the rest is kept."""

import pytest
import torch
from gaussian_pixels import SCHEDULE, Pixels, noise_of, sample

from unicond.denoisers.exact import JointGaussian
from unicond.mechanisms.blending.classifier_free import ClassifierFree
from unicond.mechanisms.correction.diffedit import DiffEdit
from unicond.sampling.loop import run
from unicond.sampling.noise import Generators
from unicond.sampling.solvers import DDIM, named
from unicond.sampling.state import State

SIDE = 16
WHERE = (slice(3, 9), slice(5, 12))


def means(inside, outside=0.2):
    found = torch.full((1, 1, SIDE, SIDE), float(outside), dtype=torch.float64)
    found[..., WHERE[0], WHERE[1]] = inside
    return found


LAWS = {"positive": (means(1.5), 1.0), "a cat": (means(-0.5), 1.0), "negative": (means(0), 1.0)}
CLEAN = noise_of(1, 2, 3, SIDE, SIDE)


def edited(edit, steps=40, clean=CLEAN, mechanisms=(), laws=LAWS, **settings):
    plan = edit.plan(SCHEDULE.times(steps), {"image": 0.0})
    return sample(Pixels(laws), clean, [edit, *mechanisms], plan=plan, **settings)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "heun"])
def test_the_mask_is_where_the_prompts_differ_and_the_rest_is_kept(solver):
    state = edited(DiffEdit(source="a cat", samples=3), solver=named(solver))
    mask, out = state.memory["diffedit"].mask, state.latents["image"]
    want = (LAWS["positive"][0] != LAWS["a cat"][0]).double().expand(2, -1, -1, -1)
    assert torch.equal(mask, want)
    outside = (mask == 0).expand_as(CLEAN)
    assert torch.equal(out[outside], CLEAN[outside])
    assert not torch.isclose(out[~outside], CLEAN[~outside], atol=0.1).any()


def test_the_mask_is_measured_in_each_samples_own_scale_and_without_extremes():
    """A difference of 2 in one sample, of 20 in the other; beside it one pixel of 60 in both."""
    target = means(0.0, 0.0) + torch.tensor([2.0, 20.0], dtype=torch.float64).view(2, 1, 1, 1)
    target = target * (LAWS["positive"][0] != 0.2)
    target[..., 0, 0] = 60
    edit = DiffEdit(source="negative", samples=1, strength=0.3)
    laws = {"positive": (target, 1.0), "negative": (torch.zeros_like(target), 1.0)}
    mask = edited(edit, 5, laws=laws).memory["diffedit"].mask
    assert torch.equal(mask, (target != 0).double())


def test_on_the_way_down_the_trail_is_put_back():
    edit, times = DiffEdit(source="a cat", samples=1), SCHEDULE.times(10)
    plan = edit.plan(times, {"image": 0.0})
    state = State({"image": CLEAN}, plan[0].t, SCHEDULE, Generators([1, 2], ("image",)))
    down = []
    for progress in run(state, Pixels(LAWS), plan, DDIM(), [edit]):
        state, found = progress.state, progress.state.memory["diffedit"]
        s = progress.move.s["image"]
        if progress.move.number >= 2 and s < progress.move.t["image"]:
            outside = (found.mask == 0).expand_as(CLEAN)
            assert torch.equal(state.latents["image"][outside], found.trail[s][outside])
            assert s == 0 or not torch.allclose(found.trail[s][outside], CLEAN[outside], atol=1e-3)
            down.append(s)
    assert len(down) == 6
    assert down[-1] == 0


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("g", [1.0, 2.0])
def test_inside_the_mask_the_mean_is_moved_by_the_flow(strength, g):
    """Unit variance: along the ODE `z - alpha m` is kept, so that up and down add (1 - alpha) dm.

    The way up is the source's, bare; the way down the target's, guided: m = m_n + g (m_p - m_n).
    """
    edit = DiffEdit(source="a cat", strength=strength, samples=1)
    out = edited(edit, 400, mechanisms=[ClassifierFree(g)]).latents["image"]
    target = g * 1.5 + (1 - g) * 0.0
    alpha = SCHEDULE.alpha(strength)
    moved = (out - CLEAN)[..., WHERE[0], WHERE[1]]
    want = (1 - alpha) * (target + 0.5)
    assert torch.allclose(moved, torch.full_like(moved, want), atol=0.06)  # 400 steps


def test_the_mask_is_each_samples_own_and_averages_noises():
    """Where variances differ, the difference depends on the noise: its mean over many does not."""
    laws = {"positive": (0.0, 1.0), "a cat": (0.0, torch.where(means(1) == 1, 0.05, 1.0))}
    shares = []
    for samples in (1, 30):
        edit = DiffEdit(source="a cat", samples=samples, strength=0.3)
        mask = edited(edit, 10, laws=laws).memory["diffedit"].mask
        inside = mask[..., WHERE[0], WHERE[1]]
        shares.append(float(inside.mean()))
        assert inside.sum() == mask.sum()
    assert shares[0] < shares[1]
    edit = DiffEdit(source="a cat", samples=2)
    together = edited(edit, 10, laws=laws, seeds=[4, 5]).latents["image"]
    for row in range(2):
        one = CLEAN[row : row + 1]
        alone = edited(edit, 10, clean=one, laws=laws, seeds=[4 + row]).latents["image"]
        assert torch.allclose(alone[0], together[row], atol=1e-10)


def test_prompts_that_say_the_same_change_nothing():
    out = edited(DiffEdit(source="positive", samples=2), 10)
    assert not out.memory["diffedit"].mask.any()
    assert torch.equal(out.latents["image"], CLEAN)


def test_calls_and_their_prompts():
    denoiser, edit = Pixels(LAWS), DiffEdit(source="a cat", samples=3, strength=0.6)
    plan = edit.plan(SCHEDULE.times(10), {"image": 0.0})
    assert [move.kind for move in plan[:6]] == ["renoise", "step"] * 3
    assert max(move.s["image"] for move in plan[6:]) == pytest.approx(0.6)
    sample(denoiser, CLEAN, [edit, ClassifierFree(2.0)], plan=plan)
    asked = [[variant.prompt for variant in variants] for _, variants in denoiser.calls]
    assert asked[:3] == [["positive", "a cat"]] * 3
    assert asked[3:9] == [["a cat"]] * 6
    assert asked[9:] == [["positive", "negative"]] * 6


def test_an_edit_under_the_pictures_own_depth():
    """The other branch is held, and conditions: the mean of image given depth is moved."""
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    laws = {p: torch.tensor([m, 0.0], dtype=torch.float64) for p, m in (("positive", 2), ("x", 0))}
    denoiser = JointGaussian(("image", "depth"), covariance, laws)
    clean = {"image": noise_of(2, 1, 1, 8, 8), "depth": noise_of(3, 1, 1, 8, 8)}
    edit = DiffEdit(source="x", samples=1, strength=1.0)
    start = {"image": 0.0, "depth": 0.0}
    state = State(clean, start, SCHEDULE, Generators([1], ("image", "depth")))
    plan = edit.plan(SCHEDULE.times(300), start)
    for progress in run(state, denoiser, plan, DDIM(), [edit]):
        state = progress.state
    assert state.latents["depth"] is clean["depth"]
    assert bool(state.memory["diffedit"].mask.all())  # the difference is the same everywhere
    moved = state.latents["image"] - clean["image"]
    assert torch.allclose(
        moved, torch.full_like(moved, 2.0), atol=0.1
    )  # 300 steps of a stiffer law


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "at least 1 sample"),
        ({"strength": 0.0}, "strength in"),
        ({"strength": 1.5}, "strength in"),
        ({"mask_time": 1.0}, "mask_time is 1.0"),
        ({"threshold": 0.0}, "threshold is 0.0"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DiffEdit(**settings)


def test_plans_and_starts_that_do_not_fit_are_refused():
    edit = DiffEdit(strength=0.01)
    with pytest.raises(ValueError, match="below the lowest time"):
        edit.plan(SCHEDULE.times(10), {"image": 0.0})
    with pytest.raises(ValueError, match="starts from a clean picture"):
        DiffEdit().plan(SCHEDULE.times(10), {"image": 1.0})
    with pytest.raises(ValueError, match=r"start with the moves of DiffEdit.plan"):
        sample(Pixels(LAWS), CLEAN, [DiffEdit()])
    with pytest.raises(ValueError, match="moves up, which is deterministic"):
        edited(DiffEdit(samples=1), 5, solver=named("ddpm"))
