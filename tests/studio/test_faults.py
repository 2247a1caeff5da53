"""A whole server that is killed, starved and lied to: no job that was accepted is lost."""

import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from noise_pictures import picture
from serving import Process, processes, until

from unicond.studio.client import Client

JOB = {"task": "generate", "prompt": "a dog", "only": ["image"]}
LONG = {**JOB, "steps": 100, "size": 128}
pytestmark = pytest.mark.slow


@pytest.fixture
def start(tiny_base):
    """Starts servers, and ends those that a test has left."""
    started = []

    def one(data, *options, before=()):
        started.append(Process(tiny_base, data, *options, before=before))
        return started[-1]

    yield one
    for server in started:
        server.end()


def is_gone(pid):
    """Whether a process has ended, also where nobody has asked how."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_killed_in_the_middle_every_accepted_job_ends(start, tmp_path):
    """SIGKILL for the server while its worker samples: the worker ends, too; a new one ends all."""
    server = start(tmp_path / "data")
    with Client(server.address) as studio:
        jobs = [studio.submit(LONG), *(studio.submit({**JOB, "seed": n}) for n in range(5))]
        edit = {"task": "edit", "prompt": "a dog", "method": "sdedit"}
        jobs.append(studio.submit(edit, picture=picture()))
        until(lambda: studio.job(jobs[0]["id"])["done"] > 2)
        (worker,) = processes("unicond.studio.worker", server.process.pid)
        server.kill()
    until(lambda: is_gone(worker), 20)
    server = start(tmp_path / "data")
    with Client(server.address) as studio:
        ended = [studio.ended(job["id"]) for job in jobs]
        assert {one["status"] for one in ended} == {"done"}
        assert all(one["results"] for one in ended)
        for one in ended:
            studio.save(one["id"], tmp_path / "out" / one["id"])
    server.end()


def test_ended_by_its_owner_nothing_counts_as_a_crash(start, tmp_path):
    server = start(tmp_path / "data")
    with Client(server.address) as studio:
        job = studio.submit(LONG)
        until(lambda: studio.job(job["id"])["done"] > 0)
    server.end()
    with sqlite3.connect(tmp_path / "data" / "queue.sqlite") as kept:
        row = kept.execute("SELECT status, tries, alone FROM jobs").fetchone()
    assert row == ("queued", 0, 0)


def test_a_locked_database_is_waited_out(start, tmp_path):
    """Another program holds the queue for longer than anyone waits: 503, and then all goes on."""
    server = start(tmp_path / "data")
    other = sqlite3.connect(tmp_path / "data" / "queue.sqlite", isolation_level=None)
    with Client(server.address) as studio:
        long = studio.submit({**LONG, "steps": 20})
        until(lambda: studio.job(long["id"])["status"] == "running")
        other.execute("BEGIN IMMEDIATE")
        refused = httpx2.post(f"{server.address}/v1/jobs", json=JOB, timeout=60)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx2.get(f"{server.address}/health", timeout=60).status_code == 200
        time.sleep(5)
        other.execute("ROLLBACK")
        assert studio.ended(long["id"])["status"] == "done"
        assert studio.ended(studio.submit(JOB)["id"])["status"] == "done"
    server.end()


def fill(path):
    with path.open("wb", 0) as file:
        while True:
            file.write(bytes(2**12))


def test_a_disk_that_fills_up(start, tmp_path):
    """A disk of 80 MB that is full when a job ends: it fails with a sentence, and all goes on."""
    data = tmp_path / "data"
    data.mkdir()
    script = f'mount -t tmpfs -o size=80m none {data} && exec "$@"'
    server = start(data, before=("unshare", "-Urm", "sh", "-c", script, "sh"))
    inside = Path(f"/proc/{server.process.pid}/root{data}")
    with Client(server.address) as studio:
        job = studio.submit({**LONG, "steps": 200})
        until(lambda: studio.job(job["id"])["done"] > 0)
        with pytest.raises(OSError, match="No space"):
            fill(inside / "filler")
        refused = httpx2.post(f"{server.address}/v1/jobs", json=JOB)
        assert refused.status_code == 507
        assert "disk is full" in refused.json()["error"]["message"]
        until(lambda: studio.job(job["id"])["done"] in (0, 200))
        time.sleep(2)
        (inside / "filler").unlink()
        ended = studio.ended(job["id"])
        assert ended["status"] == "failed"
        assert "its pictures cannot be kept" in ended["error"]
        assert "No space left" in ended["error"]
        assert studio.ended(studio.submit(JOB)["id"])["status"] == "done"
    server.end()


def test_slow_clients_and_half_requests(start, tmp_path):
    """Fifty connections that say little hold nobody up, and end, each of them."""
    server = start(tmp_path / "data", "--limit", "body_seconds=5")
    host, port = server.address.removeprefix("http://").split(":")
    lines = [
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\n\r\n{",
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET /" + b"a" * 70_000,
    ]
    open_ = []
    for number in range(50):
        made = socket.create_connection((host, int(port)))
        made.sendall(lines[number % len(lines)])
        open_.append(made)
    with Client(server.address) as studio:
        began = time.monotonic()
        assert studio.ended(studio.submit(JOB)["id"])["status"] == "done"
        assert time.monotonic() - began < 30
    answers = []
    for made in open_:
        made.settimeout(60)  # longer than a head and a body together have
        with made, made.makefile("rb") as told:
            answers.append(told.read()[:12])
    expected = [b"HTTP/1.1 408", b"", b"HTTP/1.1 200", b"HTTP/1.1 400", b"HTTP/1.1 400"]
    assert answers == expected * 10
    assert httpx2.get(f"{server.address}/health").status_code == 200
    server.end()


def test_two_hundred_clients(start, tmp_path):
    """For some time all ask at once: done, or refused as documented; nothing is lost."""
    server = start(tmp_path / "data")
    end, accepted = time.monotonic() + 30, list[str]()

    def client(number):
        with httpx2.Client(base_url=server.address, timeout=120) as http:
            while time.monotonic() < end:
                made = http.post("/v1/jobs", json={**JOB, "steps": 1, "seed": number})
                assert made.status_code in (202, 429), made.text
                if made.status_code == 202:
                    accepted.append(made.json()["id"])
                time.sleep(0.5)

    with ThreadPoolExecutor(200) as pool:
        list(pool.map(client, range(200)))
    assert accepted
    with Client(server.address) as studio:
        assert {studio.ended(one)["status"] for one in accepted} == {"done"}
    server.end()
