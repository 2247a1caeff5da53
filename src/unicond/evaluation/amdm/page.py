"""A part's page: findings, its numbers, the paper's beside them, plot and pictures."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from unicond.evaluation.amdm.part import Part, Pictures
from unicond.evaluation.report import spread
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks.page import Page, listed_findings


def write_page(part: Part, table: Table, made: Path, pictures: Pictures, folder: Path) -> Path:
    """Write a part's page.

    Args:
        part: which.
        table: its rows.
        made: where `tabulate` left the table's files; the plot is taken from there.
        pictures: {title: lines}.
        folder: for all files.

    Returns:
        The path of `index.html`.
    """
    how = (
        f"<p>Seed {table.seed}, {table.seconds:.0f} s measured on {escape(table.machine)}. "
        f"Numbers with 95 % intervals.</p>{listed_findings(table)}"
    )
    beside = [f"<h2>{escape(title)}</h2>{html}" for title, html in part.beside.items()]
    measured = f"<h2>measured</h2>{numbers(table.rows, table.metrics())}"
    heading = f"Several models aggregated: {part.name}"
    page = Page(f"AMDM, {part.name}", heading, part.about, how, [*beside, measured], pictures)
    return page.write(table, made, folder)


def numbers(rows: Sequence[Row], metrics: Sequence[str]) -> str:
    """Rows as an HTML table; a cell is empty where a row has no such number."""
    lines = [f"<tr><th>row</th>{''.join(f'<th>{escape(m)}</th>' for m in metrics)}</tr>"]
    for row in rows:
        cells = "".join(f"<td>{_cell(row, metric)}</td>" for metric in metrics)
        lines.append(f"<tr><td>{escape(row.name)}</td>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cell(row: Row, metric: str) -> str:
    if metric not in row.metrics:
        return ""
    text = f"{row.metrics[metric]:.3f}"
    if metric in row.intervals:
        text += f" <small>{spread(row, metric)}</small>"
    return text
