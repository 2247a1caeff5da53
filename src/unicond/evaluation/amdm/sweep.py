"""Any manners of aggregation side by side: InteractDiffusion and MIGC on mini-MIG and on people.

Every combination of the mixes, means, windows, starts and weights that are asked for is a row
`sweep/<manner>`, beside `sweep/interact` and `sweep/migc`, with the numbers of `mig` but for times:
what a picture costs are `calls` and `network_rows`. To find a manner that is better than the
default, on few layouts, before the whole table is made.
"""

from functools import partial
from pathlib import Path

from unicond.aggregation.manner import Manner
from unicond.evaluation.amdm.cases import Maker, layouts, measures, people
from unicond.evaluation.amdm.layouts import layout
from unicond.evaluation.amdm.models import INTERACT, MIGC
from unicond.evaluation.amdm.part import Asked, Part, Pictures, grid, maker
from unicond.evaluation.amdm.rows import short_row, with_gains, with_loss, with_relations
from unicond.evaluation.report import save_plot
from unicond.evaluation.study import Bench
from unicond.evaluation.tables import Row, Table

SHOWN = 4


def name_of(manner: Manner) -> str:
    """Of a manner's row, and of its folder."""
    weight = "even" if manner.weights is None else "-".join(f"{each:g}" for each in manner.weights)
    return f"{manner.mix}-{manner.mean or 'none'}-{manner.written}-{manner.start}-{weight}"


def makers(bench: Bench, asked: Asked) -> dict[str, Maker]:
    """All rows' makers."""
    alone = {name: maker((name,), bench.generation) for name in (INTERACT, MIGC)}
    pair = (INTERACT, MIGC)
    both = {name_of(how): maker(pair, bench.generation, how) for how in asked.manners}
    return {**alone, **both}


def make_rows(bench: Bench, asked: Asked) -> list[Row]:
    """All rows."""
    made = makers(bench, asked)
    prepare = partial(layouts, bench, "sweep", asked.each, False)
    found = bench.measure("sweep", measures(made), prepare, asked.layouts)
    prepare = partial(people, bench, "sweep-people", 1, False)
    acted = bench.measure("sweep-people", measures(made), prepare, asked.scenes)
    rows: list[Row] = []
    for name in made:
        row = with_gains(short_row(f"sweep/{name}", found, name), found, name, INTERACT, INTERACT)
        row = with_relations(row, acted[name])
        rows.append(with_loss(row, acted, name, INTERACT))
    return rows


def show(bench: Bench, asked: Asked) -> Pictures:
    """The first layouts in every manner, from the same seeds."""
    numbers = range(min(SHOWN, asked.layouts))
    titles = [layout(bench.run.seed, number).entry.caption for number in numbers]
    return {"manners": grid(bench, "sweep", titles, list(makers(bench, asked)))}


def draw(table: Table, path: Path) -> Path:
    """Success and relations: a bar a row."""
    return save_plot(table, path, ("success", "relation"), f"manners, {table.scenes} layouts")


PART = Part(
    "sweep",
    "Manners of aggregation side by side, as --mix, --mean, --window, --start and --weight say.",
    (INTERACT, MIGC),
    make_rows,
    show,
    draw,
    Asked(layouts=40, each=1, scenes=40),
    sweeps=True,
)
