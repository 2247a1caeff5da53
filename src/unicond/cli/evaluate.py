"""`unicond evaluate`: tables of measured numbers.

A rerun goes on where one was interrupted; the same command in several terminals shares the work.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicond.conditions import CONDITIONS, Condition, named

if TYPE_CHECKING:
    from unicond.evaluation.condition_table import Run, Setting
    from unicond.evaluation.judge import Judge
    from unicond.evaluation.subject import Sampling, Subject
    from unicond.evaluation.tables import Table
    from unicond.model import Model

app = typer.Typer(
    help="Measure a model: tables as text, JSON, CSV and plot. Started several times, the same "
    "command shares the work.",
    no_args_is_help=True,
)

Scenes = Annotated[int, typer.Option(min=1, help="Held-out scenes.")]
Seed = Annotated[int, typer.Option(min=0, max=9999, help="Of the scenes and of the noise.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the table here as JSON, too.")]
Out = Annotated[Path, typer.Option(help="Folder of all runs; each gets its own inside.")]
Batch = Annotated[int, typer.Option(min=1, help="Scenes at a time; what is kept if interrupted.")]
Base = Annotated[str, typer.Option(help="'mini', a folder, or a hub id.")]
Adapter = Annotated[
    str | None,
    typer.Option(help="Name, folder, hub id or repo:subfolder; default the embedded one."),
]
Probes = Annotated[Path | None, typer.Option(help="Folder of the probes; default the embedded.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...")]
Dtype = Annotated[
    str, typer.Option(help="float32, bfloat16 (quicker where the processor has it), float16, auto.")
]
Named = Annotated[
    str, typer.Option(help="'default' (the base's own) or 'paper': DDIM, eta 1, 50 steps, 7.5.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Of generation; default the setting's.")]
Solver = Annotated[str | None, typer.Option(help="Of generation; default the setting's.")]
Guidance = Annotated[float | None, typer.Option(help="Of text; default the setting's.")]
ConditionGuidance = Annotated[
    float | None, typer.Option(help="Of the condition; default the setting's.")
]
PerturbedGuidance = Annotated[float | None, typer.Option(help="Of shapes; default the setting's.")]


@dataclass(frozen=True)
class Tested:
    """What is measured, what measures it, and how a run is described.

    Attributes:
        subject: model and settings.
        judge: reads pictures.
        run: how much, where.
    """

    subject: "Subject"
    judge: "Judge"
    run: "Run"


def _add_condition(condition: Condition) -> None:
    """The command that measures one condition."""

    def command(
        scenes: Scenes = 500,
        seed: Seed = 0,
        json: Json = None,
        out: Out = Path("runs/evaluate"),
        batch: Batch = 25,
        base: Base = "mini",
        adapter: Adapter = None,
        probes: Probes = None,
        device: Device = None,
        dtype: Dtype = "float32",
        setting: Named = "default",
        steps: Steps = None,
        solver: Solver = None,
        guidance: Guidance = None,
        condition_guidance: ConditionGuidance = None,
        perturbed_guidance: PerturbedGuidance = None,
    ) -> None:
        from unicond.evaluation.condition_table import evaluate
        from unicond.evaluation.subject import Sampling

        wanted = _under(
            setting, Sampling(steps, solver, guidance, condition_guidance, perturbed_guidance)
        )
        tested = _prepare(
            scenes, seed, json, out, batch, base, adapter, probes, device, dtype, condition
        )
        subject = tested.subject.with_settings(wanted.generation, wanted.estimation)
        table, folder = evaluate(subject, tested.judge, tested.run, condition)
        finish(table, folder, json)

    both = f"{condition.name} in every direction: given, estimated, both from text, text alone."
    app.command(name=condition.name, help=both[0].upper() + both[1:])(command)


for _condition in CONDITIONS:
    _add_condition(_condition)


@app.command()
def settings(
    scenes: Scenes = 64,
    seed: Seed = 0,
    json: Json = None,
    out: Out = Path("runs/evaluate"),
    batch: Batch = 32,
    base: Base = "mini",
    adapter: Adapter = None,
    probes: Probes = None,
    device: Device = None,
    dtype: Dtype = "float32",
    condition: Annotated[
        str, typer.Option(help="Depth chooses the base's settings, others what suits them.")
    ] = "depth",
) -> None:
    """Choose default settings by measurement, on other scenes than those of the tables."""
    from unicond.evaluation.settings import sweep_settings

    chosen = named(condition)
    tested = _prepare(scenes, seed, json, out, batch, base, adapter, probes, device, dtype, chosen)
    table, folder = sweep_settings(tested.subject, tested.judge, tested.run, chosen)
    finish(table, folder, json)
    for what in ("best generation", "best estimation"):
        if what in table.settings:
            typer.echo(f"{what}: {table.settings[what]}")


def _under(setting: str, wanted: "Sampling") -> "Setting":
    """A named setting, but for what was asked by hand of generation."""
    from unicond.evaluation.condition_table import SETTINGS

    if setting not in SETTINGS:
        raise ValueError(f"--setting {setting!r} is not one of {', '.join(SETTINGS)}")
    chosen = SETTINGS[setting]
    own = {name: value for name, value in vars(wanted).items() if value is not None}
    try:
        return replace(chosen, generation=replace(chosen.generation, **own))
    except ValueError as error:
        raise ValueError(f"--setting {setting}: {error}") from None


def _prepare(
    scenes: int,
    seed: int,
    json: Path | None,
    out: Path,
    batch: int,
    base: str,
    adapter: str | None,
    probes: Path | None,
    device: str | None,
    dtype: str,
    condition: Condition,
) -> Tested:
    """Load what is measured and what measures it; bad folders are found before anything runs."""
    from unicond.cli.running import load_model
    from unicond.evaluation.condition_table import Run, command_line
    from unicond.evaluation.judge import load_judge
    from unicond.evaluation.subject import Subject, fingerprints

    check_places(out, json)
    judge = load_judge(probes, device)
    model = load_model(base, [adapter or condition.name], device, dtype)
    branch = _branch_of(model, condition, adapter)
    fingerprinted = fingerprints(model) | {"probes": judge.fingerprint}
    run = Run(scenes, seed, batch, out, command_line(sys.argv[1:]), fingerprinted)
    return Tested(Subject(model, branch), judge, run)


def _branch_of(model: "Model", condition: Condition, adapter: str | None) -> str:
    """The branch of a model that shows a condition, whatever it is called.

    Kinds that are no condition's here, as some of published adapters, are taken as they are asked.
    """
    kinds = {branch: loaded.adapter.config.kind for branch, loaded in model.adapters.items()}
    others = {one.shows for one in CONDITIONS} - {condition.shows}
    for branch, kind in kinds.items():
        if kind not in others:
            return branch
    shows = " and ".join(repr(kind) for kind in kinds.values())
    raise ValueError(
        f"--adapter {adapter}: {f'it shows {shows}' if kinds else 'no condition has it'}, but "
        f"{condition.name} is measured by an adapter of kind {condition.shows!r}: give one, or "
        "leave the option out for the embedded one"
    )


def check_places(out: Path, json: Path | None) -> None:
    """Refuse places that a table could not be written to, before anything is measured.

    Args:
        out: folder of all runs.
        json: a further file for the table.

    Raises:
        ValueError: one of them cannot be written.
    """
    from unicond.pictures.files import check_output_folder

    check_output_folder(out)
    if json is not None:
        check_output_folder(json.parent)
        if json.is_dir():
            raise ValueError(f"--json {json} is a folder; give a file, as {json / 'table.json'}")


def finish(table: "Table", folder: Path, json: Path | None) -> None:
    """Print the table, and say where its files are.

    Args:
        table: what was measured.
        folder: of its files.
        json: a further place for it.
    """
    from rich.console import Console

    from unicond.evaluation.tables import write_atomically

    if json is not None:
        write_atomically(json, table.to_json())
    console = Console()
    console.print(table.to_rich(f"{table.scenes} scenes, {table.seconds:.0f} s"))
    for found in table.findings:
        console.print(found.sentence, highlight=False, markup=False)
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    console.print(f"{folder}: {', '.join(files)}", highlight=False)
