"""The numbers of a table from its samples, and their intervals, against closed forms."""

import math
from functools import partial

import pytest
import scipy.stats
import torch

from unicond.evaluation.estimates import Estimates, mean, row_of
from unicond.evaluation.intervals import jackknife, student_t
from unicond.evaluation.metrics_pictures import fid
from unicond.evaluation.runner import Samples
from unicond.evaluation.tables import Row, Table


def test_a_means_interval_is_the_textbooks():
    values = torch.randn(37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def estimate(rows):
        return float(values[list(rows)].mean())

    low, high = jackknife(estimate, 37)
    half = scipy.stats.t.ppf(0.975, 36) * float(values.std()) / math.sqrt(37)
    assert (low + high) / 2 == pytest.approx(float(values.mean()))
    assert (high - low) / 2 == pytest.approx(half, rel=1e-5)


def test_intervals_cover_in_19_of_20_cases():
    noise = torch.Generator().manual_seed(1)
    hits = 0
    for _ in range(400):
        pairs = torch.randn(40, 2, generator=noise, dtype=torch.float64) + torch.tensor([3.0, 2.0])

        def ratio(rows, pairs=pairs):
            chosen = pairs[list(rows)].mean(0)
            return float(chosen[0] / chosen[1])

        low, high = jackknife(ratio, 40, 20)
        hits += low <= 1.5 <= high
    assert hits / 400 == pytest.approx(0.95, abs=0.04)  # four standard errors of 0.011


def test_what_has_no_interval_has_none():
    assert jackknife(lambda _: 1.0, 1) is None
    assert jackknife(lambda _: math.nan, 9) is None
    assert jackknife(lambda rows: math.nan if 0 not in rows else 1.0, 9) is None
    assert jackknife(lambda _: 2.0, 9) == (2.0, 2.0)


@pytest.mark.parametrize(("hits", "scenes"), [(0, 8), (8, 8), (0, 100)])
def test_shares_of_scenes_that_are_all_alike_have_the_binomial_interval(hits, scenes):
    alike = Samples({"instances": [float(hits > 0)] * scenes})
    row = row_of("x", {"instances": partial(mean, alike, "instances")}, scenes)
    found = scipy.stats.binomtest(hits, scenes).proportion_ci(0.95, "exact")
    assert row.intervals["instances"] == pytest.approx((found.low, found.high), rel=1e-9)


def test_intervals_of_shares_end_at_0_and_1_and_others_do_not():
    few = Samples({name: [1.0] * 7 + [0.0] for name in ("success_l2", "relation_loss")})
    row = row_of("x", {name: partial(mean, few, name) for name in few.values}, 8)
    low, high = row.intervals["success_l2"]
    assert (low, high) == (pytest.approx(7 / 8 - (row.intervals["relation_loss"][1] - 7 / 8)), 1.0)
    assert row.intervals["relation_loss"][1] > 1


def test_a_mean_over_things_weighs_scenes_by_their_number():
    """Scenes of 1, 2 and 5 things; one that tells nothing does not count."""
    shares = samples([1.0, 0.5, None, 0.2])
    assert mean(shares, "abs_rel", range(4), [1, 2, 3, 5].__getitem__) == pytest.approx(3 / 8)
    assert mean(shares, "abs_rel", range(4)) == pytest.approx(1.7 / 3)


@pytest.mark.parametrize("freedom", [4, 9, 19, 49, 499])
def test_students_t(freedom):
    assert student_t(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=0.01)


def samples(values, seconds=0.0, **others):
    return Samples({"abs_rel": values, **others}, {}, seconds)


def test_derived_numbers_by_hand():
    found = {
        "text_only": samples([0.5, 0.7]),
        "probe_reconstruction": samples([0.1, 0.1]),
        "to_image_two_way": samples([0.2, 0.2]),
        "to_image_one_way": samples([0.2, 0.3], 3.0),
        "to_image_aligned": samples([0.1, 0.1]),
        "probe_real": samples([0.05, 0.15]),
        "drawing_reconstruction": samples([0.1, 0.1]),
        "joint": samples([0.2, 0.2], abs_rel_shuffled=[0.3, 0.5], named=[2, None], found=[1, None]),
    }
    numbers = Estimates(found)
    row = numbers.row("x", "to_image_one_way", ("abs_rel", "range_covered", "seconds"))
    assert row.metrics == pytest.approx({"abs_rel": 0.25, "range_covered": 0.7, "seconds": 1.5})
    assert set(row.intervals) == {"abs_rel", "range_covered"}
    both = range(2)
    assert numbers.value("ratio_to_two_way", "to_image_one_way", both) == pytest.approx(1.25)
    assert numbers.value("ratio_to_two_way", "to_image_aligned", both) == pytest.approx(0.5)
    assert numbers.value("error_ratio", "to_image_one_way", both) == pytest.approx(1.25)
    assert numbers.value("agreement", "joint", both) == pytest.approx(2.0)
    assert numbers.value("found", "joint", both) == 0.5
    assert math.isnan(numbers.value("found", "joint", [1]))
    assert numbers.value("found_2", "joint", both) == 0.5
    assert math.isnan(numbers.value("found_3", "joint", both))
    with pytest.raises(ValueError, match="no metric 'emse'"):
        numbers.value("emse", "joint", both)


def test_errors_over_a_specialists_are_fitted_as_its_own():
    found = {
        "to_condition_two_way": samples([0.4, 0.6], abs_rel_fitted=[0.2, 0.1]),
        "probe_real": samples([0.05, 0.05]),
        "drawing_reconstruction": samples([0.3, 0.3], abs_rel_fitted=[0.05, 0.05]),
    }
    numbers = Estimates(found)
    assert numbers.value("error_ratio", "to_condition_two_way", range(2)) == pytest.approx(1.5)
    assert numbers.value("abs_rel", "to_condition_two_way", range(2)) == 0.5


def test_the_error_of_a_share_is_what_is_missing():
    found = {
        "to_image_two_way": Samples({"pck": [0.8]}),
        "to_image_one_way": Samples({"pck": [0.7]}),
        "text_only": Samples({"pck": [0.1]}),
        "probe_reconstruction": Samples({"pck": [0.9]}),
        "joint": Samples({"pck": [0.75], "pck_shuffled": [0.25]}),
    }
    numbers = Estimates(found, "pck")
    assert numbers.value("ratio_to_two_way", "to_image_one_way", [0]) == pytest.approx(1.5)
    assert numbers.value("range_covered", "to_image_two_way", [0]) == pytest.approx(7 / 8)
    assert numbers.value("agreement", "joint", [0]) == pytest.approx(3.0)


def test_frechet_distances_are_of_the_rows():
    noise = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 30, 3, generator=noise, dtype=torch.float64)
    found = {
        "probe_real": Samples({"x": [0.0] * 30}, {"features": a.tolist()}),
        "joint": Samples({"x": [0.0] * 30}, {"features": b.tolist()}),
    }
    numbers = Estimates(found)
    assert numbers.value("fid", "joint", range(30)) == pytest.approx(fid(a, b))
    rows = [n for n in range(30) if n % 2]
    assert numbers.value("fid", "joint", rows) == pytest.approx(fid(a[rows], b[rows]))
    assert math.isnan(numbers.value("fid", "joint", [3]))
    low, high = numbers.row("joint", "joint", ("fid",)).intervals["fid"]
    assert low < fid(a, b) < high


def test_scenes_to_which_a_metric_does_not_apply_are_left_out():
    found = Samples({"x": [1.0, None, 3.0]})
    assert mean(found, "x", range(3)) == 2.0
    assert mean(found, "x", [0, 1]) == 1.0
    assert math.isnan(mean(found, "x", [1]))


def test_intervals_are_written_and_shown():
    row = Row("a", {"abs_rel": 0.5, "fid": 3.0}, {"abs_rel": (0.4, 0.6)})
    table = Table("c", 0, 1.0, 2, (row,))
    assert row.to_json()["intervals"] == {"abs_rel": [0.4, 0.6]}
    assert '"intervals"' in table.to_json()
    assert table.to_csv().splitlines() == [
        "row,abs_rel,abs_rel_low,abs_rel_high,fid",
        "a,0.5,0.4,0.6,3.0",
    ]
    assert "intervals" not in Row("a", {"fid": 3.0}).to_json()
