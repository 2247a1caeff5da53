"""Workers that are processes of this machine."""

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress

from unicond.studio.channel import EVENT, Event
from unicond.studio.engine import Link
from unicond.studio.order import ORDER, Order

LINE = 2**23
"""Bytes of an event, at most."""
logger = logging.getLogger("unicond.studio")


class Process:
    """A worker's process.

    Args:
        process: that was started.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def told(self) -> Event | None:
        """As `engine.Link` says."""
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
            return EVENT.validate_json(line) if line else None
        except ValueError as error:  # too long, or cut off in the middle by its end
            logger.warning("a worker has told half a line (%s): it is ended", type(error).__name__)
            self.kill()
            return None

    def send(self, line: str) -> None:
        """As `engine.Link` says."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(line.encode() + b"\n")

    def close(self) -> None:
        """As `engine.Link` says."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """As `engine.Link` says."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                # asyncio's own would hide from `ended` how a process has ended by itself
                os.kill(self._process.pid, signal.SIGKILL)

    async def ended(self) -> str:
        """As `engine.Link` says."""
        return str(await self._process.wait())


class Processes:
    """Starts a process for each worker."""

    def open(self) -> None:
        """Nothing is needed."""

    async def start(self, order: Order) -> Link:
        """As `engine.Engine` says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "unicond.studio.worker", ORDER.dump_json(order).decode()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
        )
        return Process(process)

    def close(self) -> None:
        """Nothing is left."""
