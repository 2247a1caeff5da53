"""InteractDiffusion with a style that a picture shows (IP-Adapter), and with MIGC's colours, too.

The layouts of mini-MIG, and the scenes of people who act, each with a picture of another scene in
one of the world's styles, which take turns; words say nothing of a style, nor of a photo.

    style_taken   share of pictures in which the probe reads the style that was shown
    success       as of mini-MIG
    relation      on the scenes of people who act

`truth` is the scenes themselves, drawn in the style; `paper` and `paper_three` are two and three
models in the paper's manner.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from unicond.aggregation.manner import PAPER_STYLE, PAPER_THREE, Manner
from unicond.evaluation.amdm.cases import REAL, layouts, measures, people, style_of
from unicond.evaluation.amdm.layouts import layout
from unicond.evaluation.amdm.models import INTERACT, MIGC, PAPER_STYLE_STEPS
from unicond.evaluation.amdm.part import Asked, Part, Pictures, grid, maker
from unicond.evaluation.amdm.rows import layout_row, with_relations, with_style
from unicond.evaluation.report import save_plot
from unicond.evaluation.study import Bench
from unicond.evaluation.tables import Row, Table
from unicond.tasks.together import STYLE

ROWS: Mapping[str, tuple[tuple[str, ...], Manner | None]] = {
    INTERACT: ((INTERACT,), None),
    STYLE: ((STYLE,), None),
    f"{INTERACT}+{STYLE}": ((INTERACT, STYLE), None),
    f"{INTERACT}+{MIGC}": ((INTERACT, MIGC), None),
    f"{INTERACT}+{MIGC}+{STYLE}": ((INTERACT, MIGC, STYLE), None),
    "paper": ((INTERACT, STYLE), PAPER_STYLE),
    "paper_three": ((INTERACT, MIGC, STYLE), PAPER_THREE),
}
"""{row: its models and how they become one; None is as is asked for}."""
SHOWN = 10


def make_rows(bench: Bench, sizes: Asked) -> list[Row]:
    """All rows."""
    makers = {
        name: maker(who, bench.generation, how or sizes.manner) for name, (who, how) in ROWS.items()
    }
    made = measures(makers)
    prepare = partial(layouts, bench, "style", sizes.each, True)
    found = bench.measure("style", made, prepare, sizes.layouts)
    prepare = partial(people, bench, "style-people", 1, True)
    acted = bench.measure("style-people", made, prepare, sizes.scenes)
    rows: list[Row] = []
    for name, measure in (*((each, each) for each in ROWS), ("truth", REAL)):
        row = layout_row(f"style/{name}", found, measure)
        rows.append(with_relations(with_style(row, found[measure]), acted[measure]))
    return rows


def show(bench: Bench, sizes: Asked) -> Pictures:
    """The first layouts, all rows, from the same seeds."""
    numbers = range(min(SHOWN, sizes.layouts))
    titles = [
        f"{style_of(number, True)}: {layout(bench.run.seed, number).entry.caption}"
        for number in numbers
    ]
    return {"styles": grid(bench, "style", titles, (REAL, *ROWS))}


def draw(table: Table, path: Path) -> Path:
    """Style, success and relations: a bar a row."""
    shown = ("style_taken", "success", "relation")
    return save_plot(table, path, shown, f"style, {table.scenes} layouts")


PART = Part(
    "style",
    "InteractDiffusion with a style that a picture shows, and with MIGC at once.",
    (INTERACT, MIGC, STYLE),
    make_rows,
    show,
    draw,
    Asked(layouts=100, each=1, scenes=100),
    (PAPER_STYLE_STEPS,),
)
