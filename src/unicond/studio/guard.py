"""What stands before every request: whose pages may send it, how large it is, how long it takes."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unicond.studio.errors import RequestRefused, answer
from unicond.studio.metrics import Metrics
from unicond.studio.settings import Limits


class Guard:
    """Middleware that refuses what should not reach the routes.

    A page of another origin cannot read answers (there is no CORS), but could send: its `Origin`
    tells. A name that was made to point here (DNS rebinding) is not among `hosts`.

    Args:
        app: what stands behind.
        limits: of bodies.
        hosts: names by which the server may be called; none is any.
        metrics: count what is refused.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, hosts: Sequence[str], metrics: Metrics
    ) -> None:
        self._app, self._limits, self._hosts = app, limits, frozenset(hosts)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(Headers(scope=scope))
        except RequestRefused as refused:
            response = answer(refused, self._metrics)
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        body = _Body(receive, send, self._limits)
        await self._app(scope, body.receive, body.send)

    def _check(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._hosts and _name(f"//{host}") not in self._hosts:
            raise RequestRefused(421, "wrong_host", "this server is not called by that name")
        origin = headers.get("origin")
        if origin is not None and _place(origin) != host.lower():
            raise RequestRefused(403, "wrong_origin", "pages of other origins may not send this")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.body:
            raise _too_large(self._limits)


class _Body:
    """Counts and times a body until all of it is there."""

    def __init__(self, receive: Receive, send: Send, limits: Limits) -> None:
        self._receive, self._send, self._limits = receive, send, limits
        self._left = limits.body
        self._until = asyncio.get_running_loop().time() + limits.body_seconds
        self._whole = self._answered = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            return self._give_up(
                RequestRefused(
                    408,
                    "too_slow",
                    f"the request did not arrive within {self._limits.body_seconds:g} s",
                )
            )
        self._whole = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        return message if self._left >= 0 else self._give_up(_too_large(self._limits))

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._answered = True
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            if not self._whole:
                headers["Connection"] = "close"
        await self._send(message)

    def _give_up(self, refused: RequestRefused) -> Message:
        self._whole = True
        if self._answered:
            return {"type": "http.disconnect"}
        raise refused


def _too_large(limits: Limits) -> RequestRefused:
    return RequestRefused(413, "too_large", f"a request may have {limits.body} bytes")


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
