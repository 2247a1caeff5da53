"""The command line: `unicond COMMAND`, one file a command. Heavy imports wait until one runs."""

import os
import re
import sys
from typing import NoReturn

import typer

from unicond.cli import (
    aggregate,
    annotate,
    compose,
    data,
    demo,
    edit,
    evaluate,
    evaluate_mig,
    gallery,
    generate,
    info,
    inspect,
    layout,
    methods,
    plan,
    restore,
    serve,
    table,
    table_amdm,
    table_tasks,
    train,
    world,
)

_MEMORY = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)
app = typer.Typer(
    help="Every way of conditioning an image diffusion model, in one denoising loop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("generate")(generate.generate)
app.command("edit")(edit.edit)
app.command("compose")(compose.compose)
app.command("layout")(layout.layout)
app.command("aggregate")(aggregate.aggregate)
app.command("restore")(restore.restore)
app.command("methods")(methods.methods)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("info")(info.info)
app.command("plan")(plan.plan)
app.command("inspect")(inspect.inspect)
app.command("rerun")(inspect.rerun)
app.add_typer(train.app, name="train")
evaluate.app.command("mig")(evaluate_mig.mig)
app.add_typer(evaluate.app, name="evaluate")
table.app.command("tasks")(table_tasks.tasks)
table.app.command("amdm")(table_amdm.amdm)
app.add_typer(table.app, name="table")
app.command("gallery")(gallery.gallery)
app.add_typer(world.app, name="world")
app.command("annotate")(annotate.annotate)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run a command; bad input ends in one line that says what to do, not in a traceback."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # speaks of torchvision at import
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "critical")  # what fails is raised, and told below
    try:
        app()
    except (ValueError, OSError) as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        _fail(f"{error}{notes}")
    except (MemoryError, RuntimeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        if not isinstance(error, MemoryError) and not _MEMORY.search(lines[0]):
            raise
        _fail(
            f"there is not enough memory ({lines[0]}); take a smaller --size, fewer pictures at a "
            "time, or --offload"
        )


def _fail(message: str) -> NoReturn:
    typer.secho(f"Error: {message}", fg="red", err=True)
    sys.exit(2)
