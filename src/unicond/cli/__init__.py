"""The command line: `unicond COMMAND`, one file a command. Heavy imports wait until one runs."""

import os
import sys

import typer

from unicond.cli import (
    annotate,
    compose,
    data,
    demo,
    edit,
    evaluate,
    gallery,
    generate,
    info,
    inspect,
    layout,
    methods,
    plan,
    restore,
    table,
    train,
    world,
)

app = typer.Typer(
    help="Every way of conditioning an image diffusion model, in one denoising loop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("generate")(generate.generate)
app.command("edit")(edit.edit)
app.command("compose")(compose.compose)
app.command("layout")(layout.layout)
app.command("restore")(restore.restore)
app.command("methods")(methods.methods)
app.command("demo")(demo.demo)
app.command("info")(info.info)
app.command("plan")(plan.plan)
app.command("inspect")(inspect.inspect)
app.command("rerun")(inspect.rerun)
app.add_typer(train.app, name="train")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(table.app, name="table")
app.command("gallery")(gallery.gallery)
app.add_typer(world.app, name="world")
app.command("annotate")(annotate.annotate)
app.add_typer(data.app, name="data")


def main() -> None:
    """Run a command; bad input ends in one line that says what to do, not in a traceback."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # speaks of torchvision at import
    try:
        app()
    except (ValueError, OSError) as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        typer.secho(f"Error: {error}{notes}", fg="red", err=True)
        sys.exit(2)
