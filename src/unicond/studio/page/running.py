"""From what stands on the page to a job, and from the job to what is shown of it."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from unicond.studio import folder
from unicond.studio.board import Standing
from unicond.studio.desk import Desk
from unicond.studio.page.drawing import left_text, live_html
from unicond.studio.page.kept import Kept
from unicond.studio.page.told import Told, form_of, told_of
from unicond.studio.queue import Job
from unicond.tasks.forms import ANY

AGAIN = 15.0
"""Seconds after which what is shown is told again: Gradio lets go of a page that has gone then."""
BEFORE = "before"
_EXACT = "_16bit"


@dataclass(frozen=True)
class Seen:
    """What is shown of a job.

    Args:
        job: as the queue has it.
        live: where it is, as HTML.
    """

    job: Job
    live: str


async def asked(desk: Desk, user: str, say: Callable[[], Told]) -> Job:
    """Queue what stands on the page, which is read in a thread.

    Args:
        desk: of the server.
        user: who asks.
        say: gives {field: value}, `task` among them.

    Returns:
        The job.

    Raises:
        RequestRefused: it is no form, or the desk does not take it.
    """
    return await desk.accept_made(user, lambda: form_of(say()))


async def watched(desk: Desk, user: str, identity: str) -> AsyncGenerator[Seen]:
    """A job until it has ended, whenever something is new, and now and then.

    Args:
        desk: of the server.
        user: whose job it is.
        identity: of the job.

    Yields:
        What is to be shown; the last is of the ended job.

    Raises:
        RequestRefused: the client watches too many, or has no such job.
    """
    begun, first = 0.0, 0
    with desk.streaming(user), desk.board.watching(identity) as changed:
        while True:
            changed.clear()
            now, job = desk.board.of(identity), await desk.job(user, identity)
            if not now.told:
                begun, first = 0.0, 0
            elif not begun:
                begun, first = time.monotonic(), now.done
            yield Seen(job, _live(job, now, time.monotonic() - begun, first))
            if job.ended is not None:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN):
                    await changed.wait()


def _live(job: Job, now: Standing, seconds: float, first: int) -> str:
    if job.status == "failed":
        return live_html(f"it failed: {job.error}", 0.0, "")
    if job.ended is not None and job.started is not None:
        word = "made" if job.status == "done" else "cancelled"
        return live_html(f"{word} in {job.ended - job.started:.1f} s", 1.0, "")
    if not now.told:
        return live_html("it waits" if job.status == "queued" else "cancelled", 0.0, "")
    told = left_text(now.done - first, now.total - first, seconds)
    share = now.done / now.total if now.total else 0.0
    return live_html(told, share, now.picture)


def files_of(desk: Desk, job: Job) -> list[Path]:
    """The pictures that a job made, a row a sample.

    Args:
        desk: of the server.
        job: that has ended.

    Returns:
        Those that are still there; exact copies of maps are not among them.
    """
    if job.worker is None:
        return []
    made = desk.settings.data / folder.made(job.id, job.worker)
    paths = [made / one.name for one in job.results if one.name.endswith(".png")]
    rows = list(dict.fromkeys(path.name.partition("_")[0] for path in paths))
    there = [path for path in paths if _EXACT not in path.name and path.is_file()]
    return sorted(there, key=lambda path: rows.index(path.name.partition("_")[0]))


def all_files_of(desk: Desk, job: Job) -> list[Path]:
    """Every file that a job made and that is still there."""
    if job.worker is None:
        return []
    made = desk.settings.data / folder.made(job.id, job.worker)
    return [made / one.name for one in job.results if (made / one.name).is_file()]


def captioned(path: Path) -> str:
    """What is written below a picture: its branch and its seed."""
    seed, _, branch = path.stem.partition("_")
    return f"{branch}, seed {seed}"


def pair_of(paths: list[Path], given: list[Path]) -> tuple[str, str] | None:
    """Two pictures to be compared: before and after, or two branches.

    Args:
        paths: that a job made.
        given: to it.

    Returns:
        Their paths; None where there are not two.
    """
    before = [path for path in paths if path.stem.endswith(f"_{BEFORE}")]
    after = [path for path in paths if path not in before]
    first = [*before, *given, *after[1:]]
    return (str(first[0]), str(after[0])) if first and after else None


def given_of(desk: Desk, job: Job) -> list[Path]:
    """The pictures that were given to a job."""
    return sorted((desk.settings.data / folder.given(job.id)).glob("*.png"))


def told_of_job(desk: Desk, job: Job) -> dict[str, object]:
    """What a job was asked for.

    Args:
        desk: of the server.
        job: any.

    Returns:
        {field: value}; pictures are `Kept`, None where they are gone.
    """
    given = desk.settings.data / folder.given(job.id)

    def read(name: str) -> Kept | None:
        return Kept(job.id, name) if (given / name).is_file() else None

    return {**told_of(ANY.validate_json(job.form), read), "base": job.base}


def opened(path: Path) -> Image.Image | None:
    """A picture of the server's own; None if it is gone."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.copy()
    except OSError:
        return None


def settings_text(job: Job) -> str:
    """The form of a job as JSON, for people."""
    return json.dumps(json.loads(job.form), indent=2, ensure_ascii=False)
