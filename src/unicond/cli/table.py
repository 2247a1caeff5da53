"""`unicond table`: studies of one model under settings that vary, made like `evaluate`'s tables."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicond.cli.evaluate import (
    Base,
    Batch,
    Device,
    Dtype,
    Json,
    Out,
    Probes,
    Scenes,
    Seed,
    Steps,
    check_places,
    finish,
)
from unicond.cli.train import Preset, Runs
from unicond.conditions import CONDITIONS, named

if TYPE_CHECKING:
    from unicond.evaluation.study import Bench, Study

app = typer.Typer(
    help="Compare settings: parts, guidance, several adapters, schedules, costs.",
    no_args_is_help=True,
)

NAMES = {
    "parts": "Image and condition known in part: replacement alone, guided, with an optimiser.",
    "guide": "Depth guidance: image and depth from text, steered to a depth; weights swept.",
    "company": "Several adapters at once: each condition alone and in company.",
    "scales": "Condition guidance and joint scale swept: fidelity, text, quality.",
    "schedules": "Both together, one ahead, one clean: at equal network calls.",
    "held": "Held branches two-way, one-way, aligned, refreshed: fidelity against cost.",
    "steps": "Estimation in 1, 2, 4 and 20 steps.",
    "styles": "Unchanged adapters on another base, beside their own.",
}
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        help="Condition, or CONDITION=FOLDER (or hub id); several times for several. Default: "
        "those that the table needs, else all embedded ones.",
    ),
]
OtherBase = Annotated[str | None, typer.Option(help="The second base: a folder, or a hub id.")]
OtherStyle = Annotated[str, typer.Option(help="Style of the second base's scenes: photo, toon...")]

Weights = Annotated[
    Path | None,
    typer.Option(help="Folder with the base, mini/; default runs/weights, else the embedded."),
]
Minutes = Annotated[
    float | None,
    typer.Option(min=0.01, help="Of a whole run; default a quarter of the adapter's."),
]
TrainSteps = Annotated[int | None, typer.Option(min=1, help="Of a whole run, in place of minutes.")]
TrainScenes = Annotated[int | None, typer.Option(min=1, help="Of a whole run; default 16384.")]
Only = Annotated[
    list[str] | None, typer.Option(help="A run; several times for several; default all.")
]


def _add_study(name: str, about: str) -> None:
    """The command of one study."""

    def command(
        scenes: Scenes = 500,
        seed: Seed = 0,
        json: Json = None,
        out: Out = Path("runs/table"),
        batch: Batch = 25,
        base: Base = "mini",
        adapter: Adapters = None,
        probes: Probes = None,
        device: Device = None,
        dtype: Dtype = "float32",
        steps: Steps = None,
    ) -> None:
        study = _study(name)
        bench = bench_of(
            study, scenes, seed, json, out, batch, base, adapter, probes, device, dtype, steps
        )
        _make(study, bench, json)

    app.command(name=name, help=about)(command)


for _name, _about in NAMES.items():
    if _name != "styles":
        _add_study(_name, _about)


@app.command(help=NAMES["styles"])
def styles(
    other_base: OtherBase = None,
    other_style: OtherStyle = "photo",
    scenes: Scenes = 500,
    seed: Seed = 0,
    json: Json = None,
    out: Out = Path("runs/table"),
    batch: Batch = 25,
    base: Base = "mini",
    adapter: Adapters = None,
    probes: Probes = None,
    device: Device = None,
    dtype: Dtype = "float32",
    steps: Steps = None,
) -> None:
    """Unchanged adapters on another base, beside their own."""
    from unicond.world.vocabulary import STYLES, check_word

    if other_base is None:
        raise ValueError("table styles compares two bases: give the second by --other-base FOLDER")
    check_word(other_style, STYLES, "--other-style")
    study = _study("styles")
    bench = bench_of(
        study, scenes, seed, json, out, batch, base, adapter, probes, device, dtype, steps
    )
    same = [f"{branch}={loaded.source}" for branch, loaded in bench.model.adapters.items()]
    beside(bench, other_base, other_style, same, device, dtype)
    _make(study, bench, json)


@app.command()
def ablation(
    scenes: Scenes = 500,
    seed: Seed = 0,
    json: Json = None,
    out: Out = Path("runs/table"),
    batch: Batch = 25,
    probes: Probes = None,
    device: Device = None,
    dtype: Dtype = "float32",
    steps: Steps = None,
    preset: Preset = "mini",
    weights: Weights = None,
    runs: Runs = Path("runs"),
    minutes: Minutes = None,
    train_steps: TrainSteps = None,
    train_scenes: TrainScenes = None,
    only: Only = None,
) -> None:
    """UniCon's ablations in miniature: trains short runs, each lacking something; measures them."""
    from unicond.backbones.files import EMBEDDED
    from unicond.cli.running import load_model
    from unicond.cli.train import _reported
    from unicond.evaluation.condition_table import Run, command_line
    from unicond.evaluation.judge import load_judge
    from unicond.evaluation.study import Bench, tabulate
    from unicond.evaluation.study_ablation import Ablation, ablation_study
    from unicond.evaluation.subject import Sampling, fingerprints
    from unicond.training.ablation import VARIANTS
    from unicond.training.workshop import Workshop

    if minutes is not None and train_steps is not None:
        raise ValueError("give --minutes or --train-steps, not both")
    check_places(out, json)
    names = tuple(dict.fromkeys(("full", *(only or VARIANTS))))
    judge = load_judge(probes, device)
    weights = _with_base(weights)
    base = "mini" if weights == EMBEDDED else str(weights / "mini")
    model = load_model(base, ["none"], device, dtype)
    told = {"preset": preset, "minutes": minutes, "steps": train_steps, "scenes": train_scenes}
    settings = {f"training {key}": str(value) for key, value in told.items() if value is not None}
    settings |= fingerprints(model) | {"probes": judge.fingerprint, "runs": " ".join(names)}
    run = Run(scenes, seed, batch, out, command_line(sys.argv[1:]), settings)
    bench = Bench(model, judge, replace(run, quiet=True), Sampling(steps=steps))
    with _reported() as report:
        shop = Workshop(
            preset=preset,
            weights=weights,
            runs=runs,
            cache=runs / "cache",
            minutes=minutes,
            steps=train_steps,
            scenes=train_scenes,
            report=report,
        )
        study = ablation_study(Ablation(shop, names))
        table, folder = tabulate(study, bench)
    finish(table, folder, json)


