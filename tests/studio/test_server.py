"""A server with a real worker: a job from the request to its pictures, by every client there is."""

import base64
import io
import os
import signal
import socket
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
from noise_pictures import picture
from PIL import Image
from serving import PLAIN, in_thread, processes, until

import unicond
from unicond.calls.output import read_record
from unicond.studio.client import Client, StudioError
from unicond.studio.settings import Limits, Served, Settings

DEPTH = Path(__file__).parents[1] / "golden" / "unicon" / "weights" / "depth"
JOB = {"task": "generate", "prompt": "a dog", "only": ["image"]}
LONG = {**JOB, "steps": 200, "size": 128, "count": 8}


@pytest.fixture(scope="module")
def served(tiny_base, tmp_path_factory):
    settings = Settings(
        data=tmp_path_factory.mktemp("served"),
        models={"tiny": Served(base=str(tiny_base), adapters=(f"depth={DEPTH}",))},
        devices=("cpu",),
        limits=Limits(rate=1e6, burst=10_000),
    )
    with in_thread(settings) as (address, app):
        yield address, app


@pytest.fixture
def studio(served):
    with Client(served[0]) as made:
        yield made


def is_running(studio, job):
    return studio.job(job["id"])["status"] == "running"


def test_a_job_is_made_as_the_call_makes_it(studio, tiny_base, tmp_path):
    (tmp_path / "d.png").write_bytes(picture(mode="L"))
    job = studio.submit({**JOB, "seed": 7, "previews": 2}, depth=tmp_path / "d.png")
    events = list(studio.events(job["id"]))
    assert [told for told in events if told[0] == "move"][-1][1] == {"done": 3, "total": 3}
    assert events[-1][0] == "end"
    shown = [told["jpeg"] for name, told in events if name == "preview"]
    assert Image.open(io.BytesIO(base64.b64decode(shown[-1]))).size == (64, 64)
    (path,) = studio.save(job["id"], tmp_path / "out")
    assert path.name == "7_image.png"
    model = unicond.load(tiny_base, {"depth": DEPTH}, "cpu")
    alone = model("a dog", depth=tmp_path / "d.png", branches=["image"], seed=7)
    levels = np.abs(np.asarray(Image.open(path), int) - np.asarray(alone.image[0], int))
    assert levels.max() <= 1
    assert (levels > 0).mean() <= 1e-3
    recorded = read_record(path)
    assert recorded.seeds == (7,)
    assert not recorded.given["depth"].files[0]["path"].startswith("/")


def test_maps_come_back_in_all_their_files(studio):
    job = studio.submit({"task": "generate", "only": ["depth"]}, image=picture())
    ended = studio.ended(job["id"])
    names = {one["name"] for one in ended["results"]}
    assert names == {"0_depth.png", "0_depth_16bit.png", "0_depth_16bit.npy"}


def test_what_does_not_fit_the_model_fails_with_a_sentence(studio):
    job = studio.submit({**JOB, "give": {"pose": base64.b64encode(picture()).decode()}})
    ended = studio.ended(job["id"])
    assert ended["status"] == "failed"
    assert "no branch 'pose' in this model; it has image, depth" in ended["error"]
    with pytest.raises(StudioError, match="steps is 9000") as refused:
        studio.submit({**JOB, "steps": 9000})
    assert refused.value.status == 422


def test_a_running_job_is_cancelled(studio):
    job = studio.submit(LONG)
    waiting = studio.submit(LONG | {"steps": 199})
    until(lambda: is_running(studio, job))
    assert studio.cancel(waiting["id"])["status"] == "cancelled"
    assert studio.cancel(job["id"])["status"] == "cancelled"
    assert studio.ended(studio.submit(JOB)["id"])["status"] == "done"
    assert studio.job(job["id"])["results"] == []


def test_a_worker_does_not_end_by_ctrl_c(studio, served):
    """The whole group hears it, or SIGTERM: the server ends its workers itself."""
    job = studio.submit(LONG | {"steps": 30, "count": 2})
    until(lambda: is_running(studio, job) and studio.job(job["id"])["done"] > 0)
    (worker,) = processes("unicond.studio.worker", os.getpid())
    os.kill(worker, signal.SIGINT)
    os.kill(worker, signal.SIGTERM)
    assert studio.ended(job["id"])["status"] == "done"
    assert processes("unicond.studio.worker", os.getpid()) == [worker]


def test_jobs_that_wait_are_made_together(studio, served):
    first = studio.submit(LONG | {"steps": 30, "count": 2})
    jobs = [studio.submit({**JOB, "seed": n, "prompt": f"dog {n}"}) for n in range(6)]
    ended = [studio.ended(job["id"]) for job in (first, *jobs)]
    assert {one["status"] for one in ended} == {"done"}
    assert len({one["started"] for one in ended[1:]}) == 1
    assert [one["results"][0]["name"] for one in ended[1:]] == [f"{n}_image.png" for n in range(6)]


