"""`unicond table ablation` as it is typed: trained, measured, gone on with."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from unicond.adapters.joint import JointAdapter
from unicond.backbones.files import EMBEDDED
from unicond.cli.table import app
from unicond.data import renders
from unicond.data.folders import fingerprint
from unicond.evaluation.probes import Probe, ProbeConfig


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny_base):
    """A folder with a base, whose weights need no training here."""
    folder = tmp_path_factory.mktemp("ablation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(renders, "SHARD", 8)
        shutil.copytree(tiny_base, folder / "weights" / "mini")
        torch.manual_seed(0)
        Probe(ProbeConfig(widths=(4, 4, 8))).save_pretrained(folder / "probes")
        yield folder


def test_runs_are_trained_and_measured(root):
    line = [
        *("ablation", "--preset", "tiny", "--weights", str(root / "weights")),
        *("--runs", str(root / "runs"), "--probes", str(root / "probes"), "--device", "cpu"),
        *("--scenes", "1", "--batch", "1", "--out", str(root / "table"), "--train-steps", "2"),
        *("--train-scenes", "16", "--only", "decoder", "--only", "data_1_4_no_condition_loss"),
        *("--steps", "2", "--json", str(root / "t.json")),
    ]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    rows = {row["row"]: row["metrics"] for row in json.loads((root / "t.json").read_text())["rows"]}
    lossless = "data_1_4_no_condition_loss"
    names = ["full", "decoder", lossless]
    assert list(rows) == [*names, "probe_reconstruction", "text_only"]
    assert rows["full"]["ratio_to_full"] == 1
    assert (rows[lossless]["data"], rows[lossless]["steps"]) == (1 / 4, 1)
    assert "abs_rel_estimated" in rows["decoder"]
    assert "abs_rel_estimated" not in rows[lossless]
    [plot] = (root / "table").glob("ablation-*/plot.png")
    assert plot.read_bytes()[:4] == b"\x89PNG"
    made = root / "runs" / "ablated" / "depth"
    weights = {name: JointAdapter.from_pretrained(made / name).state_dict() for name in names}
    encoder = [n for n in weights["full"] if n.startswith("down_") and "joint.proj_out" in n]
    assert encoder
    assert any(weights["full"][name].any() for name in encoder)
    assert not any(weights["decoder"][name].any() for name in encoder)
    before = {path: path.stat().st_mtime_ns for path in made.rglob("card.json")}
    again = CliRunner().invoke(app, line)  # everything is up to date, and read
    assert again.exit_code == 0, again.output
    assert before == {path: path.stat().st_mtime_ns for path in made.rglob("card.json")}
    same = {row["row"]: row["metrics"] for row in json.loads((root / "t.json").read_text())["rows"]}
    assert same == rows


@pytest.mark.slow
def test_the_base_that_ships_is_taken_where_none_was_trained(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = [
        *("ablation", "--preset", "tiny", "--probes", str(root / "probes"), "--device", "cpu"),
        *("--train-steps", "1", "--train-scenes", "8", "--only", "full"),
        *("--scenes", "1", "--batch", "1", "--steps", "1"),
    ]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    made = JointAdapter.from_pretrained(Path("runs") / "ablated" / "depth" / "full")
    assert made.config.base == f"mini@{fingerprint(EMBEDDED / 'mini')}"


def test_what_cannot_be_trained_is_said(root):
    line = ["ablation", "--weights", str(root / "weights"), "--probes", str(root / "probes")]
    both = CliRunner().invoke(app, [*line, "--minutes", "1", "--train-steps", "2"])
    assert "--minutes or --train-steps" in str(both.exception)
    line += ["--out", str(root / "table"), "--runs", str(root / "runs"), "--only", "half"]
    unknown = CliRunner().invoke(app, line)
    assert unknown.exit_code == 2
    nowhere = CliRunner().invoke(app, ["ablation", "--weights", str(root / "none"), *line[3:]])
    assert isinstance(nowhere.exception, ValueError)
