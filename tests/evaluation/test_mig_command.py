"""`unicond evaluate mig` as it is typed."""

import json

import pytest
from drawn_mig import LEFT, LEVELS, RIGHT, paint, save_bench
from typer.testing import CliRunner

from unicond.cli import app
from unicond.evaluation.mig.layouters import check_method
from unicond.pictures.reading import to_pil


@pytest.fixture
def run(grounding, tmp_path):
    bench = save_bench(tmp_path / "bench.json")
    networks = [f"--{part}={grounding / part}" for part in ("detector", "segmenter")]
    line = ["evaluate", "mig", f"--bench={bench}", f"--out={tmp_path / 'runs'}", "--device=cpu"]

    def invoke(*options):
        return CliRunner().invoke(app, [*line, *networks, *options])

    return invoke


def test_pictures_are_made_scored_and_can_be_scored_again(run, tiny_base, tmp_path):
    making = (f"--base={tiny_base}", "--entries=2", "--per-entry=2", "--steps=1", "--seed=5")
    done = run(*making, f"--json={tmp_path / 'made.json'}")
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "made.json").read_text())
    assert (data["seed"], data["scenes"]) == (5, 2)
    assert data["settings"]["pictures"] == "4"
    assert "detector" in data["settings"]["detector"]
    (row,) = data["rows"]
    assert row["row"] == "text"
    assert {"success", "miou", "image_success", "success_l2", "miou_l2"} < row["metrics"].keys()
    assert "success" in row["intervals"]
    assert "success" in done.stdout
    (made,) = (tmp_path / "runs").glob("mig-*/images")
    again = run(f"--images={made}", "--entries=2", f"--json={tmp_path / 'scored.json'}")
    assert again.exit_code == 0, again.output
    (scored,) = json.loads((tmp_path / "scored.json").read_text())["rows"]
    del row["metrics"]["seconds"]
    assert scored == {**row, "row": "images"}


def test_models_that_are_told_of_boxes(run, tiny_base, grounders, tmp_path):
    adapters = [f"--adapter={name}={folder}" for name, folder in grounders.items()]
    making = (f"--base={tiny_base}", "--entries=1", "--steps=4", f"--json={tmp_path / 'm.json'}")
    done = run(*making, *adapters, "--method=interact+migc")
    assert done.exit_code == 0, done.output
    data = json.loads((tmp_path / "m.json").read_text())
    assert [row["row"] for row in data["rows"]] == ["interact+migc"]
    assert "mix=released" in data["settings"]["generation"]
    assert "solver=ddim" in data["settings"]["generation"]
    assert "adapter migc" in data["settings"]


def test_a_missing_adapter_is_named():
    with pytest.raises(ValueError, match="migc needs the adapter migc: give --adapter migc=WHERE"):
        check_method("migc", [])


def test_bad_input_is_refused_before_networks_are_loaded(run, tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    to_pil(paint([(LEFT, LEVELS["red"]), (RIGHT, LEVELS["blue"])])).save(folder / "x_0.png")
    late = "--detector=/none"
    for options, message in (
        ((f"--images={folder}",), "2 of 3 entries have no picture: 074711_1.png; 000009_2.png"),
        (
            (f"--images={folder}", "--base=mini", "--per-entry=2", "--steps=3"),
            "none are made: drop --base, --per-entry, --steps, or --images",
        ),
        ((f"--bench={tmp_path / 'none.json'}",), "none.json cannot be read"),
        (("--method=boxes",), "--method 'boxes' is not one of text, gligen, interact, migc"),
        ((f"--images={folder}", "--method=migc"), "none are made: drop --method, or --images"),
        (("--solver=bogus",), "solver 'bogus' is not known; known: ddim"),
        (("--entries=4",), "has 3 entries; 4 are asked for"),
        ((f"--out={tmp_path / 'bench.json'}",), "is a file; choose another folder"),
        ((), "no model for finding things can be loaded from /none"),
    ):
        refused = run(late, *options)
        assert isinstance(refused.exception, ValueError), options
        assert message in str(refused.exception)
    assert run("--entries=0").exit_code == 2
    assert run("--per-entry=101").exit_code == 2
