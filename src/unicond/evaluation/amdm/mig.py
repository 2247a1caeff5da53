"""Mini-MIG: are things in their boxes and of their colours? And do people do what is asked?

Rows `interact`, `migc`, `interact+migc`, `paper` (the same two in the paper's manner), `gligen`,
`text`, and `truth`, the scenes themselves: what the probe sees of things that are in place.
InteractDiffusion is told classes, colours are in the caption alone: what it lacks is what MIGC has.
`relation` is measured on other scenes (`scenes`).

    success, miou        as COCO-MIG has them, over all instances and by level
    success_gain         success less that of `interact`; success_ratio over that of `text`
    relation_loss        `relation` of `interact` less that of the row
    placed               share of instances in their box, whatever their colour
    seconds, time_ratio  of one picture, and over those of `interact`; methods take turns on the
                         first layouts, several times

Differences and ratios are taken on the same layouts, so that their intervals are paired. `BARS`
says what is expected of them.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from unicond.aggregation.manner import PAPER, Manner
from unicond.evaluation.amdm.cases import REAL, Maker, layouts, measures, people, timed
from unicond.evaluation.amdm.layouts import layout
from unicond.evaluation.amdm.models import GLIGEN, INTERACT, MIGC
from unicond.evaluation.amdm.part import Asked, Part, Pictures, grid, maker
from unicond.evaluation.amdm.rows import (
    layout_row,
    with_gains,
    with_loss,
    with_relations,
    with_times,
)
from unicond.evaluation.bars import Bar, within
from unicond.evaluation.report import save_plot
from unicond.evaluation.study import Bench
from unicond.evaluation.tables import Row, Table
from unicond.tasks.together import TEXT

BOTH, TRUTH = f"{INTERACT}+{MIGC}", "truth"
ROWS: Mapping[str, tuple[tuple[str, ...], Manner | None]] = {
    INTERACT: ((INTERACT,), None),
    MIGC: ((MIGC,), None),
    BOTH: ((INTERACT, MIGC), None),
    "paper": ((INTERACT, MIGC), PAPER),
    GLIGEN: ((GLIGEN,), None),
    TEXT: ((TEXT,), None),
}
"""{row: its models, and how they become one; None is as is asked for}."""
TIMED = 20
"""Layouts on which methods take turns to be timed."""
SHOWN = 10
"""Layouts that are shown."""
_WORTH = ("success", "placed")
BARS = (
    Bar(
        "aggregated with MIGC, InteractDiffusion gains at least 15 points of success",
        within(BOTH, "success_gain", low=0.15),
        "what each of them has, and the scenes themselves",
        tuple((name, metric) for name in (INTERACT, MIGC, BOTH, TRUTH) for metric in _WORTH),
    ),
    Bar(
        "it takes at most 1.10 times the time",
        within(BOTH, "time_ratio", high=1.10),
        "what a picture costs",
        tuple((name, metric) for name in (INTERACT, BOTH) for metric in ("seconds", "calls")),
    ),
    Bar(
        "it loses at most 5 points of relation",
        within(BOTH, "relation_loss", high=0.05),
        "how often relations hold",
        tuple((name, "relation") for name in (INTERACT, MIGC, BOTH, TEXT, TRUTH)),
    ),
    Bar(
        "InteractDiffusion alone has at least 1.5 times the success of text alone",
        within(INTERACT, "success_ratio", low=1.5),
        "how many things are in their boxes, and how many of them have their colour",
        tuple((name, metric) for name in (INTERACT, TEXT) for metric in _WORTH),
    ),
)
PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "InteractDiffusion": (
        *(31.87, 26.66, 23.90, 23.37, 23.85, 24.96),
        *(27.99, 24.13, 21.45, 21.51, 21.16, 22.44),
        18.76,
    ),
    "InteractDiffusion (+MIGC)": (
        *(57.18, 52.91, 52.65, 49.62, 47.39, 50.81),
        *(50.73, 45.54, 44.66, 43.54, 43.23, 44.69),
        19.45,
    ),
}
"""AMDM's table 1, of COCO-MIG: success in percent at L2 to L6 and on average, mIoU likewise, and
seconds."""


def makers(bench: Bench, manner: Manner) -> dict[str, Maker]:
    """All rows' makers."""
    return {
        name: maker(models, bench.generation, own or manner) for name, (models, own) in ROWS.items()
    }


def make_rows(bench: Bench, sizes: Asked) -> list[Row]:
    """All rows."""
    made = makers(bench, sizes.manner)
    prepare = partial(layouts, bench, "mig", sizes.each, False)
    found = bench.measure("mig", measures(made), prepare, sizes.layouts)
    prepare = partial(people, bench, "people", 1, False)
    acted = bench.measure("people", measures(made), prepare, sizes.scenes)
    prepare = partial(layouts, bench, "times", 1, False)
    times = bench.measure("times", [timed(made)], prepare, min(TIMED, sizes.layouts))["times"]
    rows: list[Row] = []
    for name in (*ROWS, TRUTH):
        measure = REAL if name == TRUTH else name
        row = layout_row(name, found, measure)
        if name != TRUTH:
            row = with_gains(with_times(row, times, name, INTERACT), found, name, INTERACT, TEXT)
        row = with_relations(row, acted[measure])
        rows.append(with_loss(row, acted, measure, INTERACT))
    return rows


def show(bench: Bench, sizes: Asked) -> Pictures:
    """The first layouts, all rows, from the same seeds."""
    titles = [
        layout(bench.run.seed, number).entry.caption for number in range(min(SHOWN, sizes.layouts))
    ]
    return {"layouts": grid(bench, "mig", titles, (REAL, *ROWS))}


def draw(table: Table, path: Path) -> Path:
    """Success, mIoU, relations and time: a bar a row."""
    shown = ("success", "miou", "relation", "time_ratio")
    return save_plot(table, path, shown, f"mini-MIG, {table.scenes} layouts")


def _published() -> str:
    """The paper's table 1 as HTML."""
    levels = [f"L{level}" for level in range(2, 7)]
    heads = [*(f"success {name}" for name in (*levels, "avg")), *(f"mIoU {n}" for n in levels)]
    heads += ["mIoU avg", "seconds"]
    lines = [f"<tr><th>method</th>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"]
    for name, numbers in PUBLISHED.items():
        cells = "".join(f"<td>{number:.2f}</td>" for number in numbers)
        lines.append(f"<tr><td>{name}</td>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


PART = Part(
    "mig",
    "Layouts like COCO-MIG's on held-out scenes, all seven colours, levels 2 to 6 in equal parts; "
    "and interactions on other held-out scenes.",
    (INTERACT, MIGC, GLIGEN),
    make_rows,
    show,
    draw,
    Asked(layouts=200, each=4, scenes=200),
    version="3",
    beside={"AMDM's table 1 (COCO-MIG, Stable Diffusion, percent)": _published()},
    bars=BARS,
)
