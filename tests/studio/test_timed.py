"""Connections whose heads do not arrive."""

import socket
import threading
import time
from contextlib import contextmanager
from functools import partial

import pytest
import uvicorn
from serving import until

from unicond.studio.timed import Timed

SECONDS = 0.5
WHOLE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def answers(_, receive, send):
    """Reads all, waits longer than a head may take, and answers."""
    while (await receive()).get("more_body"):
        pass
    time.sleep(1.5 * SECONDS)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def serving():
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        answers,
        http=partial(Timed, seconds=SECONDS),
        lifespan="off",
        loop="asyncio",
        log_config=None,
        timeout_keep_alive=60,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    until(lambda: server.started)
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join()


def asked(connection):
    connection.sendall(WHOLE)
    assert connection.recv(1000).startswith(b"HTTP/1.1 204")


@pytest.fixture(scope="module")
def connected():
    with serving() as address:

        def one():
            made = socket.create_connection(address)
            made.settimeout(60)
            return made

        yield one


@pytest.mark.parametrize("begun", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\n"])
@pytest.mark.parametrize("before", [0, 1])
def test_a_head_that_never_ends_is_given_up(connected, begun, before):
    """At the start of a connection and after an answer; single bytes on the way buy no time."""
    with connected() as connection:
        for _ in range(before):
            asked(connection)
        began = time.monotonic()
        connection.sendall(begun or WHOLE[:1] * before)
        time.sleep(SECONDS / 2)
        connection.sendall(b"x" * bool(begun))
        assert connection.recv(1) == b""
        assert time.monotonic() - began >= SECONDS / 2


def test_whoever_says_all_is_waited_for(connected):
    """An answer may take its time, and a connection may rest between requests."""
    with connected() as connection:
        asked(connection)
        time.sleep(1.5 * SECONDS)
        asked(connection)
