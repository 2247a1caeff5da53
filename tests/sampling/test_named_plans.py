"""Named plans: their ways, their ends, and what is refused."""

from itertools import pairwise

import pytest
import torch

from unicond.denoisers.exact import JointGaussian
from unicond.sampling import plans, schedules
from unicond.sampling.loop import run
from unicond.sampling.named_plans import follow, parse
from unicond.sampling.noise import Generators
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import State

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
VP = schedules.from_config(
    {
        **SD,
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
)
BOTH = {"image": 1.0, "depth": 1.0}
ALL = ("joint", "image-first", "condition-first", "curve(0.2)", "curve(0.9)", "1,1;0.5,1;0,0")


def columns(moves, *branches):
    return [[moves[0].t[branch], *(move.s[branch] for move in moves)] for branch in branches]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("count", [2, 7, 20])
def test_every_plan_is_continuous_falls_and_has_that_many_moves(name, spacing, count):
    times = schedules.from_config(SD).times(count, spacing)
    moves = follow(parse(name), times, BOTH)
    plans.check(moves)
    assert len(moves) == count
    for column in columns(moves, "image", "depth"):
        assert column[0] == times[0]
        assert column[-1] == 0
        assert all(s <= t for t, s in pairwise(column))
    assert all(move.moving() for move in moves)


@pytest.mark.parametrize("start", [BOTH, {"image": 1.0, "depth": 0.37}, {"image": 1.0, "depth": 0}])
@pytest.mark.parametrize("count", [1, 3, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_the_diagonal_is_the_plan_without_a_name(start, count, spacing):
    times = schedules.from_config(SD).times(count, spacing)
    plain = plans.descend(times, start)
    for name in ("joint", "curve(0.5)", "1,1;0,0"):
        found = columns(follow(parse(name), times, start), *start)
        for one, two in zip(found, columns(plain, *start), strict=True):
            assert one == pytest.approx(two, abs=1e-15)
    coarse = columns(follow(parse("coarse(0.37)"), times, start), *start)
    assert coarse == columns(follow(parse("joint"), times, start), *start)


def test_one_goes_first():
    times = VP.times(10)
    image, depth, pose = columns(
        follow(parse("image-first"), times, {**BOTH, "pose": 1.0}), "image", "depth", "pose"
    )
    assert image[5:] == [0] * 6
    assert depth[:6] == [1] * 6
    assert depth == pose
    swapped = columns(follow(parse("condition-first"), times, BOTH), "depth", "image")
    assert swapped == [image, depth]


def test_corners_are_met_whatever_the_number_of_moves():
    for count in range(2, 40):
        points = parse("image-first").points(count)
        assert (0.0, 1.0) in points
        points = parse("1,1;0.9,0.5;0.25,0.5;0,0").points(count + 1)
        assert {(0.9, 0.5), (0.25, 0.5)} <= set(points)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.5, 0.7, 0.999])
def test_a_curve_has_equal_odds_and_even_sums(alpha):
    points = parse(f"curve({alpha})").points(16)
    for k, (x, y) in enumerate(points):
        assert x + y == pytest.approx(2 - k / 8, abs=1e-12)
        assert y * (1 - x) * (1 - alpha) == pytest.approx(x * (1 - y) * alpha, abs=1e-12)
    mirrored = parse(f"curve({1 - alpha})").points(16)
    assert [(y, x) for x, y in mirrored] == [pytest.approx(point, abs=1e-12) for point in points]


def test_a_curve_leads_from_one_corner_to_the_other():
    middles = [parse(f"curve({alpha / 20})").points(2)[1] for alpha in range(21)]
    assert middles[0] == (1.0, 0.0)
    assert middles[10] == (0.5, 0.5)
    assert middles[20] == (0.0, 1.0)
    assert all(a[0] > b[0] and a[1] < b[1] for a, b in pairwise(middles))
    assert parse("curve(0)").points(8) == parse("condition-first").points(8)
    assert parse("curve(1)").points(8) == parse("image-first").points(8)


def test_points_start_where_the_first_one_is():
    plan = parse(" 1, 0.4; 0.5,0.4 ;0,0")
    assert plan.start == (1.0, 0.4)
    image, depth = columns(follow(plan, VP.times(4), {"image": 1.0, "depth": 0.4}), *BOTH)
    assert image == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert depth == pytest.approx([0.4, 0.4, 0.4, 0.2, 0])
    given = parse("1,0;0,0")
    image, depth = columns(follow(given, VP.times(4), {"image": 1.0, "depth": 0.0}), *BOTH)
    assert depth == [0] * 5


@pytest.mark.parametrize("name", ["joint", "image-first", "condition-first", "curve(0.8)"])
def test_every_way_leads_to_the_joint_law(name):
    """With an exact denoiser all ways sample one distribution."""
    r, side = 0.8, 128
    zero = torch.zeros(2, dtype=torch.float64)
    exact = JointGaussian(
        ("image", "depth"), torch.tensor([[1.0, r], [r, 1.0]]).double(), {"positive": zero}
    )
    latents = {
        branch: torch.randn(
            (1, 1, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        for seed, branch in enumerate(BOTH)
    }
    state = State(latents, BOTH, VP, Generators([0], tuple(BOTH)))
    for progress in run(state, exact, follow(parse(name), VP.times(400), BOTH), DDIM()):
        state = progress.state
    image, depth = (state.latents[branch].flatten() for branch in BOTH)
    error = 4 / side  # 4 standard errors
    assert abs(torch.corrcoef(torch.stack([image, depth]))[0, 1] - r) < error * (1 - r * r) + 0.01
    for values in (image, depth):
        assert abs(values.var() - 1) < error * 2**0.5 + 0.03  # 400 steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sideways", r"plan 'sideways' is not known; there are joint, image-first"),
        ("", "is not known"),
        ("image-first(0.3)", "is not known"),
        ("curve", "is not known"),
        ("curve(0.3", "lacks its closing bracket"),
        ("curve(1.2)", "goes from 0"),
        ("curve(nan)", "goes from 0"),
        ("curve(much)", "'much' is not a number"),
        ("coarse(0)", "the noise on the given condition"),
        ("coarse(1)", "the noise on the given condition"),
        ("1,1;0.5", "'0.5' is no point"),
        ("1,1;0.5,1,1;0,0", "is no point"),
        ("1,1;a,1;0,0", "'a' is not a number"),
        ("1,1.5;0,0", "is no point"),
        ("1,nan;0,0", "is no point"),
        ("1,1;0.5,0.5", "ends at 0.5,0.5"),
        ("0,0;", "is not a number"),
        ("0,0", "at least two points"),
        ("1,1;0.5,0.5;0.6,0.2;0,0", "every line must lower a time and raise none"),
        ("1,1;1,1;0,0", "every line must lower a time"),
    ],
)
def test_what_is_no_plan_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_too_few_steps_for_the_corners():
    with pytest.raises(ValueError, match="has 2 lines, which needs as many steps at least, not 1"):
        follow(parse("image-first"), VP.times(1), BOTH)
