"""`unicond restore` on the tiny base: before and after, and what it asks for."""

from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from unicond.calls.output import read_record
from unicond.cli.restore import restore

APP = typer.Typer()
APP.command()(restore)


@pytest.fixture
def run(tiny_base, tmp_path, monkeypatch):
    """Run it in a folder with a small picture, a whole one and a mask."""
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(values).save("whole.png")
    Image.fromarray(values[:16, :16]).save("small.png")
    mask = np.full((64, 64), 255, np.uint8)
    mask[16:48, 16:48] = 0
    Image.fromarray(mask).save("mask.png")
    usual = ["--base", str(tiny_base), "--steps", "2"]
    return lambda *arguments: CliRunner().invoke(APP, [*map(str, arguments), *usual])


@pytest.mark.parametrize(
    ("arguments", "side"),
    [
        (["small.png", "--operator", "sr4"], 16),
        (["whole.png", "--operator", "sr4", "--simulate", "--method", "ilvr"], 16),
        (["whole.png", "--operator", "mask", "--mask", "mask.png", "--method", "repaint"], 64),
    ],
)
def test_it_writes_before_and_after(run, arguments, side):
    made = run(*arguments, "--noise-std", 0.0023, "--prompt", "a ball")
    assert made.exit_code == 0, made.output
    paths = {Path(line).name: Path(line) for line in made.stdout.split()}
    assert set(paths) == {"0_image.png", "0_before.png"}
    assert Image.open(paths["0_image.png"]).size == (64, 64)
    assert Image.open(paths["0_before.png"]).size == (side, side)
    recorded = read_record(paths["0_image.png"]).task
    assert recorded["name"] == "Restore"
    assert recorded["noise_std"] == 0.0023
    assert recorded["operator"] == arguments[2]


def test_the_noise_level_is_asked_for(run):
    made = run("small.png", "--operator", "sr4")
    assert made.exit_code == 2
    assert "--noise-std" in made.output


def test_it_says_what_does_not_fit(run):
    made = run("whole.png", "--operator", "phase", "--noise-std", 0)
    assert made.exit_code != 0
    assert "simulate=True (--simulate)" in str(made.exception)
