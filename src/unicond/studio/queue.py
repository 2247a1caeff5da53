"""The queue: what waits, what runs, what has ended, in one table of SQLite.

    queued -> running -> done | failed          any of the first two -> cancelled

Clients take turns: whose last turn is longest ago is served next, its oldest job first. Jobs of the
same kin may be made in one call, so that others' jobs of that kin come along, one of each client at
a time. What ran when its worker ended is queued again, once, and from then on alone: so a job that
ends its worker takes none of its company with it.
"""

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from unicond.studio.database import Database

Status = Literal["queued", "running", "done", "failed", "cancelled"]
OPEN: tuple[Status, ...] = ("queued", "running")
TRIES = 2
"""Runs that may end with their worker, until a job is given up."""


class Full(Exception):
    """The queue takes no more."""


@dataclass(frozen=True)
class Result:
    """A file that a job made.

    Args:
        name: of the file.
        bytes: its size.
    """

    name: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of the queue.

    Args:
        id: which no one can guess.
        user: whose it is.
        task: of the form.
        base: the model's name.
        form: as JSON.
        kin: equal where jobs may be made in one call; None is alone.
        rows: samples.
        status: where it is.
        alone: whether it is made without others.
        tries: runs that ended with their worker.
        created: when it was asked for, in seconds since 1970.
        started: when it was begun, likewise.
        ended: when it ended, likewise.
        error: why it failed.
        worker: who makes or made it.
        results: what it made.
    """

    id: str
    user: str
    task: str
    base: str
    form: str
    kin: str | None
    rows: int
    created: float
    status: Status = "queued"
    alone: bool = False
    tries: int = 0
    started: float | None = None
    ended: float | None = None
    error: str | None = None
    worker: str | None = None
    results: tuple[Result, ...] = ()


_FIELDS = (
    "id, user, task, base, form, kin, rows, status, alone, tries, created, started, ended, error, "
    "worker, results"
)


def _job(row: sqlite3.Row) -> Job:
    told = cast("list[dict[str, object]]", json.loads(row["results"]))
    results = tuple(Result(str(one["name"]), int(cast(int, one["bytes"]))) for one in told)
    plain = {name: row[name] for name in _FIELDS.split(", ") if name not in ("alone", "results")}
    return Job(**plain, alone=bool(row["alone"]), results=results)


def add(database: Database, job: Job, most: int, most_each: int, given: int = 0) -> None:
    """Queue a job.

    Args:
        database: of the queue.
        job: a new one.
        most: jobs that may wait.
        most_each: jobs of one client that may wait.
        given: bytes of the pictures that were given to it.

    Raises:
        Full: as many wait already.
    """
    with database.writing() as connection:
        waiting, mine = connection.execute(
            "SELECT count(*), coalesce(sum(user = ?), 0) FROM jobs WHERE status = 'queued'",
            (job.user,),
        ).fetchone()
        if waiting >= most:
            raise Full(f"{waiting} jobs wait, and no more are taken: try again later")
        if mine >= most_each:
            raise Full(f"{mine} jobs of yours wait, and no more are taken: try again later")
        connection.execute(
            "INSERT INTO jobs (id, user, task, base, form, kin, rows, bytes, status, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?)",
            (job.id, job.user, job.task, job.base, job.form, job.kin, job.rows, given, job.created),
        )


def find(database: Database, identity: str) -> Job | None:
    """Anyone's job; None where there is none of that id."""
    with database.reading() as connection:
        row = connection.execute(f"SELECT {_FIELDS} FROM jobs WHERE id = ?", (identity,)).fetchone()
    return None if row is None else _job(row)


def mine(database: Database, user: str, most: int) -> list[Job]:
    """A client's latest jobs.

    Args:
        database: of the queue.
        user: who asks.
        most: how many.

    Returns:
        The newest first.
    """
    with database.reading() as connection:
        rows = connection.execute(
            f"SELECT {_FIELDS} FROM jobs WHERE user = ? ORDER BY number DESC LIMIT ?", (user, most)
        ).fetchall()
    return [_job(row) for row in rows]


def identities(database: Database) -> list[str]:
    """The ids of all jobs."""
    with database.reading() as connection:
        return [str(row["id"]) for row in connection.execute("SELECT id FROM jobs")]


def claim(database: Database, worker: str, most: int) -> list[Job]:
    """Take what is to be made next.

    Args:
        database: of the queue.
        worker: who takes it.
        most: samples at once; a single job may have more.

    Returns:
        Jobs of one kin, all of them running now; none where nothing waits.
    """
    with database.reading() as connection:
        if connection.execute("SELECT 1 FROM jobs WHERE status = 'queued'").fetchone() is None:
            return []
    with database.writing() as connection:
        row = connection.execute(
            f"SELECT {_FIELDS} FROM jobs LEFT JOIN turns USING (user) WHERE status = 'queued' "
            "ORDER BY coalesce(turn, 0), number LIMIT 1"
        ).fetchone()
        if row is None:
            return []
        first = _job(row)
        taken = [first, *_company(connection, first, most)]
        now = time.time()
        for job in taken:
            connection.execute(
                "UPDATE jobs SET status = 'running', worker = ?, started = ? WHERE id = ?",
                (worker, now, job.id),
            )
            connection.execute(
                "INSERT OR REPLACE INTO turns VALUES "
                "(?, (SELECT coalesce(max(turn), 0) + 1 FROM turns))",
                (job.user,),
            )
    return taken


