"""Starts a worker for each device, tells it of new jobs, hears how they go, and starts it anew.

A worker that ends by itself has its jobs queued again (`queue.recover`); one that ends before it
was ready is waited for longer and longer. Models that no worker could ever load end the server;
once one has, they can be had, and a worker that fails to load them is tried again.
"""

import asyncio
import logging
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from anyio import to_thread

from unicond import cluster
from unicond.studio import queue
from unicond.studio.board import Board
from unicond.studio.channel import Event
from unicond.studio.database import Database
from unicond.studio.engine import Engine, Link
from unicond.studio.metrics import Metrics
from unicond.studio.order import Order
from unicond.studio.processes import Processes
from unicond.studio.settings import Settings

LONGEST = 30.0
"""Seconds, at most, until a worker is started again."""
GRACE = 60.0
"""Seconds beyond a job's own time in which its worker must say something."""
T = TypeVar("T")
logger = logging.getLogger("unicond.studio")


@dataclass(eq=False)
class Hand:
    """A worker, as the server sees it.

    Args:
        name: which no other one had or will have.
        link: to it.
        jobs: that it has.
        branches: {model: its branches}; None until it is ready.
    """

    name: str
    link: Link
    jobs: set[str] = field(default_factory=set[str])
    branches: Mapping[str, list[str]] | None = None


class Supervisor:
    """All workers of a server.

    Args:
        settings: of the server.
        database: of the queue.
        board: is told of moves.
        metrics: are told of ends.
        broken: is called with the reason if the models cannot be loaded at the start.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        board: Board,
        metrics: Metrics,
        broken: Callable[[str], None],
    ) -> None:
        self._settings, self._database, self._engine = settings, database, _engine(settings)
        self._board, self._metrics, self._broken = board, metrics, broken
        self._hands: dict[int, Hand] = {}
        self._ending, self._proven = asyncio.Event(), False

    @property
    def hands(self) -> list[Hand]:
        """The workers that are there."""
        return list(self._hands.values())

    async def run(self) -> None:
        """Keep a worker for each device, until `stop`."""
        devices = enumerate(self._settings.devices)
        try:
            await to_thread.run_sync(self._engine.open)  # Ray takes signals from the main thread
            async with asyncio.TaskGroup() as group:
                for number, device in devices:
                    group.create_task(self._keep(number, device))
        except* Exception as errors:
            logger.exception("workers cannot be kept")
            self._broken(f"workers cannot be kept: {errors.exceptions[0]}")
        finally:
            self._close()
            await to_thread.run_sync(self._engine.close)

    async def stop(self) -> None:
        """End all workers; what they were at is queued again."""
        self._ending.set()
        self._close()

    def wake(self) -> None:
        """There is a new job."""
        for hand in self.hands:
            hand.link.send("wake")

    def cancel(self, job: str) -> None:
        """A job was cancelled."""
        for hand in self.hands:
            if job in hand.jobs:
                hand.link.send(f"stop {job}")
        self._board.changed(job)

    async def _keep(self, number: int, device: str | None) -> None:
        pause = 0.0
        while not self._ending.is_set():
            hand = await self._start(device)
            self._hands[number] = hand
            if self._ending.is_set():  # while it was started
                hand.link.close()
            broken = await self._listen(hand)
            how = await hand.link.ended()
            del self._hands[number]
            await self._recover(hand, how)
            if broken and not self._proven:
                self._broken(broken)
                return
            if broken:
                logger.error("worker %s could not load the models: %s", hand.name, broken)
            pause = 0.0 if hand.branches is not None else min(LONGEST, 2 * pause + 1)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()

    def _close(self) -> None:
        for hand in self.hands:
            hand.link.close()

    async def _start(self, device: str | None) -> Hand:
        name = secrets.token_hex(6)
        order = Order(name=name, device=device, settings=replace(self._settings, keys={}))
        return Hand(name, await self._engine.start(order))

    async def _listen(self, hand: Hand) -> str:
        """Hear a worker until it ends.

        Args:
            hand: of the worker.

        Returns:
            Why its models cannot be loaded; empty if they can.
        """
        broken = ""
        while event := await self._told(hand):
            if event.kind == "ready":
                hand.branches, self._proven = event.branches, True
                logger.info("worker %s is ready", hand.name)
                hand.link.send("wake")
            elif event.kind == "broken":
                broken = event.message
            else:
                await self._heard(hand, event)
        return broken

    async def _told(self, hand: Hand) -> Event | None:
        """The next event of a worker; one that says nothing for too long is ended."""
        limit = self._settings.limits.seconds + GRACE if hand.jobs else None
        try:
            async with asyncio.timeout(limit):
                return await hand.link.told()
        except TimeoutError:
            logger.warning("worker %s hangs: it is ended", hand.name)
            await to_thread.run_sync(hand.link.kill)
            return None

    async def _heard(self, hand: Hand, event: Event) -> None:
        if event.kind == "began":
            hand.jobs.add(event.job)
            await self._stop_cancelled(hand, event.job)
            self._metrics.together.observe(event.together)
            self._board.moved(event.job, 0, 0)
        elif event.kind == "move":
            self._board.moved(event.job, event.done, event.total)
        elif event.kind == "preview":
            self._board.previewed(event.job, event.picture)
        else:
            hand.jobs.discard(event.job)
            self._board.changed(event.job)
            if event.kind == "ended":
                await self._tell(event.job)

    async def _stop_cancelled(self, hand: Hand, identity: str) -> None:
        """Stop a job that was cancelled after it was taken and before it was told to have begun."""
        job = await patient(lambda: queue.find(self._database, identity))
        if job is None or job.ended is not None:
            hand.link.send(f"stop {identity}")

    async def _recover(self, hand: Hand, how: str) -> None:
        crashed = not self._ending.is_set()
        if crashed:
            self._metrics.crashes.inc()
            logger.warning("worker %s ended with %s, with %s", hand.name, how, hand.jobs or "none")
        lost = await patient(lambda: queue.recover(self._database, hand.name, crashed))
        for job in hand.jobs | set(lost):
            self._board.changed(job)
        for job in lost:
            await self._tell(job)

    async def _tell(self, identity: str) -> None:
        """Count and log a job that has ended."""
        job = await patient(lambda: queue.find(self._database, identity))
        if job is None or job.ended is None:
            return
        self._metrics.ended.labels(job.task, job.status).inc()
        if job.started is not None:
            self._metrics.waited.observe(job.started - job.created)
            self._metrics.took.labels(job.task).observe(job.ended - job.started)
        logger.info("job %s (%s of %s): %s", job.id, job.task, job.user, job.status)


def _engine(settings: Settings) -> Engine:
    """What workers are."""
    if settings.engine == "local":
        return Processes()
    cluster.check_installed("serve")
    from unicond.studio.on_ray import OnRay

    return OnRay(settings.data, settings.devices)


async def patient(do: Callable[[], T]) -> T:
    """Ask the queue off the event loop; if it cannot answer, until it can."""
    while True:
        try:
            return await to_thread.run_sync(do)
        except sqlite3.OperationalError as error:
            logger.warning("the queue cannot be used (%s); it is tried again", error)
            await asyncio.sleep(0.5)
