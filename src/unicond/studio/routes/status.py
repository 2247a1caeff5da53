"""What is served, whether it works, and what it has done."""

from typing import Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from unicond.studio import queue
from unicond.studio.routes.common import REFUSALS, AtDesk, user_of

router = APIRouter(tags=["server"], responses=REFUSALS)


class Model(BaseModel):
    """A model that may be asked for.

    Args:
        id: its name.
        object: what this is.
        created: is not known.
        owned_by: who serves it.
        branches: what it can be given and makes; empty until it is loaded.
    """

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "unicond"
    branches: list[str]


class Models(BaseModel):
    """All models that may be asked for."""

    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    """Whether jobs are made.

    Args:
        status: `loading` until a worker is ready.
        workers: that are ready.
        queued: jobs that wait.
        running: jobs that are made.
    """

    status: Literal["ok", "loading"]
    workers: int
    queued: int
    running: int


@router.get("/v1/models", dependencies=[Depends(user_of)])
async def models(desk: AtDesk) -> Models:
    """What may be asked for."""
    known: dict[str, list[str]] = {}
    for hand in desk.supervisor.hands:
        known |= hand.branches or {}
    return Models(data=[Model(id=n, branches=known.get(n, [])) for n in desk.settings.models])


@router.get("/health")
async def health(desk: AtDesk) -> Health:
    """Whether jobs are made."""
    ready = sum(hand.branches is not None for hand in desk.supervisor.hands)
    found = await to_thread.run_sync(queue.counts, desk.database)
    return Health(
        status="ok" if ready else "loading",
        workers=ready,
        queued=found.get("queued", 0),
        running=found.get("running", 0),
    )


@router.get("/metrics", dependencies=[Depends(user_of)], response_class=Response)
async def metrics(desk: AtDesk) -> Response:
    """What it has done, in the manner of Prometheus."""
    found = await to_thread.run_sync(queue.counts, desk.database)
    for status in queue.OPEN:
        desk.metrics.jobs.labels(status).set(found.get(status, 0))
    return Response(desk.metrics.text(), media_type="text/plain; version=0.0.4")
