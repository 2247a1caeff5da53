"""Jobs: asking for one, watching it, taking what it made, ending it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, cast

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel, TypeAdapter

from unicond.studio import folder, queue
from unicond.studio.board import Standing
from unicond.studio.desk import Desk
from unicond.studio.errors import RequestRefused
from unicond.studio.queue import Job
from unicond.studio.routes.common import (
    REFUSALS,
    AtDesk,
    JobView,
    User,
    json_of,
    kind_of,
    parts_of,
    single,
    view,
)
from unicond.tasks.forms import ANY, AnyForm

LONGEST = 60.0
"""Seconds, at most, that an answer waits for a job to end."""
LISTED = 100
QUIET = 15.0
"""Seconds of a stream without an event after which a comment keeps it open."""
AS_THEY_COME = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""How events pass proxies."""
router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=REFUSALS)
Wait = Annotated[float, Query(ge=0, le=LONGEST, description="Seconds to wait for the job to end.")]


class Events(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


class JobList(BaseModel):
    """Jobs of a client, the newest first."""

    data: list[JobView]


async def form_of(request: Request, most: int) -> tuple[AnyForm, dict[str, bytes]]:
    """What a request asks for, and the files beside it.

    Args:
        request: JSON, or multipart with the form as JSON in the field `form`.
        most: bytes of a part.

    Returns:
        The form, and {name: content}.

    Raises:
        RequestRefused: it is neither.
    """
    reads = cast("TypeAdapter[BaseModel]", ANY)
    kind = kind_of(request)
    if kind == "application/json":
        body = await request.body()
        return cast(AnyForm, await to_thread.run_sync(json_of, body, reads)), {}
    if kind != "multipart/form-data":
        raise RequestRefused(
            415, "media_type", "send application/json, or multipart/form-data with a field form"
        )
    fields, files = await parts_of(request, most)
    if fields.keys() != {"form"}:
        raise RequestRefused(400, "bad_multipart", "send one field, form, and files")
    return cast(AnyForm, await to_thread.run_sync(json_of, fields["form"], reads)), single(files)


@router.post("", status_code=202)
async def submit(request: Request, user: User, desk: AtDesk) -> JobView:
    """Ask for a job of any task.

    A picture is given in base64, or as `{"upload": NAME}` beside which the part NAME of a multipart
    body is the file; the form itself is then its field `form`.
    """
    form, files = await form_of(request, desk.settings.limits.body)
    job = await desk.accept(user, form, files)
    return view(job, Standing())


@router.get("")
async def listed(user: User, desk: AtDesk) -> JobList:
    """Your latest jobs."""
    jobs = await to_thread.run_sync(queue.mine, desk.database, user, LISTED)
    return JobList(data=[view(job, desk.board.of(job.id)) for job in jobs])


@router.get("/{identity}")
async def job(
    request: Request, identity: str, user: User, desk: AtDesk, wait: Wait = 0.0
) -> JobView:
    """Where a job is; with `wait`, as soon as it has ended or the seconds are over."""
    if wait:
        found = await desk.ended(user, identity, wait, request.is_disconnected)
    else:
        found = await desk.job(user, identity)
    return view(found, desk.board.of(identity))


@router.delete("/{identity}")
async def cancel(identity: str, user: User, desk: AtDesk) -> JobView:
    """Cancel a job; one that has ended is removed with its pictures."""
    found = await desk.cancel(user, identity)
    return view(found, Standing())


@router.get("/{identity}/results/{name}", response_class=FileResponse)
async def result(identity: str, name: str, user: User, desk: AtDesk) -> FileResponse:
    """A file that a job made."""
    found = await desk.job(user, identity)
    if found.worker is None or name not in {one.name for one in found.results}:
        raise RequestRefused(404, "no_result", "the job has made no file of that name")
    path = Path(desk.settings.data, folder.made(identity, found.worker), name)
    if not path.is_file():
        raise RequestRefused(404, "no_result", "the file has expired")
    return FileResponse(path)


async def _watched(
    identity: str, user: User, desk: AtDesk
) -> AsyncGenerator[tuple[Job, asyncio.Event]]:
    """A job, and what is set when something of it has changed, until the answer is over.

    What must be undone is undone here: nobody ends the generator of an answer that is cut off
    while a part of it is being sent.
    """
    with desk.streaming(user), desk.board.watching(identity) as changed:
        yield await desk.job(user, identity), changed


@router.get("/{identity}/events", response_class=Events)
async def events(
    watched: Annotated[tuple[Job, asyncio.Event], Depends(_watched)], user: User, desk: AtDesk
) -> Events:
    """What happens to a job, as server-sent events.

    `job` (at first, and when it starts anew), `move` (`done` of `total`), `preview` (a JPEG in
    base64), `end` (the job, with its results). Who reads slowly misses moves, not the end.
    """
    found, changed = watched
    return Events(_told(desk, user, found.id, changed), headers=AS_THEY_COME)


async def _told(
    desk: Desk, user: str, identity: str, changed: asyncio.Event
) -> AsyncGenerator[bytes]:
    last, first = Standing(), True
    while True:
        changed.clear()
        now = desk.board.of(identity)
        if first or not now.told:
            found = await desk.job(user, identity)
            over = found.ended is not None
            yield _event("end" if over else "job", view(found, now).model_dump_json())
            if over:
                return
            first = False
        if now.previews != last.previews and now.picture:
            yield _event("preview", json.dumps({"number": now.previews, "jpeg": now.picture}))
        if (now.done, now.total) != (last.done, last.total):
            yield _event("move", json.dumps({"done": now.done, "total": now.total}))
        last = now
        while not changed.is_set():
            try:
                async with asyncio.timeout(QUIET):
                    await changed.wait()
            except TimeoutError:
                yield b": still here\n\n"


def _event(name: str, data: str) -> bytes:
    return format_sse_event(event=name, data_str=data)
