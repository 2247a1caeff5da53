"""From the samples of layouts and of people to rows of tables, each number with its interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from unicond.evaluation.amdm.cases import REAL
from unicond.evaluation.amdm.layouts import level_of
from unicond.evaluation.estimates import COSTS, Estimate, Estimates, mean, over, row_of
from unicond.evaluation.mig.table import mig_row
from unicond.evaluation.runner import Samples
from unicond.evaluation.tables import Row
from unicond.world.vocabulary import RELATIONS


def total(samples: Samples, name: str, rows: Sequence[int]) -> float:
    """The sum of a value over some cases."""
    return math.fsum(samples.values[name][row] or 0.0 for row in rows)


def ratio(samples: Samples, upper: str, lower: str, rows: Sequence[int]) -> float:
    """A sum over another one; NaN over nothing."""
    return over(total(samples, upper, rows), total(samples, lower, rows))


def layout_row(name: str, found: Mapping[str, Samples], measure: str) -> Row:
    """All that COCO-MIG measures, level by level, and costs.

    Args:
        name: of the row.
        found: {measure: samples of layouts}.
        measure: which.

    Returns:
        The row.
    """
    samples, count = found[measure], _count(found[measure])
    row = mig_row(name, samples, [level_of(number) for number in range(count)])
    placed: Estimate = partial(ratio, samples, "placed", "instances")
    return with_costs(with_more(row, {"placed": placed}, count), samples)


def with_times(row: Row, times: Samples, name: str, beside: str) -> Row:
    """A row with `seconds` of one maker where all took turns, and `time_ratio` to another's."""
    count = len(times.values[name])
    numbers: dict[str, Estimate] = {
        "seconds": partial(mean, times, name),
        "time_ratio": partial(ratio, times, name, beside),
    }
    return with_more(row, numbers, count)


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


def with_gains(row: Row, found: Mapping[str, Samples], measure: str, alone: str, text: str) -> Row:
    """A row, and its success beside that of others on the same layouts, pair by pair.

    Args:
        row: of a measure.
        found: {measure: samples of layouts}.
        measure: which.
        alone: the measure that `success_gain` is the difference to.
        text: the one that `success_ratio` is over.

    Returns:
        The row, each number with its paired interval.
    """

    def success(name: str, rows: Sequence[int]) -> float:
        return ratio(found[name], "successes", "instances", rows)

    numbers: dict[str, Estimate] = {
        "success_gain": lambda rows: success(measure, rows) - success(alone, rows),
        "success_ratio": lambda rows: over(success(measure, rows), success(text, rows)),
    }
    return with_more(row, numbers, _count(found[measure]))


def with_loss(row: Row, found: Mapping[str, Samples], measure: str, alone: str) -> Row:
    """A row, and `relation_loss`: how much less often relations hold than by another measure.

    Args:
        row: of a measure.
        found: {measure: samples of people}.
        measure: which.
        alone: the other one.

    Returns:
        The row, with the paired interval.
    """

    def held(name: str, rows: Sequence[int]) -> float:
        return ratio(found[name], "held", "relations", rows)

    loss: Estimate = lambda rows: held(alone, rows) - held(measure, rows)  # noqa: E731
    return with_more(row, {"relation_loss": loss}, _count(found[measure]))


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
