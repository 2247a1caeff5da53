"""What is wrong with a dataset, found before a training run finds it: `unicond data check`."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from unicond.data.blobs import picture
from unicond.data.conditions import KINDS, ConditionKind, kind_of
from unicond.data.rows import IMAGE, Collection
from unicond.data.sources import check_mode, check_sizes, column_of, file_of
from unicond.pictures.files import PictureError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        key: the row, or the dataset.
        kind: `"missing"`, `"unreadable"`, `"not RGB"`, `"other size"` or `"too few"`.
        detail: what exactly, and what to do.
    """

    key: str
    kind: str
    detail: str


def conditions_in(rows: Collection) -> list[str]:
    """The conditions that a dataset has: those of a known kind, or else all its columns."""
    known = [
        kind.name
        for kind in KINDS.values()
        if kind.column in rows.columns or kind.name in rows.columns
    ]
    return known or [name for name in rows.columns if name != IMAGE]


def check(
    rows: Collection,
    conditions: Sequence[str] = (),
    report: Callable[[], None] | None = None,
    workers: int = 4,
) -> list[Problem]:
    """Read every picture and every condition of a dataset.

    Args:
        rows: the dataset.
        conditions: which to look at; all that it has if empty.
        report: called after each row.
        workers: threads that decode.

    Returns:
        All problems, in the order of the rows.

    Raises:
        ValueError: the dataset has no such condition.
    """
    kinds = [kind_of(name) for name in (conditions or conditions_in(rows))]
    columns = {kind: column_of(rows, kind) for kind in kinds}
    found: list[Problem] = []
    if len(rows) < 2:
        found.append(Problem(rows.where, "too few", f"{len(rows)} rows; training needs two"))
    if not kinds:
        found.append(Problem(rows.where, "missing", "no conditions; run `unicond annotate` on it"))

    def examined(number: int) -> list[Problem]:
        problems = _row(rows, number, columns)
        if report is not None:
            report()
        return problems

    with ThreadPoolExecutor(workers) as pool:
        for problems in pool.map(examined, range(len(rows))):
            found += problems
    return found


def _row(rows: Collection, number: int, columns: dict[ConditionKind, str]) -> list[Problem]:
    """The problems of one row."""
    try:
        row = rows.row(number)
    except ValueError as error:
        return [Problem(f"row {number}", "unreadable", str(error))]
    found: list[Problem] = []
    decoded: dict[str, Tensor] = {}
    for column in (IMAGE, *columns.values()):
        try:
            blob = file_of(row, column)
            if not blob.exists():
                found.append(Problem(row.key, "missing", f"{blob.name} does not exist"))
                continue
            decoded[column] = picture(blob)
        except PictureError as error:
            kind = "unreadable" if column in row.pictures else "missing"
            found.append(Problem(row.key, kind, str(error)))
    for kind, column in columns.items():
        if column not in decoded:
            continue
        try:
            check_mode(row.pictures[column])
        except PictureError as error:
            found.append(Problem(row.key, "not RGB", str(error)))
        if kind.aligned and IMAGE in decoded:
            try:
                check_sizes(row.key, kind.name, decoded[IMAGE], decoded[column])
            except PictureError as error:
                found.append(Problem(row.key, "other size", str(error)))
    return found
