"""The files of jobs: what was given to them and what they made.

    DATA/queue.sqlite
    DATA/jobs/ID/given/0.png, 1.png, ...
    DATA/jobs/ID/made-WORKER/7_image.png, ...

No name in it comes from a client. What a worker has made is there for others when the queue says
so, so that half of it is never seen.
"""

import shutil
from pathlib import Path

QUEUE = "queue.sqlite"
LOCK = "server.lock"
JOBS = "jobs"


def given(identity: str) -> Path:
    """Where the pictures of a job lie, seen from the data folder."""
    return Path(JOBS, identity, "given")


def made(identity: str, worker: str) -> Path:
    """Where a worker puts what it makes of a job, seen from the data folder."""
    return Path(JOBS, identity, f"made-{worker}")


def remove(data: Path, identity: str) -> None:
    """Remove all files of a job.

    Args:
        data: the folder.
        identity: of the job; nothing happens where it has none.
    """
    shutil.rmtree(data / JOBS / identity, ignore_errors=True)


def strays(data: Path, known: set[str]) -> list[str]:
    """Folders of jobs that the queue does not know.

    Args:
        data: the folder.
        known: ids of the queue.

    Returns:
        Their ids.
    """
    return [one.name for one in (data / JOBS).iterdir() if one.name not in known]
