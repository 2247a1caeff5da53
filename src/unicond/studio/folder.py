"""The files of jobs: what was given to them and what they made.

    DATA/queue.sqlite
    DATA/jobs/ID/given/0.png, 1.png, ...
    DATA/jobs/ID/made-WORKER/7_image.png, ...
    DATA/page/DIGEST/...                      what the page was sent, and copies of what it shows

No name in it comes from a client, but below `page`. What a worker has made is there for others when
the queue says so, so that half of it is never seen.
"""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

QUEUE = "queue.sqlite"
LOCK = "server.lock"
JOBS = "jobs"
PAGE = "page"


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


def trim(data: Path, seconds: float, size: int) -> None:
    """Remove copies of the page's: old ones, and the oldest beyond a size.

    Args:
        data: the folder; nothing happens where it has none.
        seconds: since a copy was made, or used again.
        size: bytes of all copies.
    """
    found, oldest = list[tuple[float, int, Path]](), time.time() - seconds
    for parent, _, names in os.walk(data / PAGE):
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):  # Gradio removes some, too
                told = path.stat()
                found.append((told.st_ctime, told.st_size, path))  # a copy has its source's mtime
    kept = 0
    for then, many, path in sorted(found, reverse=True):
        kept += many
        if then < oldest or kept > size:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # another one is in it
                path.parent.rmdir()
