"""`unicond table amdm`: several models aggregated while they sample, measured part by part."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicond.cli.evaluate import (
    Base,
    Device,
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
    from unicond.evaluation.amdm.part import Part, Sizes
    from unicond.evaluation.tables import Table

PARTS = ("mig", "style", "pictures", "ablation", "features")
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
        min=1, max=10_000, help="Default 200 in mig, 100 in style, ablation and features."
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
        help="With people who act; default 200 in mig, 100 in style, 8 in pictures.",
    ),
]
Pages = Annotated[Path, typer.Option(help="Folder for the pages with pictures, JSON and CSV.")]


def amdm(
    part: Chosen = None,
    layouts: Layouts = None,
    per_layout: PerLayout = None,
    scenes: People = None,
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
    adapters = embedded_or_asked(adapter, adapters_of([n for one in chosen for n in one.models]))
    for one in chosen:
        one.check(list(adapters))
    check_places(out, json)
    check_output_folder(report)
    judge = load_judge(probes, device)
    told = [f"{name}={where}" for name, where in adapters.items()]
    model = load_model(base, told, device, "float32")
    settings = fingerprints(model) | {"probes": judge.fingerprint}
    command = command_line(sys.argv[1:])
    tables: list[Table] = []
    for one in chosen:
        sizes = _sizes(one, layouts, per_layout, scenes)
        own = {**settings, "pictures each": str(sizes.each)}
        count = sizes.scenes if one.of_scenes else sizes.layouts
        run = Run(count, seed, batch, out, command, own)
        sampling = Sampling(steps or one.steps, "ddim", guidance)
        bench = Bench(model, judge, run, sampling)
        table, folder = tabulate(one.study(sizes), bench)
        write_page(one, table, folder, one.show(bench, sizes), report / one.name)
        tables.append(table)
    whole = tables[0] if len(tables) == 1 else joined(tables, command)
    finish(whole, report / chosen[0].name, json)


def _sizes(
    part: "Part", layouts: int | None, per_layout: int | None, scenes: int | None
) -> "Sizes":
    """How much a part measures; what is not said is its own."""
    own = part.sizes
    return replace(
        own,
        layouts=layouts or own.layouts,
        each=per_layout or own.each,
        scenes=scenes or own.scenes,
    )
