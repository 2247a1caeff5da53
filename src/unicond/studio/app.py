"""The server's app: `create_app(settings)` is all that anyone needs of it.

It starts workers when it starts, and ends them when it ends. Other parts (a page) are routers that
ask the `Desk` (`app.state.desk`), as the routes here do.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from anyio import to_thread
from fastapi import FastAPI
from filelock import FileLock, Timeout

from unicond.pictures.files import make_output_folder
from unicond.studio import documented, errors, folder, queue
from unicond.studio.board import Board
from unicond.studio.database import Database
from unicond.studio.desk import Desk
from unicond.studio.guard import Guard
from unicond.studio.metrics import Metrics
from unicond.studio.page import mounting
from unicond.studio.routes import jobs, openai, status
from unicond.studio.schema import described
from unicond.studio.settings import Settings
from unicond.studio.supervisor import Supervisor, patient

ENDING = 10.0
"""Seconds that workers have to end."""
logger = logging.getLogger("unicond.studio")


def create_app(settings: Settings, broken: Callable[[str], None] = logger.error) -> FastAPI:
    """Make the app of a server.

    Args:
        settings: what it serves, where it keeps it, and what it refuses.
        broken: is called with the reason if the models cannot be loaded.

    Returns:
        An ASGI app; its lifespan holds the data folder and the workers.

    Raises:
        ValueError: no model is to be served.
    """
    if not settings.models:
        raise ValueError("no model is to be served: name at least one")

    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        lock = _held(settings)
        database = Database(settings.data / folder.QUEUE)
        board = Board()
        supervisor = Supervisor(settings, database, board, metrics, broken)
        desk = Desk(settings, database, board, metrics, supervisor)
        app.state.desk = desk
        await to_thread.run_sync(_tidied, settings, database)
        work = [asyncio.create_task(supervisor.run()), asyncio.create_task(_sweep(desk))]
        try:
            yield
        finally:
            await supervisor.stop()
            with suppress(TimeoutError):
                await asyncio.wait_for(work[0], ENDING)
            for one in work:
                one.cancel()
            database.close()
            lock.release()

    app = FastAPI(title="unicond", lifespan=lifespan, docs_url=None, redoc_url=None)
    errors.install(app, metrics)
    for one in (jobs, openai, status):
        app.include_router(one.router)
    app.add_middleware(Guard, limits=settings.limits, hosts=settings.hosts, metrics=metrics)
    described(app)
    documented.install(app)
    if settings.page:
        mounting.install(app, settings)
    return app


def _held(settings: Settings) -> FileLock:
    """The data folder, which no other server may use meanwhile.

    Args:
        settings: that name it.

    Returns:
        What holds it until it is released.

    Raises:
        ValueError: another one does, or nothing can be written there.
    """
    data = make_output_folder(settings.data)
    (data / folder.JOBS).mkdir(exist_ok=True)
    lock = FileLock(data / folder.LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another server uses {data}: end it, or give another folder (--data)"
        ) from None
    return lock


def _tidied(settings: Settings, database: Database) -> None:
    """Queue again what ran when the last server ended; remove files of no job."""
    for identity in queue.recover(database):
        logger.warning("job %s is given up", identity)
    known = set(queue.identities(database))
    for identity in folder.strays(settings.data, known):
        folder.remove(settings.data, identity)


async def _sweep(desk: Desk) -> None:
    """Remove what has expired, now and then; a queue that is locked is waited for."""
    keeping = desk.settings.keeping
    while True:
        found = await patient(lambda: queue.expired(desk.database, keeping.seconds, keeping.bytes))
        if found:
            await patient(partial(desk.forget, found))
            logger.info("%d jobs have expired", len(found))
        trim = partial(folder.trim, desk.settings.data, keeping.copy_seconds, keeping.copy_bytes)
        await to_thread.run_sync(trim)
        await asyncio.sleep(keeping.every)
