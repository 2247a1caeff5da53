"""Every pair is read before a training begins: a damaged picture is found now, not hours later.

Reading them is what takes long in a large dataset, so that what was read is remembered beside the
runs, by the fingerprint of the pairs, and not read again.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from unicond.data.checks import WORKERS
from unicond.data.rows import TEXTS
from unicond.data.sources import Fingerprinted, Pairs
from unicond.pictures.files import whole_file
from unicond.training import processes
from unicond.training.journal import Report
from unicond.training.own.job import OwnJob, PictureJob

NAMED = 5
"""Faulty rows that a message names."""
OFTEN = 500
"""Rows after which it is told how many were read."""


@dataclass(frozen=True)
class Read:
    """What was found in one row.

    Args:
        number: of the row.
        fault: why it cannot be trained on; None if it can.
        captions: whether it has any.
    """

    number: int
    fault: str | None
    captions: bool


def check_count(job: OwnJob, count: int) -> None:
    """Refuse datasets that are too small."""
    if count < 2:
        raise ValueError(
            f"{job.data.where} has {count} {job.ROWS}, which cannot be trained on: give at least "
            "2, better hundreds"
        )


def check_pairs(job: PictureJob, source: Pairs, report: Report) -> None:
    """Read every pair, as training will; the processes share them.

    Args:
        job: what is asked for.
        source: the pairs.
        report: told how many have been read, and how many have no caption.

    Raises:
        ValueError: some cannot be trained on, or none has a caption although their column was
            named.
    """
    words = ["unicond", "data", "check", job.data.where, "--condition", job.condition]
    all_of_it = f" (`{shlex.join([*words, *job.data.options()])}` lists all)"

    def captioned(number: int) -> bool:
        return bool(source.pair(number).captions)

    silent = read_all(job, source, len(source), captioned, report, all_of_it)
    check_captions(job, silent, len(source), report)


def read_all(
    job: OwnJob,
    source: Fingerprinted,
    count: int,
    captioned: Callable[[int], bool],
    report: Report,
    more: str = "",
) -> int:
    """Read every row, unless all were read before.

    Args:
        job: what is asked for.
        source: the rows.
        count: how many.
        captioned: reads a row, and tells whether it has a caption; a ValueError or an OSError if
            it cannot be trained on.
        report: told how many have been read.
        more: added to what is said of rows that cannot be trained on.

    Returns:
        How many have no caption.

    Raises:
        ValueError: some cannot be trained on.
    """
    record = job.cache / f"read-{source.fingerprint()}.json"
    silent = processes.as_main(_remembered(record))
    if silent is None:
        read = _read(job, count, captioned, report)
        found = sorted(processes.gathered(read), key=lambda read: read.number)
        if faults := [read.fault for read in found if read.fault is not None]:
            raise ValueError(faulty(job, faults, count, more))
        silent = sum(not read.captions for read in found)
        if processes.this_process().is_main_process:
            with whole_file(record) as file:
                file.write(json.dumps({"without_caption": silent}).encode())
    return silent


def _remembered(record: Path) -> int | None:
    """How many pairs have no caption, if all were read before."""
    try:
        return int(json.loads(record.read_text())["without_caption"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(job: OwnJob, count: int, captioned: Callable[[int], bool], report: Report) -> list[Read]:
    """This process's share of the rows."""
    state = processes.this_process()
    found: list[Read] = []

    def one(number: int) -> Read:
        try:
            return Read(number, None, captioned(number))
        except (ValueError, OSError) as error:
            return Read(number, str(error), True)

    with ThreadPoolExecutor(WORKERS) as pool:
        for read in pool.map(one, range(state.process_index, count, state.num_processes)):
            found.append(read)
            if len(found) % OFTEN == 0 and state.is_main_process:
                done = min(len(found) * state.num_processes, count)
                report(0.0, f"{job.ROWS} read: {done} of {count}")
    return found


def faulty(job: OwnJob, faults: Sequence[str], count: int, more: str = "") -> str:
    """What is wrong with a dataset.

    Args:
        job: what is asked for.
        faults: of some rows, one each.
        count: of all rows.
        more: what else is to be said.

    Returns:
        How many cannot be trained on, and why the first cannot.
    """
    rest = "; ..." if len(faults) > NAMED else ""
    return (
        f"{len(faults)} of {count} {job.ROWS} in {job.data.where} cannot be trained on: "
        f"{'; '.join(faults[:NAMED])}{rest}{more}"
    )


def check_captions(job: OwnJob, silent: int, count: int, report: Report) -> None:
    """Say how many rows have no caption; refuse if none has one in the column that was named.

    Args:
        job: what is asked for.
        silent: how many have none.
        count: of all rows.
        report: told so.

    Raises:
        ValueError: none has one in the column.
    """
    column, one = job.data.caption_column, job.ROWS.removesuffix("s")
    if silent == count and column is not None:
        raise ValueError(
            f"no {one} in {job.data.where} has a text in {column}: name another --caption-column, "
            "or leave it out"
        )
    if not silent or not processes.this_process().is_main_process:
        return
    looked = f"a column captions, {', '.join(TEXTS)}" if column is None else f"a text in {column}"
    text = f"{silent} of {count} {job.ROWS} have no caption: they get the empty prompt"
    if silent == count:
        text = (
            f"no {one} has {looked}: all get the empty prompt, and the adapter learns no words; "
            "--caption-column names another column, `unicond annotate --caption` writes captions"
        )
    report(0.0, text)
