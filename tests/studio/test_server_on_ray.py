"""A server whose models are in two actors of Ray, one of which is killed."""

import base64
import os
import signal
from pathlib import Path

import httpx2
import numpy as np
import pytest
from noise_pictures import picture
from PIL import Image
from serving import in_thread, until

import unicond
from unicond.studio.client import Client
from unicond.studio.settings import Limits, Served, Settings

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


def test_an_actor_that_is_killed_loses_nothing_and_makes_nothing_twice(tiny_base, tmp_path):
    settings = Settings(
        data=tmp_path / "data",
        models={"tiny": Served(base=str(tiny_base), adapters=(f"depth={DEPTH}",))},
        devices=("cpu", "cpu"),
        engine="ray",
        page=False,
        limits=Limits(rate=1e6, burst=10_000),
    )
    with in_thread(settings) as (address, app), Client(address) as studio:
        hands = app.state.desk.supervisor.hands
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
        victim = next(hand for hand in hands if longs[0]["id"] in hand.jobs)
        os.kill(victim.pid, signal.SIGKILL)
        ended = [studio.ended(job["id"]) for job in (*longs, *shorts)]
        assert {one["status"] for one in ended} == {"done"}
        assert "no branch 'pose'" in studio.ended(bad["id"])["error"]
        found = files(settings.data)
        assert all(len(found[job["id"]]) == 1 for job in ended)
        assert "unicond_worker_crashes_total 1.0" in httpx2.get(f"{address}/metrics").text

        stopped = studio.submit(LONG)
        until(lambda: running(studio, stopped))
        assert studio.cancel(stopped["id"])["status"] == "cancelled"
        until(lambda: len(app.state.desk.supervisor.hands) == 2)
        assert studio.ended(studio.submit({**JOB, "seed": 99})["id"])["status"] == "done"
