"""A stream of events whose client stops to read, and then goes."""

import asyncio
import gc

import pytest

JOB = {"task": "generate", "prompt": "a dog", "only": ["image"]}
SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "query_string": b"",
    "headers": [(b"host", b"testserver")],
    "client": ("testclient", 1),
    "server": ("testserver", 80),
}


async def cut_off(app, job, reads):
    """Watch a job until some parts are sent, read no more, and go while it moves.

    Returns what the server still holds of it, without a garbage collection in between.
    """
    desk, gone, parts = app.state.desk, asyncio.Event(), 0
    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive():
        for message in asked:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        nonlocal parts
        parts += message["type"] == "http.response.body"
        if parts >= reads:
            await asyncio.Event().wait()

    answer = asyncio.create_task(app({**SCOPE, "path": f"/v1/jobs/{job}/events"}, receive, send))
    for number in range(12):
        await asyncio.sleep(0.01)
        desk.board.moved(job, number, 20)
    assert desk.board._watchers
    assert desk._streams
    gc.disable()
    try:
        gone.set()
        await asyncio.wait_for(answer, 30)
        await asyncio.sleep(0)
        return dict(desk.board._watchers), dict(desk._streams)
    finally:
        gc.enable()


@pytest.mark.parametrize("reads", [1, 2, 5])
def test_nothing_is_left_of_a_stream_that_is_cut_off(client, reads):
    job = client.post("/v1/jobs", json=JOB).json()["id"]
    assert client.portal.call(cut_off, client.app, job, reads) == ({}, {})
