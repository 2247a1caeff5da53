"""What is expected of a table, and whether it holds: bars that compare intervals.

A bar reads rows of the table alone. It is met where 95 % intervals say so, or where a number does
that itself is asked for (`reaches`); not met where they do not (overlapping intervals are not
apart), and not measured where a row or what is read of it is missing. A bar that is not met tells
the numbers that explain it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from unicond.evaluation.tables import Finding, Interval, Row, Table, more_is_better

Answer = tuple[bool | None, str]
"""Whether it holds (None: it was not measured), and the numbers that say so."""
Check = Callable[[Table], Answer]


@dataclass(frozen=True)
class Bar:
    """Something that is to hold.

    Attributes:
        claim: what, in a sentence without its end.
        check: reads the table.
        why: what the numbers of `shows` explain where it does not hold.
        shows: (row, metric) of these numbers; rows that were not measured are left out.
    """

    claim: str
    check: Check
    why: str = ""
    shows: tuple[tuple[str, str], ...] = ()

    def found(self, table: Table) -> Finding:
        """What a table says of it."""
        met, measured = self.check(table)
        if met is not False:
            return Finding(self.claim, met, measured)
        there = {row.name: row for row in table.rows}
        numbers = [
            f"{name} {told(there[name], metric)}"
            for name, metric in self.shows
            if name in there and metric in there[name].metrics
        ]
        explained = f"{self.why}: {'; '.join(numbers)}" if numbers else self.why
        return Finding(self.claim, met, measured, explained)


def with_findings(table: Table, bars: Iterable[Bar]) -> Table:
    """A table with what it says of bars."""
    return replace(table, findings=tuple(bar.found(table) for bar in bars))


def told(row: Row, metric: str) -> str:
    """A number of a row with its interval, in words: "psnr 21.3 [20.9, 21.7]"."""
    ends = row.intervals.get(metric)
    between = "" if ends is None else f" [{ends[0]:.4g}, {ends[1]:.4g}]"
    return f"{metric} {row.metrics[metric]:.4g}{between}"


def within(name: str, metric: str, low: float = -math.inf, high: float = math.inf) -> Check:
    """A row's whole interval lies in a range.

    Args:
        name: of the row.
        metric: of it.
        low: the least that may be.
        high: the greatest.

    Returns:
        The check.
    """
    return _interval(name, metric, lambda ends: low <= ends[0] and ends[1] <= high)


def reaches(name: str, numbers: Mapping[str, tuple[float, float]]) -> Check:
    """A row's numbers themselves lie in ranges, wherever their intervals end.

    Args:
        name: of the row.
        numbers: {metric: (the least that may be, the greatest)}.

    Returns:
        The check.
    """

    def check(table: Table) -> Answer:
        rows = [row for row in table.rows if row.name == name]
        if not rows:
            return None, f"there is no row {name}"
        missing = [metric for metric in numbers if metric not in rows[0].metrics]
        if missing:
            return None, f"{name} has no {', '.join(missing)}"
        values = rows[0].metrics
        holds = all(low <= values[metric] <= high for metric, (low, high) in numbers.items())
        return holds, f"{name} {', '.join(told(rows[0], metric) for metric in numbers)}"

    return check


def ahead(name: str, metric: str) -> Check:
    """A row's gain over another method, of the same scenes, is certainly above nothing.

    Args:
        name: of the row.
        metric: a difference, positive where this row's method is better.

    Returns:
        The check.
    """
    return _interval(name, metric, lambda ends: ends[0] > 0)


def beats(
    case: str, over: Sequence[tuple[str, str]], bounds: Sequence[str], known: str = ""
) -> Check:
    """Some one method of a case beats trivial ones, all intervals apart.

    Args:
        case: `group/case` of the rows.
        over: (metric, trivial method), all of which the one method has to beat.
        bounds: methods that do not count as one.
        known: the case of the trivial ones' rows; "" is the same.

    Returns:
        The check; it tells of the method that passes, else of all, the best by the first metric.
    """
    trivial = dict.fromkeys(method for _, method in over)

    def check(table: Table) -> Answer:
        rows = {row.name.removeprefix(f"{case}/"): row for row in table.rows if _of(row, case)}
        tried = [row for method, row in rows.items() if method not in (*bounds, *trivial)]
        there = {row.name: row for row in table.rows}
        pairs = [(metric, there.get(f"{known or case}/{method}")) for metric, method in over]
        complete = [row for row in tried if all(metric in row.intervals for metric, _ in pairs)]
        if not complete or any(
            other is None or metric not in other.intervals for metric, other in pairs
        ):
            return None, f"{case} has no intervals of {', '.join(metric for metric, _ in pairs)}"
        against = [(metric, other) for metric, other in pairs if other is not None]
        able = [row for row in complete if all(apart(row, o, metric) for metric, o in against)]
        best = _best(able or complete, over[0][0])
        said = (f"{told(best, m)} to {told(o, m)} of {_method(o)}" for m, o in against)
        return bool(able), f"{best.name}: {'; '.join(said)}"

    return check


def gains(case: str, metric: str) -> Check:
    """Some one method of a case certainly gains.

    Args:
        case: `group/case` of the rows.
        metric: a difference to another method on the same scenes, positive where a row is better.

    Returns:
        The check; it tells of the method that gains most, of those that certainly do if any.
    """

    def check(table: Table) -> Answer:
        rows = [row for row in table.rows if _of(row, case) and metric in row.intervals]
        if not rows:
            return None, f"{case} has no intervals of {metric}"
        sure = [row for row in rows if row.intervals[metric][0] > 0]
        best = max(sure or rows, key=lambda row: row.metrics[metric])
        return bool(sure), f"{best.name} {told(best, metric)}"

    return check


def apart(row: Row, other: Row, metric: str) -> bool:
    """Whether a row is better than another, their intervals apart."""
    mine, theirs = row.intervals[metric], other.intervals[metric]
    return mine[0] > theirs[1] if more_is_better(metric) else mine[1] < theirs[0]


def _best(rows: Sequence[Row], metric: str) -> Row:
    sign = 1 if more_is_better(metric) else -1
    return max(rows, key=lambda row: sign * row.metrics[metric])


def _interval(name: str, metric: str, holds: Callable[[Interval], bool]) -> Check:
    """A row's interval is as it should be."""

    def check(table: Table) -> Answer:
        found = _known(table, name, metric)
        if isinstance(found, str):
            return None, found
        row, ends = found
        return holds(ends), f"{name} {told(row, metric)}"

    return check


def _known(table: Table, name: str, metric: str) -> tuple[Row, Interval] | str:
    """A row and the interval of a metric, or what is missing."""
    rows = [row for row in table.rows if row.name == name]
    if not rows:
        return f"there is no row {name}"
    if metric not in rows[0].intervals:
        return f"{name} has no interval of {metric}: measure more scenes"
    return rows[0], rows[0].intervals[metric]


def _of(row: Row, case: str) -> bool:
    return row.name.startswith(f"{case}/")


def _method(row: Row) -> str:
    return row.name.rpartition("/")[2]
