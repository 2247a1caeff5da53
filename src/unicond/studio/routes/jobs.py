"""Jobs: asking for one, watching it, taking what it made, ending it."""

from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path
from typing import Annotated, cast

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
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
router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=REFUSALS)
Wait = Annotated[float, Query(ge=0, le=LONGEST, description="Seconds to wait for the job to end.")]


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
async def job(identity: str, user: User, desk: AtDesk, wait: Wait = 0.0) -> JobView:
    """Where a job is; with `wait`, as soon as it has ended or the seconds are over."""
    found = await (desk.ended(user, identity, wait) if wait else desk.job(user, identity))
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


async def _watched(identity: str, user: User, desk: AtDesk) -> AsyncGenerator[Job]:
    with desk.streaming(user):
        yield await desk.job(user, identity)


@router.get("/{identity}/events", response_class=EventSourceResponse)
async def events(
    found: Annotated[Job, Depends(_watched)], user: User, desk: AtDesk
) -> AsyncIterable[ServerSentEvent]:
    """What happens to a job, as server-sent events.

    `job` (at first, and when it starts anew), `move` (`done` of `total`), `preview` (a JPEG in
    base64), `end` (the job, with its results). Who reads slowly misses moves, not the end.
    """
    async for event in _told(desk, user, found.id):
        yield event


async def _told(desk: Desk, user: str, identity: str) -> AsyncGenerator[ServerSentEvent]:
    last = Standing()
    with desk.board.watching(identity) as changed:
        first = True
        while True:
            changed.clear()
            now = desk.board.of(identity)
            if first or not now.told:
                found = await desk.job(user, identity)
                over = found.ended is not None
                yield ServerSentEvent(event="end" if over else "job", data=view(found, now))
                if over:
                    return
                first = False
            if now.previews != last.previews and now.picture:
                shown = {"number": now.previews, "jpeg": now.picture}
                yield ServerSentEvent(event="preview", data=shown)
            if (now.done, now.total) != (last.done, last.total):
                moved = {"done": now.done, "total": now.total}
                yield ServerSentEvent(event="move", data=moved)
            last = now
            await changed.wait()
