"""The examples stay alive: each draws its sheet by public names alone, on a tiny random model."""

import ast
import importlib
import runpy
from pathlib import Path

import pytest
from examples.__main__ import NAMES

import unicond
from unicond.adapters.config import JointConfig
from unicond.adapters.joint import JointAdapter
from unicond.pictures import sheet

FOLDER = Path(__file__).parents[1] / "examples"
LONGEST = 60


def test_all_are_run():
    files = {path.stem for path in FOLDER.glob("*.py")}
    assert files - {"__init__", "__main__"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_short_and_uses_public_names(name):
    """What it takes of ours is in `__all__` of its module."""
    text = (FOLDER / f"{name}.py").read_text()
    assert len(text.splitlines()) <= LONGEST
    tree = ast.parse(text)
    assert f"python -m examples --only {name}" in ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "unicond":
            public = importlib.import_module(node.module).__all__
            assert {alias.name for alias in node.names} <= set(public)
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")
            if isinstance(node.value, ast.Name) and node.value.id == "unicond":
                assert node.attr in importlib.import_module("unicond").__all__


@pytest.fixture(scope="module")
def posed(tiny_base, tmp_path_factory):
    """The tiny base with adapters of depth and pose."""
    model = unicond.load(tiny_base)
    config = JointConfig(y="pose", kind="pose", rank=2, post_joint="conv_fuse")
    folder = tmp_path_factory.mktemp("adapters") / "pose"
    JointAdapter.for_network(model.backbone.network, config).save_pretrained(folder)
    depth = Path(__file__).parent / "golden" / "unicon" / "weights" / "depth"
    return unicond.load(tiny_base, {"depth": depth, "pose": folder})


@pytest.mark.parametrize("name", NAMES)
def test_it_draws(posed, name):
    lines = importlib.import_module(f"examples.{name}").draw(posed, steps=1)
    assert all(picture.isfinite().all() for line in lines for picture in line.pictures)
    assert all(line.title or line.captions for line in lines)
    assert sheet(lines, rows=3).height > 128


@pytest.mark.slow
def test_the_embedded_model_makes_all_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["examples", "--out", str(tmp_path), "--steps", "4"])
    runpy.run_module("examples", run_name="__main__")
    assert {path.stem for path in tmp_path.glob("*.png")} == set(NAMES)
