"""What a run tells while it goes on: lines, numbers, pictures.

`log.txt` is for people, `metrics.jsonl` for programs (a line each time, with its step), and where
it is wanted tensorboard gets the same numbers, and the pictures, through accelerate's tracker. Of
several processes only the main one tells. None of them stops a training: on a full disk it is the
checkpoint that says what to do.
"""

import json
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available
from PIL import Image

from unicond.pictures.files import whole_file

Report = Callable[[float, str], None]
"""Called with the share of the budget that is spent and one line of text."""
Hook = Callable[[threading.ExceptHookArgs], object]
"""As `threading.excepthook`."""
LOG, METRICS = "log.txt", "metrics.jsonl"
TRACKER = "tensorboard"


def silent(share: float, line: str) -> None:
    """A `Report` that tells nobody."""
    del share, line


class Journal:
    """The journal of a run.

    Args:
        folder: of the run.
        helper: of this process; made with a folder for tensorboard where that is wanted.
        report: told every line, too.
        step: the run goes on after this one; numbers of later steps, which a killed run has left,
            are removed.
    """

    def __init__(
        self, folder: Path, helper: Accelerator, report: Report | None = None, step: int = 0
    ) -> None:
        self._folder, self._helper, self._report = folder, helper, report
        self._share, self._hook = 0.0, threading.excepthook
        if not helper.is_main_process:
            return
        _forget(folder / METRICS, step)
        if helper.log_with:
            threading.excepthook = _but_for_writers(self._hook)
            with self._tracking():
                helper.init_trackers(TRACKER)

    def line(self, share: float, text: str) -> None:
        """Write a line of text; `share` of the budget is spent."""
        if not self._helper.is_main_process:
            return
        self._share = share
        self._append(LOG, f"{time.strftime('%H:%M:%S')} {text}")
        if self._report is not None:
            self._report(share, text)

    def numbers(self, step: int, group: str, values: Mapping[str, float]) -> None:
        """Write numbers; `group` is what they were measured on, "training" or "held_out"."""
        if not self._helper.is_main_process:
            return
        named = {f"{group}/{name}": value for name, value in values.items()}
        self._append(METRICS, json.dumps({"step": step, **named}))
        with self._tracking():
            self._helper.log(named, step)

    def pictures(self, step: int) -> None:
        """Hand on the pictures that the task has drawn into the run's folder."""
        if not self._helper.is_main_process:
            return
        with self._tracking():
            for tracker in self._helper.trackers:
                for path in sorted(self._folder.glob("*.png")):
                    with Image.open(path) as image:
                        values = np.asarray(image.convert("RGB"))[None]
                    tracker.log_images({path.stem: values}, step, dataformats="NHWC")

    @contextmanager
    def _tracking(self) -> Generator[None]:
        """Where tensorboard's files cannot be written, say so once and go on without them."""
        try:
            yield
        except OSError as error:
            trackers = [*self._helper.trackers]
            self._helper.trackers.clear()
            for tracker in trackers:
                with suppress(OSError, AttributeError):  # one that could not begin has no writer
                    tracker.finish()
            reason = error.strerror or error
            text = f"tensorboard gets no more ({reason}); curves go to {METRICS} alone"
            self.line(self._share, text)

    def _append(self, name: str, line: str) -> None:
        """Add a line to a file; a full disk is the checkpoint's matter, which says what to do."""
        with suppress(OSError), (self._folder / name).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def close(self) -> None:
        """Finish tensorboard's files."""
        if not (self._helper.is_main_process and self._helper.log_with):
            return
        try:
            with self._tracking():
                for tracker in self._helper.trackers:
                    tracker.finish()
        finally:
            threading.excepthook = self._hook


def tensorboard_folder(folder: Path, wanted: bool, report: Report | None) -> Path | None:
    """Where tensorboard's files go: below the run's folder, if it is installed.

    Args:
        folder: of the run.
        wanted: whether the run is to be followed in it.
        report: told if it is not installed.

    Returns:
        The folder, or None.
    """
    if wanted and not is_tensorboard_available():
        if report is not None:
            report(0.0, f"curves go to {METRICS} alone; for tensorboard: pip install "
                        "'unicond[train]'")  # fmt: skip
        return None
    return folder if wanted else None


def _but_for_writers(hook: Hook) -> Hook:
    """A hook that is silent on tensorboard's own threads: what ends one is raised by its next call.

    Args:
        hook: told of whatever else ends a thread.

    Returns:
        The hook.
    """

    def told(args: threading.ExceptHookArgs) -> None:
        ours = type(args.thread).__module__.startswith(f"{TRACKER}.")
        if not (ours and isinstance(args.exc_value, OSError)):
            hook(args)

    return told


def _forget(path: Path, step: int) -> None:
    """Keep the lines of a file of numbers up to a step."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if _step_of(line) <= step and step > 0]
    with whole_file(path) as file:
        file.write("".join(f"{line}\n" for line in kept).encode())


def _step_of(line: str) -> float:
    """The step of a line; one that was cut off by a kill is of no step."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
