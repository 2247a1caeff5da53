"""Workers whose models are in actors of Ray, on any machine of the cluster.

The worker itself (`worker.Worker`) is a thread of the server, so that the queue and its files are
this machine's alone: it sends a job's pictures to the actor, hears of its moves, and writes what
comes back. An actor that is killed takes its worker along; the supervisor starts both anew.
"""

import asyncio
import logging
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import ray
from anyio import to_thread
from ray.actor import ActorHandle
from ray.exceptions import RayError
from transformers.utils.logging import disable_progress_bar

from unicond import cluster
from unicond.calls.prepared import Cancelled
from unicond.studio import folder
from unicond.studio.channel import EVENT, Event
from unicond.studio.database import Database
from unicond.studio.engine import Link
from unicond.studio.making import Gone, Made, Models, loaded, ready, reason
from unicond.studio.order import ORDER, Order
from unicond.studio.queue import Job
from unicond.studio.worker import Worker

CALLS = 4
"""Of an actor at the same time: its life, what it makes, and what is cancelled meanwhile."""
AGAIN = 0.5
"""Seconds between two looks whether an actor that starts is still wanted."""
Files = dict[str, bytes]
logger = logging.getLogger("unicond.studio")


@dataclass(frozen=True)
class Sent:
    """Files that came from an actor.

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
    """Jobs that an actor did not make.

    Args:
        message: why, for people; empty if they were cancelled.
    """

    message: str


class Actor:
    """The models, in a process of Ray's, in a folder of its own.

    Args:
        order: of the worker, as JSON.
        home: folder from which the names of models are seen.
    """

    def __init__(self, order: str, home: str) -> None:
        self._order = ORDER.validate_json(order)
        self._told = queue.SimpleQueue[Event | Unmade | list[Sent]]()
        self._stopped = set[str]()
        disable_progress_bar()  # of each file's tensors
        if Path(home).is_dir():
            os.chdir(home)
        try:
            models = loaded(self._order)
        except (ValueError, OSError, RuntimeError) as error:
            self._state = Event(kind="broken", message=str(error))
            return
        self._state = ready(models, os.getpid())
        self._models = Models(self._order, models, self)
        os.chdir(tempfile.mkdtemp(prefix="unicond-"))

    def ready(self) -> bytes:
        """Whether the models are loaded: an event."""
        return EVENT.dump_json(self._state)

    def live(self) -> None:
        """Never return: who waits for it hears of the actor's end."""
        threading.Event().wait()

    def tell(self, event: Event) -> None:
        """As `making.Watch` says."""
        self._told.put(event)

    def is_stopped(self, job: str) -> bool:
        """As `making.Watch` says."""
        return job in self._stopped

    def stop(self, job: str) -> None:
        """A job was cancelled."""
        self._stopped.add(job)

    def make(
        self, jobs: list[Job], given: Sequence[Files]
    ) -> Iterator[Event | Unmade | list[Sent]]:
        """Make jobs of one kin.

        Args:
            jobs: of the queue.
            given: the pictures of each.

        Yields:
            What happens, and at last what was made of each.
        """
        threading.Thread(target=self._make, args=(jobs, given), daemon=True).start()
        while True:
            told = self._told.get()
            yield told
            if not isinstance(told, Event):
                return

    def _make(self, jobs: list[Job], given: Sequence[Files]) -> None:
        settings = self._order.settings
        try:
            for job, files in zip(jobs, given, strict=True):
                Sent(files).save(folder.given(job.id))
            outputs = self._models.make(jobs)
            made = [_saved(job, output) for job, output in zip(jobs, outputs, strict=True)]
        except Cancelled:
            self._told.put(Unmade(""))
        except Gone:
            os._exit(1)
        except Exception as error:
            self._told.put(Unmade(reason(error, settings.limits.seconds, settings.log_prompts)))
        else:
            self._told.put(made)
        finally:
            for job in jobs:
                self._stopped.discard(job.id)
                folder.remove(Path(), job.id)


def _saved(job: Job, output: Made) -> Sent:
    paths = output.save(folder.made(job.id, "ray"))
    return Sent({path.name: path.read_bytes() for path in paths})


