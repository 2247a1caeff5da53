"""Which moves make which features? The aggregation's window at other places, of one length.

The paper infers that position, attributes and style are made in the early steps, quality later.
Rows `features/migc/<first move>` aggregate MIGC into InteractDiffusion on the layouts of mini-MIG,
rows `features/style/<first move>` a style that a picture shows:

    placed        share of instances in their box
    colored       share of boxes in which the thing that is there has its colour
    style_taken   share of pictures in which the probe reads the style that was shown
    relation      share of relations that hold where people act, `relation_loss` what lacks to that
                  without the other
    fid           Frechet distance of the probe's features to the scenes'

A window takes calls of the other model in its own moves alone where that joins the first one.
`features/migc/alone` and `features/style/alone` are InteractDiffusion without the other.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from unicond.aggregation.manner import Manner, Place
from unicond.evaluation.amdm.cases import Maker, layouts, measures, people
from unicond.evaluation.amdm.layouts import layout
from unicond.evaluation.amdm.models import INTERACT, MIGC, steps_of, window_of
from unicond.evaluation.amdm.part import Asked, Part, Pictures, grid, maker
from unicond.evaluation.amdm.rows import short_row, with_loss, with_relations, with_style
from unicond.evaluation.curves import Panel, save_curves
from unicond.evaluation.study import Bench
from unicond.evaluation.tables import Row, Table
from unicond.tasks.together import STYLE

LENGTH = 3
"""Moves of a window, as published."""
PLACES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
"""Where windows begin, as shares of the moves."""
OTHERS = {MIGC: False, STYLE: True}
"""{what is aggregated into InteractDiffusion: whether a style is shown}."""
ALONE = "alone"
SHOWN = 4


def starts(steps: int, first: int) -> tuple[int, ...]:
    """The first moves of the windows; none before the first one that can be aggregated."""
    last = max(first, steps - LENGTH)
    return tuple(dict.fromkeys(min(last, max(first, round(share * steps))) for share in PLACES))


def makers(bench: Bench, other: str, manner: Manner) -> dict[str, Maker]:
    """{first move: its maker}, and InteractDiffusion alone."""
    sampling, model = bench.generation, bench.model
    steps = steps_of(model, sampling)
    first = int(window_of(model, sampling, replace(manner, window=Place(1))).from_t)
    made = {ALONE: maker((INTERACT,), sampling)}
    for start in starts(steps, first):
        window = (start, min(start + LENGTH, steps))
        made[str(start)] = maker((INTERACT, other), sampling, replace(manner, window=window))
    return made


def make_rows(bench: Bench, asked: Asked) -> list[Row]:
    """All rows."""
    rows: list[Row] = []
    for other, styled in OTHERS.items():
        made = makers(bench, other, asked.manner)
        part = f"features-{other}"
        prepare = partial(layouts, bench, part, asked.each, styled)
        found = bench.measure(part, measures(made), prepare, asked.layouts)
        prepare = partial(people, bench, f"{part}-people", 1, styled)
        acted = bench.measure(f"{part}-people", measures(made), prepare, asked.scenes)
        for name in made:
            row = short_row(f"features/{other}/{name}", found, name)
            row = with_style(row, found[name]) if styled else row
            row = with_loss(with_relations(row, acted[name]), acted, name, ALONE)
            facts = {} if name == ALONE else {"first_move": float(name)}
            rows.append(replace(row, metrics={**row.metrics, **facts}))
    return rows


def show(bench: Bench, asked: Asked) -> Pictures:
    """The first layouts with every window, from the same seeds."""
    numbers = range(min(SHOWN, asked.layouts))
    titles = [layout(bench.run.seed, number).entry.caption for number in numbers]
    return {
        other: grid(bench, f"features-{other}", titles, list(makers(bench, other, asked.manner)))
        for other in OTHERS
    }


def draw(table: Table, path: Path) -> Path:
    """Each metric over the first move of the window; without aggregation as a level."""
    panels: list[Panel] = []
    for other, metric in (
        *((MIGC, metric) for metric in ("placed", "colored", "success", "relation", "fid")),
        *((STYLE, metric) for metric in ("style_taken", "relation", "fid")),
    ):
        start = f"features/{other}/"
        rows = [row for row in table.rows if row.name.startswith(start)]
        swept = [row for row in rows if "first_move" in row.metrics]
        if any(metric in row.metrics for row in swept):
            level = {ALONE: table.row(start + ALONE)}
            panels.append(Panel("first_move", metric, {other: swept}, level))
    return save_curves(panels, path, f"the window's place, {table.scenes} layouts")


PART = Part(
    "features",
    "The window of the aggregation at other places: which moves make position, colours, relations, "
    "style.",
    (INTERACT, MIGC, STYLE),
    make_rows,
    show,
    draw,
    Asked(layouts=100, each=1, scenes=100),
)
