"""`unicond table amdm`: several models aggregated while they sample, measured part by part."""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicond.cli.evaluate import (
    Base,
    Device,
    Dtype,
    Guidance,
    Json,
    Out,
    Probes,
    Seed,
    Steps,
    check_places,
    finish,
)

if TYPE_CHECKING:
    from unicond.aggregation.manner import Manner
    from unicond.evaluation.amdm.part import Asked, Part
    from unicond.evaluation.tables import Table

PARTS = ("mig", "style", "pictures", "ablation", "features", "sweep")
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        help="NAME=FOLDER (or hub id) of interact, migc, gligen, image-prompt; several times for "
        "several. Default: the embedded ones.",
    ),
]
Chosen = Annotated[
    list[str] | None,
    typer.Option("--part", help=f"{', '.join(PARTS)}; repeat; default mig."),
]
Layouts = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=10_000,
        help="Default 200 in mig, 100 in style, ablation and features, 40 in sweep, 8 in pictures.",
    ),
]
PerLayout = Annotated[
    int | None,
    typer.Option(min=1, max=100, help="Pictures a layout; default 4 in mig, 1 in others."),
]
People = Annotated[
    int | None,
    typer.Option(
        "--scenes",
        min=1,
        max=10_000,
        help="With people who act; default 200 in mig, 100 in style, ablation and features, 40 in "
        "sweep, 8 in pictures.",
    ),
]
Several = "; several are for --part sweep, which makes them all"
Mixes = Annotated[list[str] | None, typer.Option("--mix", help=f"As of aggregate{Several}.")]
Means = Annotated[list[str] | None, typer.Option("--mean", help=f"As of aggregate{Several}.")]
Windows = Annotated[list[str] | None, typer.Option("--window", help=f"As of aggregate{Several}.")]
Starts = Annotated[list[str] | None, typer.Option("--start", help=f"As of aggregate{Several}.")]
Weights = Annotated[
    list[float] | None,
    typer.Option("--weight", min=0, max=1, help=f"Of the first of two models{Several}."),
]
Pages = Annotated[Path, typer.Option(help="Folder for the pages with pictures, JSON and CSV.")]


def amdm(
    part: Chosen = None,
    layouts: Layouts = None,
    per_layout: PerLayout = None,
    scenes: People = None,
    mix: Mixes = None,
    mean: Means = None,
    window: Windows = None,
    start: Starts = None,
    weight: Weights = None,
    seed: Seed = 0,
    json: Json = None,
    report: Pages = Path("reports/amdm"),
    out: Out = Path("runs/table"),
    batch: Annotated[
        int, typer.Option(min=1, help="Cases at a time; what is kept if interrupted.")
    ] = 5,
    base: Base = "mini",
    adapter: Adapters = None,
    probes: Probes = None,
    device: Device = None,
    dtype: Dtype = "float32",
    steps: Steps = None,
    guidance: Guidance = None,
) -> None:
    """Several models aggregated while they sample (AMDM): colours, interactions, styles."""
    from unicond.cli.running import embedded_or_asked, load_model
    from unicond.evaluation.amdm.models import adapters_of
    from unicond.evaluation.amdm.page import write_page
    from unicond.evaluation.amdm.parts import parts
    from unicond.evaluation.condition_table import Run, command_line
    from unicond.evaluation.judge import load_judge
    from unicond.evaluation.study import Bench, tabulate
    from unicond.evaluation.subject import Sampling, fingerprints
    from unicond.evaluation.tasks.group import joined
    from unicond.pictures.files import check_output_folder

    chosen = parts(part or ["mig"])
    manners = manners_of(mix, mean, window, start, weight)
    adapters = embedded_or_asked(adapter, adapters_of([n for one in chosen for n in one.models]))
    for one in chosen:
        one.check(list(adapters), len(manners))
    check_places(out, json)
    check_output_folder(report)
    judge = load_judge(probes, device)
    named = [f"{name}={where}" for name, where in adapters.items()]
    model = load_model(base, named, device, dtype)
    for one in chosen:
        one.check_windows(model, manners, steps)
    settings = fingerprints(model) | {"probes": judge.fingerprint}
    command = command_line(sys.argv[1:])
    tables: list[Table] = []
    for one in chosen:
        sizes = _sizes(one, layouts, per_layout, scenes, manners)
        told = " | ".join(each.label() for each in manners)
        own = {**settings, "pictures each": str(sizes.each), "manner": told}
        count = sizes.scenes if one.of_scenes else sizes.layouts
        run = Run(count, seed, batch, out, command, own)
        usual = one.steps[0] if len(one.steps) == 1 else None
        sampling = Sampling(steps or usual, "ddim", guidance)
        bench = Bench(model, judge, run, sampling)
        table, folder = tabulate(one.study(sizes), bench)
        write_page(one, table, folder, one.show(bench, sizes), report / one.name)
        tables.append(table)
    whole = tables[0] if len(tables) == 1 else joined(tables, command, [one.name for one in chosen])
    finish(whole, report / chosen[0].name, json)


def _sizes(
    part: "Part",
    layouts: int | None,
    per_layout: int | None,
    scenes: int | None,
    manners: "tuple[Manner, ...]",
) -> "Asked":
    """How much a part measures; what is not said is its own."""
    own = part.sizes
    return replace(
        own,
        layouts=layouts or own.layouts,
        each=per_layout or own.each,
        scenes=scenes or own.scenes,
        manners=manners,
    )


def manners_of(
    mixes: list[str] | None,
    means: list[str] | None,
    windows: list[str] | None,
    starts: list[str] | None,
    weights: list[float] | None,
) -> "tuple[Manner, ...]":
    """Every combination of what is asked for; what is not is the default's."""
    from unicond.aggregation.manner import DEFAULT
    from unicond.cli.manners import mean_of, mix_of, start_of, window_of

    found = [
        replace(DEFAULT, mix=mix, mean=mean, window=window, start=start, weights=weight)
        for mix, mean, window, start, weight in product(
            [mix_of(each) for each in mixes or [DEFAULT.mix]],
            [mean_of(each) for each in means or [DEFAULT.mean or "none"]],
            [window_of(each) for each in windows or [DEFAULT.written]],
            [start_of(each) for each in starts or [DEFAULT.start]],
            [DEFAULT.weights] if weights is None else [(each,) for each in weights],
        )
    ]
    for each in found:
        if each.start == "joined" and each.mean == "released":
            raise ValueError(
                "--mean released reuses what each model said before, but with --start joined it "
                "has said nothing: give --start own or shared"
            )
    return tuple(dict.fromkeys(found))
