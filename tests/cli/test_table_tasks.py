"""`unicond table tasks` as it is typed."""

import json

import pytest
import torch
from typer.testing import CliRunner

from unicond.backbones import files
from unicond.cli import app
from unicond.cli.table import adapters_of
from unicond.cli.table_tasks import _taken
from unicond.evaluation.probes import Probe, ProbeConfig
from unicond.evaluation.tasks import (
    composition,
    editing,
    inversion,
    layout,
    restoration,
    style,
    sweeps,
)
from unicond.evaluation.tasks.registry import GROUPS


@pytest.fixture
def line(tiny_base, tmp_path, monkeypatch):
    """The command on one scene, with few methods."""
    monkeypatch.setattr(editing, "METHODS", ("sdedit",))
    monkeypatch.setattr(inversion, "METHODS", ("direct",))
    monkeypatch.setattr(restoration, "OPERATORS", ("inpaint-box",))
    monkeypatch.setattr(restoration, "methods_for", lambda _: ["ddnm"])
    monkeypatch.setattr(layout, "TASK_METHODS", ("text",))
    monkeypatch.setattr(composition, "METHODS", {"text": composition.METHODS["text"]})
    monkeypatch.setattr(style, "METHODS", ("text",))
    parts = [part for part in sweeps.BY_METHOD if part.task == "style"]
    for name in ("BY_TASK", "BY_METHOD", "PIXELS_GUIDED", "PIXELS_STEPPED"):
        monkeypatch.setattr(sweeps, name, parts if name.startswith("BY") else ())
    small = sweeps._restoration("sr4", lambda _: ("ddnm",))
    monkeypatch.setattr(sweeps, "PIXELS_STEPPED", (small,))
    torch.manual_seed(0)
    Probe(ProbeConfig(widths=(4, 4, 8))).save_pretrained(tmp_path / "probes")
    return [
        *("table", "tasks", "--base", str(tiny_base), "--device", "cpu", "--steps", "2"),
        *("--probes", str(tmp_path / "probes"), "--out", str(tmp_path / "runs")),
        *("--scenes", "1", "--seed", "5", "--report", str(tmp_path / "report")),
        *("--guidance", "2.5", "--json", str(tmp_path / "t.json")),
    ]


def test_all_groups_are_one_table_and_a_page_each(line, tmp_path):
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "t.json").read_text())
    names = [row["row"] for row in data["rows"]]
    assert {"editing/recolour/sdedit", "inversion/2-2.5/direct"} < set(names)
    assert {"restoration/inpaint-box-noisy/ddnm", "restoration/inpaint-box-clean/input"} < set(
        names
    )
    assert {"style/guidance_2.5/text", "style/steps_2/text", "signals/clean/text"} < set(names)
    assert "restoration/sr4-steps_2/ddnm" in names
    assert {"layout/1_box/text", "composition/all/text", "style/toon/text"} < set(names)
    assert all({"seconds", "calls", "seed"} <= row["metrics"].keys() for row in data["rows"])
    assert {row["metrics"]["seed"] for row in data["rows"]} == {5}
    assert (
        "editing: the best method's edits are done more often than those of the unedited input"
        in {found["claim"] for found in data["findings"]}
    )
    assert {found["met"] for found in data["findings"]} == {None}  # one scene has no interval
    assert (data["seed"], data["scenes"]) == (5, 1)
    assert "guidance=2.5" in data["settings"]["generation"]
    for group in (each.name for each in GROUPS):
        assert (tmp_path / "report" / group / "index.html").is_file()
        assert json.loads((tmp_path / "report" / group / "table.json").read_text())["rows"]
    assert "inversion/index.html" in (tmp_path / "report" / "index.html").read_text()


def test_one_group_goes_on_where_all_were(line, tmp_path):
    groups = ["--group", "inversion", "--group", "style"]
    assert CliRunner().invoke(app, [*line, *groups]).exit_code == 0
    parts = list((tmp_path / "runs").glob("tasks-inversion-*/parts/inversion/*.json"))
    before = {path: path.stat().st_mtime_ns for path in parts}
    done = CliRunner().invoke(app, [*line, "--group", "inversion"])
    assert done.exit_code == 0, done.output
    assert before
    assert before == {path: path.stat().st_mtime_ns for path in parts}
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert {row["row"].split("/")[0] for row in rows} == {"inversion"}


def test_an_unknown_group_is_refused_before_anything_loads(line):
    refused = CliRunner().invoke(app, [*line, "--base", "nowhere", "--group", "cooking"])
    assert "no group 'cooking' of tasks" in str(refused.exception)


def test_a_second_base_is_for_compositions(line):
    refused = CliRunner().invoke(app, [*line, "--other-base", "x", "--group", "style"])
    assert "--other-base is of composition and steps alone" in str(refused.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--group=editing", "--adapter=depth=x"),
            "--adapter depth: no chosen group takes it, but none; choose .*robustness",
        ),
        (("--group=layout", "--adapter=dpeth=x"), "dpeth: .*, but segmentation, .*; drop it"),
        (("--group=inversion", "--group=robustness", "--adapter=depth=nowhere"), "nowhere"),
        (("--group=inversion", "--group=composition", "--other-base=nowhere"), "nowhere"),
    ],
)
def test_what_a_group_lacks_is_told_before_any_is_measured(line, options, message, tmp_path):
    refused = CliRunner().invoke(app, [*line, *options])
    with pytest.raises(ValueError, match=message):
        raise refused.exception
    assert not (tmp_path / "runs").exists()


def test_a_group_is_measured_on_its_own_base(line, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "EMBEDDED", tmp_path / "nothing")
    at = line.index("--base")
    for group, base in (("restoration", "mini-pixel"), ("style", "mini")):
        told = [*line[:at], *line[at + 2 :], "--group", group]
        assert f"'{base}'" in str(CliRunner().invoke(app, told).exception)


def test_adapters_that_a_group_can_do_without(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "EMBEDDED", tmp_path)
    assert _taken(layout.LAYOUT, "mini", None) == ["none"]
    (tmp_path / "adapters" / "segmentation").mkdir(parents=True)
    assert _taken(layout.LAYOUT, "mini", None) == ["segmentation"]
    (tmp_path / "adapters" / "migc").mkdir()
    assert _taken(layout.LAYOUT, "mini", None) == ["segmentation", "migc"]
    assert adapters_of(layout.LAYOUT.study, ["segmentation", "migc=m"]) == {
        "segmentation": "segmentation",
        "migc": "m",
    }
    assert _taken(layout.LAYOUT, "another", None) == ["none"]  # they are mini's
    assert _taken(composition.COMPOSITION, "mini", None) == ["segmentation"]
    assert _taken(editing.EDITING, "mini", None) == ["none"]
    assert _taken(style.STYLE, "mini", None) == ["none"]
    asked = ["depth=a", "segmentation=b"]
    assert _taken(layout.LAYOUT, "another", asked) == ["segmentation=b"]
    assert _taken(style.STYLE, "mini", asked) == ["depth=a"]
    assert _taken(composition.COMPOSITION, "mini", asked) == ["segmentation=b"]
    assert _taken(editing.EDITING, "mini", asked) == ["none"]
