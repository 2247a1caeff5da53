"""`unicond layout`: from options to what the task is asked for, and what is written."""

import json

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from unicond.calls.output import read_record
from unicond.cli import layout
from unicond.pictures.metadata import write_png
from unicond.tasks.layout import GROUNDED

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


def test_the_prompt_is_an_option_too(run, tmp_path):
    made = run("--prompt", "a red ball", "--box", BALL)
    assert made.exit_code == 0, made.output
    assert read_record(tmp_path / "out/layout/0_image.png").task["prompt"] == "a red ball"
    for asked in ((), ("a red ball", "--prompt", "a box")):
        refused = run(*asked, "--box", BALL)
        assert "give what the picture shows once" in str(refused.exception)


def test_a_preview_needs_no_prompt(run, tmp_path):
    made = run("--preview", "--box", BALL)
    assert made.exit_code == 0, made.output
    assert (tmp_path / "out/layout/preview.png").is_file()


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
        (["--box", "a ball@0,0,1,2"], "the box of 'a ball' is (0.0, 0.0, 1.0, 2.0)"),
        (["--box", BALL, "--method", "layout"], "'a red ball' not in the prompt 'a meadow'"),
        (["--box", BALL, "--method", "segmentation"], "made for another network (mini@"),
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


WAVE = {
    "boxes": [
        {"phrase": "a person", "box": [0.05, 0.2, 0.4, 0.95]},
        {"phrase": "a blue ball", "box": [0.6, 0.6, 0.9, 0.9]},
    ],
    "interactions": [{"subject": "a person", "action": "pushing", "object": "a blue ball"}],
    "beta": 0.5,
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(WAVE))
    return path


def test_a_preview_draws_what_was_understood_without_a_model(run, tmp_path, file):
    made = run("a person pushing a ball", "--boxes", file, "--preview", "--base", "nowhere")
    assert made.exit_code == 0, made.output
    assert made.stdout.split() == ["out/layout/preview.png"]
    drawn = np.asarray(Image.open(tmp_path / "out/layout/preview.png").convert("RGB"), np.int16)
    assert drawn.shape == (512, 512, 3)
    blue = (drawn[..., 2] - drawn[..., 0] > 100).nonzero()
    box = [blue[1].min(), blue[0].min(), blue[1].max(), blue[0].max()]
    assert np.abs(np.array(box) / 512 - WAVE["boxes"][1]["box"]).max() < 0.01
    between = drawn[int(0.66 * 512), int(0.42 * 512) : int(0.58 * 512)]
    assert (between.min(-1) < 128).any()  # the arrow crosses the gap


def test_the_schema_is_that_of_the_file(run, file):
    made = run("--schema")
    assert made.exit_code == 0
    assert {"boxes", "interactions"} <= json.loads(made.stdout)["properties"].keys()


def test_an_adapter_is_told_the_file(run, tmp_path, file, grounders):
    options = ["--boxes", file, "--method", "interact", "--scale", "0.5", "--seed", "3"]
    made = run("a person", *options, "--adapter", f"interact={grounders['interact']}")
    assert made.exit_code == 0, made.output
    record = read_record(tmp_path / "out/layout/3_image.png")
    (said,) = record.grounding
    assert (said.beta, said.scale, said.interactions[0].action) == (0.5, 0.5, "pushing")
    assert record.adapters == {"interact": str(grounders["interact"])}


@pytest.mark.filterwarnings("ignore:method .* takes no interactions")
@pytest.mark.parametrize("method", GROUNDED)
def test_a_depth_map_beside_the_file(run, tmp_path, file, grounders, tiny, method):
    write_png(torch.linspace(-1, 1, 64).expand(3, 64, 64), tmp_path / "depth.png", {})
    depth = f"depth={tiny.adapters['depth'].source}"
    options = ["--boxes", file, "--method", method, "--size", "64x64"]
    options += ["--adapter", f"{method}={grounders[method]}", "--adapter", depth]
    pictures = []
    for out, more in (("both", ["--depth", "depth.png"]), ("boxes", [])):
        made = run("a person", *options, *more, "--out", out)
        assert made.exit_code == 0, made.output
        record = read_record(tmp_path / out / "0_image.png")
        assert record.adapters.keys() == {method, *(["depth"] if more else [])}
        pictures.append(np.asarray(Image.open(tmp_path / out / "0_image.png")))
    assert not np.array_equal(*pictures)


def test_boxes_are_said_once(run, file):
    made = run("a person", "--boxes", file, "--box", BALL)
    assert isinstance(made.exception, ValueError)
    assert "give one of them" in str(made.exception)
