"""`python -m benchmarks.serve`: what the server costs beside the call, and what batches gain.

overhead   a job over the API against the same call in Python: at most 5 % + 20 ms
batches    jobs a minute with 8 clients that wait, against one by one: at least 1.6 times
clients    200 of them for a minute, each with its key: no answer but 202 and the refusal of a full
           queue, nothing lost, memory as after a first crowd (+5 %)

Each bar is printed with pass or FAIL; the command ends with 1 if one fails.
"""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

import unicond
from unicond.evaluation.tables import describe_machine
from unicond.studio.client import Client
from unicond.studio.keys import add_key

PARTS = ("overhead", "batches", "clients")
PORT = 7861
CLIENTS = 200
ROUNDS = 9
"""Of batches against one by one, in turns."""
JOB = {"task": "generate", "prompt": "a red ball left of a blue box", "only": ["image"]}


@dataclass(frozen=True)
class Bar:
    """What was measured, beside what it is to be.

    Args:
        what: it is.
        value: of it.
        least: that it may be.
        most: likewise.
    """

    what: str
    value: float
    least: float = -math.inf
    most: float = math.inf

    @property
    def holds(self) -> bool:
        """Whether it is what it is to be."""
        return self.least <= self.value <= self.most

    def __str__(self) -> str:
        bar = f"at least {self.least:g}" if self.least > -math.inf else f"at most {self.most:.3g}"
        return f"{'pass' if self.holds else 'FAIL'}  {self.what}: {self.value:.3g} ({bar})"


def failed(bars: Sequence[Bar]) -> int:
    """Print each bar.

    Args:
        bars: with what was measured.

    Returns:
        The exit status: 1 where one does not hold, else 0.
    """
    for bar in bars:
        print(bar)
    return int(not all(bar.holds for bar in bars))


@contextmanager
def served(base: str, *options: str, port: int = PORT) -> Iterator[tuple[str, int]]:
    """A server of its own; its address and process id."""
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "unicond", "serve", "--port", str(port), "--base", base]
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


def overhead(base: str, rounds: int) -> list[Bar]:
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
    pairs = list(zip(calls, jobs, strict=True))[1:]
    call = statistics.median(calls[1:])
    beyond = statistics.median(job - call for call, job in pairs)
    print(f"overhead: call {call:.3f} s, job {statistics.median(jobs[1:]):.3f} s")
    return [Bar("overhead: seconds of a job beyond the call", beyond, most=0.05 * call + 0.02)]


def batches(base: str, seconds: float) -> list[Bar]:
    rates = list[tuple[float, float]]()
    with (
        served(base, "--rows", "1") as (single, _),
        served(base, "--rows", "8", port=PORT + 1) as (together, _),
    ):
        for _ in range(ROUNDS):
            rates.append((_rate(single, seconds / 3), _rate(together, seconds / 3)))
    one, many = (statistics.median(column) for column in zip(*rates, strict=True))
    print(f"batches: {one:.1f} jobs a minute one by one, {many:.1f} by batches")
    gain = statistics.median(many / one for one, many in rates)
    return [Bar("batches: times the jobs of one by one", gain, least=1.6)]


def _rate(address: str, seconds: float) -> float:
    """Jobs a minute of 8 clients, each of which waits for its job."""
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


def clients(base: str, seconds: float) -> list[Bar]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "keys")
        keys = [add_key(file, f"client-{number}") for number in range(CLIENTS)]
        options = ["--rows", "16", "--api-key-file", str(file)]
        options += ["--limit", "rate=1e9", "--limit", "burst=1000000"]
        with served(base, *options) as (address, pid):
            warm = crowd(address, keys, seconds / 6)
            warm.drain(address)
            large, before = _made_in_large_batches(address, keys[0]), _memory(pid)
            told = crowd(address, keys, seconds)
            lost = told.drain(address)
            after = _memory(pid)
    print(
        f"clients: {len(told.accepted)} accepted, {told.refused} refused; memory "
        f"{before / 2**20:.0f} MB before, {after / 2**20:.0f} after"
    )
    for error in told.errors[:5]:
        print(f"clients: {error}")
    return [
        Bar("clients: jobs made in large batches before memory is read", large, least=1),
        Bar("clients: accepted jobs", len(told.accepted), least=CLIENTS),
        Bar("clients: answers that are not documented", len(told.errors), most=0),
        Bar("clients: accepted jobs that are not done", lost, most=0),
        Bar("clients: growth of memory", after / before - 1, most=0.05),
    ]


