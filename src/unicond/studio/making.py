"""A device's models, and how they make jobs, whatever engine they work for."""

import base64
import io
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from unicond.calls.output import Output
from unicond.calls.prepared import Callback
from unicond.loading import load
from unicond.model import Model
from unicond.pictures.reading import to_pil
from unicond.sampling.loop import Progress
from unicond.studio import batching, folder
from unicond.studio.channel import Event
from unicond.studio.logs import told
from unicond.studio.order import Order
from unicond.studio.queue import Job
from unicond.studio.settings import Served
from unicond.tasks.filled import Filled
from unicond.tasks.forms import ANY, AnyForm

PREVIEW = 512
"""Longest side of a branch in a preview, in pixels."""
logger = logging.getLogger("unicond.studio")


class TooLong(Exception):
    """A job has used up its time."""


class Gone(Exception):
    """Who makes jobs is there no more: a worker without it ends, and its jobs are queued again."""


class Made(Protocol):
    """What was made of a job."""

    def save(self, folder: Path) -> list[Path]:
        """Write it into a folder that is made; returns all files."""
        ...


class Maker(Protocol):
    """Makes jobs."""

    def make(self, jobs: list[Job]) -> Sequence[Made]:
        """Make jobs of one kin.

        Args:
            jobs: of the queue.

        Returns:
            What was made of each.

        Raises:
            Cancelled: no one waits for them any more.
            Gone: who makes them has ended.
            Exception: they cannot be made.
        """
        ...


class Watch(Protocol):
    """Who is told of moves, and says what was cancelled."""

    def tell(self, event: Event) -> None:
        """Something has happened."""
        ...

    def is_stopped(self, job: str) -> bool:
        """Whether a job was cancelled."""
        ...


@dataclass(frozen=True, eq=False)
class Models:
    """The models of a device.

    Args:
        order: what its worker was started with.
        models: {name: loaded}.
        channel: to who watches.
    """

    order: Order
    models: Mapping[str, Model]
    channel: Watch

    def make(self, jobs: list[Job]) -> list[Output]:
        """As `Maker` says; pictures are seen from the folder that the process is in."""
        filled = [self._filled(job) for job in jobs]
        try:
            return batching.run(self.models[jobs[0].base], filled, self._callback(jobs, filled))
        except Exception as error:
            if is_of_device(error):
                logger.error("%s", told(error, self.order.settings.log_prompts))
                raise Gone("its device has failed") from None
            raise

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
        """Tell what the branches that are being made look like, side by side."""
        model = self.models[job.base]
        shown = [
            model.backbone.decode(progress.predictions[branch].x0[row : row + 1])[0]
            for branch in ("image", *model.adapters)
            if branch in progress.predictions and branch in progress.move.moving()
        ]
        if not shown:
            return
        image = to_pil(torch.cat(shown, -1))
        image.thumbnail((PREVIEW * len(shown), PREVIEW))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=80)
        text = base64.b64encode(buffer.getvalue()).decode()
        self.channel.tell(Event(kind="preview", job=job.id, picture=text))


def is_of_device(error: Exception) -> bool:
    """Whether an error leaves a device useless to its process.

    Args:
        error: of a job.

    Returns:
        True for what CUDA reports of any later call, too, such as an assertion of a kernel's; a
        lack of memory is over with the job.
    """
    sticky = isinstance(error, torch.AcceleratorError) or "CUDA error" in str(error)
    return sticky and "out of memory" not in str(error)


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
    logger.error("%s", told(error, loud))
    return f"it failed within ({type(error).__name__}); the server's log says where"


def loaded(order: Order) -> dict[str, Model]:
    """Load all models that are served.

    Args:
        order: that names them, and where.

    Returns:
        {name: model}.

    Raises:
        ValueError: one cannot be.
    """
    return {name: _loaded(one, order.device) for name, one in order.settings.models.items()}


def ready(models: Mapping[str, Model]) -> Event:
    """What is told when models are loaded.

    Args:
        models: {name: loaded}.

    Returns:
        The event.
    """
    branches = {name: ["image", *model.adapters] for name, model in models.items()}
    return Event(kind="ready", branches=branches)


def _loaded(served: Served, device: str | None) -> Model:
    renamed = dict(one.split("=", 1) for one in served.adapters if "=" in one)
    adapters = renamed or list(served.adapters)
    dtype = getattr(torch, served.dtype) if served.dtype else None
    return load(served.base, adapters, device, dtype)
