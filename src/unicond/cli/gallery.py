"""`unicond gallery`: a page of pictures for every adapter."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from unicond.conditions import CONDITIONS, NAMES, named


def gallery(
    condition: Annotated[
        list[str] | None,
        typer.Option(help=f"Only these, repeat; default all that are there: {', '.join(NAMES)}."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pages.")] = Path("out/gallery"),
    base: Annotated[str, typer.Option(help="'mini', a folder, or a hub id.")] = "mini",
    adapters: Annotated[
        Path | None, typer.Option(help="Folder of adapters by name; default the embedded.")
    ] = None,
    scenes: Annotated[int, typer.Option(min=1, max=16, help="Columns.")] = 6,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
) -> None:
    """Look at every adapter: each direction, rough and partial conditions, edited ones."""
    from rich.console import Console

    from unicond.backbones.files import EMBEDDED
    from unicond.cli.running import load_model
    from unicond.gallery import Page, make_page, write_index
    from unicond.pictures.files import check_output_folder

    check_output_folder(out)
    place = adapters or EMBEDDED / "adapters"
    wanted = [named(name) for name in condition] if condition else CONDITIONS
    found = [each for each in wanted if (place / each.name).is_dir()]
    missing = [each.name for each in wanted if each not in found]
    if not found or (condition and missing):
        raise ValueError(
            f"{place} has no adapter {', '.join(missing)}; "
            f"train it: unicond train joint --condition {missing[0]}"
        )
    pages: list[Page] = []
    console = Console(stderr=True)
    for each in found:
        model = load_model(base, [str(place / each.name)], device, "float32")
        with console.status(f"{each.name} ({len(pages) + 1} of {len(found)})"):
            pages.append(make_page(model, next(iter(model.adapters)), each, out, scenes))
    path = write_index(pages, out, "unicond " + shlex.join(sys.argv[1:]))
    for page in pages:
        typer.echo(str(page.path))
    typer.echo(str(path))
