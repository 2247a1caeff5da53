"""What the commands that run a model share: loading it, a progress bar, saying where to look."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from pathlib import Path

    from unicond.model import Callback, Model
    from unicond.output import Output
    from unicond.sampling.loop import Progress as Move

INTERRUPTED = 130
"""What a shell expects of a command that Ctrl-C ended."""
DTYPES = ("float32", "bfloat16", "float16", "auto")


def load_model(
    base: str,
    adapters: list[str] | None,
    device: str | None,
    dtype: str,
    loras: dict[str, float] | None = None,
    offload: bool = False,
) -> "Model":
    """The model of the common options; `mini` brings its depth adapter, other bases none.

    Args:
        base: folder, hub id, single file or embedded name.
        adapters: names, or `BRANCH=name`; None is the base's own.
        device: None takes CUDA where there is one.
        dtype: one of `DTYPES`; `"auto"` is what suits the device.
        loras: {file: scale}.
        offload: keep parts on the CPU while they are not called.

    Returns:
        The model.

    Raises:
        ValueError: an unknown dtype or device, or what `unicond.load` raises.
    """
    import torch
    from transformers.utils import logging

    from unicond.loading import load

    if dtype not in DTYPES:
        raise ValueError(f"--dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    if device is not None:
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"--device {device!r} cannot be used: {error}") from None
    chosen = adapters if adapters is not None else (["depth"] if base == "mini" else [])
    renamed = dict(name.split("=", 1) for name in chosen if "=" in name)
    if renamed and len(renamed) < len(chosen):
        raise ValueError(f"--adapter: give all as BRANCH=ADAPTER, or none; got {', '.join(chosen)}")
    found = renamed or [name for name in chosen if name != "none"]
    logging.disable_progress_bar()  # of each file's tensors
    with Console(stderr=True).status(f"loading {base}"):
        return load(base, found, device, getattr(torch, dtype, None), loras, offload=offload)


@contextmanager
def progress_bar(what: str) -> Generator["Callback"]:
    """A bar that a model's callback moves, one move at a time; Ctrl-C ends the command."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def callback(move: "Move") -> None:
            bar.update(task, completed=move.move.number + 1, total=move.move.count)

        try:
            yield callback
        except KeyboardInterrupt:
            typer.echo("Stopped before the pictures were done: nothing was written.", err=True)
            raise typer.Exit(INTERRUPTED) from None


def finish(result: "Output", folder: "Path") -> None:
    """Save a result and say where, and what did not come out as its mechanisms promise."""
    paths = result.save(folder)
    for path in paths:
        typer.echo(str(path))
    for sentence in result.shortfalls():
        typer.echo(sentence, err=True)
