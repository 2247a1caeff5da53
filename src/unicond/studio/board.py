"""Where running jobs are, for those who watch. It forgets what has ended: that is in the queue.

Everything here belongs to the server's event loop. Who is slow misses moves, not the end.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Standing:
    """Where a running job is.

    Args:
        done: moves.
        total: moves; 0 is not known yet.
        previews: how many were shown.
        picture: the latest preview, JPEG in base64.
        told: whether anything was told of it; nothing is of a job that waits or has ended.
    """

    done: int = 0
    total: int = 0
    previews: int = 0
    picture: str = ""
    told: bool = False


class Board:
    """Where every running job is."""

    def __init__(self) -> None:
        self._standings: dict[str, Standing] = {}
        self._watchers: dict[str, set[asyncio.Event]] = {}

    def of(self, job: str) -> Standing:
        """Where a job is; at its start if nothing was told."""
        return self._standings.get(job, Standing())

    def moved(self, job: str, done: int, total: int) -> None:
        """A job has made a move."""
        self._standings[job] = replace(self.of(job), done=done, total=total, told=True)
        self._call(job)

    def previewed(self, job: str, picture: str) -> None:
        """A job has something to show."""
        before = self.of(job)
        self._standings[job] = replace(
            before, previews=before.previews + 1, picture=picture, told=True
        )
        self._call(job)

    def changed(self, job: str) -> None:
        """The queue says something else of a job now: it starts anew, or has ended."""
        self._standings.pop(job, None)
        self._call(job)

    @contextmanager
    def watching(self, job: str) -> Generator[asyncio.Event]:
        """Watch a job.

        Args:
            job: its id.

        Yields:
            What is set when something has changed; whoever waits for it clears it.
        """
        event = asyncio.Event()
        self._watchers.setdefault(job, set()).add(event)
        try:
            yield event
        finally:
            others = self._watchers[job]
            others.discard(event)
            if not others:
                del self._watchers[job]

    def _call(self, job: str) -> None:
        for event in self._watchers.get(job, ()):
            event.set()
