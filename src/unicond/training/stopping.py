"""Ctrl-C and SIGTERM: a run stops between two steps, where it can be gone on with."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Stop:
    """Whether Ctrl-C or SIGTERM has asked the run to stop after the step that is running."""

    asked: bool = False


@contextmanager
def stops_between_steps() -> Generator[Stop]:
    """The first Ctrl-C or SIGTERM lets the step finish; a second Ctrl-C ends at once."""
    stop = Stop()

    def ask(number: int, frame: object) -> None:
        del number, frame
        stop.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals are the main thread's matter
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
