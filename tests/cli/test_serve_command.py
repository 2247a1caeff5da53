"""`unicond serve` before it serves: what it refuses, and the keys of its clients."""

import dataclasses
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from unicond.cli import app
from unicond.cli.serve import _models
from unicond.studio.keys import hashed, read_keys
from unicond.studio.settings import Limits, Served, limits_of

RUNNER = CliRunner()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "reached from other machines, and no keys are asked for"),
        (["--new-key", "ann"], "name it by --api-key-file"),
        (["--dtype", "int3"], "--dtype 'int3' is not one of"),
        (["--more", "pixel"], "is not of the form NAME=VALUE"),
        (["--more", "mini=mini-pixel"], "there is a model of that name already"),
        (["--limit", "steps"], "--limit 'steps' is not of the form NAME=VALUE"),
        (["--limit", "depth=3"], "there is no limit 'depth'; there are body, body_seconds"),
        (["--limit", "steps=many"], "the limit steps=many: Input should be a valid integer"),
        (["--limit", "rate=0"], "the limit rate is to be above 0"),
        (["--limit", "steps=-1"], "the limit steps is to be at least 0"),
        (["--limit", "aspect=nan"], "the limit aspect is to be at least 0"),
        (["--limit", "rate=nan"], "the limit rate is to be above 0"),
        (["--workers", "2"], "--workers is of --engine ray"),
        (["--adapter", "depth", "--adapter", "b=depth"], "give all as BRANCH=ADAPTER, or none"),
        (["--adapter", "d=one", "--adapter", "d=two"], "--adapter gives 'd' twice"),
    ],
)
def test_what_is_refused(tmp_path, options, message):
    result = RUNNER.invoke(app, ["serve", "--data", str(tmp_path / "data"), *options])
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)
    assert not (tmp_path / "data").exists()


def test_keys_are_shown_once_and_kept_as_hashes(tmp_path):
    path = tmp_path / "keys"
    shown = [
        RUNNER.invoke(app, ["serve", "--api-key-file", str(path), "--new-key", name]).stdout.strip()
        for name in ("ann", "bob")
    ]
    assert read_keys(path) == {"ann": hashed(shown[0]), "bob": hashed(shown[1])}
    again = RUNNER.invoke(app, ["serve", "--api-key-file", str(path), "--new-key", "ann"])
    assert "has a key of 'ann'" in str(again.exception)
    path.write_text("ann plain-key\n")
    result = RUNNER.invoke(app, ["serve", "--api-key-file", str(path)])
    assert "line 1 of" in str(result.exception)


def test_models_by_their_names():
    found = _models("mini", None, ["pixel=mini-pixel"], "auto")
    assert found == {
        "mini": Served(base="mini", adapters=("depth",)),
        "pixel": Served(base="mini-pixel"),
    }
    (name,) = _models("somewhere/tiny", ["none"], [], "float32")
    assert name == "tiny"


def test_limits_are_set_by_their_names():
    """Each of them, one beside the others, which stay as they are."""
    for one in dataclasses.fields(Limits):
        found = limits_of([("steps", "50"), (one.name, "7")])
        assert found == dataclasses.replace(Limits(steps=50), **{one.name: 7})
    assert limits_of([("body_seconds", "0.5")]).body_seconds == 0.5
    assert limits_of([]) == Limits()


@pytest.mark.slow
def test_models_that_are_not_there_end_it(tmp_path):
    command = ["-m", "unicond", "serve", "--base", "nothing-here", "--port", "0"]
    ended = subprocess.run(
        [sys.executable, *command, "--data", str(tmp_path)], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert "the models cannot be loaded: there is no folder 'nothing-here'" in ended.stderr
