"""The shape of the source: imports point one way, modules stay small, nothing is unpickled."""

import ast
import re
from pathlib import Path

import pytest

from unicond.mechanisms.catalogue import CATALOGUE

SOURCE = Path(__file__).parents[1] / "src" / "unicond"
MODULES = sorted(SOURCE.rglob("*.py"))
LOOP = SOURCE / "sampling" / "loop.py"
SCREEN = 130
LAYERS = {
    "world": {"world"},
    "sampling": {"sampling"},
    "mechanisms": {"sampling", "mechanisms"},
    "adapters": {"sampling", "adapters"},
    "denoisers": {"sampling", "denoisers"},
    "pictures": {"pictures"},
    "operators": {"operators"},
    "backbones": {"sampling", "backbones"},
}
"""What each folder may import of ours; folders not named are above and may import all but `cli`."""


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name.split(".")[0] == "unicond")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downward(path):
    folder = path.relative_to(SOURCE).parts[0]
    for name in imported(path):
        target = name.split(".")[1] if "." in name else ""
        if folder in LAYERS:
            assert target in LAYERS[folder], f"{path.name} imports {name}"
        elif folder not in ("cli", "__main__.py"):
            assert target != "cli", f"{path.name} imports {name}"


def test_the_loop_names_no_method():
    names = {name for name in imported(LOOP)}
    assert names == {"unicond.sampling.predictions", "unicond.sampling.state"}
    words = set(re.findall(r"\w+", LOOP.read_text().lower()))
    for entry in CATALOGUE:
        _, _, module = entry.home.partition(":")[0].partition(".")
        for name in (entry.name, entry.made_by, module):
            assert not set(re.findall(r"\w+", name.lower())) <= words, name


def test_the_loop_is_one_screen():
    """With its docstrings: who reads it sees all of it."""
    assert len(LOOP.read_text().splitlines()) <= SCREEN


def test_there_is_one_loop():
    """Solvers step in one place only."""
    calls = [
        path.relative_to(SOURCE)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "step"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("solver", "scheduler")
    ]
    inside = {Path("sampling/loop.py")}
    assert {path for path in calls if path.parts[0] not in ("training",)} == inside


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_modules_stay_readable(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    if path.name == "utils.py":
        assert len(text.splitlines()) <= 150
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            public = [
                item
                for item in node.body
                if isinstance(item, ast.FunctionDef)
                and not item.name.startswith("_")
                and not any("property" in ast.dump(mark) for mark in item.decorator_list)
            ]
            assert len(public) <= 7, f"{node.name} has {len(public)} public methods"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            code = [
                statement
                for statement in node.body
                if not (
                    isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
                )
            ]
            length = code[-1].end_lineno - code[0].lineno + 1 if code else 0
            assert length <= 50, f"{node.name} has {length} lines"


def test_nothing_is_unpickled():
    for path in MODULES:
        text = path.read_text()
        assert "pickle.load" not in text
        assert "allow_pickle=True" not in text
        for line in text.splitlines():
            if "torch.load(" in line:
                assert "weights_only=True" in text
