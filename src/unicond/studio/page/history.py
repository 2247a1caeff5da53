"""What was asked for before: a client's jobs, found by their prompts, whether they have ended."""

import textwrap

from PIL import Image, ImageDraw, ImageFont

from unicond.studio import queue
from unicond.studio.desk import Desk
from unicond.studio.page import running
from unicond.studio.queue import Job

MOST = 60
THUMB = (256, 256)
Shown = tuple[Image.Image, str]
_WORDS = {"queued": "it waits", "running": "it is made", "cancelled": "cancelled"}
_GROUND, _INK = (70, 76, 86), (236, 239, 244)


def found(desk: Desk, user: str, words: str) -> tuple[list[Shown], list[str]]:
    """A client's latest jobs.

    Args:
        desk: of the server.
        user: who asks.
        words: of the prompt.

    Returns:
        (a small picture, or a tile that says why there is none, with its prompt), and the id of
        the job of each.
    """
    pictures, ids = list[Shown](), list[str]()
    for job in queue.search(desk.database, user, words, MOST):
        paths = running.files_of(desk, job)
        picture = running.opened(paths[0]) if paths else None
        told = running.told_of_job(desk, job)
        small = tile(job) if picture is None else picture.convert("RGB")
        small.thumbnail(THUMB)
        pictures.append((small, f"{job.task}: {told.get('prompt') or '-'}"))
        ids.append(job.id)
    return pictures, ids


def tile(job: Job) -> Image.Image:
    """What stands for a job without pictures: where it is, or why it failed."""
    told = f"it failed: {job.error}" if job.status == "failed" else _WORDS.get(job.status, "gone")
    picture = Image.new("RGB", THUMB, _GROUND)
    lines = textwrap.wrap(told, 24)[:8]
    middle = (THUMB[0] / 2, THUMB[1] / 2)
    font = ImageFont.load_default(18)
    ImageDraw.Draw(picture).multiline_text(
        middle, "\n".join(lines), _INK, font, anchor="mm", align="center"
    )
    return picture
