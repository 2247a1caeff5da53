"""Sweeps: the tasks' own measures at every value, and depth maps that are spoilt."""

from dataclasses import dataclass, replace

import pytest
import torch
from truth import Brightness

import unicond
from unicond.adapters.readout import ReadoutHead
from unicond.evaluation.bars import with_findings
from unicond.evaluation.condition_table import Run
from unicond.evaluation.runner import Samples
from unicond.evaluation.study import Bench, tabulate
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks import restoration, signals, style, sweeps
from unicond.evaluation.tasks.composition import COMPOSITION
from unicond.evaluation.tasks.layout import LAYOUT
from unicond.evaluation.tasks.page import by_case, write_page
from unicond.evaluation.tasks.registry import GROUPS
from unicond.evaluation.tasks.signals import CLEAN, ROBUSTNESS, SPOILINGS, Spoiling
from unicond.evaluation.tasks.sweep import Part
from unicond.evaluation.tasks.sweeps import GUIDANCE_SWEEP, PIXEL_SWEEPS, STEPS_SWEEP, values_of

METHODS = {
    "editing": sweeps.editing.METHODS,
    "style": style.METHODS,
    "composition": sweeps.composition.METHODS,
    "layout": [name for name in sweeps.layout.TASK_METHODS if name != "readout"],
}
TEXT = Part("style", lambda _: ("text",), style.prepared, style.results, style.METRICS)


@pytest.fixture(scope="module")
def bench(tiny_base, tmp_path_factory):
    out = tmp_path_factory.mktemp("tasks")
    run = Run(1, 3, 1, out, "unicond table tasks", {"base": "tiny"}, True)
    return Bench(unicond.load(tiny_base, device="cpu"), Brightness(), run, folder=out)


def test_every_task_is_swept():
    """Guidance from 1 to 10, and 5 to 50 steps of every method."""
    assert sweeps.GUIDANCES[0] == 1
    assert sweeps.GUIDANCES[-1] == 10
    assert sweeps.STEPS == (5, 10, 20, 50)
    tasks = {part.task for part in sweeps.BY_TASK}
    assert tasks == {"editing", "inversion", "layout", "composition", "style", "signals"}
    assert {part.task for part in sweeps.BY_METHOD} == tasks
    assert {part.task for part in sweeps.PIXELS_GUIDED} == {"restoration"}
    swept = (GUIDANCE_SWEEP, STEPS_SWEEP, PIXEL_SWEEPS, ROBUSTNESS)
    assert {group.name for group in swept} < {group.name for group in GROUPS}
    assert all(group.scenes <= 20 for group in swept)


def test_every_method_is_swept_over_steps(bench):
    groups = {group.name: group for group in GROUPS}
    for part in sweeps.BY_METHOD:
        if part.task in METHODS:
            own = {*METHODS[part.task]} - {*groups[part.task].missing(bench)}
            assert {*part.methods(bench)} == own
    assert {*LAYOUT.takes, "depth"} == {*STEPS_SWEEP.takes}
    assert STEPS_SWEEP.companion == COMPOSITION.companion
    left = STEPS_SWEEP.missing(bench)
    assert {f"layout {name}" for name in LAYOUT.takes} < {*left}
    assert {"composition magic_fusion", "signals depth"} < {*left}
    assert {*GUIDANCE_SWEEP.missing(bench)} == {
        f"signals {name}" for name in ("depth", "depth_coarse", "readout")
    }
    told = STEPS_SWEEP.noted(Table("c", 3, 1.0, 1, ()), bench).settings["rows left out"]
    assert "layout migc: no adapter of it is loaded (--adapter migc)" in told


def test_adapters_of_layouts_are_swept_where_they_are(bench, tiny_base, grounders):
    able = replace(bench, model=unicond.load(tiny_base, dict(grounders), device="cpu"))
    (part,) = [part for part in sweeps.BY_METHOD if part.task == "layout"]
    assert {*part.methods(able)} - {*part.methods(bench)} == {*grounders}
    assert {f"layout {name}" for name in grounders}.isdisjoint(STEPS_SWEEP.missing(able))


