"""`unicond evaluate` as it is typed."""

import json
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from unicond.adapters.joint import JointAdapter
from unicond.cli.evaluate import _under, app
from unicond.conditions import NAMES, named
from unicond.evaluation.condition_table import row_plans
from unicond.evaluation.probes import Probe, ProbeConfig
from unicond.evaluation.subject import Sampling

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
    plans = row_plans(named("depth"), JointAdapter.from_pretrained(ADAPTER).config)
    assert [row["row"] for row in data["rows"]] == [plan.name for plan in plans]
    assert data["rows"][0]["intervals"].keys() < data["rows"][0]["metrics"].keys()
    assert (data["seed"], data["scenes"]) == (5, 2)
    assert "steps=1" in data["settings"]["generation"]
    assert "depth_to_image" in done.stdout
    assert list((tmp_path / "runs").glob("depth-*/sheet.png"))


def test_half_precision_is_asked_for_and_told(options, tmp_path):
    line = ["depth", "--scenes", "2", "--batch", "2", "--steps", "1", "--dtype"]
    done = CliRunner().invoke(
        app, [*line, "bfloat16", *options, "--json", str(tmp_path / "t.json")]
    )
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "t.json").read_text())["settings"]["dtype"] == "bfloat16"
    refused = CliRunner().invoke(app, [*line, "half", *options])
    assert "--dtype 'half' is not one of float32, bfloat16" in str(refused.exception)


def test_every_condition_has_a_command():
    listed = CliRunner().invoke(app, ["--help"]).output
    assert all(f" {name} " in listed for name in NAMES)


def test_named_settings_give_way_to_options(options):
    refused = CliRunner().invoke(app, ["depth", "--setting", "mine", *options])
    assert isinstance(refused.exception, ValueError)
    assert "--setting 'mine' is not one of default, paper" in str(refused.exception)
    under = _under("paper", Sampling(steps=3))
    assert (under.generation.steps, under.generation.eta) == (3, 1.0)
    assert under.estimation.steps == 20


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--solver", "bogus"), "solver 'bogus' is not known; known: ddim"),
        (("--setting", "paper", "--solver", "heun"), "--setting paper: eta is the 'ddim' solver's"),
    ],
)
def test_a_solver_is_looked_up_before_anything_loads(options, wrong, message, tmp_path):
    refused = CliRunner().invoke(app, ["depth", *options, *wrong, "--base", "nowhere"])
    assert message in str(refused.exception)
    assert not (tmp_path / "runs").exists()


def test_an_adapter_of_the_condition_is_asked_for(options, grounders):
    run, grounder = CliRunner().invoke, next(iter(grounders.values()))
    for adapter, message in (
        (ADAPTER, f"--adapter {ADAPTER}: it shows 'depth', but pose is measured by an adapter"),
        (f"pose={ADAPTER}", "it shows 'depth', but pose is measured by an adapter of kind 'pose'"),
        (grounder, "no condition has it, but pose is measured by an adapter of kind 'pose'"),
        ("none", "--adapter none: no condition has it"),
    ):
        for line in (["pose"], ["settings", "--condition", "pose"]):
            done = run(app, [*line, *options, "--adapter", str(adapter)])
            assert isinstance(done.exception, ValueError)
            assert message in str(done.exception)


def test_its_branch_may_have_a_name_of_its_own(options):
    line = ["depth", "--scenes", "1", "--batch", "1", "--steps", "1", *options]
    done = CliRunner().invoke(app, [*line, "--adapter", f"mine={ADAPTER}"])
    assert done.exit_code == 0, done.output
    assert "image_to_depth" in done.stdout


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
    places = {
        ("--out", tmp_path / "file"): "is a file; choose another folder",
        ("--out", Path("/proc/none")): "cannot write to the output folder /proc/none",
        ("--json", tmp_path / "file" / "t.json"): "is a file; choose another folder",
        ("--json", tmp_path): "is a folder; give a file, as",
    }
    for (flag, place), message in places.items():
        done = run(app, ["depth", *options, flag, str(place)])
        assert isinstance(done.exception, ValueError)
        assert message in str(done.exception)
