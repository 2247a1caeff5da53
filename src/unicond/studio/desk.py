"""Where requests become jobs: checked, stored, queued, and looked after until they are removed."""

import asyncio
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from anyio import CapacityLimiter, to_thread

from unicond.studio import batching, folder, limits, queue, uploads
from unicond.studio.board import Board
from unicond.studio.database import Database
from unicond.studio.errors import RequestRefused
from unicond.studio.metrics import Metrics
from unicond.studio.queue import Job
from unicond.studio.settings import Settings
from unicond.studio.supervisor import Supervisor
from unicond.tasks.filled import Filled
from unicond.tasks.forms import AnyForm

Asked = tuple[AnyForm, Mapping[str, bytes]]
DECODERS = 2
"""Requests whose pictures are decoded at the same time."""
LOOK = 1.0
"""Seconds after which a client that waits is asked whether it is still there."""


@dataclass(eq=False)
class Desk:
    """What the routes ask.

    Args:
        settings: of the server.
        database: of the queue.
        board: where running jobs are.
        metrics: are told of what is accepted.
        supervisor: of the workers.
    """

    settings: Settings
    database: Database
    board: Board
    metrics: Metrics
    supervisor: Supervisor
    _rates: limits.Rates = field(init=False)
    _decoders: CapacityLimiter = field(init=False)
    _streams: Counter[str] = field(init=False, default_factory=Counter[str])

    def __post_init__(self) -> None:
        given = self.settings.limits
        self._rates = limits.Rates(given.rate, given.burst)
        self._decoders = CapacityLimiter(DECODERS)

    async def accept(self, user: str, form: AnyForm, sent: Mapping[str, bytes]) -> Job:
        """Queue what is asked for.

        Args:
            user: who asks.
            form: what for.
            sent: {name: content} of the files beside it.

        Returns:
            The job.

        Raises:
            RequestRefused: it cannot be, or is too much.
        """
        return await self.accept_made(user, lambda: (form, sent))

    async def accept_made(self, user: str, make: Callable[[], Asked]) -> Job:
        """Queue what is yet to be made of a request, in a thread, where the client may ask at all.

        Args:
            user: who asks.
            make: gives the form, and {name: content} of the files beside it.

        Returns:
            The job.

        Raises:
            RequestRefused: it cannot be, or is too much.
        """
        wait = self._rates.take(user)
        if wait:
            raise RequestRefused(429, "rate", "you send too many jobs: wait a little", wait)
        job = await to_thread.run_sync(self._stored, user, make, limiter=self._decoders)
        self.metrics.accepted.labels(job.task).inc()
        self.supervisor.wake()
        return job

    async def job(self, user: str, identity: str) -> Job:
        """A client's job.

        Args:
            user: who asks.
            identity: of the job.

        Returns:
            The job as it is now.

        Raises:
            RequestRefused: there is none of that id.
        """
        found = await to_thread.run_sync(queue.find, self.database, identity)
        if found is None or found.user != user:
            raise RequestRefused(404, "no_job", "you have no job of that id; it may have expired")
        return found

    async def ended(
        self, user: str, identity: str, seconds: float, gone: Callable[[], Awaitable[bool]]
    ) -> Job:
        """A client's job when it has ended, or when some seconds are over.

        Args:
            user: who asks.
            identity: of the job.
            seconds: to wait, at most.
            gone: whether the client is not there any more.

        Returns:
            The job as it is then.

        Raises:
            RequestRefused: there is none of that id, too many are waited for, or the client goes.
        """
        until = time.monotonic() + seconds
        with self.streaming(user), self.board.watching(identity) as changed:
            while True:
                changed.clear()
                job = await self.job(user, identity)
                left = until - time.monotonic()
                if job.ended is not None or left <= 0:
                    return job
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK)):
                        await self._settled(identity, changed)
                if await gone():
                    raise RequestRefused(400, "cut_off", "the client has gone")

    async def cancel(self, user: str, identity: str) -> Job:
        """Cancel a job that has not ended; remove one that has, with its pictures.

        Args:
            user: who asks.
            identity: of the job.

        Returns:
            The job, cancelled or as it was.

        Raises:
            RequestRefused: there is none of that id.
        """
        job = await self.job(user, identity)
        if await to_thread.run_sync(queue.cancel, self.database, identity):
            self.supervisor.cancel(identity)
            if job.status == "queued":
                self.metrics.ended.labels(job.task, "cancelled").inc()
            return await self.job(user, identity)
        await to_thread.run_sync(self.forget, [identity])
        return job

    @contextmanager
    def streaming(self, user: str) -> Generator[None]:
        """Count an answer that takes its time.

        Args:
            user: who waits for it.

        Yields:
            While it does.

        Raises:
            RequestRefused: the client has too many of them.
        """
        if self._streams[user] >= self.settings.limits.streams:
            raise RequestRefused(429, "streams", "too many of your requests wait: end some", 5)
        self._streams[user] += 1
        try:
            yield
        finally:
            self._streams[user] -= 1
            if not self._streams[user]:
                del self._streams[user]

    def forget(self, identities: list[str]) -> None:
        """Remove jobs that have ended, and their pictures.

        Args:
            identities: of the jobs.

        Raises:
            sqlite3.OperationalError: the queue cannot be written.
        """
        queue.remove(self.database, identities)
        for identity in identities:
            folder.remove(self.settings.data, identity)

    async def _settled(self, identity: str, changed: asyncio.Event) -> None:
        """Wait until a job starts anew or has ended; its moves are none of it."""
        while True:
            await changed.wait()
            if not self.board.of(identity).told:
                return
            changed.clear()

    def _stored(self, user: str, make: Callable[[], Asked]) -> Job:
        """Make, check, decode, write and queue, in a thread."""
        settings = self.settings
        if shutil.disk_usage(settings.data).free < settings.limits.free:
            raise RequestRefused(507, "disk_full", "the server's disk is full", 60)
        try:
            form, sent = make()
        except ValueError as error:
            raise RequestRefused(422, "invalid", str(error)) from None
        base = next(iter(settings.models)) if form.base is None else form.base
        if base not in settings.models:
            known = ", ".join(settings.models)
            raise RequestRefused(422, "no_model", f"no model of that name; there is {known}")
        identity = secrets.token_hex(16)
        try:
            limits.check(form, settings.limits)
            plain, stored = uploads.received(form, sent, settings.limits)
            bases = {name: one.base for name, one in settings.models.items()}
            Filled(plain, lambda picture: str(picture.upload), bases).check()
        except (ValueError, TypeError) as error:
            raise RequestRefused(422, "invalid", str(error)) from None
        job = Job(
            id=identity,
            user=user,
            task=form.task,
            base=base,
            form=plain.model_dump_json(by_alias=True, exclude_none=True),
            kin=batching.kin(plain, base, uploads.named(stored)),
            rows=limits.rows_of(plain),
            created=time.time(),
        )
        try:
            uploads.keep(stored, Path(settings.data, folder.given(identity)))
            most, given = settings.limits, sum(len(one.png) for one in stored)
            queue.add(self.database, job, most.waiting, most.waiting_each, given)
        except queue.Full as error:
            folder.remove(settings.data, identity)
            raise RequestRefused(429, "queue_full", str(error), 10) from None
        except BaseException:
            folder.remove(settings.data, identity)
            raise
        return job