@pytest.mark.parametrize(
    ("group", "setting", "values", "settings"),
    [
        (GUIDANCE_SWEEP, "guidance", (1.0, 4.0), Sampling(steps=2)),
        (STEPS_SWEEP, "steps", (1, 3), Sampling(guidance=3.0)),
    ],
)
def test_a_task_is_measured_at_every_value(
    bench, tmp_path, monkeypatch, group, setting, values, settings
):
    """As the task is at that value; where a value is asked for, at that one alone."""
    for name in ("BY_TASK", "BY_METHOD"):
        monkeypatch.setattr(sweeps, name, (TEXT,))
    monkeypatch.setattr(sweeps, "GUIDANCES", values)
    monkeypatch.setattr(sweeps, "STEPS", values)
    asked = replace(bench, generation=settings, run=replace(bench.run, out=tmp_path))
    table, folder = tabulate(group.study, asked)
    names = [f"style/{setting}_{value:g}/text" for value in values]
    assert [row.name for row in table.rows] == names
    assert [row.metrics[setting] for row in table.rows] == list(values)
    assert all({*style.METRICS, "seconds", "calls", "seed"} < {*r.metrics} for r in table.rows)
    lines = group.show(asked)[f"style, text: {setting}"]
    for value, picture in zip(values, lines[0].pictures, strict=True):
        told = replace(settings, **{setting: value})
        alone = style.prepared(replace(asked, generation=told), range(1)).result(0, "text")
        assert (picture - alone).abs().max() < 0.01  # of 8 bits
    calls = [row.metrics["calls"] for row in table.rows]
    assert calls == ([2, 2] if setting == "guidance" else [1, 3])
    text = write_page(group, table, folder, group.show(asked), tmp_path / "page").read_text()
    assert f"style, text: {setting}" in text
    one = replace(bench, generation=Sampling(steps=7, guidance=2.5))
    assert values_of(one, setting) == ((2.5,) if setting == "guidance" else (7,))


@dataclass
class Counted:
    """Two scenes, of which three and one things are named."""

    bench: Bench
    rows: range


def test_found_objects_are_a_share_of_those_named(bench, tmp_path):
    counts = Samples({"found": [3.0, 0.0], "named": [3.0, 1.0], "seconds": [1, 3], "calls": [4, 4]})
    part = Part("a", lambda _: ("b",), Counted, lambda _, __: counts, {"found": "a share"})
    asked = replace(bench, run=replace(bench.run, scenes=2, batch=2), folder=tmp_path)
    (row,) = part.rows(asked, "steps", (5,))
    assert (row.metrics["found"], row.metrics["seconds"]) == (0.75, 2)


def test_restoration_is_swept_on_pixels(tiny_base, bench, tmp_path, monkeypatch):
    part = sweeps._restoration("sr4", lambda _: ("ddnm",))
    monkeypatch.setattr(sweeps, "PIXELS_GUIDED", (part,))
    monkeypatch.setattr(sweeps, "PIXELS_STEPPED", (part,))
    asked = replace(
        bench,
        generation=Sampling(steps=2, guidance=2.0),
        run=replace(bench.run, out=tmp_path),
    )
    table, _ = tabulate(PIXEL_SWEEPS.study, asked)
    names = [f"restoration/sr4-{case}/ddnm" for case in ("guidance_2", "steps_2")]
    assert [row.name for row in table.rows] == names
    pictures = PIXEL_SWEEPS.show(asked)
    assert set(pictures) == {f"restoration-sr4, ddnm: {one}" for one in ("guidance", "steps")}
    assert PIXEL_SWEEPS.base == restoration.RESTORATION.base


def test_maps_are_spoilt_as_it_is_said():
    maps = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    maps = (0.2 * maps - 0.1).expand(-1, 3, -1, -1)
    assert CLEAN.spoilt(maps, [1, 2]) is maps
    noisy = Spoiling("noise", 0.1).spoilt(maps, [1, 2])
    assert (noisy - maps).std() == pytest.approx(0.1, rel=0.1)  # of 2048 values
    assert torch.equal(noisy[:, 0], noisy[:, 2])
    assert torch.allclose(Spoiling("noise", 0.1).spoilt(maps[1:], [2]), noisy[1:])
    blurred = Spoiling("blur", 8.0).spoilt(maps, [1, 2])  # 2 pixels here
    assert blurred.std() < 0.3 * maps.std()
    assert torch.allclose(blurred.mean((2, 3)), maps.mean((2, 3)), atol=1e-5)
    half = Spoiling("missing", 0.5)
    assert half.spoilt(maps, [1, 2]) is maps
    assert half.known == 0.5
    assert [one.case for one in SPOILINGS[:2]] == ["clean", "noise_0.25"]


@pytest.fixture
def able(tiny_base, tiny, bench, head_ships):
    """The tiny base with its adapter of depth and an untrained head of it."""
    model = unicond.load(tiny_base, {"depth": tiny.adapters["depth"].source}, device="cpu")
    return replace(bench, model=model, generation=Sampling(steps=2, guidance=2.0))


