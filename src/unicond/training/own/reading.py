"""Every pair is read before a training begins: a damaged picture is found now, not hours later.

Reading them is what takes long in a large dataset, so that what was read is remembered beside the
runs, by the fingerprint of the pairs, and not read again.
"""

import json
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from unicond.data.checks import WORKERS
from unicond.data.rows import TEXTS
from unicond.data.sources import Pairs
from unicond.pictures.files import whole_file
from unicond.training import processes
from unicond.training.journal import Report
from unicond.training.own.job import PictureJob

NAMED = 5
"""Faulty pairs that a message names."""
OFTEN = 500
"""Pairs after which it is told how many were read."""


@dataclass(frozen=True)
class Read:
    """What was found in one pair.

    Args:
        number: of the pair.
        fault: why it cannot be trained on; None if it can.
        captions: whether it has any.
    """

    number: int
    fault: str | None
    captions: bool


def check_count(job: PictureJob, source: Pairs) -> None:
    """Refuse datasets that are too small."""
    if len(source) < 2:
        raise ValueError(
            f"{job.data.where} has {len(source)} pairs, which cannot be trained on: give at least "
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
    record = job.cache / f"read-{source.fingerprint()}.json"
    silent = processes.as_main(_remembered(record))
    if silent is None:
        found = sorted(processes.gathered(_read(source, report)), key=lambda read: read.number)
        if faults := [read.fault for read in found if read.fault is not None]:
            raise ValueError(_faulty(job, faults, len(source)))
        silent = sum(not read.captions for read in found)
        if processes.this_process().is_main_process:
            with whole_file(record) as file:
                file.write(json.dumps({"without_caption": silent}).encode())
    _check_captions(job, silent, len(source), report)


def _remembered(record: Path) -> int | None:
    """How many pairs have no caption, if all were read before."""
    try:
        return int(json.loads(record.read_text())["without_caption"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(source: Pairs, report: Report) -> list[Read]:
    """This process's share of the pairs."""
    state, count = processes.this_process(), len(source)
    found: list[Read] = []

    def one(number: int) -> Read:
        try:
            return Read(number, None, bool(source.pair(number).captions))
        except (ValueError, OSError) as error:
            return Read(number, str(error), True)

    with ThreadPoolExecutor(WORKERS) as pool:
        for read in pool.map(one, range(state.process_index, count, state.num_processes)):
            found.append(read)
            if len(found) % OFTEN == 0 and state.is_main_process:
                done = min(len(found) * state.num_processes, count)
                report(0.0, f"pairs read: {done} of {count}")
    return found


def _faulty(job: PictureJob, faults: list[str], count: int) -> str:
    """What is wrong with a dataset, and the command that tells all of it."""
    words = ["unicond", "data", "check", job.data.where, "--condition", job.condition]
    more = "; ..." if len(faults) > NAMED else ""
    return (
        f"{len(faults)} of {count} pairs in {job.data.where} cannot be trained on: "
        f"{'; '.join(faults[:NAMED])}{more} (`{shlex.join([*words, *job.data.options()])}` lists "
        "all)"
    )


def _check_captions(job: PictureJob, silent: int, count: int, report: Report) -> None:
    """Say how many pairs have no caption; refuse if none has one in the column that was named."""
    column = job.data.caption_column
    if silent == count and column is not None:
        raise ValueError(
            f"no pair in {job.data.where} has a text in {column}: name another --caption-column, "
            "or leave it out"
        )
    if not silent or not processes.this_process().is_main_process:
        return
    looked = f"a column captions, {', '.join(TEXTS)}" if column is None else f"a text in {column}"
    text = f"{silent} of {count} pairs have no caption: they get the empty prompt"
    if silent == count:
        text = (
            f"no pair has {looked}: all get the empty prompt, and the adapter learns no words; "
            "--caption-column names another column, `unicond annotate --caption` writes captions"
        )
    report(0.0, text)