class _Channel:
    """The worker's end, which is in this process; all but `wait` may be called by anyone."""

    def __init__(self, put: Callable[[Event], object], life: ray.ObjectRef) -> None:
        self._put, self._life = put, life
        self._woken = threading.Event()
        self._stopped = set[str]()
        self._closed = False

    def tell(self, event: Event) -> None:
        """As `channel.Channel` says."""
        self._put(event)

    def wait(self, seconds: float) -> None:
        """As `channel.Channel` says; `Gone` if the actor has ended, or is to."""
        self._woken.wait(seconds)
        self._woken.clear()
        self.check_open()
        if ray.wait([self._life], timeout=0)[0]:
            raise Gone("its actor has ended")

    def is_stopped(self, job: str) -> bool:
        """As `channel.Channel` says."""
        return job in self._stopped

    def forget(self, job: str) -> None:
        """As `channel.Channel` says."""
        self._stopped.discard(job)

    def wake(self, stopped: str = "") -> None:
        """There may be a job, or one was cancelled."""
        if stopped:
            self._stopped.add(stopped)
        self._woken.set()

    def close(self) -> None:
        """Have whoever waits end."""
        self._closed = True
        self._woken.set()

    def check_open(self) -> None:
        """Raise `Gone` after `close`."""
        if self._closed:
            raise Gone("it was told to end")


@dataclass(frozen=True)
class _Remote:
    """Makes jobs by an actor."""

    data: Path
    actor: ActorHandle
    channel: _Channel

    def make(self, jobs: list[Job]) -> list[Sent]:
        """As `making.Maker` says."""
        given = [self._given(job) for job in jobs]
        try:
            make = self.actor.make.options(num_returns="streaming")
            for part in make.remote(jobs, given):  # pyright: ignore[reportGeneralTypeIssues]
                told = ray.get(part)
                if isinstance(told, Event):
                    self.channel.tell(told)
                elif isinstance(told, Unmade):
                    raise ValueError(told.message) if told.message else Cancelled
                else:
                    return told
        except RayError as error:
            raise Gone(type(error).__name__) from error
        raise Gone("its actor has ended")

    def _given(self, job: Job) -> Files:
        pictures = self.data / folder.given(job.id)
        return {path.name: path.read_bytes() for path in pictures.iterdir()}


class RayLink:
    """A worker in a thread, and its actor.

    Args:
        order: what it is started with.
        actor: that was started for it.
    """

    def __init__(self, order: Order, actor: ActorHandle) -> None:
        self._actor, self._how = actor, ""
        self._events = asyncio.Queue[Event | None]()
        self._loop = asyncio.get_running_loop()
        self._channel = _Channel(self._put, actor.live.remote())
        self._thread = threading.Thread(target=self._run, args=(order,), daemon=True)
        self._thread.start()

    async def told(self) -> Event | None:
        """As `engine.Link` says."""
        return await self._events.get()

    def send(self, line: str) -> None:
        """As `engine.Link` says."""
        what, _, job = line.partition(" ")
        if what == "stop":
            self._actor.stop.remote(job)
        self._channel.wake(job)

    def close(self) -> None:
        """As `engine.Link` says."""
        self._channel.close()
        ray.kill(self._actor)

    def kill(self) -> None:
        """As `engine.Link` says."""
        self.close()

    async def ended(self) -> str:
        """As `engine.Link` says."""
        await to_thread.run_sync(self._thread.join)
        return self._how

    def _put(self, event: Event | None) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _loaded(self) -> Event:
        """Wait for the models; an actor that is killed while it starts may not say so for long."""
        state = self._actor.ready.remote()
        while not ray.wait([state], timeout=AGAIN)[0]:
            self._channel.check_open()
        told: bytes = ray.get(state)  # pyright: ignore[reportAssignmentType]
        return EVENT.validate_json(told)

    def _run(self, order: Order) -> None:
        """What the thread does, until the actor ends."""
        data = order.settings.data
        database = Database(data / folder.QUEUE)
        try:
            state = self._loaded()
            self._put(state)
            if state.kind == "ready":
                remote = _Remote(data, self._actor, self._channel)
                Worker(order, remote, database, self._channel).work()
        except (Gone, RayError) as error:
            self._how = str(error) or type(error).__name__
        except Exception:
            logger.exception("a worker has failed")
            self._how = "an error"
        finally:
            database.close()
            self._put(None)


class OnRay:
    """Starts an actor for each worker.

    Args:
        devices: of the workers.
    """

    def __init__(self, devices: Sequence[str | None]) -> None:
        self._devices = devices
        self._accelerators = 0.0
        self._cluster = ExitStack()

    def open(self) -> None:
        """As `engine.Engine` says."""
        device = self._devices[0] if self._devices else None
        self._accelerators = self._cluster.enter_context(cluster.joined(len(self._devices), device))

    async def start(self, order: Order) -> Link:
        """As `engine.Engine` says."""
        kind = ray.remote(Actor).options(
            num_cpus=1, num_gpus=self._accelerators, max_restarts=0, max_concurrency=CALLS
        )
        actor = kind.remote(ORDER.dump_json(order).decode(), os.getcwd())
        return RayLink(order, actor)  # pyright: ignore[reportArgumentType] (a proxy is its handle)

    def close(self) -> None:
        """As `engine.Engine` says."""
        self._cluster.close()
