"""What the benchmark of joint attention builds, counts, and holds against its bars."""

import math

import pytest
import torch
from benchmarks import unicon
from benchmarks.bars import Bar, report
from benchmarks.timing import Ratio
from benchmarks.training_step import Bench as TrainingBench
from benchmarks.unicon import BARS, CALLS, SIZES, WAYS, Bench, Found, bars, operations
from torch._dynamo import config as dynamo
from torch._dynamo.exc import FailOnRecompileLimitHit

TINY, META = SIZES["tiny"], torch.device("meta")


def found(ratios):
    return [Found(n, Ratio(n, ratio, ratio, ratio), 1.0, 1.0) for n, ratio in ratios.items()]


def test_a_bar_is_met_at_its_limit_and_on_its_good_side():
    assert Bar("x", 1.1, 1.1).met
    assert not Bar("x", 1.11, 1.1).met
    assert Bar("x", 61, 60, at_least=True).met
    assert not Bar("x", 59, 60, at_least=True).met
    assert not Bar("x", math.nan, 1.1).met
    assert not Bar("x", math.nan, 1.1, at_least=True).met


def test_one_missed_bar_fails_a_benchmark_and_all_are_printed(capsys):
    assert report([Bar("x", 1.0, 1.1)]) == report([]) == 0
    capsys.readouterr()
    assert report([Bar("x", 1.0, 1.1), Bar("y", 1.2, 1.1), Bar("z", 2, 1.6, at_least=True)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "bar x <= 1.1: 1, pass",
        "bar y <= 1.1: 1.2, FAIL",
        "bar z >= 1.6: 2, pass",
    ]


@pytest.mark.parametrize("name", BARS)
def test_every_bar_is_held_against_its_own_row(name):
    met = {**BARS, "controlnet": 1.33}
    assert all(bar.met for bar in bars(found(met)))
    missed = [bar for bar in bars(found({**met, name: BARS[name] + 0.01})) if not bar.met]
    assert missed[0].name == name
    assert len(missed) == (2 if name == "one_way" else 1)  # it is above ControlNet's, too


@pytest.mark.parametrize("name", ["one_way", "one_way_aligned"])
def test_what_is_held_must_not_cost_more_than_controlnet(name):
    checked = bars(
        found({**BARS, "one_way": 1.05, "one_way_aligned": 1.05, name: 1.09, "controlnet": 1.08})
    )
    assert [bar.name for bar in checked if not bar.met] == [f"{name} (controlnet)"]


def test_rows_that_were_not_measured_have_no_bar():
    assert [bar.name for bar in bars(found({"plain": 1.0, "two_way": 3.0}))] == ["two_way"]
    assert set(BARS) < {*WAYS, *CALLS}


@pytest.mark.parametrize(
    ("name", "adapters", "controls"),
    [
        ("plain", 0, 0),
        ("controlnet_x2", 0, 2),
        ("two_way", 1, 0),
        ("one_way_aligned_x2", 2, 0),
        ("call20_x4", 4, 0),
    ],
)
def test_a_row_builds_what_it_needs(name, adapters, controls):
    bench = Bench(TINY, META, torch.float32)
    bench.run(name)
    assert (len(bench.adapters), len(bench.controls)) == (adapters, controls)


@pytest.mark.parametrize(("way", "other"), [("lora", "adapter"), ("pair", "wrapped")])
def test_a_training_step_builds_what_it_needs(way, other):
    bench = TrainingBench(TINY, META, torch.float32)
    bench.turn(way)
    assert other not in vars(bench)


@pytest.mark.slow
def test_more_conditions_cost_more_and_controlnets_add_up():
    count = {name: operations(TINY, name) for name in WAYS}
    one, two, four = (count[f"controlnet{n}"] - count["plain"] for n in ("", "_x2", "_x4"))
    assert (two, four) == (2 * one, 4 * one)
    for kind in ("two_way", "two_way_aligned", "one_way", "one_way_aligned"):
        assert count["plain"] < count[kind] < count[f"{kind}_x2"] < count[f"{kind}_x4"]


def test_ways_share_weights_and_nothing_else():
    bench = Bench(TINY, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        plain = bench.way("plain")
        before = plain()
        pair = bench.way("two_way")
        made = pair()[0]["image"].x0
        bench.way("one_way_x2")()
        assert torch.equal(plain(), before)
        assert torch.equal(pair()[0]["image"].x0, made)
    weights = bench.unet.state_dict()
    own = bench.way("plain").args[0]
    assert own is not bench.unet
    assert all(weights[n].data_ptr() == w.data_ptr() for n, w in own.state_dict().items())


@pytest.mark.slow
def test_a_way_is_compiled_as_it_is_written_and_never_left_uncompiled(monkeypatch):
    """Each attention layer is compiled for itself: one entry is too few, the benchmark's do."""
    with dynamo.patch(fail_on_recompile_limit_hit=False), torch.no_grad():
        compiled, written = (
            Bench(TINY, torch.device("cpu"), torch.float32, compiler)
            for compiler in ("eager", None)
        )
        found, expected = (bench.way("two_way")()[0]["image"].x0 for bench in (compiled, written))
        # the same operations; float32
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        monkeypatch.setattr(unicon, "RECOMPILATIONS", 1)
        with pytest.raises(FailOnRecompileLimitHit):
            compiled.way("two_way")
    torch.compiler.reset()
