"""What routes share: who asks, what was sent, and how a job is told."""

from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Literal, cast

from fastapi import Depends, Request
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from unicond.studio.board import Standing
from unicond.studio.desk import Desk
from unicond.studio.errors import Refusal, RequestRefused, faults
from unicond.studio.keys import owner
from unicond.studio.queue import Job, Status

REFUSALS: dict[int | str, dict[str, object]] = {
    status: {"model": Refusal}
    for status in (400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 429, 503, 507)
}
"""How any request may be refused."""
PARTS = 32


class Made(BaseModel):
    """A file that a job made.

    Args:
        name: of the file.
        bytes: its size.
        url: where it is, behind the server's address.
    """

    name: str
    bytes: int
    url: str


class JobView(BaseModel):
    """A job, as its client sees it.

    Args:
        id: of the job.
        object: what this is.
        task: that it is.
        base: model that makes it.
        status: where it is.
        created: when it was asked for, in seconds since 1970.
        started: when it was begun.
        ended: when it ended.
        done: moves that are made.
        total: moves; 0 is not known yet.
        error: why it failed.
        results: what it made.
    """

    id: str
    object: Literal["job"] = "job"
    task: str
    base: str
    status: Status
    created: float
    started: float | None
    ended: float | None
    done: int
    total: int
    error: str | None
    results: list[Made]


def view(job: Job, standing: Standing) -> JobView:
    """A job, as its client sees it.

    Args:
        job: of the queue.
        standing: of the board.

    Returns:
        Both.
    """
    return JobView(
        id=job.id,
        task=job.task,
        base=job.base,
        status=job.status,
        created=job.created,
        started=job.started,
        ended=job.ended,
        done=standing.done,
        total=standing.total,
        error=job.error,
        results=[
            Made(name=one.name, bytes=one.bytes, url=f"/v1/jobs/{job.id}/results/{one.name}")
            for one in job.results
        ],
    )


def desk_of(request: Request) -> Desk:
    """The desk of the app that a request came to."""
    return cast(Desk, request.app.state.desk)


AtDesk = Annotated[Desk, Depends(desk_of)]


def user_of(request: Request, desk: AtDesk) -> str:
    """Who asks: the owner of the key, or the client's address where no keys are.

    Args:
        request: with the key.
        desk: that knows the keys.

    Returns:
        A name.

    Raises:
        RequestRefused: the key is missing, or no one's.
    """
    if not desk.settings.keys:
        return request.client.host if request.client is not None else "local"
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    found = owner(desk.settings.keys, key.strip()) if kind.lower() == "bearer" else None
    if found is None:
        raise RequestRefused(401, "no_key", "send your key: Authorization: Bearer unicond-...")
    return found


User = Annotated[str, Depends(user_of)]


def json_of(body: bytes | str, reads: TypeAdapter[BaseModel]) -> BaseModel:
    """What a JSON text says.

    Args:
        body: in UTF-8.
        reads: what it must be.

    Returns:
        That.

    Raises:
        RequestRefused: it is not.
    """
    try:
        return reads.validate_json(body)
    except ValidationError as error:
        raise RequestRefused(422, "invalid", faults(error)) from None


def kind_of(request: Request) -> str:
    """The media type of what was sent."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def parts_of(request: Request, most: int) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    """The parts of a multipart body; nothing of it touches the disk.

    Args:
        request: that has it.
        most: bytes of a part.

    Returns:
        {name: text} of its fields, {name: contents} of its files.

    Raises:
        RequestRefused: it is none, or a field is there twice.
    """
    parser = _InMemory(
        request.headers,
        _stream(request),
        max_files=PARTS,
        max_fields=PARTS,
        max_part_size=most,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeDecodeError, KeyError) as error:
        raise RequestRefused(400, "bad_multipart", f"the body is no multipart: {error}") from None
    fields, files = dict[str, str](), dict[str, list[bytes]]()
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.setdefault(name, []).append(await value.read())
        elif name in fields:
            raise RequestRefused(400, "bad_multipart", "a field is sent twice")
        else:
            fields[name] = value
    await form.close()
    return fields, files


class _InMemory(MultiPartParser):
    spool_max_size = 2**40


async def _stream(request: Request) -> AsyncGenerator[bytes]:
    async for chunk in request.stream():
        yield chunk


def single(files: Mapping[str, list[bytes]]) -> dict[str, bytes]:
    """{name: content} of files of which each is there once.

    Args:
        files: {name: contents}.

    Returns:
        The same without lists.

    Raises:
        RequestRefused: one is there twice.
    """
    if any(len(contents) > 1 for contents in files.values()):
        raise RequestRefused(400, "bad_multipart", "a file is sent twice under one name")
    return {name: contents[0] for name, contents in files.items()}
