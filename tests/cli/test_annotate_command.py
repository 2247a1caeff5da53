"""`unicond annotate` on real photographs."""

import json

import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from unicond.cli import app

RUNNER = CliRunner()


@pytest.fixture
def photos(tmp_path):
    for name in ("astronaut", "chelsea"):
        Image.fromarray(getattr(skimage.data, name)()[:64, :96]).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    return tmp_path


def test_annotate_then_check(photos):
    asked = ["annotate", str(photos), "--condition", "softedge", "--device", "cpu"]
    first = RUNNER.invoke(app, asked)
    assert first.exit_code == 0, first.output
    assert "2 pictures annotated, 0 were there, 1 skipped" in first.output
    assert "broken.jpg" in first.output
    again = RUNNER.invoke(app, asked)
    assert "0 pictures annotated, 2 were there, 1 skipped" in again.output
    anew = RUNNER.invoke(app, [*asked, "--overwrite", "--batch", "1"])
    assert "2 pictures annotated, 0 were there" in anew.output
    lines = [json.loads(line) for line in (photos / "metadata.jsonl").read_text().splitlines()]
    assert [line["file_name"] for line in lines] == ["astronaut.png", "chelsea.png"]
    checked = RUNNER.invoke(app, ["data", "check", str(photos)])
    assert checked.exit_code == 0, checked.output
    assert "2 rows with softedge" in checked.output


def test_it_says_what_changed_and_what_is_gone(photos):
    Image.fromarray(skimage.data.coffee()[:64, :96]).save(photos / "coffee.png")
    asked = ["annotate", str(photos), "--device", "cpu", "--condition"]
    RUNNER.invoke(app, [*asked, "softedge"])
    (photos / "astronaut.png").unlink()
    (photos / "coffee.png").replace(photos / "chelsea.png")
    again = RUNNER.invoke(app, [*asked, "softedge"]).output
    assert "changed since they were annotated, and made anew: chelsea.png (1)" in again
    assert "not there any more, and their lines removed: astronaut.png, coffee.png (2)" in again
    assert "1 pictures annotated, 0 were there, 1 skipped" in again
    lines = [json.loads(line) for line in (photos / "metadata.jsonl").read_text().splitlines()]
    assert [line["file_name"] for line in lines] == ["chelsea.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing is asked for"),
        (["--condition", "colour"], "'colour' cannot be made of a picture"),
        (["--condition", "softedge", "--model", "softedge"], "not of the form CONDITION=MODEL"),
        (["--condition", "softedge", "--model", "depth=x/y"], "a model for 'depth' is given"),
        (["--caption", "--model", "caption=/nowhere/at/all"], "no model for captions"),
    ],
)
def test_bad_options_say_what_to_do(photos, options, message):
    refused = RUNNER.invoke(app, ["annotate", str(photos), *options])
    assert isinstance(refused.exception, ValueError)
    assert message in str(refused.exception)
