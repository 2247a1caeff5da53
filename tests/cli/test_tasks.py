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
    assert names == {"0_image.png", "0_source.png", "0_before.png", "0_before_depth.png"}
    again = RUNNER.invoke(app, ["rerun", "out/0_image.png", "--out", "again"])
    assert again.exit_code == 0, again.output
    one, two = (np.asarray(Image.open(tmp_path / f / "0_image.png")) for f in ("out", "again"))
    assert np.array_equal(one, two)


def test_an_edit_writes_the_picture_of_the_style(run, picture, tmp_path):
    look = tmp_path / "look.png"
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(look)
    asked = ["--prompt", "a ball", "--method", "style_injection", "--style", look, "--steps", "2"]
    made = run("edit", picture, *asked, "--out", "out")
    assert made.exit_code == 0, made.output
    shown = np.asarray(Image.open(tmp_path / "out/0_before_style.png"), np.int16)
    assert np.abs(shown - np.asarray(Image.open(look), np.int16)).max() <= 1
    assert not (tmp_path / "out/0_before_source.png").exists()


def test_generate_follows_a_map_by_a_head(run, tmp_path, head_ships):
    """Shipped or one's own; the map is written beside what was made."""
    Image.radial_gradient("L").resize((64, 64)).save(tmp_path / "map.png")
    asked = ["generate", "--prompt", "a ball", "--depth", "map.png", "--steps", "2"]
    one = run(*asked, "--method", "readout")
    assert one.exit_code == 0, one.output
    assert one.stdout.split() == ["out/0_image.png", "out/0_before_depth.png"]
    own = run(*asked, "--method", "readout", "--head", head_ships, "--out", "own")
    assert own.exit_code == 0, own.output
    first, second = (Image.open(tmp_path / f / "0_image.png") for f in ("out", "own"))
    assert np.array_equal(np.asarray(first), np.asarray(second))
    refused = run(*asked, "--head", head_ships)
    assert "--head is of a readout: drop it, or add --method readout" in str(refused.exception)
    refused = run(*asked[:3], "--give", "pose=map.png", "--method", "readout")
    assert "no readout head 'pose': embedded are depth" in str(refused.exception)


def test_edit_says_what_is_missing(run, picture):
    made = run("edit", picture, "--prompt", "a blue ball", "--method", "direct+p2p")
    assert made.exit_code != 0
    assert "say what the picture shows with source_prompt (--source-prompt)" in str(made.exception)


def test_edit_says_where_an_inversion_did_not_converge(run, picture):
    words = ["--prompt", "a blue ball", "--source-prompt", "a red ball", "--steps", "2"]
    made = run("edit", picture, *words, "--method", "fixed_point", "--out", "out")
    assert made.exit_code == 0, made.output
    assert "FixedPoint: residual" in made.stderr
    assert "is above the tolerance 1.0e-05 (seed 0)" in made.stderr


@pytest.mark.parametrize(
    "line",
    [
        "edit nope.png --prompt x --source-prompt y",
        "edit given.png --prompt x --method style_injection --style nope.png",
        "restore nope.png --operator sr4 --noise-std 0",
        "compose x --region a@nope.png --method multidiffusion",
        "layout x --box a@0,0,1,1 --give pose=nope.png",
        "aggregate x --model depth=nope.png --model text",
        "generate --prompt x --image-prompt nope.png",
    ],
)
def test_a_missing_picture_is_told_before_anything_loads(picture, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = RUNNER.invoke(app, [*line.split(), "--base", "./nofolder"])
    assert "the picture nope.png does not exist" in str(told.exception)
    assert [path.name for path in tmp_path.iterdir()] == [picture.name]


def test_a_base_that_is_not_there_leaves_no_folder(picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = "edit given.png --prompt x --source-prompt y --base ./nofolder --out a/b"
    assert "nofolder" in str(RUNNER.invoke(app, line.split()).exception)
    assert [path.name for path in tmp_path.iterdir()] == [picture.name]
