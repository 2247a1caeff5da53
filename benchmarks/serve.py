"""`python -m benchmarks.serve`: what the server costs beside the call, and what batches gain.

overhead   a job over the API against the same call in Python: at most 5 % + 20 ms
batches    jobs a minute with 8 clients that wait, against one by one: at least 1.6 times
clients    200 of them for a minute: refusals as documented, nothing lost, memory as before (+5 %)
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2

import unicond
from unicond.evaluation.tables import describe_machine
from unicond.studio.client import Client

PARTS = ("overhead", "batches", "clients")
PORT = 7861
JOB = {"task": "generate", "prompt": "a red ball left of a blue box", "only": ["image"]}


@contextmanager
def served(base: str, *options: str) -> Iterator[tuple[str, int]]:
    """A server of its own; its address and process id."""
    address = f"http://127.0.0.1:{PORT}"
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "unicond", "serve", "--port", str(PORT), "--base", base]
        command += ["--adapter", "none", "--data", data, *options]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            while not _is_ready(address):
                if process.poll() is not None:
                    raise RuntimeError("the server has ended: run its command to see why")
                time.sleep(0.2)
            yield address, process.pid
        finally:
            process.terminate()
            process.wait()


def _is_ready(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/health", timeout=30).json()["status"] == "ok"
    except httpx2.TransportError:
        return False


def overhead(base: str, rounds: int) -> None:
    model = unicond.load(base)
    calls, jobs = list[float](), list[float]()
    with served(base) as (address, _), Client(address) as studio:
        for seed in range(rounds + 1):
            began = time.perf_counter()
            model(JOB["prompt"], branches=["image"], seed=seed)
            between = time.perf_counter()
            studio.ended(str(studio.submit({**JOB, "seed": seed})["id"]))
            calls.append(between - began)
            jobs.append(time.perf_counter() - between)
    call, job = statistics.median(calls[1:]), statistics.median(jobs[1:])
    allowed = 0.05 * call + 0.02
    print(f"overhead: call {call:.3f} s, job {job:.3f} s, {job - call:+.3f} s of {allowed:.3f} s")


def batches(base: str, seconds: float) -> None:
    rates = [_rate(base, seconds, rows) for rows in (1, 8)]
    print(
        f"batches: {rates[0]:.1f} jobs a minute one by one, {rates[1]:.1f} by batches: "
        f"{rates[1] / rates[0]:.2f} times (bar 1.6)"
    )


def _rate(base: str, seconds: float, rows: int) -> float:
    """Jobs a minute of 8 clients, each of which waits for its job."""
    with served(base, "--rows", str(rows)) as (address, _):
        end = time.monotonic() + seconds

        def client(number: int) -> int:
            made = 0
            with Client(address) as studio:
                while time.monotonic() < end:
                    job = studio.submit({**JOB, "seed": 1000 * number + made})
                    studio.ended(str(job["id"]))
                    made += 1
            return made

        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            made = sum(pool.map(client, range(8)))
        return 60 * made / (time.monotonic() - began)


def clients(base: str, seconds: float) -> None:
    with served(base, "--rows", "16") as (address, pid), Client(address) as studio:
        studio.ended(str(studio.submit({**JOB, "steps": 1})["id"]))
        before, end = _memory(pid), time.monotonic() + seconds
        accepted, refused, lock = list[str](), [0], threading.Lock()

        def client(number: int) -> None:
            with httpx2.Client(base_url=address, timeout=300) as http:
                while time.monotonic() < end:
                    asked = {**JOB, "steps": 1, "seed": number}
                    answer = http.post("/v1/jobs", json=asked)
                    if answer.status_code not in (202, 429):
                        raise RuntimeError(f"{answer.status_code}: {answer.text}")
                    with lock:
                        if answer.status_code == 202:
                            accepted.append(answer.json()["id"])
                        else:
                            refused[0] += 1
                    time.sleep(float(answer.headers.get("retry-after", 0)) / 10)

        with ThreadPoolExecutor(200) as pool:
            list(pool.map(client, range(200)))
        ended = [studio.ended(one)["status"] for one in accepted]
        after = _memory(pid)
    print(
        f"clients: {len(accepted)} accepted, {refused[0]} refused, {ended.count('done')} done; "
        f"memory {before / 2**20:.0f} MB before, {after / 2**20:.0f} after "
        f"({after / before - 1:+.1%}, bar +5 %)"
    )


def _memory(pid: int) -> int:
    """Resident bytes of the server and its workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = [int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in (pid, *children)]
    return 4096 * sum(pages)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part; default all")
    parser.add_argument("--base", default="mini", help="base model: name, folder or hub id")
    parser.add_argument("--rounds", type=int, default=10, help="of overhead")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the others")
    options = parser.parse_args()
    print(describe_machine(unicond.load(options.base).backbone.device))
    if options.only in (None, "overhead"):
        overhead(options.base, options.rounds)
    if options.only in (None, "batches"):
        batches(options.base, options.seconds)
    if options.only in (None, "clients"):
        clients(options.base, options.seconds)


if __name__ == "__main__":
    main()
