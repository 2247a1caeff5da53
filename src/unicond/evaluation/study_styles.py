"""`unicond table styles`: unchanged adapters on another base, beside their own.

Each base is measured between its own floor and ceiling: `range_covered` from its text alone to the
judge on its autoencoder's reconstructions, on the same scenes, drawn in the style that it draws.
`kept` is what the adapter covers there over what it covers on its own base.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from unicond.evaluation.estimates import Estimate, Estimates, over, row_of
from unicond.evaluation.measures import FIDELITIES, own_way
from unicond.evaluation.study import Bench, Study, bars, picked
from unicond.evaluation.tables import Row, Table

OWN, OTHER = "own", "other"


def make(bench: Bench) -> list[Row]:
    """Both bases, for every adapter."""
    if bench.other is None:
        raise ValueError("table styles compares two bases: give the second by --other-base FOLDER")
    missing = bench.model.adapters.keys() - bench.other.model.adapters.keys()
    if missing:
        raise ValueError(f"the other base lacks the adapters {', '.join(sorted(missing))}")
    rows: list[Row] = []
    places = {OWN: (bench.model, "photo"), OTHER: (bench.other.model, bench.other.style)}
    for condition in bench.conditions:
        main = FIDELITIES[condition.name].metrics
        covered: dict[str, Estimate] = {}
        for place, (model, style) in places.items():
            subject, part = bench.subject(condition, model), f"{condition.name}-{place}"
            own = f"to_image_{own_way(subject.config, 'condition_held')}"
            names = ("probe_real", "probe_reconstruction", "text_only", own)
            found = bench.measure(
                part,
                picked(subject, condition, names),
                bench.chunks(part, condition, subject, style),
            )
            estimates = Estimates(found, main[0])
            covered[place] = estimates.number("range_covered", own)
            shown = (*main, "range_covered", "fid", "found", "seconds")
            numbers = {metric: estimates.number(metric, own) for metric in shown}
            if place == OTHER:
                numbers["kept"] = partial(_kept, covered[OTHER], covered[OWN])
            title = f"{condition.name}/{place}"
            rows.append(row_of(title, numbers, bench.run.scenes))
            for level in ("text_only", "probe_reconstruction"):
                rows.append(estimates.row(f"{title}/{level}", level, main))
    return rows


def _kept(there: Estimate, here: Estimate, rows: Sequence[int]) -> float:
    return over(there(rows), here(rows))


def draw(table: Table, path: Path) -> Path:
    """What is covered on both bases, and what is kept."""
    return bars(table, path, ("range_covered", "kept"), "another base")


STYLES = Study(
    "styles",
    make,
    draw,
)
