"""The line between the server and a worker: one message a line, on the worker's stdin and stdout.

To the worker: `wake` (there may be a job), `stop ID` (a job was cancelled). From it: an event as
JSON. What must not be lost is in the queue; this only saves waiting. When the server ends, however
it does, the worker's stdin does too, and the worker with it.
"""

import os
import sys
import threading
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import TypeAdapter


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a worker tells.

    Args:
        kind: `ready` (models are loaded), `broken` (they cannot be), `began`, `move`, `preview` or
            `ended` (of a job; the queue says how), `parted` (jobs that go back to the queue).
        job: its id.
        done: moves.
        total: moves.
        together: jobs of the call.
        picture: JPEG in base64.
        message: why it is broken.
        branches: {model: its branches}.
    """

    kind: Literal["ready", "broken", "began", "move", "preview", "ended", "parted"]
    job: str = ""
    done: int = 0
    total: int = 0
    together: int = 0
    picture: str = ""
    message: str = ""
    branches: dict[str, list[str]] | None = None


EVENT = TypeAdapter(Event)


class Channel(Protocol):
    """The worker's end."""

    def tell(self, event: Event) -> None:
        """Send an event."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until there may be a job, or for some seconds."""
        ...

    def is_stopped(self, job: str) -> bool:
        """Whether a job was cancelled."""
        ...

    def forget(self, job: str) -> None:
        """A job has ended: whether it was stopped is not asked again."""
        ...


class Pipe:
    """The end of a worker that is a process; what else it prints goes to stderr from now on."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._woken = threading.Event()
        self._stopped: set[str] = set()
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, event: Event) -> None:
        """Send an event."""
        self._out.write(EVENT.dump_json(event, exclude_defaults=True) + b"\n")

    def wait(self, seconds: float) -> None:
        """Wait until there may be a job, or for some seconds."""
        self._woken.wait(seconds)
        self._woken.clear()

    def is_stopped(self, job: str) -> bool:
        """Whether a job was cancelled."""
        return job in self._stopped

    def forget(self, job: str) -> None:
        """A job has ended: whether it was stopped is not asked again."""
        self._stopped.discard(job)

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            what, _, job = line.decode().strip().partition(" ")
            if what == "stop":
                self._stopped.add(job)
            self._woken.set()
        os._exit(0)
