"""What stands before Gradio: which files it shows, what it stores, and what it never fetches.

Gradio copies every picture that it shows, and every one that is sent to it, into a folder of its
own, under a digest of its content. Only what lies there is read by requests: a job's own files
belong to its client, whom Gradio does not ask.
"""

import json
import shutil
from pathlib import Path
from typing import cast

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unicond.studio.errors import RequestRefused
from unicond.studio.limits import Rates
from unicond.studio.settings import Settings

FILE = "/gradio_api/file"
UPLOAD = "/gradio_api/upload"
FETCHED = ("http:", "https:")
SENT = 60
"""Files that a client may send for each job that it may: at every event of the page Gradio sends
what an editor holds again, three files twice."""


class Gate:
    """Refuses what Gradio would do for anyone.

    Args:
        app: of Gradio.
        own: the folder of its copies.
        settings: of the server.
    """

    def __init__(self, app: ASGIApp, own: Path, settings: Settings) -> None:
        self._app, self._own, self._settings = app, own, settings
        self._rates = Rates(SENT * settings.limits.rate, SENT * settings.limits.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on.

        Args:
            scope: of the request.
            receive: its messages.
            send: of the answer.

        Raises:
            RequestRefused: it names a file that is not Gradio's or an address, or stores too much.
        """
        if scope["type"] == "http":
            path = str(scope["path"])
            if path.startswith(FILE):
                self._check_file(path.removeprefix(FILE)[1:])
            elif path.rstrip("/") == UPLOAD:
                await to_thread.run_sync(self._check_upload, scope.get("client"))
            elif scope["method"] == "POST":
                receive = await _checked(scope, receive)
        await self._app(scope, receive, send)

    def _check_file(self, path: str) -> None:
        try:
            inside = Path(path).resolve().is_relative_to(self._own.resolve())
        except (OSError, ValueError):
            inside = False
        if not inside:
            raise RequestRefused(403, "not_the_page_s", "the page shows no file of that name")

    def _check_upload(self, client: tuple[str, int] | None) -> None:
        limits = self._settings.limits
        wait = self._rates.take(client[0] if client else "local")
        if wait:
            raise RequestRefused(429, "rate", "you send too many pictures: wait a little", wait)
        if shutil.disk_usage(self._settings.data).free < limits.free + limits.body:
            raise RequestRefused(507, "disk_full", "the server's disk is full", 60)


async def _checked(scope: Scope, receive: Receive) -> Receive:
    """Read what an event says, and give it back to be read again.

    Args:
        scope: of the request.
        receive: gives its body.

    Returns:
        Gives the same body.

    Raises:
        RequestRefused: it names a picture by its address, which would be fetched.
    """
    if Headers(scope=scope).get("content-type", "").startswith("multipart/"):
        return receive
    body = await Request(scope, receive).body()
    await to_thread.run_sync(_check_told, body)
    told: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return told.pop() if told else await receive()

    return again


def _check_told(body: bytes) -> None:
    try:
        left: list[object] = [json.loads(body)]
    except RecursionError:
        raise RequestRefused(422, "invalid", "the request is nested too deeply") from None
    except ValueError:
        return  # no JSON, of which Gradio reads nothing
    while left:
        one = left.pop()
        if isinstance(one, dict):
            told = cast("dict[str, object]", one)
            left += told.values()
            if str(told.get("path", "")).strip().lower().startswith(FETCHED):
                raise RequestRefused(422, "invalid", "a picture is sent, not named by its address")
        elif isinstance(one, list):
            left += cast("list[object]", one)
