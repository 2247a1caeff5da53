"""A worker: takes jobs, has the models of one device make them, and keeps what they make.

`python -m unicond.studio.worker ORDER` is one with its models, started by the server. It ends with
the server. Whatever ends it, a job that eats the memory or a driver that fails, leaves the queue as
it is, and the server starts another. (With Ray it is a thread of the server: `on_ray`.)
"""

import logging
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from transformers.utils.logging import disable_progress_bar

from unicond.calls.prepared import Cancelled
from unicond.studio import folder, logs, queue
from unicond.studio.channel import Channel, Event, Pipe
from unicond.studio.database import Database
from unicond.studio.making import Gone, Made, Maker, Models, loaded, ready, reason
from unicond.studio.order import ORDER, Order
from unicond.studio.queue import Job, Result

IDLE = 1.0
"""Seconds after which an idle worker looks without being woken."""
REST = 0.05
"""Share of the time of jobs made together that their clients have to ask again before others are
taken: who waits for a job and asks for the next one would else fall out of step with the rest."""
WRITERS = min(4, os.cpu_count() or 1)
"""Threads that write what was made together; packing a picture takes milliseconds to seconds."""
AGAIN = 0.5
"""Seconds until a transaction that failed is tried again."""
T = TypeVar("T")
logger = logging.getLogger("unicond.studio")


@dataclass(frozen=True, eq=False)
class Worker:
    """Everything that a worker works with.

    Args:
        order: what it was started with.
        maker: has the models.
        database: of the queue.
        channel: to the server.
    """

    order: Order
    maker: Maker
    database: Database
    channel: Channel

    def work(self) -> None:
        """Make jobs for as long as the server is there."""
        rows = self.order.settings.rows
        while True:
            jobs = insisting(lambda: queue.claim(self.database, self.order.name, rows))
            if jobs:
                began = time.monotonic()
                others = self.make(jobs)
                if len(jobs) > 1:
                    expected = min(rows, len(jobs) + others)
                    self.rest(expected, REST * (time.monotonic() - began))
            else:
                self.channel.wait(IDLE)

    def rest(self, expected: int, seconds: float) -> None:
        """Wait for some seconds, or until as many jobs wait as are expected."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._waiting() >= expected:
                return
            self.channel.wait(left)

    def _waiting(self) -> int:
        return insisting(lambda: queue.counts(self.database)).get("queued", 0)

    def make(self, jobs: list[Job]) -> int:
        """Make jobs of one kin; if that fails and they are several, they go back to be alone.

        Args:
            jobs: that were taken.

        Returns:
            How many others waited when they were made, before their clients could ask again.
        """
        others = 0
        for job in jobs:
            self.channel.tell(Event(kind="began", job=job.id, together=len(jobs)))
        try:
            outputs = self.maker.make(jobs)
        except Gone:
            raise
        except Cancelled:
            for job in jobs:
                self._end(job, [], "cancelled")
        except Exception as error:
            self._failed(jobs, error)
        else:
            others = self._waiting()
            with ThreadPoolExecutor(WRITERS) as pool:
                for job, kept in zip(jobs, pool.map(self._kept, jobs, outputs), strict=True):
                    self._end(job, *kept)
        return others

    def _failed(self, jobs: list[Job], error: Exception) -> None:
        if len(jobs) > 1:
            ids = [job.id for job in jobs]
            insisting(lambda: queue.part(self.database, self.order.name, ids))
            for job in jobs:
                self.channel.tell(Event(kind="parted", job=job.id))
            return
        seconds = self.order.settings.limits.seconds
        self._end(jobs[0], [], reason(error, seconds, self.order.settings.log_prompts))

    def _kept(self, job: Job, output: Made) -> tuple[list[Result], str | None]:
        """Write what was made; its files, and what is wrong if it cannot be."""
        target = self.order.settings.data / folder.made(job.id, self.order.name)
        try:
            shutil.rmtree(target, ignore_errors=True)
            paths = output.save(target)
            return [Result(path.name, path.stat().st_size) for path in paths], None
        except (OSError, ValueError) as error:
            return [], f"its pictures cannot be kept: {error}"

    def _end(self, job: Job, results: list[Result], error: str | None) -> None:
        name = self.order.name
        kept = insisting(lambda: queue.finish(self.database, name, job.id, results, error))
        if not kept or error is not None:
            made = self.order.settings.data / folder.made(job.id, name)
            shutil.rmtree(made, ignore_errors=True)
        self.channel.forget(job.id)
        self.channel.tell(Event(kind="ended", job=job.id))


def insisting(do: Callable[[], T]) -> T:
    """Do something to the queue; if it is locked or the disk is full, until that is over."""
    while True:
        try:
            return do()
        except sqlite3.OperationalError as error:
            logger.warning("the queue cannot be written (%s); it is tried again", error)
            time.sleep(AGAIN)


def main() -> None:
    """Load the models and work; Ctrl-C, which the whole group hears, is for the server alone."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    order = ORDER.validate_json(sys.argv[1])
    logs.begin(order.settings.log_prompts)
    channel = Pipe()
    disable_progress_bar()  # of each file's tensors
    try:
        models = loaded(order)
    except (ValueError, OSError, RuntimeError) as error:
        channel.tell(Event(kind="broken", message=str(error)))
        return
    os.chdir(order.settings.data)
    database = Database(Path(folder.QUEUE))
    channel.tell(ready(models))
    try:
        Worker(order, Models(order, models, channel), database, channel).work()
    except Gone as gone:
        sys.exit(f"a worker ends: {gone}")


if __name__ == "__main__":
    main()
