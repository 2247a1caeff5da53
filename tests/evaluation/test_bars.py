"""Bars: intervals that touch are not apart, what is missing is not measured, what fails is told."""

import json
from dataclasses import replace

import pytest

from unicond.evaluation.bars import Bar, ahead, apart, beats, gains, with_findings, within
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks.composition import COMPOSITION
from unicond.evaluation.tasks.group import joined
from unicond.evaluation.tasks.inversion import INVERSION
from unicond.evaluation.tasks.page import write_page
from unicond.evaluation.tasks.registry import GROUPS

GOOD, LOW, HIGH = Row("x", {"psnr": 20.0}, {"psnr": (19.0, 21.0)}), (17.0, 19.0), (17.0, 18.9)


def row(name, **numbers):
    """A row of (low, value, high) a metric."""
    ends = {key: (low, high) for key, (low, _, high) in numbers.items()}
    return Row(name, {key: value for key, (_, value, _) in numbers.items()}, ends)


def table(*rows):
    return Table("unicond table tasks", 0, 1.0, 10, rows)


def test_intervals_that_touch_are_not_apart():
    touching = Row("y", {"psnr": 18.0}, {"psnr": LOW})
    assert not apart(GOOD, touching, "psnr")
    assert apart(GOOD, replace(touching, intervals={"psnr": HIGH}), "psnr")
    few = row("a", abs_rel=(0.1, 0.2, 0.3)), row("b", abs_rel=(0.31, 0.4, 0.5))
    assert apart(*few, "abs_rel")  # of errors, less is better
    assert not apart(*reversed(few), "abs_rel")


@pytest.mark.parametrize(
    ("ends", "met"), [((-0.1, 0.0, 0.1), True), ((-0.2, 0.0, 0.1), False), ((0, 0.05, 0.11), False)]
)
def test_the_whole_interval_lies_within(ends, met):
    check = within("g/c/m", "below", -0.1, 0.1)
    assert check(table(row("g/c/m", below=ends)))[0] is met


def test_a_gain_is_certain_or_it_is_none():
    check = ahead("g/c/m", "psnr_over_other")
    assert check(table(row("g/c/m", psnr_over_other=(0.01, 1.0, 2.0))))[0] is True
    assert check(table(row("g/c/m", psnr_over_other=(0.0, 1.0, 2.0))))[0] is False
    assert check(table(row("g/c/m", psnr_over_other=(-2.0, -1.0, -0.5))))[0] is False
    assert check(table()) == (None, "there is no row g/c/m")
    alone = Row("g/c/m", {"psnr_over_other": 1.0})
    met, said = check(table(alone))
    assert met is None
    assert "measure more scenes" in said


def test_some_method_certainly_gains():
    check, over = gains("g/all", "psnr_over_input"), "psnr_over_input"
    small = row("g/all/small", **{over: (0.1, 0.5, 0.9)})
    large = row("g/all/large", **{over: (-1.0, 2.0, 5.0)})
    elsewhere = row("g/other/large", **{over: (8.0, 9.0, 10.0)})
    assert check(table(small, elsewhere)) == (True, "g/all/small psnr_over_input 0.5 [0.1, 0.9]")
    assert check(table(small, large, elsewhere)) == check(table(small))
    assert check(table(large)) == (False, "g/all/large psnr_over_input 2 [-1, 5]")
    assert check(table(elsewhere))[0] is None


