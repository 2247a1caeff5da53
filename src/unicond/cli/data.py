"""`unicond data`: look at a dataset before training on it."""

from collections import Counter
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

app = typer.Typer(help="Datasets of one's own: find what is wrong with them.", no_args_is_help=True)


@app.command()
def check(
    folder: Annotated[
        str,
        typer.Argument(help="Folder with metadata.jsonl, tar shards, or a hub id."),
    ],
    condition: Annotated[
        str, typer.Option(help="Joined by commas; all that the dataset has if not given.")
    ] = "",
    column: Annotated[
        str | None, typer.Option(help="What the dataset calls the condition, if it is one.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a dataset on the hub.")] = "train",
    subset: Annotated[
        str | None, typer.Option(help="Of a dataset on the hub, which has several.")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="What the dataset calls the pictures.")
    ] = None,
    caption_column: Annotated[
        str | None, typer.Option(help="What the dataset calls the captions.")
    ] = None,
    show: Annotated[int, typer.Option(min=1, help="Print at most so many problems.")] = 50,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode.")] = 4,
) -> None:
    """Read every pair; list missing, unreadable, mismatched ones. Exit code 1 if there are any."""
    from unicond.data.checks import check as find
    from unicond.data.checks import conditions_in
    from unicond.data.opening import Place, open_rows

    place = Place(folder, split, subset, column, image_column, caption_column)
    rows = open_rows(place)
    named = [name.strip() for name in condition.split(",") if name.strip()]
    names = named or conditions_in(rows)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=len(rows))
        problems = find(rows, named, lambda: bar.advance(task), workers, place)
    if not problems:
        typer.echo(f"{folder}: {len(rows)} rows with {', '.join(names)}; nothing is wrong")
        return
    table = Table("row", "problem", "what to do", title=f"{len(problems)} problems in {folder}")
    for problem in problems[:show]:
        table.add_row(problem.key, problem.kind, problem.detail)
    Console().print(table)
    if len(problems) > show:
        typer.echo(f"... and {len(problems) - show} more; --show prints them")
    counts = Counter(problem.kind for problem in problems)
    typer.echo(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    raise typer.Exit(1)
