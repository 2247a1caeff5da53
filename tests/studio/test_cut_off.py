"""Clients that go while they are answered: nothing is left of what they wait for."""

import asyncio
import gc
import itertools

import pytest

from unicond.studio import desk as desks

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
    desk, gone, stuck, parts = app.state.desk, asyncio.Event(), asyncio.Event(), 0
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
            stuck.set()
            await asyncio.Event().wait()

    answer = asyncio.create_task(app({**SCOPE, "path": f"/v1/jobs/{job}/events"}, receive, send))
    moves = itertools.count()
    async with asyncio.timeout(60):
        while not stuck.is_set():
            await asyncio.sleep(0.01)
            desk.board.moved(job, next(moves), 10**6)
    assert desk.board._watchers
    assert desk._streams
    gc.disable()
    try:
        gone.set()
        async with asyncio.timeout(60):
            await answer
        await asyncio.sleep(0)
        return dict(desk.board._watchers), dict(desk._streams)
    finally:
        gc.enable()


@pytest.mark.parametrize("reads", [1, 2, 5])
def test_nothing_is_left_of_a_stream_that_is_cut_off(client, reads):
    job = client.post("/v1/jobs", json=JOB).json()["id"]
    assert client.portal.call(cut_off, client.app, job, reads) == ({}, {})


async def waited(app, looks, body=b"", **scope):
    """Wait for an answer, be looked for some times, and be gone.

    Returns what the server held at each look, and what it holds at the end.
    """
    desk, held = app.state.desk, []
    asked = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        for message in asked:
            return message
        held.append(dict(desk._streams))
        if len(held) < looks:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(_):
        pass

    async with asyncio.timeout(60):
        await app({**SCOPE, **scope}, receive, send)
    return held, dict(desk._streams)


def test_who_waits_for_a_job_holds_a_place_until_it_goes(client, monkeypatch):
    """One place all the while, though it is looked for again and again: no newcomer takes it."""
    monkeypatch.setattr(desks, "LOOK", 0.05)
    job = client.post("/v1/jobs", json=JOB).json()["id"]
    scope = {"path": f"/v1/jobs/{job}", "query_string": b"wait=60"}
    held, left = client.portal.call(lambda: waited(client.app, 3, **scope))
    assert held == [{"testclient": 1}] * 3
    assert left == {}
    assert client.get(f"/v1/jobs/{job}").json()["status"] == "queued"


def test_a_request_in_openai_s_shape_holds_a_place_until_it_goes(client, monkeypatch):
    monkeypatch.setattr(desks, "LOOK", 0.05)
    headers = [(b"host", b"testserver"), (b"content-type", b"application/json")]
    scope = {"path": "/v1/images/generations", "method": "POST", "headers": headers}
    told = client.portal.call(lambda: waited(client.app, 3, b'{"prompt": "a dog"}', **scope))
    assert told == ([{"testclient": 1}] * 3, {})
    assert [one["status"] for one in client.get("/v1/jobs").json()["data"]] == ["cancelled"]
