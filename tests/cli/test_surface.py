"""The command line's surface: what users type must not change by accident."""

import json
from pathlib import Path

import typer

from unicond.cli import app

SURFACE = Path(__file__).with_name("surface.json")


def options_of(command, name):
    """{command: sorted options} of a command and its subcommands."""
    if hasattr(command, "commands"):
        found = {}
        for key, inner in command.commands.items():
            found |= options_of(inner, f"{name} {key}")
        return found
    flags = [flag for option in command.params for flag in (*option.opts, *option.secondary_opts)]
    return {name: sorted(flags)}


def test_commands_and_options_are_the_recorded_ones():
    """After a wanted change, write what this prints into surface.json."""
    found = options_of(typer.main.get_command(app), "unicond")
    assert found == json.loads(SURFACE.read_text()), json.dumps(found, indent=1)
