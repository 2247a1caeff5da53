"""What is wrong with a dataset, found before a training run finds it: `unicond data check`."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from unicond.data.blobs import picture
from unicond.data.conditions import KINDS, ConditionKind, kind_of
from unicond.data.opening import Place
from unicond.data.rows import IMAGE, Collection, Row
from unicond.data.sources import check_mode, check_sizes, column_of, file_of
from unicond.pictures.files import PictureError

EXPORTED = {"depth", "instances", "classes", "colors"}
"""Columns of `unicond world export` that are no conditions."""
WORKERS = 4
"""Threads that decode."""
_LOOSE = "; loose pairs are checked by --condition identity --column {}"


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
    """The conditions that a dataset has: those of a known kind, then columns of one's own."""
    known = [
        kind for kind in KINDS.values() if kind.column in rows.columns or kind.name in rows.columns
    ]
    claimed = {IMAGE, *(name for kind in known for name in (kind.column, kind.name))}
    if set(rows.columns) >= EXPORTED:
        claimed |= EXPORTED
    own = [name for name in rows.columns if name not in claimed]
    return [kind.name for kind in known] + own


def check(
    rows: Collection,
    conditions: Sequence[str] = (),
    report: Callable[[], None] | None = None,
    workers: int = WORKERS,
    place: Place | None = None,
) -> list[Problem]:
    """Read every picture and every condition of a dataset.

    Args:
        rows: the dataset.
        conditions: which to look at; all that it has if empty.
        report: called after each row.
        workers: threads that decode.
        place: what the dataset's columns were said to be called.

    Returns:
        All problems, in the order of the rows.

    Raises:
        ValueError: the dataset has no such condition, or several are said to be in one column.
    """
    kinds = [kind_of(name) for name in (conditions or conditions_in(rows))]
    column = None if place is None else place.column
    if column is not None and len(conditions) != 1:
        raise ValueError(
            f"--column {column} is what the dataset calls one condition: give that one, as it is "
            "trained, by --condition"
        )
    columns = {kind: column_of(rows, kind, column) for kind in kinds}
    found: list[Problem] = []
    if len(rows) < 2:
        found.append(Problem(rows.where, "too few", f"{len(rows)} rows; training needs two"))
    if not kinds:
        found.append(Problem(rows.where, "missing", "no conditions; run `unicond annotate` on it"))

    def examined(number: int) -> tuple[list[Problem], bool]:
        try:
            row = rows.row(number)
        except ValueError as error:
            told = [Problem(f"row {number}", "unreadable", str(error))], False
        else:
            told = _row(row, columns), bool(row.captions)
        if report is not None:
            report()
        return told

    captioned = False
    with ThreadPoolExecutor(workers) as pool:
        for problems, has_caption in pool.map(examined, range(len(rows))):
            found += problems
            captioned |= has_caption
    if place is not None and place.caption_column is not None and not captioned:
        detail = f"no row has a text in {place.caption_column}: name another --caption-column"
        found.append(Problem(rows.where, "missing", detail))
    return found


def _row(row: Row, columns: dict[ConditionKind, str]) -> list[Problem]:
    """The problems of one row."""
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
                loose = "" if kind.name in KINDS else _LOOSE.format(column)
                found.append(Problem(row.key, "other size", f"{error}{loose}"))
    return found
