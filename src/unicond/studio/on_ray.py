"""Workers whose models are in replicas of Ray Serve, on any machine of the cluster.

The worker itself (`worker.Worker`) is a thread of the server, so that the queue and its files are
this machine's alone: it sends a job's pictures to whichever replica is free, hears of its moves,
and writes what comes back. A replica that is killed takes its worker along, which the supervisor
starts anew, as Serve does the replica.
"""

import asyncio
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import ray
from anyio import to_thread
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import ProxyLocation
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from unicond import cluster
from unicond.calls.prepared import Cancelled
from unicond.studio import folder
from unicond.studio.channel import EVENT, Event
from unicond.studio.database import Database
from unicond.studio.engine import Link
from unicond.studio.making import Gone
from unicond.studio.order import ORDER, Order
from unicond.studio.queue import Job
from unicond.studio.replica import Files, Place, Replica, Sent, Unmade
from unicond.studio.worker import Worker

AGAIN = 0.5
"""Seconds between two looks whether a replica that is waited for is still wanted."""
NAMESPACE = "serve"
"""In which Serve names its replicas."""
QUIET = {"log_level": "WARNING", "enable_access_log": False}
ENDS = 1.0
"""Seconds that a replica has to end."""
LOOKS = 2.0
"""Seconds between two looks of Serve whether a replica is there."""
Replicas = DeploymentHandle[Replica]
T = TypeVar("T")
logger = logging.getLogger("unicond.studio")


class Undeployed(Exception):
    """Serve could not start the replicas."""


class _Channel:
    """The worker's end, which is in this process; all but `wait` may be called by anyone."""

    def __init__(self, put: Callable[[Event], object]) -> None:
        self._put = put
        self._woken, self._turn = threading.Event(), threading.Lock()
        self._stopped = set[str]()
        self._jobs, self._cancel = frozenset[str](), lambda: None
        self._closed = False

    def tell(self, event: Event) -> None:
        """As `channel.Channel` says."""
        self._put(event)

    def wait(self, seconds: float) -> None:
        """As `channel.Channel` says; `Gone` if the worker is to end."""
        self._woken.wait(seconds)
        self._woken.clear()
        if self._closed:
            raise Gone("it was told to end")

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
        self._look()
        self._woken.set()

    def close(self) -> None:
        """Have whoever waits end."""
        self._closed = True
        self._look()
        self._woken.set()

    @contextmanager
    def calling(self, jobs: list[Job], cancel: Callable[[], None]) -> Generator[None]:
        """Within the block, a call for these jobs is cancelled when no one waits for it."""
        with self._turn:
            self._jobs, self._cancel = frozenset(job.id for job in jobs), cancel
        self._look()
        try:
            yield
        finally:
            with self._turn:
                self._jobs, self._cancel = frozenset[str](), lambda: None

    def _look(self) -> None:
        with self._turn:
            if self._closed or (self._jobs and self._jobs <= self._stopped):
                self._cancel()


@dataclass(eq=False)
class _Remote:
    """Makes jobs by whichever replica is free.

    Args:
        data: folder of the server.
        replicas: of Serve.
        channel: of the worker.
        place: of the replica that makes some; None while none does.
    """

    data: Path
    replicas: Replicas
    channel: _Channel
    place: Place | None = None

    def make(self, jobs: list[Job]) -> list[Sent]:
        """As `making.Maker` says."""
        given = [self._given(job) for job in jobs]
        told = self.replicas.options(stream=True).make.remote(jobs, given)
        try:
            with self.channel.calling(jobs, told.cancel):
                for one in told:  # pyright: ignore[reportGeneralTypeIssues] (it streams)
                    if isinstance(one, Place):
                        self.place = one
                    elif isinstance(one, Event):
                        self.channel.tell(one)
                    elif isinstance(one, Unmade):
                        raise ValueError(one.message) if one.message else Cancelled
                    else:
                        return one
        except (RayError, RayServeException) as error:
            if all(self.channel.is_stopped(job.id) for job in jobs):
                raise Cancelled from None
            raise Gone(type(error).__name__) from error
        finally:
            self.place = None
        raise Gone("its replica has ended")

    def end(self) -> None:
        """End the replica that makes something, whatever it does; Serve starts another."""
        if place := self.place:
            with suppress(ValueError):  # it has ended
                ray.kill(ray.get_actor(place.actor, NAMESPACE))

    def _given(self, job: Job) -> Files:
        pictures = self.data / folder.given(job.id)
        return {path.name: path.read_bytes() for path in pictures.iterdir()}


