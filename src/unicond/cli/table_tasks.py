"""`unicond table tasks`: the tasks that users name, measured on exact truth."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unicond.cli.evaluate import Device, Dtype, Guidance, Json, Out, Probes, Seed, Steps, finish
from unicond.cli.table import Adapters, bench_of, beside

if TYPE_CHECKING:
    from unicond.evaluation.study import Bench
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
    from unicond.evaluation.tasks.group import joined
    from unicond.evaluation.tasks.page import write_contents
    from unicond.evaluation.tasks.registry import GROUPS, groups
    from unicond.pictures.files import check_output_folder

    chosen = groups(group or ())
    _check(chosen, other_base, adapter)
    check_output_folder(report)

    def bench(each: "Group") -> "Bench":
        where, count = base or each.base, scenes or each.scenes
        told = _taken(each, where, adapter)
        made = bench_of(
            each.study, count, seed, json, out, batch, where, told, probes, device, dtype, steps
        )
        made.generation = replace(made.generation, guidance=guidance)
        if other_base is not None and each.companion:
            beside(made, other_base, "photo", ["none"], device, dtype)
        return made

    for each in chosen[1:]:
        bench(each)  # what cannot be loaded is told before any group is measured
    tables = [_measured(each, bench(each), report) for each in chosen]
    write_contents(GROUPS, report)
    whole = joined(tables, command_line(sys.argv[1:]), [each.name for each in chosen])
    finish(whole, report, json)


def _check(chosen: Sequence["Group"], other_base: str | None, adapters: list[str] | None) -> None:
    """Refuse a second base, and adapters, that no group would be measured with."""
    from unicond.evaluation.tasks.registry import GROUPS

    if other_base is not None and not any(each.companion for each in chosen):
        able = " and ".join(each.name for each in GROUPS if each.companion)
        raise ValueError(f"--other-base is of {able} alone: choose one (--group), or drop it")
    names = dict.fromkeys(name for each in chosen for name in each.adapters)
    for name in (text.partition("=")[0] for text in adapters or ()):
        if name not in (*names, "none"):
            able = [each.name for each in GROUPS if name in each.adapters]
            advice = f"choose {' or '.join(able)} (--group), or drop it" if able else "drop it"
            raise ValueError(
                f"--adapter {name}: no chosen group takes it, but {', '.join(names) or 'none'}; "
                f"{advice}"
            )


def _measured(group: "Group", bench: "Bench", report: Path) -> "Table":
    """The table of a group, whose page is written."""
    from unicond.evaluation.study import tabulate
    from unicond.evaluation.tasks.page import write_page

    table, folder = tabulate(group.study, bench)
    table = group.noted(table, bench)
    write_page(group, table, folder, group.show(bench), report / group.name)
    return table


def _taken(group: "Group", base: str, asked: list[str] | None) -> list[str] | None:
    """The adapters of a group: those asked for, else those that it needs, or takes of `mini`."""
    from unicond.cli.running import shipped

    if asked is not None:
        found = [text for text in asked if text.partition("=")[0] in group.adapters]
    elif group.needs:
        return None
    else:
        found = shipped(group.takes) if base == group.base else []
    return found or ["none"]
