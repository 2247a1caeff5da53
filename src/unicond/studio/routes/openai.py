"""Pictures in the shape of OpenAI's API, so that its clients work here: the job is waited for.

`size` is WIDTHxHEIGHT there. Without a seed of its own (a field that OpenAI has not), each request
draws another one, as there. Fields that mean nothing here, such as `quality`, are not looked at.
"""

import asyncio
import base64
import io
import math
import re
import secrets
import time
from pathlib import Path
from typing import Annotated, Literal, cast

from anyio import to_thread
from fastapi import APIRouter, Request
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from unicond.studio import folder
from unicond.studio.desk import Desk
from unicond.studio.errors import RequestRefused, faults
from unicond.studio.queue import Job
from unicond.studio.routes.common import (
    REFUSALS,
    AtDesk,
    User,
    json_of,
    kind_of,
    parts_of,
)
from unicond.studio.settings import Limits
from unicond.studio.uploads import reencoded
from unicond.tasks import forms

BESIDE = {"image", "image[]", "mask"}
router = APIRouter(prefix="/v1/images", tags=["openai"], responses=REFUSALS)


class Asked(BaseModel):
    """What both requests can say.

    Args:
        prompt: what to make.
        model: by the name that it is served under; None is the first one.
        n: pictures.
        size: WIDTHxHEIGHT, or `auto`.
        response_format: the picture itself, or where it is.
        output_format: PNG is what there is.
        stream: not here: see `/v1/jobs/{id}/events`.
        seed: of the first picture; None draws one.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    prompt: Annotated[str, Field(min_length=1, max_length=10_000)]
    model: forms.Name | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    size: Annotated[str, Field(pattern=r"^([1-9][0-9]{0,4}x[1-9][0-9]{0,4}|auto)$")] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png"] | None = None
    stream: Literal[False] | None = None
    seed: forms.Seed | None = None


class OneImage(BaseModel):
    """A picture: itself, or where it is."""

    b64_json: str | None = None
    url: str | None = None


class Images(BaseModel):
    """The answer to both requests.

    Args:
        created: in seconds since 1970.
        data: the pictures.
        output_format: of them.
        size: WIDTHxHEIGHT.
    """

    created: int
    data: list[OneImage]
    output_format: Literal["png"] = "png"
    size: str


_ASKED = cast("TypeAdapter[BaseModel]", TypeAdapter(Asked))


@router.post("/generations")
async def generations(request: Request, user: User, desk: AtDesk) -> Images:
    """Make pictures from text."""
    if kind_of(request) != "application/json":
        raise RequestRefused(415, "media_type", "send application/json")
    body = await request.body()
    asked = cast(Asked, await to_thread.run_sync(json_of, body, _ASKED))
    form = forms.Generate(
        base=asked.model,
        prompt=asked.prompt,
        only=("image",),
        size=_size(asked.size),
        seed=_seed(asked.seed),
        count=asked.n or 1,
    )
    return await _ended(request, desk, user, asked, await desk.accept(user, form, {}))


@router.post("/edits")
async def edits(request: Request, user: User, desk: AtDesk) -> Images:
    """Change a picture: where the mask (or the picture itself) is transparent, else all of it."""
    if kind_of(request) != "multipart/form-data":
        raise RequestRefused(415, "media_type", "send multipart/form-data")
    fields, files = await parts_of(request, desk.settings.limits.body)
    try:
        asked = Asked.model_validate({**fields, "stream": fields.get("stream") == "true" or None})
    except ValidationError as error:
        raise RequestRefused(422, "invalid", faults(error)) from None
    images = [*files.get("image", ()), *files.get("image[]", ())]
    masks = files.get("mask", [])
    if len(images) != 1 or len(masks) > 1 or files.keys() - BESIDE:
        raise RequestRefused(422, "invalid", "send one image, and at most one mask")
    limits = desk.settings.limits
    job = await desk.accept_made(user, lambda: _edit(asked, images[0], masks, limits))
    return await _ended(request, desk, user, asked, job)


def _edit(
    asked: Asked, image: bytes, masks: list[bytes], limits: Limits
) -> tuple[forms.AnyForm, dict[str, bytes]]:
    """What an edit asks for, and the pictures beside it.

    Args:
        asked: what it says.
        image: that is changed.
        masks: at most one.
        limits: of pictures.

    Returns:
        A form, and {name: content}.

    Raises:
        PictureError: the mask, or the picture where it has none, cannot be read.
    """
    picture = reencoded(image, "the image", limits)
    shape = reencoded(masks[0], "the mask", limits) if masks else picture
    known = _opaque(shape.png)
    sent = {"image": image} | ({} if known is None else {"mask": known})
    return _edit_form(asked, known is not None), sent


def _edit_form(asked: Asked, masked: bool) -> forms.AnyForm:
    image = forms.Picture(upload="image")
    seed = _seed(asked.seed)
    if not masked:
        return forms.Edit(
            base=asked.model,
            picture=image,
            prompt=asked.prompt,
            method="sdedit",
            size=_size(asked.size),
            seed=seed,
            count=asked.n or 1,
        )
    return forms.Generate(
        base=asked.model,
        prompt=asked.prompt,
        image=image,
        mask={"image": forms.Picture(upload="mask")},
        only=("image",),
        size=_size(asked.size),
        seed=seed,
        count=asked.n or 1,
    )


def _opaque(png: bytes) -> bytes | None:
    """Where a picture is opaque, as a mask that is white there; None where it has no alpha."""
    with Image.open(io.BytesIO(png)) as image:
        if image.mode != "RGBA":
            return None
        buffer = io.BytesIO()
        image.getchannel("A").save(buffer, "PNG")
        return buffer.getvalue()


def _size(text: str | None) -> tuple[int, int] | None:
    """(height, width) of WIDTHxHEIGHT."""
    match = re.fullmatch(r"([0-9]+)x([0-9]+)", text or "")
    return None if match is None else (int(match[2]), int(match[1]))


def _seed(asked: int | None) -> int:
    return secrets.randbelow(2**32) if asked is None else asked


async def _ended(request: Request, desk: Desk, user: str, asked: Asked, job: Job) -> Images:
    """Wait for a job, and answer; if the client goes, the job does too."""
    try:
        job = await desk.ended(user, job.id, math.inf, request.is_disconnected)
    except (RequestRefused, asyncio.CancelledError):
        await asyncio.shield(desk.cancel(user, job.id))
        raise
    if job.status != "done":
        raise RequestRefused(422, "failed", job.error or "the job was cancelled")
    return await to_thread.run_sync(_answer, request, desk, job, asked)


def _answer(request: Request, desk: Desk, job: Job, asked: Asked) -> Images:
    names = [one.name for one in job.results if one.name.endswith("_image.png")]
    made = Path(desk.settings.data, folder.made(job.id, str(job.worker)))
    with Image.open(made / names[0]) as image:
        size = f"{image.width}x{image.height}"
    if asked.response_format == "url":
        base = str(request.base_url).rstrip("/")
        data = [OneImage(url=f"{base}/v1/jobs/{job.id}/results/{name}") for name in names]
    else:
        contents = [(made / name).read_bytes() for name in names]
        data = [OneImage(b64_json=base64.b64encode(one).decode()) for one in contents]
    return Images(created=int(time.time()), data=data, size=size)
