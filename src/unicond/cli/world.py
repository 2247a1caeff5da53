"""`unicond world`: look at the embedded world, and write it to disk."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The embedded world: show scenes with their annotations, export data sets.")

Seed = Annotated[int, typer.Option(min=0, help="Which world.")]
Start = Annotated[int, typer.Option(min=0, help="The first scene.")]
Style = Annotated[
    str | None,
    typer.Option(help="One of photo, toon, sketch, neon, pastel, blueprint; mixed if not given."),
]
People = Annotated[
    bool | None,
    typer.Option("--people/--no-people", help="With people only, or without; mixed if not given."),
]


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from "128" or "96x160".

    Args:
        text: one whole number, or two joined by "x".

    Returns:
        Height and width in pixels.

    Raises:
        typer.BadParameter: anything else.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdigit() for side in sides):
        raise typer.BadParameter(f"size {text!r} is not understood; give 128 or 96x160 (HxW)")
    return int(sides[0]), int(sides[-1])


@app.command()
def show(
    seed: Seed = 0,
    start: Start = 0,
    count: Annotated[int, typer.Option(min=1, max=64, help="How many scenes.")] = 8,
    size: Annotated[int, typer.Option(min=32, max=512, help="Side of a panel in pixels.")] = 128,
    style: Style = None,
    people: People = None,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("world.png"),
) -> None:
    """Write a contact sheet: scenes with every annotation and their captions."""
    from unicond.pictures.files import whole_file
    from unicond.world.generate import World
    from unicond.world.sheet import contact_sheet

    try:
        scenes = World(seed, style=style, people=people).scenes(start, count)
        sheet = contact_sheet(scenes, size)
        with whole_file(out) as file:
            sheet.save(file, "PNG")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{count} scenes of world {seed}: {out}")


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where to write; an export there is resumed.")],
    seed: Seed = 0,
    start: Start = 0,
    count: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 1000,
    size: Annotated[str, typer.Option(help="Pixels: 128, or 96x160 (HxW).")] = "128",
    style: Style = None,
    people: People = None,
    format: Annotated[str, typer.Option(help="imagefolder or webdataset.")] = "imagefolder",
    shard_size: Annotated[int, typer.Option(min=1, help="Scenes a part or tar file.")] = 256,
    captions: Annotated[int, typer.Option(min=1, max=100, help="Wordings a scene.")] = 1,
) -> None:
    """Write scenes with all annotations; stopped exports are resumed."""
    from unicond.progress import progress
    from unicond.world.export import ExportConfig
    from unicond.world.export import export as write
    from unicond.world.generate import World

    try:
        world = World(seed, style=style, people=people)
        config = ExportConfig(world, start, count, parse_size(size), format, shard_size, captions)
        done = 0
        with progress("scenes", count) as tell:

            def report(more: int) -> None:
                nonlocal done
                done += more
                tell(done)

            written = write(config, folder, report)
    except (ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{written} scenes written, {count - written} were there: {folder}")
