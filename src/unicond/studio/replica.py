"""A replica of Ray Serve that has the models: what of a worker runs on any machine of the cluster.

Serve starts as many as there are workers, sends each one call at a time, and starts another in the
place of one that ends or can no longer be reached.
"""

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray
from ray import serve
from ray.serve.schema import ApplicationStatus
from transformers.utils.logging import disable_progress_bar

from unicond.calls.prepared import Cancelled
from unicond.studio import folder
from unicond.studio.channel import EVENT, Event
from unicond.studio.making import Gone, Made, Models, loaded, ready, reason
from unicond.studio.order import ORDER
from unicond.studio.queue import Job

Files = dict[str, bytes]


@dataclass(frozen=True)
class Sent:
    """Files that came from a replica.

    Args:
        files: {name: content}.
    """

    files: Files

    def save(self, folder: Path) -> list[Path]:
        """As `making.Made` says."""
        folder.mkdir(parents=True)
        paths = [folder / name for name in self.files]
        for path in paths:
            path.write_bytes(self.files[path.name])
        return paths


@dataclass(frozen=True)
class Unmade:
    """Jobs that a replica did not make.

    Args:
        message: why, for people; empty if they were cancelled.
    """

    message: str


@dataclass(frozen=True)
class Place:
    """Which replica makes jobs.

    Args:
        actor: its name within Ray.
    """

    actor: str


Told = Place | Event | Unmade | list[Sent]


class Replica:
    """The models, in a process of Ray's, in a folder of its own.

    Args:
        order: of a worker, as JSON.
        home: folder from which the names of models are seen.

    Raises:
        ValueError: the models cannot be loaded, as they could before: Serve tries again. Those of
            a server that starts are told by `ready`.
    """

    def __init__(self, order: str, home: str) -> None:
        self._order = ORDER.validate_json(order)
        self._stopped = set[str]()
        self._turn = threading.Lock()  # Serve may call again before a cancelled call is over
        self._put: Callable[[Told], object] = lambda _: None
        disable_progress_bar()  # of each file's tensors
        if Path(home).is_dir():
            os.chdir(home)
        try:
            models = loaded(self._order)
        except (ValueError, OSError, RuntimeError) as error:
            if not _is_deploying():
                raise
            self._state = Event(kind="broken", message=str(error))
            return
        self._state = ready(models)
        self._models = Models(self._order, models, self)
        os.chdir(tempfile.mkdtemp(prefix="unicond-"))

    async def ready(self) -> bytes:
        """Whether the models are loaded: an event."""
        return EVENT.dump_json(self._state)

    def tell(self, event: Event) -> None:
        """As `making.Watch` says."""
        self._put(event)

    def is_stopped(self, job: str) -> bool:
        """As `making.Watch` says."""
        return job in self._stopped

    async def make(self, jobs: list[Job], given: Sequence[Files]) -> AsyncGenerator[Told]:
        """Make jobs of one kin; a call that is cancelled stops after the move that it is at.

        Args:
            jobs: of the queue.
            given: the pictures of each.

        Yields:
            Which replica this is, what happens, and at last what was made of each.
        """
        loop, told = asyncio.get_running_loop(), asyncio.Queue[Told]()
        if self._state.kind == "broken":
            os._exit(1)  # for Serve to start another
        yield Place(ray.get_runtime_context().get_actor_name() or "")

        def put(one: Told) -> None:
            loop.call_soon_threadsafe(told.put_nowait, one)

        ids = {job.id for job in jobs}
        making = asyncio.ensure_future(asyncio.to_thread(self._make, jobs, given, put))
        try:
            one: Told = Event(kind="began")
            while isinstance(one, Event):
                one = await told.get()
                yield one
        finally:
            self._stopped |= ids
            await asyncio.wait({making})
            self._stopped -= ids

    def _make(self, jobs: list[Job], given: Sequence[Files], put: Callable[[Told], object]) -> None:
        settings = self._order.settings
        with self._turn:
            self._put = put
            try:
                for job, files in zip(jobs, given, strict=True):
                    Sent(files).save(folder.given(job.id))
                outputs = self._models.make(jobs)
                put([_saved(job, output) for job, output in zip(jobs, outputs, strict=True)])
            except Cancelled:
                put(Unmade(""))
            except Gone:
                os._exit(1)
            except Exception as error:
                put(Unmade(reason(error, settings.limits.seconds, settings.log_prompts)))
            finally:
                for job in jobs:
                    folder.remove(Path(), job.id)


def _is_deploying() -> bool:
    """Whether the replicas of this application are the first."""
    app = serve.status().applications[serve.get_replica_context().app_name]
    return app.status in (ApplicationStatus.NOT_STARTED, ApplicationStatus.DEPLOYING)


def _saved(job: Job, output: Made) -> Sent:
    paths = output.save(folder.made(job.id, "ray"))
    return Sent({path.name: path.read_bytes() for path in paths})
