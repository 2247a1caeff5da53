"""`unicond compose`: from options to what the task is asked for, and what is written."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from unicond.calls.output import read_record
from unicond.cli import compose
from unicond.pictures.metadata import write_png

RUNNER = CliRunner()
GOLDEN = Path(__file__).parents[1] / "golden" / "unicon"


@pytest.fixture
def run(tiny_base, tmp_path, monkeypatch):
    """Run the command in an empty folder, on the tiny base."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command("compose")(compose.compose)

    def call(*arguments):
        return RUNNER.invoke(app, [*map(str, arguments), "--base", str(tiny_base), "--steps", "2"])

    return call


def asked(tmp_path):
    """The task inside the picture that was made."""
    return read_record(tmp_path / "out" / "compose" / "0_image.png").task


def test_with_and_without(run, tmp_path):
    options = ["--with", "a red ball=3", "--with", "a box", "--without", "a person"]
    made = run("a meadow", *options, "--seed", "0", "--size", "64x96", "--guidance", "2")
    assert made.exit_code == 0, made.output
    assert made.stdout.split() == ["out/compose/0_image.png"]
    task = asked(tmp_path)
    assert task["texts"] == {"a red ball": 3.0, "a box": 5.0, "a person": -5.0}
    assert (task["size"], task["guidance_scale"]) == ([64, 96], 2.0)


def test_regions_are_boxes_or_masks_of_a_given_picture_under_its_depth(run, tiny_base, tmp_path):
    picture = torch.linspace(-1, 1, 64).expand(3, 64, 64)
    write_png(picture, tmp_path / "photo.png", {})
    write_png(-picture, tmp_path / "depth.png", {})
    write_png(picture.sign(), tmp_path / "mask.png", {})
    depth = tiny_base.parent / "depth"
    shutil.copytree(GOLDEN / "weights" / "depth", depth, dirs_exist_ok=True)
    options = ["--region", "a ball@0,0.5,0.5,1", "--region", "a box@mask.png"]
    more = ["--picture", "photo.png", "--depth", "depth.png", "--adapter", depth]
    made = run(*options, *more)
    assert made.exit_code == 0, made.output
    names = {path.split("/")[-1] for path in made.stdout.split()}
    assert names == {"0_image.png", "0_before.png", "0_before_depth.png"}
    task = asked(tmp_path)
    assert task["method"] == "blended"
    assert task["regions"] == [["a ball", 0.0, 0.5, 0.5, 1.0]]
    assert [task["masks"]["a box"]["path"], task["conditions"]["depth"]["path"]] == [
        "mask.png",
        "depth.png",
    ]
    assert json.loads(json.dumps(task)) == task


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--with", "a ball=much"], "--with: 'much' is not a number"),
        (
            ["--with", "a ball", "--without", "a ball"],
            "'a ball' is in with and in without",
        ),
        (["--with", "a ball", "--with", "a ball=2"], "'a ball' is given twice"),
        (["--without", "a ball=-3"], "has a weight below 0: give it to --with"),
        (["--region", "0,0,1,1"], "is not PHRASE@LEFT,TOP,RIGHT,BOTTOM"),
        (["--region", "a@x.png", "--region", "a@y.png"], "'a' has two masks: draw both"),
        (
            ["--with", "a ball", "--region", "a ball@0,0,1,1"],
            "'multidiffusion' does not use texts",
        ),
        (["--with", "a ball", "--out", "/proc/none"], "/proc/none"),
        (["--with", "a ball", "--give", "pose"], "--give 'pose' is not of the form NAME=VALUE"),
        (["--with", "a ball", "--give", "sketch=there.png"], "no adapter 'sketch'"),
    ],
)
def test_bad_options_are_one_line(run, tmp_path, arguments, message):
    write_png(torch.zeros(3, 64, 64), tmp_path / "there.png", {})
    refused = run(*arguments)
    assert isinstance(refused.exception, ValueError)
    assert message in str(refused.exception)