@dataclass(frozen=True)
class Crowd:
    """What clients were answered.

    Args:
        accepted: (key, id) of each job.
        refused: answers that the queue is full, as the docs say them.
        errors: all other answers.
    """

    accepted: list[tuple[str, str]]
    refused: int
    errors: list[str]

    def drain(self, address: str) -> int:
        """Wait for all jobs.

        Args:
            address: of the server.

        Returns:
            How many are not done.
        """
        lost = 0
        for key, identity in self.accepted:
            with Client(address, key) as studio:
                lost += studio.ended(identity)["status"] != "done"
        return lost


def crowd(address: str, keys: Sequence[str], seconds: float) -> Crowd:
    """Ask for jobs by many clients at once; who is refused waits as long as it is told.

    Args:
        address: of the server.
        keys: of the clients.
        seconds: how long.

    Returns:
        What they were answered.
    """
    end = time.monotonic() + seconds
    accepted, refused, errors = list[tuple[str, str]](), list[str](), list[str]()

    def client(key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx2.Client(
            base_url=address, headers=headers, timeout=300, verify=False
        ) as http:  # reading certificates for each client takes longer than the clients have
            while (left := end - time.monotonic()) > 0:
                try:
                    answer = http.post("/v1/jobs", json={**JOB, "steps": 1})
                except httpx2.TransportError as error:
                    errors.append(repr(error))
                    continue
                if answer.status_code == 202:
                    accepted.append((key, answer.json()["id"]))
                elif fault := undocumented(answer):
                    errors.append(fault)
                else:
                    refused.append(key)
                    time.sleep(min(left, float(answer.headers["retry-after"])))

    with ThreadPoolExecutor(len(keys)) as pool:
        list(pool.map(client, keys))
    return Crowd(accepted, len(refused), errors)


def undocumented(answer: httpx2.Response) -> str:
    """What is wrong with a refusal.

    Args:
        answer: that is not 202.

    Returns:
        A sentence; empty if it is 429 with the code of a full queue, and says when to come again.
    """
    told = f"{answer.status_code}: {answer.text}"
    if answer.status_code != 429:
        return told
    if answer.json()["error"]["code"] != "queue_full":
        return told
    after = answer.headers.get("retry-after", "")
    return "" if after.isdecimal() and int(after) >= 1 else f"{told}, Retry-After {after!r}"


def _made_in_large_batches(address: str, key: str) -> float:
    """Jobs that were made with more than 8 others, by the server's own count."""
    headers = {"Authorization": f"Bearer {key}"}
    text = httpx2.get(f"{address}/metrics", headers=headers, timeout=60).text
    name = "unicond_jobs_together"
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name))
    return float(values[f"{name}_count"]) - float(values[f'{name}_bucket{{le="8.0"}}'])


def _memory(pid: int) -> int:
    """Resident bytes of the server and its workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = [int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in (pid, *children)]
    return 4096 * sum(pages)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="one part; default all")
    parser.add_argument("--base", default="mini", help="base model: name, folder or hub id")
    parser.add_argument("--rounds", type=int, default=30, help="of overhead")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the others")
    options = parser.parse_args()
    print(describe_machine(unicond.load(options.base).backbone.device))
    bars = list[Bar]()
    if options.only in (None, "overhead"):
        bars += overhead(options.base, options.rounds)
    if options.only in (None, "batches"):
        bars += batches(options.base, options.seconds)
    if options.only in (None, "clients"):
        bars += clients(options.base, options.seconds)
    sys.exit(failed(bars))


if __name__ == "__main__":
    main()
