"""HTTP/1.1 whose heads have to arrive within some seconds: who says little keeps no connection.

Uvicorn times only the pause after an answer. What it waits for otherwise, the first request of a
connection or the rest of a head, is timed here; a body has the time of `Limits.body_seconds`.
"""

import asyncio
from typing import Any

import h11
from typing_extensions import override
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEAD = 10.0
"""Seconds in which the head of a request must arrive."""


class Timed(H11Protocol):
    """A connection. The arguments are Uvicorn's.

    Args:
        config: of the server.
        server_state: of the server.
        app_state: of the app.
        _loop: that it runs in.
        seconds: in which a head must arrive.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        seconds: float = HEAD,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._seconds = seconds
        self._until: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._time()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    @override
    def handle_events(self) -> None:
        super().handle_events()
        self._time()

    def _time(self) -> None:
        """Begin to wait where a head is to come, end where it has come."""
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._until is None and self.timeout_keep_alive_task is None:
            self._until = self.loop.call_later(self._seconds, self._give_up)

    def _forget(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
