"""From samples to the numbers of a table, each with its interval over scenes."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from unicond.evaluation.chunk import MOST_NAMED
from unicond.evaluation.intervals import Estimate, Interval, jackknife, of_share
from unicond.evaluation.metrics_pictures import fid
from unicond.evaluation.runner import Samples
from unicond.evaluation.tables import BOUNDED, SHARES, Row

FID_GROUPS = 20
"""A Frechet distance takes a while: its interval leaves out so many groups of scenes in turn."""
COSTS = ("seconds", "calls", "network_rows")
"""Numbers that are the same for every scene of a chunk: no interval over scenes."""
SHUFFLED = "_shuffled"
FITTED = "_fitted"
"""Of drawings that count as they are: their error as a specialist's is taken, after a fit."""
FOUND: Mapping[str, int | None] = {
    "found": None,
    **{f"found_{number}": number for number in range(1, MOST_NAMED + 1)},
}
"""{metric: how many objects are named where it counts; None is any number}."""


@dataclass(frozen=True)
class Estimates:
    """All numbers of a table.

    `found` is objects found over objects named, over all scenes together, `found_3` over those
    whose captions name three; `fid` the Frechet distance to the real images. The other derived
    numbers are explained in `condition_table`.

    Attributes:
        found: {measure: its samples}.
        main: the metric that counts.
        pair: measures whose errors are added for `error_ratio`.
    """

    found: Mapping[str, Samples]
    main: str = "abs_rel"
    pair: tuple[str, ...] = ("probe_real", "drawing_reconstruction")

    def row(self, name: str, measure: str, metrics: Sequence[str]) -> Row:
        """A row of the table: only those metrics that apply; JSON knows no NaN."""
        numbers = {metric: self.number(metric, measure) for metric in metrics}
        return row_of(name, numbers, scenes_of(self.found[measure]))

    def number(self, metric: str, measure: str) -> Estimate:
        """One metric of one measure, as a function of the scenes that count."""
        return partial(self.value, metric, measure)

    def ratio(self, measure: str, other: str) -> Estimate:
        """The error of one measure over that of another, on the same scenes."""
        return lambda rows: over(self._error(measure, rows), self._error(other, rows))

    def value(self, metric: str, measure: str, rows: Sequence[int]) -> float:
        """One metric of one measure over some scenes; NaN where it applies to none."""
        samples = self.found[measure]
        if metric == "seconds":
            return samples.seconds / scenes_of(samples)
        if metric == "fid":
            return self._fid(samples, rows)
        if metric in FOUND:
            counts, wanted = _values(samples, "named"), FOUND[metric]
            mine = [n for n in rows if wanted in (None, counts[n])]
            named, hits = (_known(samples, name, mine) for name in ("named", "found"))
            return math.fsum(hits) / math.fsum(named) if named else math.nan
        if metric == "range_covered":
            floor, best, own = (
                self._mean(name, rows) for name in ("text_only", "probe_reconstruction", measure)
            )
            return over(floor - own, floor - best)
        if metric == "error_ratio":
            total = math.fsum(self._fitted_error(name, rows) for name in self.pair)
            return over(self._fitted_error(measure, rows), total)
        if metric == "ratio_to_two_way":
            other = f"{measure.removesuffix('_one_way').removesuffix('_aligned')}_two_way"
            return over(self._error(measure, rows), self._error(other, rows))
        if metric == "agreement":
            shuffled = self._error(measure, rows, SHUFFLED)
            return over(shuffled, self._error(measure, rows))
        return mean(samples, metric, rows)

    def _mean(self, measure: str, rows: Sequence[int]) -> float:
        return mean(self.found[measure], self.main, rows)

    def _error(self, measure: str, rows: Sequence[int], ending: str = "") -> float:
        """The main metric as an error: of a share, what is missing."""
        value = mean(self.found[measure], self.main + ending, rows)
        return 1 - value if self.main in SHARES else value

    def _fitted_error(self, measure: str, rows: Sequence[int]) -> float:
        """The error after the fit, where the main metric is without any."""
        there = self.main + FITTED in self.found[measure].values
        return self._error(measure, rows, FITTED if there else "")

    def _fid(self, samples: Samples, rows: Sequence[int]) -> float:
        """Frechet distance to the real images; NaN for one picture, which has no covariance."""
        if len(rows) < 2:
            return math.nan
        pair = (samples, self.found["probe_real"])
        return fid(*(torch.tensor([each.vectors["features"][n] for n in rows]) for each in pair))


def mean(
    samples: Samples,
    metric: str,
    rows: Sequence[int],
    weigh: Callable[[int], float] = lambda _: 1.0,
) -> float:
    """The mean of a metric over those of some scenes to which it applies; NaN for none.

    Args:
        samples: of all scenes.
        metric: of theirs.
        rows: the scenes that count.
        weigh: from a scene's number to its weight; where a value is a mean over a scene's things,
            their number makes it a mean over all things.

    Returns:
        The mean.
    """
    values = _values(samples, metric)
    known = [(weigh(n), value) for n in rows if (value := values[n]) is not None]
    total = math.fsum(weight for weight, _ in known)
    return over(math.fsum(weight * value for weight, value in known), total)


def scenes_of(samples: Samples) -> int:
    """How many scenes were measured."""
    return len(next(iter(samples.values.values())))


def _known(samples: Samples, metric: str, rows: Sequence[int]) -> list[float]:
    values = _values(samples, metric)
    return [value for n in rows if (value := values[n]) is not None]


def _values(samples: Samples, metric: str) -> Sequence[float | None]:
    if metric not in samples.values:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(samples.values)}")
    return samples.values[metric]


def stem(metric: str) -> str:
    """The metric that a number of one level of layouts is of: `success_l2` of `success`."""
    return re.sub(r"_l\d+$", "", metric)


def over(upper: float, lower: float) -> float:
    """A ratio; NaN over nothing."""
    return upper / lower if lower else math.nan


def row_of(name: str, numbers: Mapping[str, Estimate], scenes: int) -> Row:
    """A row of those numbers that apply, each with its interval; JSON knows no NaN.

    Args:
        name: of the row.
        numbers: {metric: from scenes to its value}; costs get no interval.
        scenes: how many were measured.

    Returns:
        The row.
    """
    every = range(scenes)
    values = {metric: number(every) for metric, number in numbers.items()}
    values = {metric: value for metric, value in values.items() if math.isfinite(value)}
    intervals: dict[str, Interval] = {}
    for metric in values:
        if metric in COSTS:
            continue
        ends = jackknife(numbers[metric], scenes, FID_GROUPS if metric == "fid" else 50)
        if ends is not None:
            whole = of_share(ends, scenes) if stem(metric) in BOUNDED else ends
            intervals[metric] = whole
    return Row(name, values, intervals)
