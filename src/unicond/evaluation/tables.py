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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import rich.box
import rich.table
import torch

from unicond.pictures.files import whole_file

SHARES = frozenset(
    {
        *("pck", "miou", "attributes", "delta1", "found"),
        *("colors", "classes", "objects", "ground"),
    }
)
"""Metrics that are shares of what is right: their error is 1 - share."""
BOUNDED = SHARES | {
    *("done", "style_taken", "instances", "both_there", "right_sides", "right_place"),
    *("left_alone", "success", "image_success", "relation", "placed", "colored"),
    *("found_1", "found_2", "found_3"),
}
"""Metrics that lie between 0 and 1, all of them better where they are more."""
ALIGNMENT = "alignment"
"""The setting that says how values are brought together before they are compared."""
WIDTH = 80
"""Columns of a terminal."""
MORE_IS_BETTER = BOUNDED | {
    *("keypoints", "psnr", "ssim", "range_covered", "agreement"),
    *("covered", "covered_alone", "kept"),
    *("psnr_outside", "psnr_target", "psnr_same_words", "psnr_autoencoder"),
}
LESS_IS_BETTER = frozenset(
    {
        *("abs_rel", "abs_rel_fitted", "abs_rel_drawn", "emse", "angle"),
        *("same_pose", "same_ground", "layout_iou", "fid"),
        *("error_ratio", "ratio_to_two_way", "ratio_to_replacement", "ratio_to_20"),
        *("boundary_error", "free_error", "feature_distance", "residual", "residual_saved"),
        *("below_autoencoder", "time_ratio", "seconds", "calls", "network_rows"),
    }
)
Interval = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: as in the JSON, e.g. "depth_to_image".
        metrics: {metric: its value}, in the order in which they are shown.
        intervals: {metric: its 95 % interval over scenes}, where there is one.
    """

    name: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval] = field(default_factory=dict[str, Interval])

    def to_json(self) -> dict[str, object]:
        """The row as JSON's numbers and lists."""
        data: dict[str, object] = {"row": self.name, "metrics": dict(self.metrics)}
        if self.intervals:
            data["intervals"] = {name: list(ends) for name, ends in self.intervals.items()}
        return data


@dataclass(frozen=True)
class Finding:
    """What a table says of something that was expected of it.

    Attributes:
        claim: what was expected.
        met: whether it holds; None where it was not measured.
        measured: the numbers that say so.
        why: where it does not hold, the numbers that explain it.
    """

    claim: str
    met: bool | None
    measured: str
    why: str = ""

    @property
    def verdict(self) -> str:
        """In words."""
        return {True: "met", False: "not met", None: "not measured"}[self.met]

    @property
    def sentence(self) -> str:
        """All of it."""
        return f"{self.verdict}: {self.claim} ({self.measured}{self.why and f'; {self.why}'})"


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
        findings: whether what was expected holds.
    """

    command: str
    seed: int
    seconds: float
    scenes: int
    rows: tuple[Row, ...]
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    machine: str = ""
    findings: tuple[Finding, ...] = ()

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
            "rows": [row.to_json() for row in self.rows],
            "scenes": self.scenes,
            "settings": dict(self.settings),
            "machine": self.machine,
        }
        if self.findings:
            data["findings"] = [asdict(each) for each in self.findings]
        return json.dumps(data, indent=2)

    def to_csv(self) -> str:
        """A line a row, a column a metric, its interval beside it; empty where a row has none."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        told = {name for row in self.rows for name in row.intervals}
        columns = [
            column
            for name in self.metrics()
            for column in (name, *((f"{name}_low", f"{name}_high") if name in told else ()))
        ]
        writer.writerow(["row", *columns])
        for row in self.rows:
            cells: dict[str, float] = dict(row.metrics)
            for name, (low, high) in row.intervals.items():
                cells |= {f"{name}_low": low, f"{name}_high": high}
            writer.writerow([row.name, *(cells.get(column, "") for column in columns)])
        return text.getvalue()

    def to_rich(self, title: str = "") -> rich.table.Table:
        """The table for a terminal of 80 columns.

        Below each number is half the width of its interval; metrics of few rows, those for which
        there is no room, and how values are aligned, stand below the table.
        """
        shown = rich.table.Table(title=title or None, box=rich.box.SIMPLE, padding=(0, 1, 0, 0))
        shown.add_column("row", overflow="fold", min_width=20)
        count = {name: sum(name in row.metrics for row in self.rows) for name in self.metrics()}
        often = [name for name, rows in count.items() if rows > 2 or len(self.rows) < 3]
        names = self._fitting(often, WIDTH - 22)
        for name in names:
            shown.add_column(name, justify="right", no_wrap=True)
        for row in self.rows:
            cells = [_cell(row, name) if name in row.metrics else "" for name in names]
            shown.add_row(row.name, *cells)
        few = [
            f"{row.name}: {name} {_cell(row, name, ' ')}"
            for row in self.rows
            for name in row.metrics
            if name not in names
        ]
        if ALIGNMENT in self.settings:
            few.append(f"{ALIGNMENT}: {self.settings[ALIGNMENT]}")
        shown.caption = "\n".join(few) or None
        shown.caption_justify = "left"
        return shown

    def _fitting(self, names: Sequence[str], width: int) -> list[str]:
        """The first of some metrics, as many as have room beside each other."""
        fitting: list[str] = []
        for name in names:
            cells = [_cell(row, name) for row in self.rows if name in row.metrics]
            width -= 1 + max(len(line) for text in (name, *cells) for line in text.split("\n"))
            if width < 0:
                break
            fitting.append(name)
        return fitting


def more_is_better(metric: str) -> bool:
    """Which way a metric is better.

    Args:
        metric: its name.

    Returns:
        Whether more is better; else less is.

    Raises:
        ValueError: it is not known of this metric.
    """
    if metric not in MORE_IS_BETTER | LESS_IS_BETTER:
        raise ValueError(
            f"which way {metric!r} is better is not known: name it in MORE_IS_BETTER or "
            "LESS_IS_BETTER, or compare and draw another metric"
        )
    return metric in MORE_IS_BETTER


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
    with whole_file(path) as file:
        file.write(text.encode())


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


def _cell(row: Row, name: str, between: str = "\n") -> str:
    """A number, and half the width of its interval."""
    if name not in row.intervals:
        return _number(row.metrics[name])
    low, high = row.intervals[name]
    return f"{_number(row.metrics[name])}{between}±{(high - low) / 2:.3f}"
