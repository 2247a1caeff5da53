"""Pages that watch a job that waits: one that has gone is let go, and many keep up no other."""

import dataclasses
from contextlib import ExitStack

import httpx2
import pytest
from serving import PLAIN, in_thread, until

from unicond.studio.page import running

JOB = {"task": "generate", "prompt": "a dog", "only": ["image"]}
PAGES = 45  # more than the 40 events that Gradio would handle


@pytest.fixture
def served(settings):
    """A server without workers, whose one job waits: its address, its desk, its page's events."""
    limits = dataclasses.replace(settings.limits, streams=2 * PAGES)
    with in_thread(dataclasses.replace(settings, page=True, limits=limits)) as (address, app):
        httpx2.post(f"{address}/v1/jobs", json=JOB, **PLAIN).raise_for_status()
        config = httpx2.get(f"{address}/config", **PLAIN).json()
        events = {one["api_name"]: one["id"] for one in config["dependencies"]}
        yield address, app.state.desk, events


def join(address, event, session, data=()):
    told = {"data": list(data), "fn_index": event, "session_hash": session}
    joined = httpx2.post(f"{address}/gradio_api/queue/join", json=told, **PLAIN)
    joined.raise_for_status()


def test_a_page_that_has_gone_watches_no_more(served, monkeypatch):
    """Though nothing happens to the job."""
    monkeypatch.setattr(running, "AGAIN", 0.2)
    address, desk, events = served
    join(address, events["attached"], "a")
    url = f"{address}/gradio_api/queue/data?session_hash=a"
    with httpx2.stream("GET", url, **PLAIN) as told:
        shown = (line for line in told.iter_lines() if "process_generating" in line)
        next(shown)  # nothing yet
        next(shown)
    assert desk.board._watchers
    until(lambda: not desk.board._watchers and not desk._streams, 60)


@pytest.mark.slow
def test_many_pages_that_watch_keep_up_no_other(served):
    address, desk, events = served
    with ExitStack() as pages:
        for number in range(PAGES):
            join(address, events["attached"], f"page{number}")
            url = f"{address}/gradio_api/queue/data?session_hash=page{number}"
            pages.enter_context(httpx2.stream("GET", url, **PLAIN))
        until(lambda: sum(desk._streams.values()) == PAGES, 60)
        join(address, events["history"], "other", [""])
        url = f"{address}/gradio_api/queue/data?session_hash=other"
        with httpx2.stream("GET", url, **PLAIN) as told:
            assert any("process_completed" in line for line in told.iter_lines())
