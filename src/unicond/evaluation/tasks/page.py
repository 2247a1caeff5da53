"""A group's table as a page: its numbers case by case, and what they are numbers of.

`reports/tasks/GROUP/` holds `index.html`, `table.json`, `table.csv`, `plot.png` and the pictures;
`reports/tasks/index.html` leads to every group that is there.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from unicond.evaluation.report import spread
from unicond.evaluation.tables import Row, Table, more_is_better, save_table, write_atomically
from unicond.evaluation.tasks.group import COSTS, LEFT_OUT, Group
from unicond.pictures.files import whole_file
from unicond.pictures.sheet import Line, sheet

QUALITY = 90
_STYLE = (
    "body{font-family:sans-serif;margin:2em;color:#2e3440}img{max-width:100%}"
    "table{border-collapse:collapse;margin:.5em 0 1.5em}td,th{padding:.2em .8em;text-align:right}"
    "td:first-child,th:first-child{text-align:left}tr{border-bottom:1px solid #ddd}"
    ".bound{color:#888}small{color:#888}.said td,.said th{text-align:left}"
)


def write_page(
    group: Group, table: Table, made: Path, pictures: Mapping[str, Sequence[Line]], folder: Path
) -> Path:
    """Write a group's page.

    Args:
        group: which.
        table: its rows.
        made: where `tabulate` left the table's files; the plot is taken from there.
        pictures: {title: lines}.
        folder: for all files.

    Returns:
        The path of `index.html`.
    """
    how = (
        f"<p>{table.scenes} held-out scenes, seed {table.seed}, {table.seconds:.0f} s measured on "
        f"{escape(table.machine)}. Means with 95 % intervals over scenes; bold is best, grey is "
        f"for comparison.</p>{_words(group)}{_left_out(table)}{listed_findings(table)}"
    )
    numbers = [
        f"<h2>{escape(case.replace('_', ' '))}</h2>{_numbers(group, rows)}"
        for case, rows in by_case(table).items()
    ]
    page = Page(group.name, group.name, group.about, how, numbers, pictures)
    return page.write(table, made, folder)


@dataclass(frozen=True)
class Page:
    """A table's page.

    Args:
        title: of the browser's window.
        heading: of the page.
        about: what is measured.
        how: it was measured, as HTML.
        numbers: as HTML.
        pictures: {title: lines}.
    """

    title: str
    heading: str
    about: str
    how: str
    numbers: Sequence[str]
    pictures: Mapping[str, Sequence[Line]]

    def write(self, table: Table, made: Path, folder: Path) -> Path:
        """Write it, with the table's files, its plot and its pictures beside it.

        Args:
            table: of the numbers.
            made: where `tabulate` left the table's files; the plot is taken from there.
            folder: for all files.

        Returns:
            The path of `index.html`.
        """
        save_table(table, folder)
        shutil.copyfile(made / "plot.png", folder / "plot.png")
        parts = [
            f"<h1>{escape(self.heading)}</h1><p>{escape(self.about)}</p>",
            f"<p><code>{escape(table.command)}</code></p>{self.how}",
            '<img src="plot.png" alt="plot">',
            *self.numbers,
            *_saved_sheets(self.pictures, folder),
            _listed_settings(table),
        ]
        return _write_html(folder / "index.html", f"unicond: {self.title}", parts)


def _saved_sheets(pictures: Mapping[str, Sequence[Line]], folder: Path) -> list[str]:
    """Save sheets of pictures beside a page.

    Args:
        pictures: {title: lines}.
        folder: of the page.

    Returns:
        What shows them on it, as HTML.
    """
    parts: list[str] = []
    for number, (title, lines) in enumerate(pictures.items()):
        name = f"pictures-{number}.jpg"
        with whole_file(folder / name) as file:
            sheet(lines).save(file, "JPEG", quality=QUALITY)
        parts.append(f'<h2>{escape(title.replace("_", " "))}: pictures</h2><img src="{name}">')
    return parts


def _listed_settings(table: Table) -> str:
    """What a table was measured by, as HTML."""
    settings = "".join(f"<li>{escape(k)}: {escape(v)}</li>" for k, v in table.settings.items())
    return f"<h2>settings</h2><ul>{settings}</ul>"


def write_contents(groups: Sequence[Group], folder: Path) -> Path:
    """Write the page that leads to the groups.

    Args:
        groups: those whose pages are there are listed.
        folder: of their folders.

    Returns:
        The path of `index.html`.
    """
    there = [group for group in groups if (folder / group.name / "index.html").is_file()]
    listed = "".join(
        f'<li><a href="{group.name}/index.html">{group.name}</a>: {escape(group.about)}</li>'
        for group in there
    )
    parts = ["<h1>Tasks on exact truth</h1>", f"<ul>{listed}</ul>"]
    return _write_html(folder / "index.html", "unicond: tasks", parts)


def _write_html(path: Path, title: str, parts: Sequence[str]) -> Path:
    """Write a page in the style of all of them.

    Args:
        path: of the page.
        title: of its window.
        parts: HTML, in order.

    Returns:
        The path.
    """
    head = f'<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    text = ["<!doctype html>", head, f"<style>{_STYLE}</style>", *parts, "</html>", ""]
    write_atomically(path, "\n".join(text))
    return path


def _words(group: Group) -> str:
    """What the metrics mean."""
    listed = "".join(f"<li>{escape(k)}: {escape(v)}</li>" for k, v in group.metrics.items())
    return f"<ul>{listed}</ul>"


def _left_out(table: Table) -> str:
    """Which rows there are none of, and why."""
    told = table.settings.get(LEFT_OUT)
    return "" if told is None else f"<p>Left out: {escape(told)}.</p>"


def listed_findings(table: Table) -> str:
    """Whether what was expected of a table holds, with the numbers that say so, as HTML."""
    if not table.findings:
        return ""
    lines = [
        f"<tr><td>{escape(each.claim)}</td><td><b>{each.verdict}</b></td>"
        f"<td>{escape(each.measured)}</td><td>{escape(each.why)}</td></tr>"
        for each in table.findings
    ]
    head = "<tr><th>what is expected</th><th></th><th>measured</th><th>why not</th></tr>"
    return f'<h2>findings</h2><table class="said">{head}{"".join(lines)}</table>'


def by_case(table: Table) -> dict[str, list[Row]]:
    """The rows that are compared with each other.

    Args:
        table: of a group.

    Returns:
        {case: its rows}, by "task: case" where the table has rows of several tasks.
    """
    found: dict[str, list[Row]] = {}
    several = len({row.name.split("/")[0] for row in table.rows}) > 1
    for row in table.rows:
        task, case, _ = row.name.split("/")
        found.setdefault(f"{task}: {case}" if several else case, []).append(row)
    return found


def _numbers(group: Group, rows: Sequence[Row]) -> str:
    """The rows of one case as a table."""
    shown = [m for m in (*group.metrics, *COSTS) if any(m in row.metrics for row in rows)]
    best = {metric: _best(group, rows, metric) for metric in group.metrics if metric in shown}
    lines = [f"<tr><th>method</th>{''.join(f'<th>{escape(m)}</th>' for m in shown)}</tr>"]
    for row in rows:
        cells = "".join(f"<td>{_cell(row, metric, best.get(metric))}</td>" for metric in shown)
        mark = ' class="bound"' if _method(row) in group.bounds else ""
        lines.append(f"<tr{mark}><td>{escape(_method(row))}</td>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cell(row: Row, metric: str, best: float | None) -> str:
    """A number, its interval beside it; empty where the row has none."""
    if metric not in row.metrics:
        return ""
    value = row.metrics[metric]
    text = f"{value:.0f}" if metric == "calls" else f"{value:.3f}"
    if best == value:
        text = f"<b>{text}</b>"
    if metric in row.intervals:
        text += f" <small>{spread(row, metric)}</small>"
    return text


def _best(group: Group, rows: Sequence[Row], metric: str) -> float | None:
    """The best of a metric among what is no bound."""
    found = [row.metrics[metric] for row in rows if _counts(group, row, metric)]
    if not found:
        return None
    return max(found) if more_is_better(metric) else min(found)


def _counts(group: Group, row: Row, metric: str) -> bool:
    return metric in row.metrics and _method(row) not in group.bounds


def _method(row: Row) -> str:
    return row.name.split("/")[2]
