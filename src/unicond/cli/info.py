"""`unicond info`: what a model is made of, and what it costs."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def info(
    base: Annotated[str, typer.Option(help="'mini', a folder, a hub id, or FILE@CONFIG.")] = "mini",
    adapter: Annotated[list[str] | None, typer.Option(help="Adapters; repeat.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of a picture in pixels.")] = None,
) -> None:
    """Print parameters, operations of a network call and memory, with and without adapters."""
    from unicond.cli.running import load_model
    from unicond.costs import costs

    model = load_model(base, adapter, None, "auto")
    adapters = ", ".join(model.adapters) or "no adapter"
    table = Table(title=f"{base} ({model.backbone.family}) with {adapters}")
    for column in ("part", "parameters", "share of the network", "GMAC a call", "MB"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for row in costs(model, size):
        table.add_row(
            row.part,
            f"{row.parameters:,}",
            f"{row.share:.1%}",
            "" if row.gigamacs is None else f"{row.gigamacs:.2f}",
            f"{row.megabytes:.1f}",
        )
    Console().print(table)