def _company(connection: sqlite3.Connection, first: Job, most: int) -> list[Job]:
    """Jobs that are made with the first one: of its kin, clients by turns."""
    if first.kin is None or first.alone or first.rows >= most:
        return []
    rows = connection.execute(
        f"SELECT {_FIELDS} FROM (SELECT *, row_number() OVER (PARTITION BY user ORDER BY number) "
        "AS place FROM jobs WHERE status = 'queued' AND kin = ? AND alone = 0 AND id != ?) "
        "ORDER BY place + (user = ?), number LIMIT ?",
        (first.kin, first.id, first.user, most),
    ).fetchall()
    found, room = list[Job](), most - first.rows
    for job in map(_job, rows):
        if job.rows <= room:
            found.append(job)
            room -= job.rows
    return found


def finish(
    database: Database, worker: str, identity: str, results: Sequence[Result], error: str | None
) -> bool:
    """End a job that a worker has.

    Args:
        database: of the queue.
        worker: who made it.
        identity: of the job.
        results: what was made.
        error: why it failed; None where it did not.

    Returns:
        Whether it was still that worker's: it may have been cancelled.
    """
    told = json.dumps([{"name": one.name, "bytes": one.bytes} for one in results])
    status = "done" if error is None else "failed"
    with database.writing() as connection:
        changed = connection.execute(
            "UPDATE jobs SET status = ?, ended = ?, error = ?, results = ?, bytes = bytes + ? "
            "WHERE id = ? AND worker = ? AND status = 'running'",
            (status, time.time(), error, told, sum(r.bytes for r in results), identity, worker),
        )
        return changed.rowcount == 1


def part(database: Database, worker: str, identities: Sequence[str]) -> None:
    """Queue jobs that could not be made together, each to be made alone.

    Args:
        database: of the queue.
        worker: who had them.
        identities: of the jobs.
    """
    with database.writing() as connection:
        connection.executemany(
            "UPDATE jobs SET status = 'queued', worker = NULL, started = NULL, alone = 1 "
            "WHERE id = ? AND worker = ? AND status = 'running'",
            [(one, worker) for one in identities],
        )


def cancel(database: Database, identity: str) -> bool:
    """Cancel a job.

    Args:
        database: of the queue.
        identity: of the job.

    Returns:
        Whether it had not ended yet.
    """
    with database.writing() as connection:
        changed = connection.execute(
            "UPDATE jobs SET status = 'cancelled', ended = ? WHERE id = ? "
            "AND status IN ('queued', 'running')",
            (time.time(), identity),
        )
        return changed.rowcount == 1


def recover(database: Database, worker: str | None = None, crashed: bool = True) -> list[str]:
    """Queue again what ran when its worker ended; give up what has ended it before.

    Args:
        database: of the queue.
        worker: whose jobs; None is everyone's.
        crashed: whether the end is counted as a try; one that was asked for is not.

    Returns:
        The ids of jobs that were given up.
    """
    which, values = ("", ()) if worker is None else (" AND worker = ?", (worker,))
    with database.writing() as connection:
        if crashed:
            connection.execute(
                "UPDATE jobs SET tries = tries + 1, alone = 1 WHERE status = 'running'" + which,
                values,
            )
        rows = connection.execute(
            "UPDATE jobs SET status = 'failed', ended = ?, error = ? "
            f"WHERE status = 'running' AND tries >= ?{which} RETURNING id",
            (
                time.time(),
                f"its worker ended {TRIES} times while it was made; it is not tried again",
                TRIES,
                *values,
            ),
        ).fetchall()
        connection.execute(
            "UPDATE jobs SET status = 'queued', worker = NULL, started = NULL "
            "WHERE status = 'running'" + which,
            values,
        )
    return [str(row["id"]) for row in rows]


def counts(database: Database) -> Mapping[Status, int]:
    """How many jobs there are of each status.

    Args:
        database: of the queue.

    Returns:
        {status: jobs}; none of what there is none of.
    """
    with database.reading() as connection:
        rows = connection.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall()
    return {cast(Status, row[0]): int(row[1]) for row in rows}


def remove(database: Database, identities: Sequence[str]) -> None:
    """Forget jobs that have ended.

    Args:
        database: of the queue.
        identities: of the jobs.
    """
    with database.writing() as connection:
        connection.executemany(
            "DELETE FROM jobs WHERE id = ? AND ended IS NOT NULL", [(one,) for one in identities]
        )


def expired(database: Database, seconds: float, size: int) -> list[str]:
    """Jobs that are to be removed: those that ended long ago, and the oldest beyond a size.

    Args:
        database: of the queue.
        seconds: since their end.
        size: bytes of all pictures, of those that were given to jobs and those that they made.

    Returns:
        Their ids.
    """
    with database.reading() as connection:
        rows = connection.execute(
            "SELECT id FROM (SELECT id, ended, sum(bytes) OVER (ORDER BY ended DESC, number DESC) "
            "AS kept FROM jobs WHERE ended IS NOT NULL) WHERE ended < ? OR kept > ?",
            (time.time() - seconds, size),
        ).fetchall()
    return [str(row["id"]) for row in rows]


def search(database: Database, user: str, words: str, most: int) -> list[Job]:
    """A client's latest jobs whose prompt has some words.

    Args:
        database: of the queue.
        user: who asks.
        words: all of the first 20 must be there, in any case; none finds all.
        most: how many.

    Returns:
        The newest first.
    """
    wanted = words.split()[:20]
    each = "AND instr(lower(json_extract(form, '$.prompt')), lower(?)) > 0 "
    found = each * len(wanted)
    with database.reading() as connection:
        rows = connection.execute(
            f"SELECT {_FIELDS} FROM jobs WHERE user = ? {found}ORDER BY number DESC LIMIT ?",
            (user, *wanted, most),
        ).fetchall()
    return [_job(row) for row in rows]