def test_one_method_has_to_beat_all():
    """Two that are each better in something else do not make one that is better in both."""
    text = row("g/all/text", instances=(0.1, 0.2, 0.3), miou=(0.1, 0.2, 0.3))
    first = row("g/all/first", instances=(0.5, 0.6, 0.7), miou=(0.2, 0.3, 0.4))
    second = row("g/all/second", instances=(0.2, 0.3, 0.4), miou=(0.5, 0.6, 0.7))
    both = row("g/all/both", instances=(0.31, 0.4, 0.5), miou=(0.31, 0.4, 0.5))
    truth = row("g/all/truth", instances=(0.9, 1.0, 1.0), miou=(0.9, 1.0, 1.0))
    other = row("g/one/another", instances=(0.9, 1.0, 1.0), miou=(0.9, 1.0, 1.0))
    check = beats("g/all", (("instances", "text"), ("miou", "text")), ("text", "truth"))
    met, said = check(table(text, truth, first, second, other))
    assert met is False
    assert said.startswith("g/all/first: instances 0.6 [0.5, 0.7] to instances 0.2")
    met, said = check(table(text, truth, first, second, both))
    assert met is True
    assert said.startswith("g/all/both")
    assert check(table(first, truth))[0] is None  # nothing to compare with
    assert check(table(text, truth))[0] is None  # nothing that could be better


def test_what_is_not_met_is_explained_by_numbers():
    bar = Bar(
        "it is near",
        within("g/50/m", "below", high=1.0),
        "it falls with the steps",
        (("g/10/m", "below"), ("g/50/m", "below"), ("g/99/m", "below"), ("g/10/m", "none")),
    )
    rows = row("g/10/m", below=(7.0, 8.0, 9.0)), row("g/50/m", below=(2.0, 3.0, 4.0))
    found = bar.found(table(*rows))
    assert (found.met, found.verdict) == (False, "not met")
    assert found.why == "it falls with the steps: g/10/m below 8 [7, 9]; g/50/m below 3 [2, 4]"
    near = bar.found(table(row("g/50/m", below=(0.1, 0.2, 0.3))))
    assert (near.met, near.why) == (True, "")


def rows_of_inversion():
    def at(method, case, below, **over):
        return row(f"inversion/{case}/{method}", below_autoencoder=below, **over)

    return (
        *(at("ddim", f"{n}-1", (4.0, 5.0, 6.0)) for n in (10, 20, 50)),
        at("fixed_point", "50-1", (0.5, 1.0, 1.5), psnr_over_ddim=(3.0, 4.0, 5.0)),
        at("direct", "50-1", (-0.01, 0.0, 0.01), psnr_over_ddim=(4.0, 5.0, 6.0)),
        at("edict", "50-1", (-0.01, 0.0, 0.01)),
        at("edit_friendly", "50-1", (0.2, 0.3, 0.4)),
    )


def test_findings_are_in_the_json_and_on_the_page(tmp_path):
    whole = with_findings(table(*rows_of_inversion()), INVERSION.bars)
    verdicts = [found.verdict for found in whole.findings]
    assert verdicts[:3] == ["not met", "met", "met"]
    by_claim = {found.claim: found.verdict for found in whole.findings}
    near = "is equal to the autoencoder to 0.1 dB at 50 steps and guidance"
    assert by_claim[f"edict {near} 1"] == "met"
    assert by_claim[f"edit_friendly {near} 1"] == "not met"
    assert by_claim[f"edict {near} 7.5"] == "not measured"
    told = json.loads(whole.to_json())["findings"]
    assert [found["met"] for found in told[:3]] == [False, True, True]
    assert "inversion/10-1/ddim below_autoencoder 5 [4, 6]" in told[0]["why"]
    (tmp_path / "plot.png").write_bytes(b"")
    text = write_page(INVERSION, whole, tmp_path, {}, tmp_path / "page").read_text()
    assert "<td><b>not met</b></td>" in text
    assert "inversion/10-1/ddim below_autoencoder 5 [4, 6]" in text
    both = joined([whole, whole], "unicond", ["inversion", "again"])
    assert [found.claim.split(":")[0] for found in both.findings[:1]] == ["inversion"]
    assert len(both.findings) == 2 * len(whole.findings)


def test_every_group_of_the_tasks_says_what_it_expects():
    for group in GROUPS:
        for bar in group.bars:
            assert bar.check(table())[0] is None
            assert bar.why
    assert COMPOSITION.bars
