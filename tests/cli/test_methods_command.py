"""`unicond methods`: the catalogue, as a table or for programs, without loading a model."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from unicond.cli import app
from unicond.cli.methods import methods
from unicond.mechanisms.bare import BARE
from unicond.mechanisms.catalogue import CATALOGUE
from unicond.mechanisms.entry import GROUPS

APP = typer.Typer()
APP.command()(methods)


TASKS = Path(__file__).parents[2] / "docs" / "tasks.md"
ASKED = {way for entry in CATALOGUE for way in entry.asked}


def run(*arguments):
    return CliRunner().invoke(APP, arguments, env={"COLUMNS": "80"})


def test_the_table_has_every_method_in_eighty_columns():
    made = run()
    assert made.exit_code == 0, made.output
    assert all(group in made.stdout for group in GROUPS)
    assert all(entry.made_by[:12] in made.stdout for entry in CATALOGUE)
    assert all(entry.source.split()[-1] in made.stdout for entry in CATALOGUE)
    assert all(way in made.stdout for way in (*BARE, *ASKED))
    assert max(map(len, made.stdout.splitlines())) <= 80


def test_json_is_for_programs_and_a_group_is_a_part():
    rows = json.loads(run("--json").stdout)
    assert [row["name"] for row in rows] == [entry.name for entry in CATALOGUE]
    assert {way for row in rows for way in row["asked"]} == ASKED
    some = json.loads(run("--json", "--group", "process").stdout)
    assert some == [row for row in rows if row["group"] == "process"]
    assert {row["name"]: row["source"] for row in some}[
        "DDNM"
    ] == "https://arxiv.org/abs/2212.00490"
    assert run("--group", "none").exit_code == 2


@pytest.mark.parametrize("task", ["edit", "generate", "compose", "layout", "restore"])
def test_help_and_page_of_a_task_say_every_name(task):
    command = typer.main.get_command(app).commands[task]
    (option,) = [one for one in command.params if one.name == "method"]
    said = {*re.findall(r"\w+", option.help)}
    ways = {way for way in (*ASKED, *BARE) if way.startswith(f"{task} --method ")}
    names = {way.split()[-1].strip("*+") for way in ways}
    assert names <= said
    (row,) = re.findall(rf"^\| {task} \|.*\|(.*)\|$", TASKS.read_text(), re.M)
    assert names <= {*re.findall(r"\w+", row)}


def test_it_is_quick():
    """Without torch."""
    code = "import sys, unicond.cli.methods; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "unicond.mechanisms.catalogue" in found.split()
    assert "torch" not in found.split()
