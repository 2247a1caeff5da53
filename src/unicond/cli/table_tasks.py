"""`unicond table tasks`: the tasks that users name, measured on exact truth."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicond.cli.evaluate import Device, Dtype, Guidance, Json, Out, Probes, Seed, Steps, finish
from unicond.cli.table import Adapters, bench_of, beside

if TYPE_CHECKING:
    from unicond.evaluation.tables import Table
    from unicond.evaluation.tasks.group import Group

Groups = Annotated[
    list[str] | None, typer.Option("--group", help="A group of tasks; repeat; default all.")
]
Scenes = Annotated[
    int | None, typer.Option(min=1, help="Held-out scenes; default each group's own, 5 to 100.")
]
Batch = Annotated[int, typer.Option(min=1, help="Scenes at a time; what is kept if interrupted.")]
TaskBase = Annotated[
    str | None,
    typer.Option(
        "--base",
        help="'mini', 'mini-pixel', a folder, or a hub id; default each group's own: restoration "
        "mini-pixel, all others mini.",
    ),
]
OtherBase = Annotated[
    str | None,
    typer.Option(help="A second base for magic_fusion, else of one model: a folder, or a hub id."),
]
Report = Annotated[Path, typer.Option(help="Folder for the pages with pictures, JSON and CSV.")]


def tasks(
    group: Groups = None,
    scenes: Scenes = None,
    seed: Seed = 0,
    json: Json = None,
    report: Report = Path("reports/tasks"),
    out: Out = Path("runs/table"),
    batch: Batch = 5,
    base: TaskBase = None,
    other_base: OtherBase = None,
    adapter: Adapters = None,
    probes: Probes = None,
    device: Device = None,
    dtype: Dtype = "float32",
    steps: Steps = None,
    guidance: Guidance = None,
) -> None:
    """Tasks that users name on exact truth: edit, invert, restore, layout, compose, restyle."""
    from unicond.evaluation.condition_table import command_line
    from unicond.evaluation.study import tabulate
    from unicond.evaluation.tasks.group import joined
    from unicond.evaluation.tasks.page import write_contents, write_page
    from unicond.evaluation.tasks.registry import GROUPS, groups
    from unicond.pictures.files import check_output_folder

    chosen = groups(group or ())
    check_output_folder(report)
    if other_base is not None and not any(each.companion for each in chosen):
        able = " and ".join(each.name for each in GROUPS if each.companion)
        raise ValueError(f"--other-base is of {able} alone: choose one (--group), or drop it")
    tables: list[Table] = []
    for each in chosen:
        where, count = base or each.base, scenes or each.scenes
        told = adapter if each.needs else _taken(each, where, adapter)
        bench = bench_of(
            each.study, count, seed, json, out, batch, where, told, probes, device, dtype, steps
        )
        bench.generation = replace(bench.generation, guidance=guidance)
        if other_base is not None and each.companion:
            beside(bench, other_base, "photo", ["none"], device, dtype)
        table, folder = tabulate(each.study, bench)
        table = each.judged(table, bench)
        write_page(each, table, folder, each.show(bench), report / each.name)
        tables.append(table)
    write_contents(GROUPS, report)
    whole = joined(tables, command_line(sys.argv[1:]), [each.name for each in chosen])
    finish(whole, report, json)


def _taken(group: "Group", base: str, asked: list[str] | None) -> list[str]:
    """Of the adapters that a group can do without: those asked for, else those of `mini`."""
    from unicond.cli.running import shipped

    if asked is None:
        found = shipped(group.takes) if base == group.base else []
    else:
        found = [text for text in asked if text.partition("=")[0] in group.takes]
    return found or ["none"]
