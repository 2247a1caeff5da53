"""The paper's figures 4 to 6: the same scenes and seeds by each model and by their aggregation.

    figure 4   InteractDiffusion, MIGC, both: who does what, and in which colours
    figure 5   InteractDiffusion, IP-Adapter, both: who does what, and in which style
    figure 6   all three

Each aggregation is made as is asked for, and in the paper's manner (`paper`). Rows
`pictures/<figure>/<models>` have `relation` and `style_taken` on the scenes that are shown.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from unicond.aggregation.manner import PAPER, PAPER_STYLE, PAPER_THREE, Manner
from unicond.evaluation.amdm.cases import REAL, measures, people
from unicond.evaluation.amdm.models import INTERACT, MIGC, PAPER_STEPS, PAPER_STYLE_STEPS
from unicond.evaluation.amdm.part import Asked, Part, Pictures, grid, maker
from unicond.evaluation.amdm.rows import with_costs, with_relations, with_style
from unicond.evaluation.amdm.scenes import acting
from unicond.evaluation.report import save_plot
from unicond.evaluation.sheet import KEPT
from unicond.evaluation.study import Bench
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.tasks.together import STYLE

PUBLISHED = "paper"
FIGURES: Mapping[str, tuple[tuple[str, ...], Manner, bool, int]] = {
    "figure_4": ((INTERACT, MIGC), PAPER, False, PAPER_STEPS),
    "figure_5": ((INTERACT, STYLE), PAPER_STYLE, True, PAPER_STYLE_STEPS),
    "figure_6": ((INTERACT, MIGC, STYLE), PAPER_THREE, True, PAPER_STYLE_STEPS),
}
"""{figure: (models, the paper's manner, whether a style is shown, moves)}."""


def columns(figure: str) -> list[str]:
    """Each model, their aggregation, and that in the paper's manner."""
    models, *_ = FIGURES[figure]
    return [*models, "+".join(models), PUBLISHED]


def make_rows(bench: Bench, sizes: Asked) -> list[Row]:
    """Make all pictures."""
    rows: list[Row] = []
    for figure, (models, paper, styled, steps) in FIGURES.items():
        told = bench.generation
        sampling = Sampling(told.steps or steps, told.solver, told.guidance)
        made = {one: maker((one,), sampling) for one in models}
        made["+".join(models)] = maker(models, sampling, sizes.manner)
        made[PUBLISHED] = maker(models, sampling, paper)
        prepare = partial(people, bench, figure, 1, styled)
        found = bench.measure(figure, measures(made), prepare, sizes.scenes)
        for name in made:
            row = with_relations(Row(f"pictures/{figure}/{name}", {}), found[name])
            rows.append(with_costs(with_style(row, found[name]), found[name]))
    return rows


def show(bench: Bench, sizes: Asked) -> Pictures:
    """The figures: the scene, every model, their aggregation."""
    numbers = range(min(sizes.scenes, KEPT))
    titles = [acting(bench.run.seed, number).caption for number in numbers]
    return {figure: grid(bench, figure, titles, (REAL, *columns(figure))) for figure in FIGURES}


def draw(table: Table, path: Path) -> Path:
    """Relations and styles: a bar a row."""
    shown = ("relation", "style_taken")
    return save_plot(table, path, shown, f"pictures, {table.scenes} scenes")


PART = Part(
    "pictures",
    "The paper's figures 4 to 6: models and their aggregation, from the same seeds.",
    (INTERACT, MIGC, STYLE),
    make_rows,
    show,
    draw,
    Asked(layouts=8, each=1, scenes=8),
    steps=(PAPER_STEPS, PAPER_STYLE_STEPS),
    of_scenes=True,
)
