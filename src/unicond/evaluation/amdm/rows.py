"""From the samples of layouts and of people to rows of tables, each number with its interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from unicond.evaluation.amdm.cases import REAL
from unicond.evaluation.amdm.layouts import level_of
from unicond.evaluation.estimates import Estimate, Estimates, over, row_of
from unicond.evaluation.mig.table import mig_row
from unicond.evaluation.runner import Samples
from unicond.evaluation.tables import Row
from unicond.world.vocabulary import RELATIONS

COSTS = ("seconds", "calls", "network_rows")


def total(samples: Samples, name: str, rows: Sequence[int]) -> float:
    """The sum of a value over some cases."""
    return math.fsum(samples.values[name][row] or 0.0 for row in rows)


def ratio(
    samples: Samples, upper: str, lower: str, rows: Sequence[int], other: Samples | None = None
) -> float:
    """A sum over another one, of the same samples if no other are given; NaN over nothing."""
    return over(total(samples, upper, rows), total(other or samples, lower, rows))


def layout_row(name: str, found: Mapping[str, Samples], measure: str, beside: str = "") -> Row:
    """All that COCO-MIG measures, level by level, the share of styles taken, and costs.

    Args:
        name: of the row.
        found: {measure: samples of layouts}.
        measure: which.
        beside: the measure whose time is 1 in `time_ratio`.

    Returns:
        The row.
    """
    samples, count = found[measure], _count(found[measure])
    row = mig_row(name, samples, [level_of(number) for number in range(count)])
    numbers: dict[str, Estimate] = {"placed": partial(ratio, samples, "placed", "instances")}
    if beside:
        numbers["time_ratio"] = partial(ratio, samples, "seconds", "seconds", other=found[beside])
    return with_costs(with_more(row, numbers, count), samples)


def short_row(name: str, found: Mapping[str, Samples], measure: str) -> Row:
    """Success, mIoU, Frechet distance and costs of layouts; arguments as of `layout_row`."""
    samples, count = found[measure], _count(found[measure])
    numbers: dict[str, Estimate] = {
        "success": partial(ratio, samples, "successes", "instances"),
        "miou": partial(ratio, samples, "ious", "instances"),
        "placed": partial(ratio, samples, "placed", "instances"),
        "colored": partial(ratio, samples, "colored", "instances"),
    }
    if measure != REAL:
        numbers["fid"] = Estimates(found).number("fid", measure)
    return with_costs(row_of(name, numbers, count), samples)


def relation_numbers(samples: Samples) -> dict[str, Estimate]:
    """`relation`, the share of all that are asked for, and that of each, `held_<name>`."""
    numbers: dict[str, Estimate] = {"relation": partial(ratio, samples, "held", "relations")}
    for name in RELATIONS:
        upper, lower = f"held {name}", f"asked {name}"
        numbers[f"held_{name.replace(' ', '_')}"] = partial(ratio, samples, upper, lower)
    return numbers


def with_relations(row: Row, samples: Samples) -> Row:
    """A row, and what people of other scenes do."""
    return with_more(row, relation_numbers(samples), _count(samples))


def with_style(row: Row, samples: Samples) -> Row:
    """A row, and the share of pictures in which the style that was shown is read."""
    taken: Estimate = partial(ratio, samples, "styles", "pictures")
    return with_more(row, {"style_taken": taken}, _count(samples))


def with_more(row: Row, numbers: Mapping[str, Estimate], count: int) -> Row:
    """A row and further numbers, over as many cases; those that apply."""
    more = row_of(row.name, numbers, count)
    return replace(
        row,
        metrics={**row.metrics, **more.metrics},
        intervals={**row.intervals, **more.intervals},
    )


def with_costs(row: Row, samples: Samples) -> Row:
    """A row, and what a picture costs; nothing where nothing was made."""
    every = range(_count(samples))
    spent = {
        name: total(samples, name, every) / len(every) for name in COSTS if name in samples.values
    }
    return replace(row, metrics={**row.metrics, **spent})


def _count(samples: Samples) -> int:
    return len(samples.vectors["features"])
