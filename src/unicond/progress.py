"""How long work tells where it is: a bar on a terminal, elsewhere a line now and then.

Both go to stderr, so that what a command prints can be kept in a file.
"""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY = 30.0
"""Seconds from one line to the next, at least."""


class Tell(Protocol):
    """Called when some of the work is done."""

    def __call__(self, done: int, total: int | None = None, what: str = "") -> None:
        """Say how much of the work is done, of how much, and what is at work now."""
        ...


@contextmanager
def progress(
    what: str, total: int | None = None, every: float = EVERY, quiet: bool = False
) -> Generator[Tell]:
    """Show the progress of what happens inside the block.

    Args:
        what: name of the work.
        total: how much there is; None until it is told.
        every: seconds between two lines, where stderr is no terminal; the end is told if anything
            was.
        quiet: show nothing.

    Yields:
        What to call with how much is done.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        lines = _Lines(what, total, every)
        yield _nobody if quiet else lines.tell
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)

        def tell(done: int, total: int | None = None, what: str = "") -> None:
            bar.update(task, completed=done, total=total, description=escape(what) or None)

        yield tell


def _nobody(done: int, total: int | None = None, what: str = "") -> None:
    del done, total, what


class _Lines:
    """Progress as lines of text."""

    def __init__(self, what: str, total: int | None, every: float) -> None:
        self._what, self._total, self._every = what, total, every
        self._began = self._last = time.monotonic()
        self._told = False

    def tell(self, done: int, total: int | None = None, what: str = "") -> None:
        """Print a line if it is time for one."""
        self._total = self._total if total is None else total
        now, ended = time.monotonic(), done == self._total
        if now - self._last < self._every and not (ended and self._told):
            return
        of = f" of {self._total} ({done / self._total:.0%})" if self._total else ""
        doing = f": {what}" if what and not ended else ""
        print(f"{self._what}{doing}, {done}{of}, {now - self._began:.0f} s", file=sys.stderr)
        self._last, self._told = now, not ended
