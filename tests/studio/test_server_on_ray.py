"""A server whose models are in two replicas of Ray Serve: one is killed, one hangs, all fail."""

import asyncio
import base64
import os
import signal
from pathlib import Path

import httpx2
import numpy as np
import pytest
import ray
from noise_pictures import picture
from PIL import Image
from ray import serve
from serving import in_thread, processes, until

import unicond
from unicond.studio.board import Board
from unicond.studio.client import Client
from unicond.studio.database import Database
from unicond.studio.metrics import Metrics
from unicond.studio.settings import Limits, Served, Settings
from unicond.studio.supervisor import Supervisor

DEPTH = Path(__file__).parents[1] / "golden" / "unicon" / "weights" / "depth"
JOB = {"task": "generate", "prompt": "a dog", "only": ["image"]}
LONG = {**JOB, "steps": 150, "size": 128}
pytestmark = pytest.mark.slow


def running(studio, job):
    found = studio.job(job["id"])
    return found["status"] == "running" and found["done"] > 0


def files(data):
    """{job: folders of what was made of it}."""
    jobs = (data / "jobs").iterdir()
    return {job.name: [one for one in job.iterdir() if one.name != "given"] for job in jobs}


def test_a_replica_that_is_killed_loses_nothing_and_makes_nothing_twice(tiny_base, tmp_path):
    settings = Settings(
        data=tmp_path / "data",
        models={"tiny": Served(base=str(tiny_base), adapters=(f"depth={DEPTH}",))},
        devices=("cpu", "cpu"),
        engine="ray",
        page=False,
        limits=Limits(rate=1e6, burst=10_000),
    )
    with in_thread(settings) as (address, app), Client(address) as studio:
        supervisor = app.state.desk.supervisor
        hands = supervisor.hands
        until(lambda: all(hand.branches for hand in hands) and len(hands) == 2)
        (tmp_path / "d.png").write_bytes(picture(mode="L"))
        first = studio.submit({**JOB, "seed": 7, "previews": 2}, depth=tmp_path / "d.png")
        events = list(studio.events(first["id"]))
        assert [told for told in events if told[0] == "move"][-1][1] == {"done": 3, "total": 3}
        assert any(name == "preview" for name, _ in events)
        (path,) = studio.save(first["id"], tmp_path / "out")
        model = unicond.load(tiny_base, {"depth": DEPTH}, "cpu")
        alone = model("a dog", depth=tmp_path / "d.png", branches=["image"], seed=7)
        levels = np.abs(np.asarray(Image.open(path), int) - np.asarray(alone.image[0], int))
        assert levels.max() <= 1

        longs = [studio.submit({**LONG, "steps": 150 + n}) for n in range(2)]
        shorts = [studio.submit({**JOB, "seed": n}) for n in range(8)]
        pose = base64.b64encode(picture()).decode()
        bad = studio.submit({**JOB, "give": {"pose": pose}})
        until(lambda: all(running(studio, job) for job in longs))
        replicas = processes("ray::ServeReplica:unicond")
        assert len(replicas) == 2
        os.kill(replicas[0], signal.SIGKILL)
        ended = [studio.ended(job["id"]) for job in (*longs, *shorts)]
        assert {one["status"] for one in ended} == {"done"}
        assert "no branch 'pose'" in studio.ended(bad["id"])["error"]
        found = files(settings.data)
        assert all(len(found[job["id"]]) == 1 for job in ended)
        assert "unicond_worker_crashes_total 1.0" in httpx2.get(f"{address}/metrics").text

        stopped = studio.submit(LONG)
        until(lambda: running(studio, stopped))
        assert studio.cancel(stopped["id"])["status"] == "cancelled"
        assert studio.ended(studio.submit({**JOB, "seed": 99})["id"])["status"] == "done"

        hung = studio.submit({**LONG, "steps": 160})
        until(lambda: running(studio, hung))
        made = processes("ray::ServeReplica:unicond")
        next(hand for hand in supervisor.hands if hung["id"] in hand.jobs).link.kill()
        assert studio.ended(hung["id"])["status"] == "done"
        until(lambda: len(set(made) - set(processes("ray::ServeReplica:unicond"))) == 1)
        assert sorted(supervisor.hands[0].branches["tiny"]) == ["depth", "image"]
        (name,) = (one for one in serve.status().applications)
        assert name.startswith("unicond-")
        until(lambda: serve.status().applications[name].status == "RUNNING")
    assert not ray.is_initialized()
    assert processes("ray::ServeReplica:unicond") == []


def test_models_that_cannot_be_loaded_are_told(tiny_base, tmp_path):
    (tmp_path / "half").mkdir()
    settings = Settings(
        data=tmp_path / "data",
        models={"half": Served(base=str(tmp_path / "half"))},
        devices=("cpu", "cpu"),
        engine="ray",
        page=False,
    )
    told = []
    (tmp_path / "data").mkdir()
    database = Database(settings.data / "queue.sqlite")
    supervisor = Supervisor(settings, database, Board(), Metrics(), told.append)
    asyncio.run(supervisor.run())
    assert "model_index.json" in told[0]
    assert processes("ray::ServeReplica:unicond") == []
