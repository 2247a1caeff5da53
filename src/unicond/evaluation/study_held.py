"""`unicond table held`: ways in which a held branch and the other look at each other, compared.

Scenes and noises are paired: `ratio_to_two_way` is the ratio of errors, `ratio_upper` the upper end
of its 95 % interval. `network_rows` is how many rows a scene the network computed, the cost.

    two_way       the held branch looks back
    one_way       it looks at nothing, so that it runs once
    aligned       one-way, and tokens look around their own place

Weights that were trained two-way only get approximations, too: `refresh_<k>` runs the held rows
again after k moves, `receives_nothing` (w_y = 0, its own attention output kept) once.
"""

from collections.abc import Sequence
from pathlib import Path

from unicond.conditions import Condition
from unicond.evaluation.bars import Bar
from unicond.evaluation.chunk import Chunk
from unicond.evaluation.condition_bars import held_bar
from unicond.evaluation.curves import Panel, save_curves
from unicond.evaluation.estimates import Estimates, row_of
from unicond.evaluation.measures import FIDELITIES, ways
from unicond.evaluation.runner import Measure
from unicond.evaluation.study import Bench, Study, bars, counted, picked, varied
from unicond.evaluation.subject import Sampling, Subject
from unicond.evaluation.tables import Row, Table

REFRESH = (1, 2, 4, 8)
CALLS = "network_rows"
_DIRECTIONS = {"to_image": "condition_held", "to_condition": "image_held"}


def _measures(subject: Subject, condition: Condition) -> dict[str, list[Measure[Chunk]]]:
    """{direction: its measures}, the two-way one first."""
    found: dict[str, list[Measure[Chunk]]] = {}
    for direction, role in _DIRECTIONS.items():
        names = [f"{direction}_{way}" for way in ways(condition, subject.config)]
        own = picked(subject, condition, names)
        if role not in subject.config.roles:
            both = own[0]
            for k in REFRESH:
                each = Sampling(refresh=k)
                own.append(varied(both, f"{direction}_refresh_{k}", each, each))
            deaf = f"{direction}_receives_nothing"
            weights = (Sampling(weights=(1.0, 0.0)), Sampling(weights=(0.0, 1.0)))
            own.append(varied(both, deaf, *weights))
        found[direction] = [counted(each) for each in own]
    return found


def make(bench: Bench) -> list[Row]:
    """All ways in both directions, for every adapter."""
    rows: list[Row] = []
    for condition in bench.conditions:
        subject = bench.subject(condition)
        directions = _measures(subject, condition)
        around = picked(subject, condition, ("probe_real",))
        every = [each for measures in directions.values() for each in measures]
        estimates = bench.estimates(condition, [*around, *every])
        for direction, measures in directions.items():
            names = [each.name for each in measures]
            rows += [_row(bench, condition, estimates, direction, name) for name in names]
    return rows


def _row(
    bench: Bench, condition: Condition, estimates: Estimates, direction: str, name: str
) -> Row:
    """One way: its metrics, its cost, and how it compares."""
    quality = ("fid",) if direction == "to_image" else ()
    shown = (*FIDELITIES[condition.name].metrics, *quality, CALLS, "seconds")
    numbers = {metric: estimates.number(metric, name) for metric in shown}
    whole = f"{direction}_two_way"
    if name != whole:
        numbers["ratio_to_two_way"] = estimates.ratio(name, whole)
    row = row_of(f"{condition.name}/{name}", numbers, bench.run.scenes)
    if "ratio_to_two_way" not in row.intervals:
        return row
    upper = {"ratio_upper": row.intervals["ratio_to_two_way"][1]}
    return Row(row.name, {**row.metrics, **upper}, row.intervals)


def draw(table: Table, path: Path) -> Path:
    """Ratios as bars; where rows were refreshed, quality against cost."""
    refreshed = [row for row in table.rows if "_refresh_" in row.name]
    if not refreshed:
        return bars(table, path, ("ratio_to_two_way", CALLS), "held branches")
    lines: dict[str, list[Row]] = {}
    for row in refreshed:
        lines.setdefault(row.name.split("_refresh_")[0], []).append(row)
    title = f"held branches, {table.scenes} held-out scenes"
    kept = {
        row.name: [row]
        for row in table.rows
        if row.name.endswith(("one_way", "aligned", "receives_nothing"))
    }
    return save_curves([Panel(CALLS, "ratio_to_two_way", {**lines, **kept})], path, title)


def _expected(rows: Sequence[Row]) -> list[Bar]:
    """Of the roles that an adapter was trained in: in others, ways are approximations."""
    names = [row.name for row in rows]
    near = tuple(name.partition("_refresh_")[0] for name in names if "_refresh_" in name)
    found: list[Bar] = []
    for name in names:
        way = next((way for way in ("one_way", "aligned") if name.endswith(f"_{way}")), None)
        if way and not name.startswith(near):
            metric = FIDELITIES[name.partition("/")[0]].metrics[0]
            found.append(held_bar(name.removesuffix(f"_{way}"), way, metric))
    return found


HELD = Study("held", make, draw, expects=_expected)
