"""`unicond inspect` and `unicond rerun`: a picture's own settings, and the same picture again."""

import json
from pathlib import Path
from typing import Annotated

import typer


def inspect(
    file: Annotated[Path, typer.Argument(help="A PNG that unicond made.")],
) -> None:
    """Print the settings that a picture was made with."""
    from unicond.pictures.metadata import read_settings

    typer.echo(json.dumps(read_settings(file), indent=2))


def rerun(
    file: Annotated[Path, typer.Argument(help="A PNG that unicond made.")],
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("out/rerun"),
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ...; default that of the picture.")
    ] = None,
) -> None:
    """Make the same pictures again, bit for bit on the same machine."""
    from unicond.calls.output import read_record
    from unicond.calls.rerun import check, repeat
    from unicond.cli.running import finish, load_model, progress_bar, same_device
    from unicond.pictures.files import check_output_folder

    record = read_record(file)
    check(record)
    check_output_folder(out)
    adapters = [f"{name}={source}" for name, source in record.adapters.items()] or ["none"]
    where = device or same_device(record.device)
    model = load_model(record.base, adapters, where, record.dtype, dict(record.loras))
    with progress_bar("sampling") as callback:
        result = repeat(model, record, callback)
    finish(result, out)
