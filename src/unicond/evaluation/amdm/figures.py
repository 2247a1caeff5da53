"""The paper's figures 4 to 6: the same scenes and seeds by each model and by their aggregation.

    figure 4   InteractDiffusion, MIGC, both: who does what, and in which colours
    figure 5   InteractDiffusion, IP-Adapter, both: who does what, and in which style
    figure 6   all three

Rows `pictures/<figure>/<models>` have `relation` and `style_taken` on the scenes that are shown.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from unicond.evaluation.amdm.cases import REAL, measures, people
from unicond.evaluation.amdm.models import (
    INTERACT,
    MIGC,
    PAPER,
    PAPER_STEPS,
    PAPER_STYLE,
    PAPER_STYLE_STEPS,
    PAPER_THREE,
    Manner,
)
from unicond.evaluation.amdm.part import Part, Pictures, Sizes, grid, maker
from unicond.evaluation.amdm.rows import with_costs, with_relations, with_style
from unicond.evaluation.amdm.scenes import acting
from unicond.evaluation.report import save_plot
from unicond.evaluation.sheet import KEPT
from unicond.evaluation.study import Bench
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.tasks.together import STYLE

FIGURES: Mapping[str, tuple[Mapping[tuple[str, ...], Manner], bool, int]] = {
    "figure_4": (
        {(INTERACT,): PAPER, (MIGC,): PAPER, (INTERACT, MIGC): PAPER},
        False,
        PAPER_STEPS,
    ),
    "figure_5": (
        {(INTERACT,): PAPER, (STYLE,): PAPER_STYLE, (INTERACT, STYLE): PAPER_STYLE},
        True,
        PAPER_STYLE_STEPS,
    ),
    "figure_6": (
        {
            (INTERACT,): PAPER,
            (MIGC,): PAPER,
            (STYLE,): PAPER_STYLE,
            (INTERACT, MIGC, STYLE): PAPER_THREE,
        },
        True,
        PAPER_STYLE_STEPS,
    ),
}
"""{figure: ({models: how they become one}, whether a style is shown, moves)}."""


def make_rows(bench: Bench, sizes: Sizes) -> list[Row]:
    """Make all pictures."""
    rows: list[Row] = []
    for figure, (each, styled, steps) in FIGURES.items():
        told = bench.generation
        sampling = Sampling(told.steps or steps, told.solver, told.guidance)
        made = {"+".join(who): maker(who, sampling, how) for who, how in each.items()}
        prepare = partial(people, bench, figure, 1, styled)
        found = bench.measure(figure, measures(made), prepare, sizes.scenes)
        for name in made:
            row = with_relations(Row(f"pictures/{figure}/{name}", {}), found[name])
            rows.append(with_costs(with_style(row, found[name]), found[name]))
    return rows


def show(bench: Bench, sizes: Sizes) -> Pictures:
    """The figures: the scene, every model, their aggregation."""
    numbers = range(min(sizes.scenes, KEPT))
    titles = [acting(bench.run.seed, number).caption for number in numbers]
    return {
        figure: grid(bench, figure, titles, (REAL, *("+".join(who) for who in each)))
        for figure, (each, _, _) in FIGURES.items()
    }


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
    Sizes(layouts=8, each=1, scenes=8),
    steps=None,
    of_scenes=True,
)
