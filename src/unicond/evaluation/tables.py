"""A table of measured rows, and how it is kept: JSON, CSV, and on the terminal.

The JSON of every `evaluate` and `table` command has the keys `command`, `seed`, `seconds` and
`rows`, each row `{"row": name, "metrics": {metric: number}}`; `scenes`, `settings` and `machine`
say what else one needs to repeat it.
"""

import csv
import io
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import rich.box
import rich.table
import torch

LOWER_IS_BETTER = frozenset({"abs_rel", "fid", "emse", "seconds"})


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: as in the JSON, e.g. "depth_to_image".
        metrics: {metric: its value}, in the order in which they are shown.
    """

    name: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """What one command measured.

    Attributes:
        command: the command line that prints it.
        seed: of the scenes and of all noise.
        seconds: time spent measuring, earlier runs that this one continued included.
        scenes: how many scenes were measured.
        rows: in the order shown.
        settings: {name: value}, what was measured and how.
        machine: where.
    """

    command: str
    seed: int
    seconds: float
    scenes: int
    rows: tuple[Row, ...]
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    machine: str = ""

    def row(self, name: str) -> Row:
        """The row of that name.

        Args:
            name: of a row.

        Returns:
            The first row so called.

        Raises:
            ValueError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise ValueError(f"no row {name!r}; there are {', '.join(r.name for r in self.rows)}")

    def metrics(self) -> tuple[str, ...]:
        """The names of all metrics, in order of first use."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.metrics))

    def to_json(self) -> str:
        """The table as indented JSON."""
        data = {
            "command": self.command,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "rows": [{"row": row.name, "metrics": dict(row.metrics)} for row in self.rows],
            "scenes": self.scenes,
            "settings": dict(self.settings),
            "machine": self.machine,
        }
        return json.dumps(data, indent=2)

    def to_csv(self) -> str:
        """A line a row, a column a metric; empty where a row has no such metric."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = self.metrics()
        writer.writerow(["row", *names])
        writer.writerows([row.name, *(row.metrics.get(n, "") for n in names)] for row in self.rows)
        return text.getvalue()

    def to_rich(self, title: str = "") -> rich.table.Table:
        """The table for a terminal of 80 columns: metrics of few rows stand below it."""
        shown = rich.table.Table(title=title or None, box=rich.box.SIMPLE, padding=(0, 1, 0, 0))
        shown.add_column("row", overflow="fold", min_width=20)
        count = {name: sum(name in row.metrics for row in self.rows) for name in self.metrics()}
        names = [name for name, rows in count.items() if rows > 2 or len(self.rows) < 3]
        for name in names:
            shown.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            cells = [_number(row.metrics[name]) if name in row.metrics else "" for name in names]
            shown.add_row(row.name, *cells)
        few = [
            f"{row.name}: {name} {_number(value)}"
            for row in self.rows
            for name, value in row.metrics.items()
            if name not in names
        ]
        shown.caption = "\n".join(few) or None
        shown.caption_justify = "left"
        return shown


def save_table(table: Table, folder: Path, json_file: Path | None = None) -> list[Path]:
    """Write `table.json` and `table.csv`, and the JSON once more where the caller wants it.

    Args:
        table: what was measured.
        folder: is made where it does not exist.
        json_file: a further place for the JSON.

    Returns:
        The paths written.
    """
    texts = {folder / "table.json": table.to_json(), folder / "table.csv": table.to_csv()}
    if json_file is not None:
        texts[json_file] = table.to_json()
    for path, text in texts.items():
        write_atomically(path, text)
    return list(texts)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all.

    Args:
        path: its folder is made where it does not exist.
        text: its content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def describe_machine(device: torch.device | str = "cpu") -> str:
    """The machine in one line: processor or accelerator, threads, versions."""
    kind = torch.device(device)
    name = torch.cuda.get_device_name(kind) if kind.type == "cuda" else platform.machine()
    return (
        f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"python {platform.python_version()}, torch {torch.__version__}"
    )


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
