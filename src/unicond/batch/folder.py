"""What was made of a manifest: a folder a row, which is there in full or not at all.

    OUT/rows/ID/row.json, 7_image.png, ...
    OUT/failed.jsonl                          rows that could not be made by the last run
    OUT/.unfinished/...                       what is being made
    OUT/.unfinished/ID.begun                  a byte for each time that it was begun without an end

A row is written under `.unfinished` and renamed, the last thing that is done to it. Two who made
the same row cannot both keep it: a folder that is there is not replaced.
"""

import json
import secrets
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from unicond.batch.manifest import Row
from unicond.calls.output import Output
from unicond.pictures.files import make_output_folder, whole_file

ROWS = "rows"
FAILED = "failed.jsonl"
TOLD = "row.json"
_UNFINISHED = ".unfinished"
_LOCK = ".lock"
_SAID = TypeAdapter(dict[str, str | int | list[str]])


@contextmanager
def held(out: Path) -> Generator[None]:
    """Keep the folder from other runs, and remove what the last one left half done.

    Which rows it had begun is kept: one that ends its process is found by the next run.

    Args:
        out: the folder; made if missing.

    Yields:
        While it is held.

    Raises:
        ValueError: another run uses it, or nothing can be written there.
    """
    make_output_folder(out)
    lock = FileLock(out / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another run writes to {out}: wait for it, or give another folder (--out)"
        ) from None
    try:
        (out / _UNFINISHED).mkdir(exist_ok=True)
        for left in (out / _UNFINISHED).iterdir():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        (out / ROWS).mkdir(exist_ok=True)
        yield
    finally:
        lock.release()


def missing(out: Path, rows: Sequence[Row], redo: bool) -> list[Row]:
    """The rows that are to be made.

    Args:
        out: the folder, held.
        rows: of the manifest.
        redo: what was made of rows that have changed since is removed.

    Returns:
        Those of which there is nothing.

    Raises:
        ValueError: rows have changed since they were made, or their folder is something else.
    """
    there = [row for row in rows if (out / ROWS / row.id).exists()]
    changed = [row for row in there if _digest(out / ROWS / row.id) != row.digest]
    if not redo and changed:
        lines = ", ".join(str(row.line) for row in changed[:20])
        more = ", ..." if len(changed) > 20 else ""
        raise ValueError(
            f"{len(changed)} rows are not what was made in {out}: their line, a picture or the "
            f"model has changed (line {lines}{more}). --redo makes them anew and removes what was "
            "made; another --out keeps it"
        )
    for row in changed:
        (out / ROWS / row.id).rename(out / _UNFINISHED / secrets.token_hex(6))
    kept = {row.id for row in there} - {row.id for row in changed}
    return [row for row in rows if row.id not in kept]


def is_made(out: Path, row: Row) -> bool:
    """Whether a row is there in full."""
    return (out / ROWS / row.id).is_dir()


def keep(out: Path, row: Row, output: Output, worker: str) -> None:
    """Write what was made of a row; where another was quicker, nothing happens.

    Args:
        out: the folder.
        row: of the manifest.
        output: what was made.
        worker: who made it.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = out / _UNFINISHED / secrets.token_hex(6)
    said: dict[str, str | int | list[str]] = {"id": row.id, "line": row.line, "worker": worker}
    try:
        files = [path.name for path in output.save(unfinished)]
        said |= {"digest": row.digest, "files": files}
        (unfinished / TOLD).write_bytes(_SAID.dump_json(said, indent=1))
        unfinished.rename(out / ROWS / row.id)
    except OSError:
        if not is_made(out, row):
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def begun(out: Path, row: Row) -> int:
    """How often a row was begun without an end to it, by this run or others.

    Args:
        out: the folder.
        row: of the manifest.

    Returns:
        0, or more after a worker has ended in the middle of it.
    """
    marks = out / _UNFINISHED / f"{row.id}.begun"
    return marks.stat().st_size if marks.exists() else 0


def begin(out: Path, row: Row) -> None:
    """Mark a row as begun."""
    with (out / _UNFINISHED / f"{row.id}.begun").open("ab") as marks:
        marks.write(b"+")


def end(out: Path, row: Row) -> None:
    """Forget that a row was begun."""
    (out / _UNFINISHED / f"{row.id}.begun").unlink(missing_ok=True)


def tell_failed(out: Path, rows: Sequence[Row], errors: dict[str, str]) -> None:
    """Write which rows could not be made, which the next run tries anew; none removes the file.

    Args:
        out: the folder.
        rows: of the manifest.
        errors: {id: why}.
    """
    failed = [row for row in rows if row.id in errors]
    if not failed:
        (out / FAILED).unlink(missing_ok=True)
        return
    with whole_file(out / FAILED) as file:
        for row in failed:
            said = {"id": row.id, "line": row.line, "error": errors[row.id]}
            file.write(json.dumps(said).encode() + b"\n")
    for row in failed:
        end(out, row)


def _digest(folder: Path) -> str:
    """What a row was made from."""
    try:
        return str(_SAID.validate_json((folder / TOLD).read_bytes())["digest"])
    except (OSError, ValidationError, KeyError):
        raise ValueError(
            f"{folder} was not made by this command, or is damaged: move it away, or give another "
            "folder (--out)"
        ) from None