def _with_base(asked: Path | None) -> Path:
    """The folder with the base: asked for, else of trainings here, else what ships."""
    from unicond.backbones.files import EMBEDDED

    trained = Path("runs/weights")
    return asked or (trained if (trained / "mini").is_dir() else EMBEDDED)


def _study(name: str) -> "Study":
    """A study by its name."""
    from unicond.evaluation.studies import STUDIES

    return next(study for study in STUDIES if study.name == name)


def _make(study: "Study", bench: "Bench", json: Path | None) -> None:
    from unicond.evaluation.study import tabulate

    table, folder = tabulate(study, bench)
    finish(table, folder, json)


def bench_of(
    study: "Study",
    scenes: int,
    seed: int,
    json: Path | None,
    out: Path,
    batch: int,
    base: str,
    adapters: list[str] | None,
    probes: Path | None,
    device: str | None,
    dtype: str,
    steps: int | None,
) -> "Bench":
    """Load what is measured and what measures it; what is missing is said before anything runs."""
    from unicond.cli.running import load_model
    from unicond.evaluation.condition_table import Run, command_line
    from unicond.evaluation.judge import load_judge
    from unicond.evaluation.study import Bench
    from unicond.evaluation.subject import Sampling, fingerprints

    wanted = {} if adapters == ["none"] else adapters_of(study, adapters)
    study.check(wanted)
    check_places(out, json)
    judge = load_judge(probes, device)
    named_ = [f"{k}={v}" for k, v in wanted.items()] or ["none"]
    model = load_model(base, named_, device, dtype)
    settings = fingerprints(model) | {"probes": judge.fingerprint}
    run = Run(scenes, seed, batch, out, command_line(sys.argv[1:]), settings)
    return Bench(model, judge, run, Sampling(steps=steps))


def adapters_of(study: "Study", asked: list[str] | None) -> dict[str, str]:
    """The adapters that a study is made with.

    Args:
        study: which; it may need some.
        asked: conditions or methods of grounding, or either=where; None is what the study needs or
            usually takes, and else everything embedded. What a study needs and is not named is
            taken if embedded.

    Returns:
        {branch: where its adapter is loaded from}.

    Raises:
        ValueError: not such a name, or one that is given twice.
    """
    from unicond.cli.running import pairs, shipped
    from unicond.tasks.layout import GROUNDED

    ships = shipped(c.name for c in CONDITIONS)
    usual = study.needs or study.usual or tuple(ships)
    told = [text if "=" in text else f"{text}={text}" for text in asked or ()]
    given = dict(pairs(told, "--adapter"))
    names = [*given, *(name for name in (study.needs if given else usual) if name in ships)]
    branches = {name: name if name in GROUNDED else named(name).branch for name in names}
    return {branch: given.get(name, name) for name, branch in branches.items()}


def beside(
    bench: "Bench", base: str, style: str, adapters: list[str], device: str | None, dtype: str
) -> None:
    """Load a second base, whose weights the numbers depend on, too.

    Args:
        bench: gets it.
        base: which.
        style: of the scenes that it is measured on.
        adapters: of it.
        device: where it runs.
        dtype: of its weights.
    """
    from unicond.cli.running import load_model
    from unicond.evaluation.study import Other
    from unicond.evaluation.subject import fingerprints

    bench.other = Other(load_model(base, adapters, device, dtype), style)
    other = fingerprints(bench.other.model)
    known = {f"other {part}": digits for part, digits in other.items()}
    bench.run = replace(bench.run, settings={**bench.run.settings, **known})
