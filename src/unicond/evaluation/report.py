"""A table as a plot: one panel a metric, one bar a row, its interval on it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unicond.evaluation.tables import Row, Table, more_is_better
from unicond.pictures.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, ACCENT = "#3b4252", "#5e81ac"


def save_plot(table: Table, path: Path, metrics: Sequence[str], title: str) -> Path:
    """Draw some metrics of a table and save them as PNG.

    Args:
        table: what was measured.
        path: of the PNG; its folder is made where it does not exist.
        metrics: one panel each; rows without the metric are left out of its panel.
        title: above all.

    Returns:
        The path.

    Raises:
        ValueError: no row has one of these metrics.
    """
    from matplotlib.figure import Figure

    shown = {m: [row for row in table.rows if m in row.metrics] for m in metrics}
    empty = [metric for metric, rows in shown.items() if not rows]
    if empty or not metrics:
        raise ValueError(f"no row has {empty}; there are {', '.join(table.metrics())}")
    tallest = max(len(rows) for rows in shown.values())
    longest = max(len(row.name) for rows in shown.values() for row in rows)
    wide = max(3.6, 2.2 + 0.075 * longest)  # of a panel, inches: its bars, and a letter's width
    figure = Figure(figsize=(wide * len(metrics), 0.9 + 0.3 * tallest), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for panel, (metric, rows) in zip(panels, shown.items(), strict=True):
        draw_bars(panel, metric, {row.name.replace("_", " "): row for row in rows})
    return save_figure(figure, path, title)


def draw_bars(axis: "Axes", metric: str, rows: Mapping[str, Row]) -> None:
    """Draw a metric of rows as bars, each with its interval and its value.

    Args:
        axis: where.
        metric: of all rows.
        rows: {label: row}, from the top downwards.
    """
    values = [row.metrics[metric] for row in rows.values()]
    reach = whiskers(rows.values(), metric)
    lines = {"ecolor": INK, "elinewidth": 1}
    bars = axis.barh(list(rows), values, color=ACCENT, height=0.7, xerr=reach, error_kw=lines)
    axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8, color=INK)  # behind the interval
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.margins(x=0.18)
    if min(values, default=0.0) >= 0:
        axis.set_xlim(left=0.0)
    axis.set_title(heading(metric), fontsize=9, color=INK)
    axis.tick_params(labelsize=8, length=0, colors=INK)
    axis.xaxis.set_visible(False)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def save_figure(figure: "Figure", path: Path, title: str) -> Path:
    """Save a figure as PNG, with a title above all of it.

    Args:
        figure: what was drawn.
        path: of the PNG; its folder is made where it does not exist.
        title: above all.

    Returns:
        The path.
    """
    figure.suptitle(title, fontsize=10, color=INK)
    with whole_file(path) as file:
        figure.savefig(file, dpi=150, format="png")
    return path


def heading(metric: str) -> str:
    """The name of a metric above its panel, and which way is better."""
    better = "more" if more_is_better(metric) else "less"
    return f"{metric.replace('_', ' ')} ({better} is better)"


def whiskers(rows: Iterable[Row], metric: str) -> tuple[list[float], list[float]]:
    """How far the intervals of numbers reach below and above them; 0 where there is none."""
    below, above = list[float](), list[float]()
    for row in rows:
        value = row.metrics[metric]
        low, high = row.intervals.get(metric, (value, value))
        below.append(max(0.0, value - low))
        above.append(max(0.0, high - value))
    return below, above


def spread(row: Row, metric: str) -> str:
    """The interval beside a number: "±0.012", or both ends where it is not in the middle."""
    if metric not in row.intervals:
        return ""
    ([below], [above]), (low, high) = whiskers([row], metric), row.intervals[metric]
    if math.isclose(below, above, rel_tol=1e-6, abs_tol=1e-9):
        return f"±{above:.3f}"
    return f"[{low:.3f}, {high:.3f}]"
