"""`unicond table tasks` as it is typed."""

import json

import pytest
import torch
from typer.testing import CliRunner

from unicond.cli.table import app
from unicond.evaluation.probes import Probe, ProbeConfig
from unicond.evaluation.tasks import editing, inversion
from unicond.evaluation.tasks.inversion import Way


@pytest.fixture
def line(tiny_base, tmp_path, monkeypatch):
    """The command on one scene, with few methods."""
    monkeypatch.setattr(editing, "METHODS", ("sdedit",))
    monkeypatch.setattr(inversion, "STEPS", (2,))
    monkeypatch.setattr(inversion, "INVERSIONS", ("direct",))
    monkeypatch.setattr(inversion, "WAYS", tuple(Way("direct", 2, g) for g in (1.0, 7.5)))
    torch.manual_seed(0)
    Probe(ProbeConfig(widths=(4, 4, 8))).save_pretrained(tmp_path / "probes")
    return [
        *("tasks", "--base", str(tiny_base), "--device", "cpu", "--steps", "2"),
        *("--probes", str(tmp_path / "probes"), "--out", str(tmp_path / "runs")),
        *("--scenes", "1", "--seed", "5", "--report", str(tmp_path / "report")),
        *("--guidance", "2.5", "--json", str(tmp_path / "t.json")),
    ]


def test_all_groups_are_one_table_and_a_page_each(line, tmp_path):
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "t.json").read_text())
    names = [row["row"] for row in data["rows"]]
    assert {"editing/recolour/sdedit", "inversion/2-7.5/direct"} < set(names)
    assert all({"seconds", "calls"} <= row["metrics"].keys() for row in data["rows"])
    assert (data["seed"], data["scenes"]) == (5, 1)
    assert "guidance=2.5" in data["settings"]["generation"]
    for group in ("editing", "inversion"):
        assert (tmp_path / "report" / group / "index.html").is_file()
        assert json.loads((tmp_path / "report" / group / "table.json").read_text())["rows"]
    assert "inversion/index.html" in (tmp_path / "report" / "index.html").read_text()


def test_one_group_goes_on_where_all_were(line, tmp_path):
    assert CliRunner().invoke(app, line).exit_code == 0
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
