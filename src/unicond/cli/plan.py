"""`unicond plan`: the way that a named plan takes through the times of image and condition."""

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unicond.sampling.state import Move


SHOWN = ("joint", "image-first", "condition-first", "coarse(0.4)", "curve(0.1)", "curve(0.9)")
"""What is drawn where no plan is named: all names, those with a number at some of it."""


def plan(
    name: Annotated[
        str | None,
        typer.Argument(
            help="joint, image-first, condition-first, coarse(R), curve(A), or X,Y;X,Y;...; "
            "left out: all of them."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Moves that call the network.")] = 20,
    show: Annotated[bool, typer.Option(help="Draw the way, too.")] = False,
    out: Annotated[Path, typer.Option(help="PNG of the drawing.")] = Path("out/plan.png"),
) -> None:
    """Print the moves of a plan, and draw its path in the plane of both times.

    Times are even here; a base's own spacing is that of its schedule.
    """
    from unicond.pictures.files import check_output_folder
    from unicond.sampling.named_plans import follow, parse
    from unicond.sampling.schedules import FlowSchedule

    ways: dict[str, Sequence[Move]] = {}
    for found in [parse(each) for each in (SHOWN if name is None else (name,))]:
        start: dict[str, float] = {"image": found.start[0], "condition": found.start[1]}
        ways[found.name] = follow(found, FlowSchedule().times(steps), start)
    if show:
        check_output_folder(out.parent)
    for title, moves in ways.items():
        Console().print(_listed(title, moves))
    if show:
        draw(ways, out)
        typer.echo(str(out))


def _listed(title: str, moves: "Sequence[Move]") -> Table:
    """The moves of a plan, a line each."""
    table = Table(title=f"{title}, {len(moves)} moves")
    for column in ("move", "image", "condition", "what falls"):
        table.add_column(column, justify="left" if column == "what falls" else "right")
    for number, move in enumerate(moves):
        times = [f"{move.t[branch]:.3f} -> {move.s[branch]:.3f}" for branch in move.t]
        table.add_row(str(number), *times, ", ".join(move.moving()))
    return table


def draw(ways: "Mapping[str, Sequence[Move]]", path: Path) -> None:
    """Paths as lines with a dot a move, beside the diagonal, saved as PNG.

    Args:
        ways: {name: moves of the branches `"image"` and `"condition"`}.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    from unicond.pictures.files import whole_file

    figure = Figure(figsize=(4, 4), layout="constrained")
    panel = figure.subplots()
    panel.plot([0, 1], [0, 1], color="#d8dee9", linewidth=1, zorder=0)
    for (name, moves), color in zip(ways.items(), cycle(_COLORS), strict=False):
        points = [moves[0].t, *(move.s for move in moves)]
        x, y = ([point[branch] for point in points] for branch in ("image", "condition"))
        panel.plot(x, y, color=color, marker="o", markersize=4, clip_on=False, label=name)
        panel.plot(x[0], y[0], color=color, marker="o", markersize=9, clip_on=False)
    panel.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    if len(ways) > 1:
        panel.legend(fontsize=7, frameon=False, loc="center")
    title = next(iter(ways)) if len(ways) == 1 else "named plans"
    panel.set_title(f"{title}\nfrom the large dot to (0, 0), both clean", fontsize=9)
    panel.set(xlabel="time of the image", ylabel="time of the condition")
    panel.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as file:
        figure.savefig(file, dpi=150, format="png")


_COLORS = ("#5e81ac", "#bf616a", "#a3be8c", "#b48ead", "#d08770", "#ebcb8b")
