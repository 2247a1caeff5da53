"""`unicond methods`: every conditioning method, what it costs and where it comes from."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from unicond.mechanisms.bare import BARE
from unicond.mechanisms.catalogue import CATALOGUE
from unicond.mechanisms.entry import GROUPS, Group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unicond.mechanisms.entry import Entry


def methods(
    group: Annotated[Group | None, typer.Option(help="Only those of one group.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the conditioning methods, grouped as the survey does.

    Seams: begin (the start), wrap (how the network is called), revise (its predictions), settle
    (the state after a step); a plan is a way of its own through the times, a solver makes the
    steps. Calls are those of a step without text guidance, behind a semicolon those of tasks that
    take others; a row is one more evaluation a sample.
    Below each group is how tasks ask for its methods: INVERSION+* with any attention or alone,
    *+ATTENTION after any inversion.
    """
    found = [entry for entry in CATALOGUE if group in (None, entry.group)]
    if as_json:
        typer.echo(json.dumps([as_row(entry) for entry in found], indent=1))
        return
    for name, does in GROUPS.items():
        if group in (None, name):
            mine = [entry for entry in found if entry.group == name]
            Console().print(drawn(f"{name}: {does}", mine))
            Console().print(asking([(entry.name, entry.asked) for entry in mine]))
    if group is None:
        bare = [(about, (way,)) for way, about in BARE.items()]
        Console().print(asking(bare, "asked for without any of them"))


def as_row(entry: "Entry") -> dict[str, str | list[str] | dict[str, str]]:
    """Everything about a method, as JSON takes it."""
    return {
        "group": entry.group,
        "name": entry.name,
        "class": entry.home,
        "asked": list(entry.asked),
        "seams": list(entry.seams),
        "calls_per_step": entry.calls,
        "calls_as_asked": {way: entry.paid(way) for way in entry.asked},
        "memory": entry.memory,
        "trained": entry.trained,
        "source": entry.source_url,
        "page": f"docs/mechanisms/{entry.page}",
    }


def drawn(title: str, entries: "Sequence[Entry]") -> Table:
    """The methods of one group as a table, each with its class below it.

    Args:
        title: above it.
        entries: its rows.

    Returns:
        The table.
    """
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    # what has a width keeps it in 80 columns; the other two share the rest
    table.add_column("method", width=15, overflow="fold")
    table.add_column("seams", width=12)
    table.add_column("network calls a step")
    table.add_column("further memory")
    table.add_column("trained", width=7)
    table.add_column("source", width=11)
    for entry in entries:
        table.add_row(
            f"{entry.name}\n[dim]{entry.made_by}[/dim]",
            " ".join(entry.seams),
            entry.cost,
            entry.memory,
            "no" if entry.trained == "no" else "yes",
            entry.source.replace(" ", "\n"),
        )
    return table


def asking(named: "Sequence[tuple[str, Sequence[str]]]", title: str | None = None) -> Table:
    """How tasks ask for something, a line each.

    Args:
        named: what, and each way to ask for it.
        title: above it.

    Returns:
        The table.
    """
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method")
    table.add_column("asked for by: unicond ...", no_wrap=True)
    for name, ways in named:
        table.add_row(name, "\n".join(ways))
    return table
