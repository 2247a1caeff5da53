"""`unicond evaluate`: tables of measured numbers; a rerun goes on where one was interrupted."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from unicond.evaluation.depth import Run
    from unicond.evaluation.judge import Judge
    from unicond.evaluation.subject import Sampling, Subject
    from unicond.evaluation.tables import Table

app = typer.Typer(help="Measure a model: tables as text, JSON, CSV and plot.", no_args_is_help=True)

Scenes = Annotated[int, typer.Option(min=1, help="Held-out scenes.")]
Seed = Annotated[int, typer.Option(min=0, max=9999, help="Of the scenes and of the noise.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the table here as JSON, too.")]
Out = Annotated[Path, typer.Option(help="Folder of all runs; each gets its own inside.")]
Batch = Annotated[int, typer.Option(min=1, help="Scenes at a time; what is kept if interrupted.")]
Base = Annotated[str, typer.Option(help="'mini', a folder, or a hub id.")]
Adapter = Annotated[str, typer.Option(help="Of depth: name, folder, hub id or repo:subfolder.")]
Probes = Annotated[Path | None, typer.Option(help="Folder of the probes; default the embedded.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...")]
Steps = Annotated[int | None, typer.Option(min=1, help="Of generation; default the base's.")]
Solver = Annotated[str | None, typer.Option(help="Of generation; default the base's.")]
Guidance = Annotated[float | None, typer.Option(help="Of text; default the base's.")]
ConditionGuidance = Annotated[float | None, typer.Option(help="Of depth; default the base's.")]


@app.command()
def depth(
    scenes: Scenes = 500,
    seed: Seed = 0,
    json: Json = None,
    out: Out = Path("runs/evaluate"),
    batch: Batch = 25,
    base: Base = "mini",
    adapter: Adapter = "depth",
    probes: Probes = None,
    device: Device = None,
    steps: Steps = None,
    solver: Solver = None,
    guidance: Guidance = None,
    condition_guidance: ConditionGuidance = None,
) -> None:
    """Depth in every direction: depth to image, image to depth, joint, coarse, and text alone."""
    from unicond.evaluation.depth import evaluate_depth
    from unicond.evaluation.subject import Sampling

    sampling = Sampling(steps, solver, guidance, condition_guidance)
    subject, judge, run = _prepare(
        scenes, seed, json, out, batch, base, adapter, probes, device, sampling
    )
    table, folder = evaluate_depth(subject, judge, run)
    _finish(table, folder, json)


@app.command()
def settings(
    scenes: Scenes = 64,
    seed: Seed = 0,
    json: Json = None,
    out: Out = Path("runs/evaluate"),
    batch: Batch = 32,
    base: Base = "mini",
    adapter: Adapter = "depth",
    probes: Probes = None,
    device: Device = None,
) -> None:
    """Choose the default settings, on other scenes than those of the tables."""
    from unicond.evaluation.settings import sweep_settings
    from unicond.evaluation.subject import Sampling

    subject, judge, run = _prepare(
        scenes, seed, json, out, batch, base, adapter, probes, device, Sampling()
    )
    table, folder = sweep_settings(subject, judge, run)
    _finish(table, folder, json)
    for what in ("best generation", "best estimation"):
        typer.echo(f"{what}: {table.settings[what]}")


def _prepare(
    scenes: int,
    seed: int,
    json: Path | None,
    out: Path,
    batch: int,
    base: str,
    adapter: str,
    probes: Path | None,
    device: str | None,
    sampling: "Sampling",
) -> "tuple[Subject, Judge, Run]":
    """Load what is measured and what measures it; bad folders are found before anything runs."""
    from unicond.cli.running import load_model
    from unicond.evaluation.depth import Run, command_line
    from unicond.evaluation.judge import load_judge
    from unicond.evaluation.subject import Subject, fingerprints

    for folder in {out, (json or out / "table.json").parent}:
        folder.mkdir(parents=True, exist_ok=True)
    judge = load_judge(probes, device)
    model = load_model(base, [adapter], device, "float32")
    branches = [branch for branch in model.adapters]
    settings = fingerprints(model) | {"probes": judge.fingerprint}
    run = Run(scenes, seed, batch, out, command_line(sys.argv[1:]), settings)
    return Subject(model, branches[0], sampling), judge, run


def _finish(table: "Table", folder: Path, json: Path | None) -> None:
    """Print the table, and say where its files are."""
    from rich.console import Console

    from unicond.evaluation.tables import write_atomically

    if json is not None:
        write_atomically(json, table.to_json())
    console = Console()
    console.print(table.to_rich(f"{table.scenes} scenes, {table.seconds:.0f} s"))
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    console.print(f"{folder}: {', '.join(files)}", highlight=False)
