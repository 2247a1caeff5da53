"""A worker: a process that owns the models of one device, and makes what the queue gives it.

`python -m unicond.studio.worker ORDER`, started by the server. It ends with the server. Whatever
ends it, a job that eats the memory or a driver that fails, leaves the queue as it is, and the
server starts another.
"""

import base64
import io
import logging
import os
import shutil
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from transformers.utils.logging import disable_progress_bar

from unicond.loading import load
from unicond.model import Model
from unicond.output import Output
from unicond.pictures.reading import to_pil
from unicond.prepared import Callback, Cancelled
from unicond.sampling.loop import Progress
from unicond.studio import batching, folder, queue
from unicond.studio.channel import Channel, Event
from unicond.studio.database import Database
from unicond.studio.order import ORDER, Order
from unicond.studio.queue import Job, Result
from unicond.studio.settings import Served
from unicond.tasks.filled import Filled
from unicond.tasks.forms import ANY, AnyForm

IDLE = 1.0
"""Seconds after which an idle worker looks without being woken."""
AGAIN = 0.5
"""Seconds until a transaction that failed is tried again."""
PREVIEW = 512
"""Longest side of a preview in pixels."""
T = TypeVar("T")
logger = logging.getLogger("unicond.studio")


class TooLong(Exception):
    """A job has used up its time."""


@dataclass(frozen=True, eq=False)
class Worker:
    """Everything that a worker works with.

    Args:
        order: what it was started with.
        models: {name: loaded}.
        database: of the queue.
        channel: to the server.
    """

    order: Order
    models: Mapping[str, Model]
    database: Database
    channel: Channel

    def work(self) -> None:
        """Make jobs for as long as the server is there."""
        rows = self.order.settings.rows
        while True:
            jobs = insisting(lambda: queue.claim(self.database, self.order.name, rows))
            if jobs:
                self.make(jobs)
            else:
                self.channel.wait(IDLE)

    def make(self, jobs: list[Job]) -> None:
        """Make jobs of one kin; if that fails and they are several, they go back to be alone."""
        for job in jobs:
            self.channel.tell(Event(kind="began", job=job.id, together=len(jobs)))
        try:
            filled = [self._filled(job) for job in jobs]
            outputs = batching.run(self.models[jobs[0].base], filled, self._callback(jobs, filled))
        except Cancelled:
            for job in jobs:
                self._end(job, [], "cancelled")
        except Exception as error:
            self._failed(jobs, error)
        else:
            for job, output in zip(jobs, outputs, strict=True):
                self._keep(job, output)

    def _filled(self, job: Job) -> Filled:
        bases = {name: one.base for name, one in self.order.settings.models.items()}
        given = folder.given(job.id)
        return Filled(ANY.validate_json(job.form), lambda p: str(given / str(p.upload)), bases)

    def _callback(self, jobs: list[Job], filled: list[Filled]) -> Callback:
        """Tell of every move; stop when no one waits any more, or time is up."""
        limit = time.monotonic() + self.order.settings.limits.seconds
        forms = [one.form for one in filled]

        def callback(progress: Progress) -> bool:
            number, total = progress.move.number + 1, progress.move.count
            row = 0
            for job, form in zip(jobs, forms, strict=True):
                self.channel.tell(Event(kind="move", job=job.id, done=number, total=total))
                if number in previewed(form, total):
                    self._preview(job, progress, row)
                row += job.rows
            if time.monotonic() > limit and number < total:
                raise TooLong
            return not all(self.channel.is_stopped(job.id) for job in jobs)

        return callback

    def _preview(self, job: Job, progress: Progress, row: int) -> None:
        if "image" not in progress.predictions:
            return
        x0 = progress.predictions["image"].x0[row : row + 1]
        image = to_pil(self.models[job.base].backbone.decode(x0)[0])
        image.thumbnail((PREVIEW, PREVIEW))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        text = base64.b64encode(buffer.getvalue()).decode()
        self.channel.tell(Event(kind="preview", job=job.id, picture=text))

    def _failed(self, jobs: list[Job], error: Exception) -> None:
        if len(jobs) > 1:
            ids = [job.id for job in jobs]
            insisting(lambda: queue.part(self.database, self.order.name, ids))
            for job in jobs:
                self.channel.tell(Event(kind="parted", job=job.id))
            return
        seconds = self.order.settings.limits.seconds
        self._end(jobs[0], [], reason(error, seconds, self.order.settings.log_prompts))

    def _keep(self, job: Job, output: Output) -> None:
        """Write what was made, and only then say so."""
        target = folder.made(job.id, self.order.name)
        try:
            shutil.rmtree(target, ignore_errors=True)
            paths = output.save(target)
            results = [Result(path.name, path.stat().st_size) for path in paths]
        except (OSError, ValueError) as error:
            self._end(job, [], f"its pictures cannot be kept: {error}")
            return
        self._end(job, results, None)

    def _end(self, job: Job, results: list[Result], error: str | None) -> None:
        name = self.order.name
        kept = insisting(lambda: queue.finish(self.database, name, job.id, results, error))
        if not kept or error is not None:
            shutil.rmtree(folder.made(job.id, name), ignore_errors=True)
        self.channel.forget(job.id)
        self.channel.tell(Event(kind="ended", job=job.id))


def previewed(form: AnyForm, total: int) -> set[int]:
    """The moves after which a preview is shown, never the last one.

    Args:
        form: which says how many.
        total: moves.

    Returns:
        Numbers from 1.
    """
    number = min(form.previews, total - 1)
    return {(n + 1) * total // (number + 1) for n in range(number)}


def insisting(do: Callable[[], T]) -> T:
    """Do something to the queue; if it is locked or the disk is full, until that is over."""
    while True:
        try:
            return do()
        except sqlite3.OperationalError as error:
            logger.warning("the queue cannot be written (%s); it is tried again", error)
            time.sleep(AGAIN)


def reason(error: Exception, seconds: float, loud: bool) -> str:
    """What a client is told of a job that failed.

    Args:
        error: that ended it.
        seconds: that a job may take.
        loud: whether prompts, which an error may repeat, may go to the log.

    Returns:
        A sentence; what is no fault of the client's is in the log, too.
    """
    if isinstance(error, TooLong):
        return f"it took longer than {seconds:g} s: ask for fewer steps, samples or pixels"
    if isinstance(error, ValueError | TypeError):
        return str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error):
        return "there is not enough memory: ask for a smaller size, or fewer samples"
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s%s", frames, repr(error) if loud else type(error).__name__)
    return f"it failed within ({type(error).__name__}); the server's log says where"


def loaded(served: Served, device: str | None) -> Model:
    """Load a model that is served.

    Args:
        served: what it is.
        device: where.

    Returns:
        The model.
    """
    renamed = dict(one.split("=", 1) for one in served.adapters if "=" in one)
    adapters = renamed or list(served.adapters)
    dtype = getattr(torch, served.dtype) if served.dtype else None
    return load(served.base, adapters, device, dtype)


def main() -> None:
    """Load the models and work."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    order = ORDER.validate_json(sys.argv[1])
    channel = Channel()
    disable_progress_bar()  # of each file's tensors
    try:
        models = {n: loaded(one, order.device) for n, one in order.settings.models.items()}
    except (ValueError, OSError, RuntimeError) as error:
        channel.tell(Event(kind="broken", message=str(error)))
        return
    os.chdir(order.settings.data)
    database = Database(Path(folder.QUEUE))
    branches = {name: ["image", *model.adapters] for name, model in models.items()}
    channel.tell(Event(kind="ready", branches=branches))
    Worker(order, models, database, channel).work()


if __name__ == "__main__":
    main()
