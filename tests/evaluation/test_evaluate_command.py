"""`unicond evaluate` as it is typed."""

import json
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from unicond.cli.evaluate import app
from unicond.evaluation.depth import ROWS
from unicond.evaluation.probes import Probe, ProbeConfig

ADAPTER = Path(__file__).parents[1] / "golden" / "unicon" / "weights" / "depth"


@pytest.fixture
def options(tiny_base, tmp_path):
    torch.manual_seed(0)
    Probe(ProbeConfig(widths=(4, 4, 8))).save_pretrained(tmp_path / "probes")
    return [
        *("--base", str(tiny_base), "--adapter", str(ADAPTER), "--device", "cpu"),
        *("--probes", str(tmp_path / "probes"), "--out", str(tmp_path / "runs")),
    ]


def test_depth_prints_and_saves_its_table(options, tmp_path):
    line = ["depth", "--scenes", "2", "--batch", "2", "--seed", "5", "--steps", "1"]
    done = CliRunner().invoke(app, [*line, "--json", str(tmp_path / "new" / "t.json"), *options])
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "new" / "t.json").read_text())
    assert [row["row"] for row in data["rows"]] == [name for name, _, _ in ROWS]
    assert (data["seed"], data["scenes"]) == (5, 2)
    assert "steps=1" in data["settings"]["generation"]
    assert "depth_to_image" in done.stdout
    assert list((tmp_path / "runs").glob("depth-*/sheet.png"))


@pytest.mark.slow
def test_settings_says_what_is_best(options):
    done = CliRunner().invoke(app, ["settings", "--scenes", "1", "--batch", "1", *options])
    assert done.exit_code == 0, done.output
    assert re.search(r"best generation: steps=\d+ solver=\w+ guidance=", done.stdout)
    assert re.search(r"best estimation: steps=\d+ solver=\w+ noise=", done.stdout)


def test_bad_options_are_refused_before_anything_runs(options, tmp_path):
    run = CliRunner().invoke
    assert run(app, ["depth", "--scenes", "0", *options]).exit_code == 2
    assert run(app, ["depth", "--seed", "10000", *options]).exit_code == 2
    done = run(app, ["depth", *options, "--probes", str(tmp_path / "none")])
    assert isinstance(done.exception, ValueError)
    assert "holds no probe" in str(done.exception)
    (tmp_path / "file").write_text("")
    done = run(app, ["depth", *options, "--out", str(tmp_path / "file")])
    assert isinstance(done.exception, OSError)
