"""What the commands that run a model share: loading it, a progress bar, saying where to look."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol

import typer
from rich.console import Console

from unicond.progress import progress

if TYPE_CHECKING:
    from pathlib import Path

    from unicond.calls.output import Output
    from unicond.calls.prepared import Callback
    from unicond.model import Model
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
    slicing: bool = False,
) -> "Model":
    """The model of the common options; `mini` brings its depth adapter, other bases none.

    Args:
        base: folder, hub id, single file or embedded name.
        adapters: names, or `BRANCH=name`; None is the base's own.
        device: None takes CUDA where there is one.
        dtype: one of `DTYPES`; `"auto"` is what suits the device.
        loras: {file: scale}.
        offload: keep parts on the CPU while they are not called.
        slicing: compute the network's attention a slice at a time.

    Returns:
        The model.

    Raises:
        ValueError: an unknown dtype or device, or what `unicond.load` raises.
    """
    import torch
    from transformers.utils import logging

    from unicond.backbones.precision import slow_in_bfloat16
    from unicond.loading import load

    check_dtype(dtype)
    check_device(device)
    found = adapters_of(base, adapters)
    logging.disable_progress_bar()  # of each file's tensors
    with Console(stderr=True).status(f"loading {base}"):
        kind = getattr(torch, dtype, None)
        model = load(base, found, device, kind, loras, offload=offload, slicing=slicing)
    if kind == torch.bfloat16 and slow_in_bfloat16(model.backbone.device):
        _tell_of_slowness()
    return model


@cache
def _tell_of_slowness() -> None:
    """Once, and not again for a second base."""
    Console(stderr=True).print(
        "[yellow]bfloat16 is slower than float32 on this CPU, many times so where it has no units "
        "for it[/yellow]"
    )


def check_dtype(dtype: str) -> None:
    """Refuse what is none of `DTYPES`."""
    if dtype not in DTYPES:
        raise ValueError(f"--dtype {dtype!r} is not one of {', '.join(DTYPES)}")


def check_device(device: str | None) -> None:
    """Refuse a device that nothing can be put on."""
    if device is not None and (reason := _unusable(device)):
        raise ValueError(f"--device {device!r} cannot be used: {reason}; give cpu, or none")


def adapters_of(base: str, adapters: list[str] | None) -> list[str] | dict[str, str]:
    """The adapters of the options, as `unicond.load` takes them.

    Args:
        base: what `unicond.load` takes.
        adapters: names, or `BRANCH=name`; None is the base's own.

    Returns:
        Names, or {branch: name}.

    Raises:
        ValueError: only some of them name a branch, or one is named twice.
    """
    chosen = adapters if adapters is not None else (["depth"] if base == "mini" else [])
    renamed = [name for name in chosen if "=" in name]
    if renamed and len(renamed) < len(chosen):
        raise ValueError(f"--adapter: give all as BRANCH=ADAPTER, or none; got {', '.join(chosen)}")
    if renamed:
        return dict(pairs(renamed, "--adapter"))
    return [name for name in chosen if name != "none"]


def shipped(names: Iterable[str]) -> list[str]:
    """Those of the adapters of `mini` with these names that are embedded."""
    from unicond.backbones.files import EMBEDDED

    return [name for name in names if (EMBEDDED / "adapters" / name).is_dir()]


def pairs(values: Sequence[str], flag: str, mark: str = "=") -> list[tuple[str, str]]:
    """`NAME=VALUE` (or `NAME:VALUE`, split at the last colon) options as pairs.

    Args:
        values: of a repeated option.
        flag: its name, for messages.
        mark: what parts the name from the value.

    Returns:
        (name, value) of each, in their order.

    Raises:
        ValueError: one is of another form, or a name is given twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, _, rest = value.partition(mark) if mark == "=" else value.rpartition(mark)
        if not name or not rest:
            raise ValueError(f"{flag} {value!r} is not of the form NAME{mark}VALUE")
        if name in found:
            raise ValueError(
                f"{flag} gives {name!r} twice, as {found[name]!r} and as {rest!r}: give it once"
            )
        found[name] = rest
    return list(found.items())


def embedded_or_asked(asked: list[str] | None, names: Sequence[str]) -> dict[str, str]:
    """Adapters by their names: those that are asked for, then embedded ones.

    Args:
        asked: names, or `NAME=where`.
        names: of those that are wanted, and taken where they are embedded.

    Returns:
        {name: where it is loaded from}; what is neither asked for nor embedded is left out.

    Raises:
        ValueError: one is asked for twice.
    """
    told = dict(pairs([t if "=" in t else f"{t}={t}" for t in asked or ()], "--adapter"))
    ships = shipped(names)
    return {**dict(zip(ships, ships, strict=True)), **told}


def same_device(device: str | None) -> str | None:
    """The device that a picture was made on, if this machine has it; else None, and it says so.

    Args:
        device: its kind; None is not known.

    Returns:
        The device to use.
    """
    if device is not None and _unusable(device):
        typer.echo(f"It was made on {device}, which is not here: it may differ a little.", err=True)
        return None
    return device


def _unusable(device: str) -> str:
    """Why nothing can be put on a device; empty if it can."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().splitlines()[0]
    return ""


def refuse_idle(model: "Model", boxes: object, image_prompt: object) -> "Model":
    """Refuse adapters that were asked for, and are told nothing.

    Args:
        model: with them.
        boxes: what `--boxes` gave; None is nothing.
        image_prompt: what `--image-prompt` gave; None is nothing.

    Returns:
        The model.

    Raises:
        ValueError: the message says what to give.
    """
    told = (
        (model.grounders, boxes, "is told where things are: give --boxes FILE"),
        (model.prompters, image_prompt, "looks at a picture: give --image-prompt FILE"),
    )
    for adapters, given, what in told:
        if adapters and given is None:
            raise ValueError(f"the adapter {next(iter(adapters))} {what}, or drop it (--adapter)")
    return model


@contextmanager
def progress_bar(what: str) -> Generator["Callback"]:
    """Progress that a model's callback tells, one move at a time; Ctrl-C ends the command."""
    with progress(what) as tell:

        def callback(move: "Move") -> None:
            tell(move.move.number + 1, move.move.count)

        try:
            yield callback
        except KeyboardInterrupt:
            typer.echo("Stopped before the pictures were done: nothing was written.", err=True)
            raise typer.Exit(INTERRUPTED) from None


class Runs(Protocol):
    """A task, or a form with all that belongs to it."""

    def run(self, model: "Model", callback: "Callback | None" = None) -> "Output":
        """Make it with a model."""
        ...


def make(asked: Runs, model: "Model", doing: str, folder: "Path") -> None:
    """Run what was asked for under a progress bar, save it, and say where.

    Args:
        asked: what is run.
        model: that runs it.
        doing: what the bar says.
        folder: for its files.
    """
    with progress_bar(doing) as callback:
        result = asked.run(model, callback)
    finish(result, folder)


def finish(result: "Output", folder: "Path") -> None:
    """Save a result and what was given, and say where, and what its mechanisms did not reach.

    Args:
        result: of a run.
        folder: for its files.
    """
    paths = result.save(folder, given=True)
    for path in paths:
        typer.echo(str(path))
    for sentence in result.shortfalls():
        typer.echo(sentence, err=True)
