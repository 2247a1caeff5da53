"""`unicond table` as it is typed."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from unicond.cli.table import NAMES, adapters_of, app
from unicond.evaluation.probes import Probe, ProbeConfig
from unicond.evaluation.studies import STUDIES

ADAPTER = Path(__file__).parents[1] / "golden" / "unicon" / "weights" / "depth"


@pytest.fixture
def options(tiny_base, tmp_path):
    torch.manual_seed(0)
    Probe(ProbeConfig(widths=(4, 4, 8))).save_pretrained(tmp_path / "probes")
    return [
        *("--base", str(tiny_base), "--device", "cpu", "--steps", "2"),
        *("--probes", str(tmp_path / "probes"), "--out", str(tmp_path / "runs")),
        *("--scenes", "1", "--batch", "1", "--seed", "5"),
    ]


def test_a_table_is_printed_and_saved(options, tmp_path):
    wanted = tmp_path / "new" / "t.json"
    line = ["steps", *options, "--adapter", f"depth={ADAPTER}", "--json", str(wanted)]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    data = json.loads(wanted.read_text())
    assert [row["row"] for row in data["rows"]][:2] == ["depth/steps_1", "depth/steps_2"]
    assert (data["seed"], data["scenes"]) == (5, 1)
    assert "steps=2" in data["settings"]["generation"]
    assert "adapter depth" in data["settings"]
    assert "depth/steps_20" in done.stdout
    assert list((tmp_path / "runs").glob("steps-*/plot.png"))


def test_styles_compare_two_bases(options, tiny_base, tmp_path):
    line = ["styles", *options, "--adapter", f"depth={ADAPTER}", "--json", str(tmp_path / "t.json")]
    refused = CliRunner().invoke(app, line)
    assert "give the second by --other-base" in str(refused.exception)
    done = CliRunner().invoke(app, [*line, "--other-base", str(tiny_base), "--other-style", "toon"])
    assert done.exit_code == 0, done.output
    settings = json.loads((tmp_path / "t.json").read_text())["settings"]
    assert settings["other style"] == "toon"
    assert settings["other adapter depth"] == settings["adapter depth"]
    refused = CliRunner().invoke(app, [*line, "--other-base", "x", "--other-style", "wavy"])
    assert isinstance(refused.exception, ValueError)


def test_missing_adapters_are_named_before_anything_loads(options, tmp_path, monkeypatch):
    for place in ("unicond.backbones.files", "unicond.adapter_loading"):
        monkeypatch.setattr(f"{place}.EMBEDDED", tmp_path)  # where nothing ships
    line = ["company", *options, "--base", "nowhere", "--adapter", f"depth={ADAPTER}"]
    refused = CliRunner().invoke(app, line)
    assert isinstance(refused.exception, ValueError)
    assert "table company needs the adapters" in str(refused.exception)
    assert "--condition pose" in str(refused.exception)
    refused = CliRunner().invoke(app, ["held", *options, "--adapter", str(ADAPTER)])
    assert isinstance(refused.exception, ValueError)
    assert "is not known; choose one of depth" in str(refused.exception)


def test_every_study_has_a_command():
    listed = CliRunner().invoke(app, ["--help"]).output
    assert list(NAMES) == [study.name for study in STUDIES]
    assert all(f" {name} " in listed for name in NAMES)


def test_what_is_named_is_taken():
    held = next(study for study in STUDIES if study.name == "held")
    assert adapters_of(held, ["depth-metric=here/a=b"]) == {"depth_metric": "here/a=b"}
    assert adapters_of(held, ["depth", "pose=there"]) == {"depth": "depth", "pose": "there"}
    with pytest.raises(ValueError, match="--adapter gives 'depth' twice"):
        adapters_of(held, ["depth", "depth=there"])
