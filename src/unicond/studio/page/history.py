"""What was made before: pictures of a client's jobs, found by their prompts."""

from PIL import Image

from unicond.studio import queue
from unicond.studio.desk import Desk
from unicond.studio.page import running

MOST = 60
THUMB = (256, 256)
Shown = tuple[Image.Image, str]


def found(desk: Desk, user: str, words: str) -> tuple[list[Shown], list[str]]:
    """A client's latest pictures.

    Args:
        desk: of the server.
        user: who asks.
        words: of the prompt.

    Returns:
        (a small picture, its prompt), and the id of the job of each.
    """
    pictures, ids = list[Shown](), list[str]()
    for job in queue.search(desk.database, user, words, MOST):
        paths = running.files_of(desk, job)
        picture = running.opened(paths[0]) if paths else None
        if picture is not None:
            small = picture.convert("RGB")
            small.thumbnail(THUMB)
            told = running.told_of_job(desk, job)
            pictures.append((small, f"{job.task}: {told.get('prompt') or '-'}"))
            ids.append(job.id)
    return pictures, ids
