"""`unicond generate --batch`: a manifest of many jobs instead of one."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

if TYPE_CHECKING:
    from unicond.batch.engines import Engine

ENGINE = Literal["local", "ray"]
FAILED = 1
"""What a shell is told where some rows could not be made."""
SHOWN = 20
"""Rows that could not be made, told on the terminal."""
OWN = ("engine", "workers", "rows", "redo")
"""Options of a manifest alone."""
MODEL = ("batch", "out", "base", "adapter", "device", "dtype", "offload", "slicing", "lora")
"""Options of a manifest that a single job has, too."""


class Batch(NamedTuple):
    """How a manifest is made.

    Args:
        manifest: the file; None is a single job instead.
        out: folder of what is made.
        engine: that makes it.
        workers: of Ray.
        rows: samples at once.
        redo: rows that have changed are made anew.
    """

    manifest: Path | None
    out: Path
    engine: ENGINE
    workers: int
    rows: int
    redo: bool


class Loading(NamedTuple):
    """How its model is loaded, as the options say."""

    base: str
    adapter: list[str] | None
    device: str | None
    dtype: str
    loras: dict[str, float]
    offload: bool
    slicing: bool


def run_manifest(context: typer.Context, batch: Batch, loading: Loading) -> bool:
    """Make what is missing of a manifest, if there is one.

    Args:
        context: of the command.
        batch: the manifest, and how it is made.
        loading: of the model.

    Returns:
        Whether there is one.

    Raises:
        ValueError: the manifest, the folder or the model cannot be used, or options that do not go
            with a manifest, or with none.
        Exit: some rows could not be made, or Ctrl-C.
    """
    _check_options(context, batch.manifest is not None)
    if batch.manifest is None:
        return False
    _run(batch.manifest, batch, loading)
    return True


def _check_options(context: typer.Context, batch: bool) -> None:
    """Refuse options of a single job beside a manifest, and the other way round."""
    allowed = {*OWN, *MODEL} if batch else context.params.keys() - {*OWN}
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name not in allowed:
            flag = "--" + name.replace("_", "-")
            if batch:
                raise ValueError(f"{flag} beside --batch: say it in the lines of the manifest")
            raise ValueError(f"{flag} is of --batch MANIFEST, which is not given")


def _run(file: Path, batch: Batch, loading: Loading) -> None:
    from unicond.batch import engines, folder, maker, manifest
    from unicond.cli.running import INTERRUPTED, adapters_of, check_dtype
    from unicond.progress import progress

    engine, adapters = _engine(batch, loading.device), adapters_of(loading.base, loading.adapter)
    check_dtype(loading.dtype)
    dtype = None if loading.dtype == "auto" else loading.dtype
    model = {"adapters": adapters, "dtype": dtype, "loras": loading.loras}
    rows = manifest.read_manifest(file, loading.base, model)
    asked = maker.Asked(
        root=file.absolute().parent,
        out=batch.out.expanduser().absolute(),
        base=loading.base,
        adapters=adapters,
        device=loading.device,
        dtype=dtype,
        loras=loading.loras,
        offload=loading.offload,
        slicing=loading.slicing,
    )
    with folder.held(asked.out):
        missing = folder.missing(asked.out, rows, batch.redo)
        typer.echo(f"{len(rows)} rows, {len(missing)} to make", err=True)
        groups = manifest.groups(missing, batch.rows)
        try:
            with progress("rows") as tell:
                errors = engines.run(engine, asked, rows, groups, tell)
        except KeyboardInterrupt:
            typer.echo("Stopped: rows that are done are kept; the same command goes on.", err=True)
            raise typer.Exit(INTERRUPTED) from None
    typer.echo(str(batch.out / folder.ROWS))
    _tell_failed(batch.out / folder.FAILED, {row.id: row.line for row in rows}, errors)


def _engine(batch: Batch, device: str | None) -> "Engine":
    """The engine of the options."""
    from unicond import cluster
    from unicond.batch.engines import Local
    from unicond.cli.running import check_device

    if batch.engine == "local":
        if batch.workers > 1:
            raise ValueError("--workers: one device makes all rows here; more take --engine ray")
        check_device(device)
        return Local()
    cluster.check_installed("data")
    from unicond.batch.on_ray import OnRay

    return OnRay(batch.workers)


def _tell_failed(file: Path, lines: Mapping[str, int], errors: Mapping[str, str]) -> None:
    """Name the rows that could not be made, and end so."""
    if not errors:
        return
    for identity, error in sorted(errors.items(), key=lambda one: lines[one[0]])[:SHOWN]:
        typer.echo(f"line {lines[identity]} ({identity}): {error}", err=True)
    typer.echo(f"{len(errors)} rows could not be made; all of them are in {file}", err=True)
    raise typer.Exit(FAILED)