class RayLink:
    """A worker in a thread, for whom replicas make what it takes.

    Args:
        order: what it is started with.
        replicas: of Serve, when they are there.
    """

    def __init__(self, order: Order, replicas: Future[Replicas]) -> None:
        self._replicas, self._how = replicas, ""
        self._remote: _Remote | None = None
        self._events = asyncio.Queue[Event | None]()
        self._loop = asyncio.get_running_loop()
        self._channel = _Channel(self._put)
        self._thread = threading.Thread(target=self._run, args=(order,), daemon=True)
        self._thread.start()

    async def told(self) -> Event | None:
        """As `engine.Link` says."""
        return await self._events.get()

    def send(self, line: str) -> None:
        """As `engine.Link` says."""
        what, _, job = line.partition(" ")
        self._channel.wake(job if what == "stop" else "")

    def close(self) -> None:
        """As `engine.Link` says."""
        self._channel.close()

    def kill(self) -> None:
        """As `engine.Link` says."""
        if self._remote is not None:
            self._remote.end()
        self.close()

    async def ended(self) -> str:
        """As `engine.Link` says."""
        await to_thread.run_sync(self._thread.join)
        return self._how

    def _put(self, event: Event | None) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _patient(self, wait: Callable[[float], T]) -> T:
        """Wait for something again and again, until it is there or the worker is to end."""
        while True:
            try:
                return wait(AGAIN)
            except TimeoutError:
                self._channel.wait(0)

    def _run(self, order: Order) -> None:
        """What the thread does, until it is told to end or its replica does."""
        data = order.settings.data
        database = Database(data / folder.QUEUE)
        try:
            replicas = self._patient(self._replicas.result)
            told = replicas.ready.remote()
            state = EVENT.validate_json(self._patient(lambda s: told.result(timeout_s=s)))
            self._put(state)
            self._how = state.message
            if state.kind == "ready":
                self._remote = _Remote(data, replicas, self._channel)
                Worker(order, self._remote, database, self._channel).work()
        except Undeployed as error:
            self._put(Event(kind="broken", message=str(error)))
        except (Gone, RayError, RayServeException) as error:
            self._how = str(error) or type(error).__name__
        except Exception as error:
            logger.exception("a worker has failed")
            self._how = f"an error ({type(error).__name__})"
        finally:
            database.close()
            self._put(None)


class OnRay:
    """Has Serve start as many replicas as there are workers.

    Args:
        data: folder of the server, by which Serve tells its replicas from another server's.
        devices: of the workers.
    """

    def __init__(self, data: Path, devices: Sequence[str | None]) -> None:
        self._devices = devices
        digest = hashlib.sha256(str(data.absolute()).encode()).hexdigest()[:8]
        self._app = f"unicond-{digest}"
        self._accelerators = 0.0
        self._left = ExitStack()  # what is to be let go of
        self._keeper = ThreadPoolExecutor(1)  # a local Ray ends with the thread that started it
        self._replicas: Future[Replicas] | None = None

    def open(self) -> None:
        """As `engine.Engine` says."""
        self._left.callback(self._keeper.shutdown)
        self._accelerators = self._keeper.submit(self._join).result()
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(proxy_location=ProxyLocation.Disabled, logging_config=QUIET)

    async def start(self, order: Order) -> Link:
        """As `engine.Engine` says; the first has Serve start all replicas."""
        if self._replicas is None:
            self._replicas = Future()
            self._left.callback(serve.delete, self._app)
            threading.Thread(target=self._deploy, args=(order, self._replicas), daemon=True).start()
        return RayLink(order, self._replicas)

    def close(self) -> None:
        """As `engine.Engine` says."""
        self._left.close()

    def _join(self) -> float:
        device = self._devices[0] if self._devices else None
        return self._left.enter_context(cluster.joined(len(self._devices), device))

    def _deploy(self, order: Order, replicas: Future[Replicas]) -> None:
        deployment = serve.deployment(
            name="worker",
            num_replicas=len(self._devices),
            ray_actor_options={"num_cpus": 1, "num_gpus": self._accelerators},
            max_ongoing_requests=1,
            graceful_shutdown_timeout_s=ENDS,
            health_check_period_s=LOOKS,
            logging_config=QUIET,
        )
        try:
            app = deployment(Replica).bind(ORDER.dump_json(order).decode(), os.getcwd())
            replicas.set_result(serve.run(app, name=self._app, route_prefix=None))
        except Exception as error:
            replicas.set_exception(Undeployed(f"Ray Serve cannot start the workers: {error}"))