def test_a_spoilt_map_is_followed_by_every_method(able, tmp_path, monkeypatch):
    spoilings = (CLEAN, Spoiling("noise", 0.5), Spoiling("blur", 8.0), Spoiling("missing", 0.5))
    monkeypatch.setattr(signals, "SPOILINGS", spoilings)
    asked = replace(able, run=replace(able.run, out=tmp_path))
    table, folder = tabulate(ROBUSTNESS.study, asked)
    every = ("depth", "depth_coarse", "readout")
    names = [f"signals/{one.case}/{m}" for one in spoilings for m in every]
    names.insert(3, "signals/clean/text")
    names.insert(-2, "signals/missing_0.5/depth_joint")
    assert [row.name for row in table.rows] == names
    clean = table.row("signals/clean/depth").metrics
    assert {"abs_rel", "delta1", "seconds", "calls", "seed"} < clean.keys()
    assert (clean["noise"], clean["blur"], clean["missing"]) == (0, 0, 0)
    assert table.row("signals/missing_0.5/depth").metrics["missing"] == 0.5
    assert "blur" not in table.row("signals/noise_0.5/readout").metrics
    pictures = ROBUSTNESS.show(asked)
    lines = {one.case: pictures[one.case][0] for one in spoilings}
    shown = {
        case: dict(zip(line.captions, line.pictures, strict=True)) for case, line in lines.items()
    }
    for case in ("noise_0.5", "blur_8", "missing_0.5"):
        gaps = [(shown[case][m] - shown["clean"][m]).abs().max() for m in ("map", *every)]
        assert min(gaps) > 0  # the map and what every method makes of it, by a level or more
    assert (folder / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_another_head_is_measured_anew(able, heads, tmp_path, monkeypatch):
    """It loads with no adapter; what was measured by another one is not read again."""
    monkeypatch.setattr(signals, "SPOILINGS", (CLEAN,))
    for group in (ROBUSTNESS, GUIDANCE_SWEEP, STEPS_SWEEP):
        assert {*group.study.also(able)} == {"readout head depth"}
    assert not PIXEL_SWEEPS.study.also(able)
    asked = replace(able, run=replace(able.run, out=tmp_path))
    table, folder = tabulate(ROBUSTNESS.study, asked)
    head = ReadoutHead.from_pretrained(heads / "readout/depth")
    head.out.weight.mul_(2)
    head.save_pretrained(tmp_path / "weights/readout/depth")
    for module in ("unicond.loading", "unicond.tasks.heads"):
        monkeypatch.setattr(f"{module}.EMBEDDED", tmp_path / "weights")
    other, elsewhere = tabulate(ROBUSTNESS.study, asked)
    assert folder != elsewhere
    name = "signals/clean/readout"
    assert table.row(name).metrics["abs_rel"] != other.row(name).metrics["abs_rel"]


def test_maps_that_are_followed_beat_the_text(able):
    """Also spoilt ones, of which text alone has no rows."""
    near, far = {"abs_rel": 0.1, "delta1": 0.9}, {"abs_rel": 0.5, "delta1": 0.2}

    def row(case, method, values):
        ends = {name: (value - 0.01, value + 0.01) for name, value in values.items()}
        return Row(f"signals/{case}/{method}", values, ends)

    cases = ("clean", "noise_0.25", "missing_0.5")
    rows = [row("clean", "text", far)]
    rows += [row(case, "depth", near if case == "clean" else far) for case in cases]
    rows.append(row("missing_0.5", "readout", near))
    found = with_findings(Table("c", 3, 1.0, 1, tuple(rows)), ROBUSTNESS.bars).findings
    assert [one.met for one in found] == [True, False, True]
    assert "signals/clean/depth abs_rel 0.1" in found[1].why


def test_tasks_of_a_sweep_are_apart_on_its_page(bench, tmp_path):
    """The best of a case is the best of its task."""
    rows = tuple(
        Row(f"{task}/steps_5/sdedit", {"psnr_target": value, "style": value})
        for task, value in (("editing", 20.0), ("style", 1.0))
    )
    table = Table("c", 3, 1.0, 1, rows)
    assert list(by_case(table)) == ["editing: steps_5", "style: steps_5"]
    assert list(by_case(replace(table, rows=rows[:1]))) == ["steps_5"]
    (tmp_path / "plot.png").write_bytes(b"")
    text = write_page(STEPS_SWEEP, table, tmp_path, {}, tmp_path / "page").read_text()
    assert "<h2>style: steps 5</h2>" in text
    assert "<b>20.000</b>" in text


def test_without_adapter_and_head_there_is_text_alone(bench):
    assert signals.methods(bench) == ("text",)
    assert set(signals.missing(bench)) == {"depth", "depth_joint", "depth_coarse", "readout"}