def test_one_that_fails_lets_its_company_be(studio):
    """A coloured depth map is found only when it is read: the others are made without it."""
    first = studio.submit(LONG | {"steps": 30, "count": 2})
    good, bad = picture(mode="L"), picture()
    jobs = [studio.submit({**JOB, "seed": n}, depth=one) for n, one in enumerate((good, bad, good))]
    studio.ended(first["id"])
    ended = [studio.ended(job["id"]) for job in jobs]
    assert [one["status"] for one in ended] == ["done", "failed", "done"]
    assert "coloured" in ended[1]["error"]


@pytest.mark.slow
def test_a_job_that_ends_its_worker_is_given_up_after_two(studio, served):
    """Killed in the middle of it, twice; what waited beside it is made."""
    bad = studio.submit(LONG)
    good = studio.submit(JOB)
    for _ in range(2):
        until(lambda: is_running(studio, bad) and studio.job(bad["id"])["done"] > 0)
        (worker,) = processes("unicond.studio.worker", os.getpid())
        os.kill(worker, signal.SIGKILL)
        until(lambda: not is_running(studio, bad))
    ended = studio.ended(bad["id"])
    assert ended["status"] == "failed"
    assert "its worker ended 2 times" in ended["error"]
    assert studio.ended(good["id"])["status"] == "done"
    crashes = httpx2.get(f"{served[0]}/metrics").text
    assert "unicond_worker_crashes_total 2.0" in crashes


def test_openai_s_own_client(served):
    with openai.OpenAI(base_url=f"{served[0]}/v1", api_key="any", max_retries=0) as client:
        assert [one.id for one in client.models.list()] == ["tiny"]
        made = client.images.generate(
            prompt="a dog", n=2, size="64x32", model="tiny", quality="high", extra_body={"seed": 3}
        )
        again = client.images.generate(
            prompt="a dog", n=2, size="64x32", response_format="url", extra_body={"seed": 3}
        )
        one = [Image.open(io.BytesIO(base64.b64decode(each.b64_json))) for each in made.data]
        two = [Image.open(io.BytesIO(httpx2.get(each.url).content)) for each in again.data]
        assert [image.size for image in one] == [(64, 32)] * 2
        for first, second in zip(one, two, strict=True):
            assert np.array_equal(np.asarray(first), np.asarray(second))
        assert made.size == "64x32"
        free = [client.images.generate(prompt="a dog").data[0].b64_json for _ in range(2)]
        assert free[0] != free[1], "without a seed each is another"
        with pytest.raises(openai.UnprocessableEntityError, match="no model of that name"):
            client.images.generate(prompt="a dog", model="dall-e-3")


def test_openai_s_edits(served):
    """Where the mask is transparent is made; elsewhere the picture stays, as latents keep it."""
    image = Image.radial_gradient("L").resize((64, 64)).convert("RGBA")
    hole = image.copy()
    hole.paste((0, 0, 0, 0), (0, 0, 32, 64))
    sent = []
    for one in (image.convert("RGB"), hole):
        buffer = io.BytesIO()
        one.save(buffer, "PNG")
        sent.append(("x.png", buffer.getvalue(), "image/png"))
    with openai.OpenAI(base_url=f"{served[0]}/v1", api_key="any", max_retries=0) as client:
        by_mask = client.images.edit(
            image=sent[0], mask=sent[1], prompt="a dog", extra_body={"seed": 1}
        )
        by_itself = client.images.edit(image=sent[1], prompt="a dog", extra_body={"seed": 1})
        whole = client.images.edit(image=sent[0], prompt="a dog", extra_body={"seed": 1})
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one.data[0].b64_json))), int)
        for one in (by_mask, by_itself, whole)
    ]
    assert [one.shape for one in pictures] == [(64, 64, 3)] * 3
    assert not np.array_equal(pictures[0], pictures[2])


def test_a_client_that_vanishes_takes_its_request_along(served, studio):
    """Of a waiting request the job is cancelled; a stream of events ends without a trace."""
    long = studio.submit(LONG)
    before = {job["id"] for job in listed(served)}
    host, port = served[0].removeprefix("http://").split(":")
    body = b'{"prompt": "a dog"}'
    head = f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f"POST /v1/images/generations HTTP/1.1\r\n{head}".encode() + body)
        job = until(lambda: next((one for one in listed(served) if one["id"] not in before), None))
    until(lambda: studio.job(job["id"])["status"] == "cancelled")
    with (
        httpx2.Client(base_url=served[0]) as client,
        client.stream("GET", f"/v1/jobs/{long['id']}/events") as stream,
    ):
        next(stream.iter_lines())
    desk = served[1].state.desk
    until(lambda: not desk.board._watchers and not desk._streams)
    assert studio.job(long["id"])["status"] in ("queued", "running")
    studio.cancel(long["id"])


def listed(served):
    return httpx2.get(f"{served[0]}/v1/jobs", **PLAIN).json()["data"]
