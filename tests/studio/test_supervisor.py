"""The supervisor with workers that follow a script: which ends are the server's end, and stops."""

import asyncio
import dataclasses
import sys

import pytest

from unicond.studio import queue
from unicond.studio.board import Board
from unicond.studio.channel import Event
from unicond.studio.database import Database
from unicond.studio.metrics import Metrics
from unicond.studio.processes import Process
from unicond.studio.queue import Job
from unicond.studio.supervisor import Supervisor

READY = Event(kind="ready", branches={"tiny": ["image"]})
BROKEN = Event(kind="broken", message="no such file")


class Scripted:
    """An engine whose workers tell what they are to, one list each; the last one stays."""

    def __init__(self, *scripts):
        self.scripts, self.links = list(scripts), []

    def open(self):
        pass

    def close(self):
        pass

    async def start(self, _):
        self.links.append(Link(self.scripts.pop(0), stays=not self.scripts))
        return self.links[-1]


class Late(Scripted):
    """One whose workers take their time to start."""

    def __init__(self, *scripts):
        super().__init__(*scripts)
        self.asked, self.there = asyncio.Event(), asyncio.Event()

    async def start(self, order):
        self.asked.set()
        await self.there.wait()
        return await super().start(order)


class Few(Scripted):
    """One that starts as many workers as it has scripts."""

    async def start(self, order):
        if not self.scripts:
            raise OSError("no more processes")
        return await super().start(order)


class Link:
    """A worker of `Scripted`."""

    def __init__(self, events, stays):
        self.events, self.sent, self.closed = events, [], asyncio.Event()
        self.stays = stays

    async def told(self):
        if self.events:
            return self.events.pop(0)
        if self.stays:
            await self.closed.wait()
        return None

    def send(self, line):
        self.sent.append(line)

    def close(self):
        self.closed.set()

    def kill(self):
        self.closed.set()

    async def ended(self):
        return "an end"


@pytest.fixture
def supervised(settings, tmp_path):
    """Makes supervisors."""
    database = Database(tmp_path / "queue.sqlite")
    reasons = []

    def made(engine, workers=1):
        single = dataclasses.replace(settings, devices=("cpu",) * workers)
        one = Supervisor(single, database, Board(), Metrics(), reasons.append)
        one._engine = engine
        return one

    yield made, database, reasons
    database.close()


async def until(true):
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


def test_models_that_were_loaded_once_are_tried_again(supervised):
    """A worker ends, the next cannot load (memory is short, a disk is away), the third can."""
    made, _, reasons = supervised

    async def lived():
        engine = Scripted([READY], [BROKEN], [READY])
        one = made(engine)
        work = asyncio.create_task(one.run())
        await until(lambda: len(engine.links) == 3 and one.hands and one.hands[0].branches)
        await one.stop()
        await work

    asyncio.run(lived())
    assert reasons == []


def test_models_that_never_loaded_end_the_server(supervised):
    made, _, reasons = supervised
    asyncio.run(made(Scripted([BROKEN], [READY])).run())
    assert reasons == ["no such file"]


def test_a_job_that_was_cancelled_before_it_began_is_stopped(supervised):
    """Taken from the queue, cancelled, and only then told to have begun; its company goes on."""
    made, database, _ = supervised
    for name in ("a", "b"):
        told = {"task": "generate", "base": "tiny", "form": "{}", "created": 0.0}
        queue.add(database, Job(id=name, user="ann", kin="k", rows=1, **told), 9, 9)
    taken = queue.claim(database, "w", 2)
    assert queue.cancel(database, "a")

    async def lived():
        began = [Event(kind="began", job=job.id, together=2) for job in taken]
        engine = Scripted([READY, *began])
        one = made(engine)
        one.cancel("a")
        work = asyncio.create_task(one.run())
        await until(lambda: one.hands and one.hands[0].jobs == {"a", "b"})
        await until(lambda: "stop a" in engine.links[0].sent)
        one.cancel("b")
        assert engine.links[0].sent == ["wake", "stop a", "stop b"]
        await one.stop()
        await work

    asyncio.run(lived())


def test_a_worker_that_starts_while_all_end_ends_too(supervised):
    made, _, reasons = supervised

    async def lived():
        engine = Late([READY])
        one = made(engine)
        work = asyncio.create_task(one.run())
        await engine.asked.wait()
        await one.stop()
        engine.there.set()
        async with asyncio.timeout(60):
            await work
        assert engine.links[0].closed.is_set()

    asyncio.run(lived())
    assert reasons == []


def test_a_pause_is_over_when_all_end(supervised):
    """After three workers that were never ready it is of 7 s."""
    made, _, _ = supervised

    async def lived():
        engine = Scripted([], [], [], [READY])
        one = made(engine)
        work = asyncio.create_task(one.run())
        await until(lambda: len(engine.links) == 3 and not one.hands)
        await asyncio.sleep(0.5)  # what the worker had is queued again first
        async with asyncio.timeout(5):
            await one.stop()
            await work
        assert len(engine.links) == 3

    asyncio.run(lived())


def test_workers_end_where_one_cannot_be_kept(supervised):
    made, _, reasons = supervised

    async def lived():
        engine = Few([READY])
        async with asyncio.timeout(60):
            await made(engine, workers=2).run()
        assert engine.links[0].closed.is_set()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(lived())
    assert reasons == ["workers cannot be kept: no more processes"]


HALF = """
import sys, time
sys.stdout.write({text!r})
sys.stdout.flush()
time.sleep({seconds})
"""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [('{"kind": "move", "jo', 0), ('{"kind": "mo\n', 600), ("hello\n", 600), ("\xff\n", 600)],
)
def test_half_a_line_is_the_end_of_a_process(text, seconds):
    """Cut off by SIGKILL, or none at all: the worker ends, the server goes on."""

    async def heard():
        code = HALF.format(text=text, seconds=seconds)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        link = Process(process)
        assert await link.told() is None
        how = await link.ended()
        assert how == "-9" or (not seconds and how == "0")

    asyncio.run(heard())
