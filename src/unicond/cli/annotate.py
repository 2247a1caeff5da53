"""`unicond annotate`: a folder of photographs to a dataset."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from unicond.progress import progress

NAMED = 5
"""Pictures that a line names."""


def annotate(
    folder: Annotated[Path, typer.Argument(help="Folder with pictures; they stay as they are.")],
    condition: Annotated[
        str,
        typer.Option(help="Joined by commas: depth, softedge, pose, segmentation, normals."),
    ] = "",
    caption: Annotated[bool, typer.Option("--caption", help="Write captions, too.")] = False,
    model: Annotated[
        list[str] | None,
        typer.Option(help="CONDITION=hub id or folder, in place of the default; repeat."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 8,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make anew what is there.")
    ] = False,
) -> None:
    """Make conditions and captions of every picture; a rerun makes what is missing or changed."""
    from transformers.utils import logging

    from unicond.annotators.folder import annotate_folder

    kinds = [name.strip() for name in condition.split(",") if name.strip()]
    kinds += ["caption"] if caption else []
    if not kinds:
        raise ValueError("nothing is asked for: give --condition depth,softedge,... or --caption")
    models: dict[str, str | Path] = {}
    for text in model or []:
        kind, mark, where = text.partition("=")
        if not mark or not where:
            raise ValueError(f"--model {text!r} is not of the form CONDITION=MODEL")
        models[kind] = where
    logging.disable_progress_bar()  # of each file's tensors
    with progress("annotating") as tell:
        outcome = annotate_folder(folder, kinds, models, device, batch, overwrite, tell)
    if outcome.skipped:
        table = Table("picture", "why", title=f"{len(outcome.skipped)} skipped")
        for name, why in outcome.skipped.items():
            table.add_row(name, why)
        Console().print(table)
    if outcome.changed:
        typer.echo(f"changed since they were annotated, and made anew: {_some(outcome.changed)}")
    for kind, count in outcome.left_out.items():
        typer.echo(f"{kind} is left out for {count} that have changed, until it is made of them")
    if outcome.gone:
        typer.echo(f"not there any more, and their lines removed: {_some(outcome.gone)}")
    typer.echo(
        f"{outcome.made} pictures annotated, {outcome.there} were there, "
        f"{len(outcome.skipped)} skipped: {folder / 'metadata.jsonl'}"
    )


def _some(names: list[str]) -> str:
    """The first names of many."""
    return f"{', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''} ({len(names)})"
