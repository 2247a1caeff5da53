"""A swept table as a plot: one panel a metric, one line a group of rows, intervals on the points.

Rows without the swept setting are levels: dashed lines that the others are compared with. Where
values of a setting are no numbers, bars take the place of lines.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from unicond.evaluation.report import INK, draw_bars, heading, save_figure, whiskers
from unicond.evaluation.tables import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#5e81ac", "#bf616a", "#a3be8c", "#d08770", "#b48ead", "#88c0d0", "#8a6d3b", "#4c566a")
WIDE = 3.8
"""Inches of a panel."""


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        x: metric of the horizontal axis.
        y: metric of the vertical axis.
        lines: {label: rows that have both}; a row without one of them is left out.
        levels: {label: row that has y}.
        log: the horizontal axis is logarithmic.
        what: it is of, above the name of the metric.
    """

    x: str
    y: str
    lines: Mapping[str, Sequence[Row]]
    levels: Mapping[str, Row] = field(default_factory=dict[str, Row])
    log: bool = False
    what: str = ""


@dataclass(frozen=True)
class Bars:
    """A panel of a setting whose values are no numbers: a bar each.

    Attributes:
        y: metric.
        rows: {label: row}, from the top downwards; a row without the metric is left out.
        levels: {label: row that has y}.
        what: it is of, above the name of the metric.
    """

    y: str
    rows: Mapping[str, Row]
    levels: Mapping[str, Row] = field(default_factory=dict[str, Row])
    what: str = ""


def save_curves(panels: Sequence[Panel | Bars], path: Path, title: str, columns: int = 3) -> Path:
    """Draw panels and save them as PNG.

    Args:
        panels: in the order shown.
        path: of the PNG; its folder is made where it does not exist.
        title: above all.
        columns: panels in a line.

    Returns:
        The path.

    Raises:
        ValueError: no panel.
    """
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError("a plot needs at least one panel")
    wide = min(columns, len(panels))
    heights = [max(map(_height, panels[n : n + wide])) for n in range(0, len(panels), wide)]
    figure = Figure(figsize=(WIDE * wide, 0.6 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(heights), wide, squeeze=False, height_ratios=heights).flat
    for axis, panel in zip(axes, panels, strict=False):
        if isinstance(panel, Bars):
            shown = {label: row for label, row in panel.rows.items() if panel.y in row.metrics}
            draw_bars(axis, panel.y, shown)
        else:
            _draw_lines(axis, panel)
        for number, (label, row) in enumerate(panel.levels.items()):
            if panel.y in row.metrics:
                along = axis.axvline if isinstance(panel, Bars) else axis.axhline
                dashes, color = (0, (1 + 3 * number, 2)), COLORS[-1 - number % len(COLORS)]
                along(row.metrics[panel.y], label=label, ls=dashes, color=color, linewidth=1)
        above = f"{panel.what}\n" if panel.what else ""
        axis.set_title(f"{above}{heading(panel.y)}", fontsize=9, color=INK)
        if axis.get_legend_handles_labels()[1]:
            if isinstance(panel, Bars):
                place = {"ncols": 4, "handlelength": 1.2}
            else:  # under the name of the axis; a line is long enough to show its dashes
                place = {"ncols": _across(panel), "columnspacing": 1.0, "handlelength": 3.0}
                place["borderaxespad"] = 4.0
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
            axis.legend(fontsize=7, frameon=False, **below, **place)
    for axis in list(figure.axes)[len(panels) :]:
        axis.set_visible(False)
    return save_figure(figure, path, title)


def _height(panel: Panel | Bars) -> float:
    """Inches."""
    if isinstance(panel, Bars):
        return 1.0 + 0.26 * len(panel.rows)
    return 2.8 + 0.15 * math.ceil((len(panel.lines) + len(panel.levels)) / _across(panel))


def _across(panel: Panel) -> int:
    """How many names stand beside each other below a panel of lines."""
    longest = max(map(len, (*panel.lines, *panel.levels)), default=0)
    return max(1, int((WIDE - 0.6) / (0.5 + 0.06 * longest)))


def _draw_lines(axis: "Axes", panel: Panel) -> None:
    """Draw a panel's rows over its setting."""
    for number, (label, rows) in enumerate(panel.lines.items()):
        shown = [row for row in rows if {panel.x, panel.y} <= row.metrics.keys()]
        if not shown:
            continue
        axis.errorbar(
            [row.metrics[panel.x] for row in shown],
            [row.metrics[panel.y] for row in shown],
            yerr=whiskers(shown, panel.y),
            label=label,
            color=COLORS[number % len(COLORS)],
            linestyle=("-", "--", ":")[number // len(COLORS) % 3],
            marker="o",
            markersize=3,
            linewidth=1.2,
            elinewidth=0.8,
        )
    if panel.log:
        every = [row.metrics for rows in panel.lines.values() for row in rows]
        values = {metrics[panel.x] for metrics in every if panel.x in metrics}
        axis.set_xscale("log", base=2)
        axis.set_xticks(sorted(values), [f"{value:g}" for value in sorted(values)])
    axis.set_xlabel(panel.x.replace("_", " "), fontsize=8, color=INK)
    axis.tick_params(labelsize=8, colors=INK)
    axis.spines[["top", "right"]].set_visible(False)
