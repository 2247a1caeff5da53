"""The commands of tasks on the tiny base: before and after, and the same again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from unicond.cli import app

RUNNER = CliRunner()
GOLDEN = Path(__file__).parents[1] / "golden" / "unicon"


@pytest.fixture
def picture(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "given.png"
    Image.fromarray(values).save(path)
    return path


@pytest.fixture
def run(tiny_base, tmp_path, monkeypatch):
    """Run a command in an empty folder, on the tiny base with a depth adapter."""
    monkeypatch.chdir(tmp_path)
    depth = tmp_path / "depth"
    shutil.copytree(GOLDEN / "weights" / "depth", depth)
    usual = ["--base", str(tiny_base), "--adapter", f"depth={depth}"]
    return lambda *arguments: RUNNER.invoke(app, [*map(str, arguments), *usual])


def test_edit_writes_before_and_after_and_can_be_repeated(run, picture, tmp_path):
    words = ["--prompt", "a blue ball", "--source-prompt", "a red ball"]
    made = run("edit", picture, *words, "--keep", "depth", "--steps", "2", "--out", "out")
    assert made.exit_code == 0, made.output
    names = {Path(line).name for line in made.stdout.split()}
    assert names == {"0_image.png", "0_source.png", "0_before.png"}
    again = RUNNER.invoke(app, ["rerun", "out/0_image.png", "--out", "again"])
    assert again.exit_code == 0, again.output
    one, two = (np.asarray(Image.open(tmp_path / f / "0_image.png")) for f in ("out", "again"))
    assert np.array_equal(one, two)


def test_edit_says_what_is_missing(run, picture):
    made = run("edit", picture, "--prompt", "a blue ball")
    assert made.exit_code != 0
    assert "say what the picture shows with source_prompt (--source-prompt)" in str(made.exception)


def test_edit_says_where_an_inversion_did_not_converge(run, picture):
    words = ["--prompt", "a blue ball", "--source-prompt", "a red ball", "--steps", "2"]
    made = run("edit", picture, *words, "--method", "fixed_point", "--out", "out")
    assert made.exit_code == 0, made.output
    assert "FixedPoint: residual" in made.stderr
    assert "is above the tolerance 1.0e-05 (seed 0)" in made.stderr
