"""Which moves are aggregated: places by what a state says, for any schedule; what cannot be."""

import pytest

from unicond.aggregation.manner import DEFAULT, PAPER, Place
from unicond.aggregation.placing import moves_of, placed
from unicond.sampling.plans import descend, segments
from unicond.sampling.schedules import FlowSchedule, from_config
from unicond.sampling.window import Window

CONFIG = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PUBLISHED = from_config({**CONFIG, "steps_offset": 1})
ZERO = from_config(
    {
        **CONFIG,
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
)
FULL, SMALL = 4 * 64 * 64, 8 * 16 * 16


def window(asked, schedule, steps=50, numel=FULL, mean=None, plan=None):
    plan = plan or descend(schedule.times(steps), {"image": 1.0})
    return placed(asked, plan, "image", schedule, numel, mean)


def test_the_papers_moves_are_found_on_its_schedule():
    """1, 2 and 3 of 50, by what can be reused as by what the state says."""
    for asked, mean in ((PAPER.window, PAPER.mean), (Place(3, 120.0), None)):
        assert window(moves_of(asked), PUBLISHED, mean=mean) == Window.steps(1, 4)


def test_from_pure_noise_on_windows_count_from_the_first_move_that_can_be_reused():
    """There the prediction of move 0 says nothing."""
    assert window(Place(3), ZERO, mean="released") == Window.steps(2, 5)
    assert window(Place(3), ZERO, mean="posterior") == Window.steps(0, 3)


@pytest.mark.parametrize("schedule", [PUBLISHED, ZERO, FlowSchedule()])
@pytest.mark.parametrize("numel", [FULL, SMALL])
def test_a_place_is_where_the_state_says_enough(schedule, numel):
    times = schedule.times(50)
    said = [
        numel * (schedule.alpha(t) / schedule.sigma(t)) ** 2 if schedule.sigma(t) else 1e9
        for t in times
    ]
    found = window(Place(3, 120.0), schedule, numel=numel)
    first = int(found.from_t)
    assert (found.by, found.to_t) == ("steps", first + 3)
    assert said[first] >= 120
    assert first == 0 or said[first - 1] < 120


def test_the_default_place_ends_with_the_plan():
    assert window(DEFAULT.window, ZERO, steps=1) == Window.steps(0, 1)
    assert window(DEFAULT.window, ZERO, steps=3) == Window.steps(0, 3)
    assert window(DEFAULT.window, ZERO, numel=1) == Window.steps(0, 4)


def test_an_image_that_waits_is_aggregated_when_it_moves():
    plan = segments([{"image": 1.0}, {"image": 1.0}, {"image": 0.0}], [4, 6])
    assert window(Place(2), PUBLISHED, plan=plan) == Window.steps(4, 6)


@pytest.mark.parametrize(
    ("asked", "options", "message"),
    [
        (
            Window.steps(1, 4),
            {"mean": "released"},
            "holds at move 1, .* moves from 2 to 49 can: me",
        ),
        (Window.steps(48, 51), {}, "moves 48 to 50 ends beyond the plan, whose moves are 0 to 49"),
        (Place(3), {"mean": "released", "steps": 2}, "after no move of this plan .* mean='posteri"),
        (Window(0.001, 0.0), {}, "holds at none of the 50 moves"),
        (
            Place(20, 1e4),
            {"steps": 10},
            "20 moves from a signal of 10000 on, but of the moves 0 to 9, .* only 4 are left there",
        ),
        (
            Place(1, 1e9),
            {},
            "from a signal of 1e.09 on, but of the moves 0 to 49, .* none says so much: take",
        ),
        (
            Place(3),
            {"mean": "released", "steps": 4},
            "of the moves 2 to 3, .* only 2 are left there",
        ),
    ],
)
def test_windows_that_cannot_be_are_refused(asked, options, message):
    with pytest.raises(ValueError, match=message):
        window(asked, ZERO, **options)


def test_places_out_of_range_are_refused():
    for numbers in ((0, 1.0), (3, -1.0), (3, float("nan"))):
        with pytest.raises(ValueError, match="needs at least 1 move, and a signal from 0 on"):
            Place(*numbers)
