"""`unicond layout`: from options to what the task is asked for, and what is written."""

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from unicond.cli import layout
from unicond.output import read_record
from unicond.pictures.metadata import write_png

RUNNER = CliRunner()
BALL = "a red ball@0.1,0.3,0.4,0.9"


@pytest.fixture
def run(tiny_base, tmp_path, monkeypatch):
    """Run the command in an empty folder, on the tiny base."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command("layout")(layout.layout)

    def call(*arguments):
        return RUNNER.invoke(app, [*map(str, arguments), "--base", str(tiny_base), "--steps", "2"])

    return call


def test_boxes_are_drawn_beside_what_was_made(run, tmp_path):
    options = ["--method", "layout", "--scale", "10", "--seed", "3", "--size", "64x96"]
    made = run("a red ball and a box", "--box", BALL, "--box", "a box@0.5,0,1,1", *options)
    assert made.exit_code == 0, made.output
    assert made.stdout.split() == ["out/layout/3_image.png", "out/layout/3_before.png"]
    assert Image.open(tmp_path / "out/layout/3_before.png").size == (96, 64)
    task = read_record(tmp_path / "out/layout/3_image.png").task
    assert task["boxes"] == [["a red ball", 0.1, 0.3, 0.4, 0.9], ["a box", 0.5, 0.0, 1.0, 1.0]]
    assert (task["method"], task["scale"]) == ("layout", 10.0)


def test_adapters_follow_from_what_is_given():
    assert layout.adapters_for(None, []) == ["none"]
    assert layout.adapters_for(None, ["depth_metric", "pose"]) == ["depth-metric", "pose"]
    assert layout.adapters_for(["x"], ["pose"]) == ["x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box", "a ball"], "--box 'a ball' is not PHRASE@LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "a ball@0,0,1"], "is not PHRASE@LEFT,TOP,RIGHT,BOTTOM"),
        (["--box", "a ball@0,0,1,all"], "--box: 'all' is not a number"),
        (["--box", "a ball@0,0,1,2"], "leaves the picture"),
        (["--box", BALL, "--method", "layout"], "'a red ball' not in the prompt 'a meadow'"),
        (["--box", BALL, "--method", "segmentation"], "no adapter 'segmentation'"),
        (["--box", BALL, "--size", "wide"], "--size 'wide' is not SIDE or HEIGHTxWIDTH"),
    ],
)
def test_bad_options_are_one_line(run, arguments, message):
    refused = run("a meadow", *arguments)
    assert isinstance(refused.exception, ValueError)
    assert message in str(refused.exception)


def test_a_depth_map_needs_its_adapter(run, tmp_path):
    write_png(torch.linspace(-1, 1, 64).expand(3, 64, 64), tmp_path / "depth.png", {})
    refused = run("a meadow", "--box", BALL, "--depth", "depth.png", "--adapter", "none")
    assert "no branch 'depth' in this model" in str(refused.exception)
