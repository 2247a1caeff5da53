"""The SQLite file in which jobs are kept, shared by the server and its workers.

In WAL mode readers never wait; a writer waits for another one up to `PATIENCE`. Every change is one
transaction, so that whatever ends in the middle of it leaves the state before.
"""

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 5.0
"""Seconds that a transaction waits for another process's."""
VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    task TEXT NOT NULL,
    base TEXT NOT NULL,
    form TEXT NOT NULL,
    kin TEXT,
    rows INTEGER NOT NULL,
    status TEXT NOT NULL,
    alone INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    error TEXT,
    results TEXT NOT NULL DEFAULT '[]',
    bytes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, user, number);
CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs (ended);
CREATE TABLE IF NOT EXISTS turns (user TEXT PRIMARY KEY, turn INTEGER NOT NULL);
"""


class Database:
    """Two connections, one to read and one to write, each for one thread at a time.

    Args:
        path: of the file; made if missing.
        patience: seconds to wait for another process.

    Raises:
        ValueError: the file was written by another version.
        sqlite3.Error: it is no database, or cannot be written.
    """

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self._writes, self._reads = threading.Lock(), threading.Lock()
        self._writer, self._reader = _opened(path, patience), _opened(path, patience)
        found = int(self._writer.execute("PRAGMA user_version").fetchone()[0])
        if found not in (0, VERSION):
            raise ValueError(
                f"{path} is a queue of version {found}, this one reads {VERSION}: give another "
                "folder (--data), or move the file away"
            )
        if found == 0:
            self._writer.executescript(_SCHEMA)
            self._writer.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def writing(self) -> Generator[sqlite3.Connection]:
        """A transaction: all of the block is kept, or nothing.

        Yields:
            The connection.
        """
        with self._writes:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """The connection, for reading.

        Yields:
            The connection.
        """
        with self._reads:
            yield self._reader

    def close(self) -> None:
        """End it."""
        with self._writes, self._reads:
            self._writer.close()
            self._reader.close()


def _opened(path: Path, patience: float) -> sqlite3.Connection:
    made = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    made.row_factory = sqlite3.Row
    made.execute("PRAGMA journal_mode = WAL")
    made.execute("PRAGMA synchronous = NORMAL")
    return made
