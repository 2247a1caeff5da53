"""What is asked of adapters: each bar at its edge, and only where something was measured for it."""

import pytest

from unicond.adapters.config import JointConfig
from unicond.conditions import CONDITIONS, named
from unicond.evaluation.bars import with_findings
from unicond.evaluation.condition_bars import bars_of
from unicond.evaluation.study_company import COMPANY
from unicond.evaluation.study_held import HELD
from unicond.evaluation.study_parts import PARTS
from unicond.evaluation.study_sweeps import SCHEDULES, STEPS_STUDY
from unicond.evaluation.tables import Row, Table


def config(name, roles=("two_way", "condition_held", "image_held")):
    condition = named(name)
    return JointConfig(y=condition.branch, kind=condition.shows, rank=2, roles=roles)


def person(attributes, same_pose, same_ground):
    return {"attributes": attributes, "same_pose": same_pose, "same_ground": same_ground}


def verdicts(bars, *rows):
    """{claim: verdict}, of what was measured."""
    found = with_findings(Table("c", 0, 1.0, 9, rows), bars).findings
    return {one.claim: one.verdict for one in found if one.met is not None}


@pytest.mark.parametrize(
    ("name", "row", "metrics", "met"),
    [
        ("depth", "depth_to_image", {"range_covered": 0.75}, "met"),
        ("depth", "depth_to_image", {"range_covered": 0.74}, "not met"),
        ("normals", "condition_to_image", {"range_covered": 0.74}, "not met"),
        ("depth", "image_to_depth", {"error_ratio": 1.5}, "met"),
        ("pose", "image_to_condition", {"error_ratio": 1.51}, "not met"),
        ("softedge", "joint", {"agreement": 1.79}, "not met"),
        ("depth", "joint", {"agreement": 1.8}, "met"),
        ("depth-metric", "image_to_condition", {"abs_rel": 0.12}, "met"),
        ("depth-metric", "image_to_condition", {"abs_rel": 0.121}, "not met"),
        ("pose", "condition_to_image", {"pck": 0.6}, "met"),
        ("identity", "condition_to_image", person(0.7, 0.49, 0.49), "met"),
        ("identity", "condition_to_image", person(0.69, 0.1, 0.1), "not met"),
        ("identity", "condition_to_image", person(0.9, 0.51, 0.1), "not met"),
        ("identity", "condition_to_image", person(0.9, 0.1, 0.51), "not met"),
        ("appearance", "condition_to_image", {"colors": 0.75, "layout_iou": 0.49}, "met"),
        ("appearance", "condition_to_image", {"colors": 0.9, "layout_iou": 0.51}, "not met"),
        ("appearance", "condition_to_image", {"colors": 0.7, "layout_iou": 0.1}, "not met"),
    ],
)
def test_numbers_are_judged_at_their_edges(name, row, metrics, met):
    bars = bars_of(named(name), config(name))
    assert [*verdicts(bars, Row(row, metrics)).values()] == [met]


def test_a_loose_condition_has_nothing_to_cover_or_to_estimate():
    rows = Row("condition_to_image", {"range_covered": 0.1}), Row("joint", {"agreement": 1.0})
    for name in ("identity", "appearance"):
        assert verdicts(bars_of(named(name), config(name)), *rows) == {}


@pytest.mark.parametrize(("upper", "met"), [(1.05, "met"), (1.06, "not met")])
def test_a_held_branch_is_judged_by_the_upper_end_in_the_roles_it_was_trained_in(upper, met):
    rows = [
        Row(name, {"ratio_to_two_way": 1.0}, {"ratio_to_two_way": (0.9, upper)})
        for name in ("condition_to_image_one_way", "image_to_condition_one_way")
    ]
    trained = bars_of(named("pose"), config("pose"))
    assert [*verdicts(trained, *rows).values()] == [met, met]
    one = bars_of(named("pose"), config("pose", roles=("two_way", "condition_held")))
    assert [*verdicts(one, *rows).values()] == [met]


def test_the_ways_of_an_untrained_role_are_no_bars_of_the_study():
    rows = [
        Row(f"depth/{name}", {"ratio_to_two_way": 1.2}, {"ratio_to_two_way": (1.1, 1.3)})
        for name in ("to_image_one_way", "to_condition_aligned", "to_condition_refresh_2")
    ]
    assert verdicts(HELD.expects(rows), *rows) == {
        "depth/to_image_one_way is as faithful as two-way": "not met"
    }


def test_a_way_that_is_not_met_tells_both_errors():
    rows = [
        Row("depth/to_image_one_way", {"ratio_to_two_way": 1.2, "abs_rel": 0.12}),
        Row("depth/to_image_two_way", {"abs_rel": 0.1}),
    ]
    rows[0] = Row(rows[0].name, rows[0].metrics, {"ratio_to_two_way": (1.1, 1.3)})
    [found] = with_findings(Table("c", 0, 1.0, 9, tuple(rows)), HELD.expects(rows)).findings
    assert "to_image_one_way abs_rel 0.12" in found.why
    assert "to_image_two_way abs_rel 0.1" in found.why


@pytest.mark.parametrize(("upper", "met"), [(1.05, "met"), (1.06, "not met")])
def test_an_estimation_in_its_own_steps_is_judged_beside_twenty(upper, met):
    rows = [
        Row("pose/ensemble_1", {"ratio_to_20": 1.0}, {"ratio_to_20": (0.9, upper)}),
        Row("pose/steps_20", {"ratio_to_20": 1.0}, {"ratio_to_20": (1.0, 1.0)}),
    ]
    assert [*verdicts(STEPS_STUDY.expects(rows), *rows).values()] == [met]


@pytest.mark.parametrize(("agreement", "met"), [(1.8, "met"), (1.79, "not met")])
def test_pairs_of_the_joint_plan_are_judged_where_they_have_a_bar(agreement, met):
    rows = [Row(f"{name}/joint", {"agreement": agreement}) for name in ("softedge", "pose")]
    bars = SCHEDULES.expects([*rows, Row("softedge/image-first", {"agreement": 1.0})])
    assert [*verdicts(bars, *rows).values()] == [met]


@pytest.mark.parametrize(("kept", "met"), [(0.8, "met"), (0.79, "not met")])
def test_the_largest_company_is_judged(kept, met):
    title = "identity+appearance+depth+pose"
    numbers = {"kept": kept, "covered": 0.4, "covered_alone": 0.5}
    rows = Row(f"{title}/depth", numbers), Row("pose+depth/depth", {"kept": 0.1})
    assert [*verdicts(COMPANY.expects(rows), *rows).values()] == [met]


def test_guidance_is_certainly_better_at_the_edge():
    ratios = {"inpaint/guided_1": (0.8, 0.99), "halves/adamw": (0.9, 1.01)}
    rows = [
        Row(name, {"ratio_to_replacement": 0.9}, {"ratio_to_replacement": ends})
        for name, ends in ratios.items()
    ]
    assert [*verdicts(PARTS.expects(rows), *rows).values()] == ["met", "not met"]


def test_every_condition_that_can_miss_says_what_explains_it():
    for condition in CONDITIONS:
        told = [bar for bar in bars_of(condition, config(condition.name)) if bar.shows]
        own = [bar for bar in told if "two-way" not in bar.claim]
        assert len(told) > len(own)
        assert len(own) == (condition.name in ("depth-metric", "pose", "identity", "appearance"))
        assert all(bar.why for bar in told)
