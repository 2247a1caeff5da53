"""A table as a plot: one panel a metric, one bar a row, its interval on it."""

from collections.abc import Mapping, Sequence
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
    figure = Figure(figsize=(3.6 * len(metrics), 1.1 + 0.32 * tallest), layout="constrained")
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
    half = [half_width(row, metric) for row in rows.values()]
    lines = {"ecolor": INK, "elinewidth": 1}
    bars = axis.barh(list(rows), values, color=ACCENT, height=0.7, xerr=half, error_kw=lines)
    axis.bar_label(bars, fmt="%.3g", padding=3, fontsize=8, color=INK)  # behind the interval
    axis.invert_yaxis()
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


def half_width(row: Row, metric: str) -> float:
    """Half the width of a number's interval; 0 where it has none."""
    low, high = row.intervals.get(metric, (0.0, 0.0))
    return (high - low) / 2
