"""What a run tells while it goes on: lines, numbers, pictures.

`log.txt` is for people, `metrics.jsonl` for programs (a line each time, with its step), and where
it is wanted tensorboard gets the same numbers, and the pictures, through accelerate's tracker. Of
several processes only the main one tells.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available
from PIL import Image

from unicond.pictures.files import whole_file

Report = Callable[[float, str], None]
"""Called with the share of the budget that is spent and one line of text."""
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
        if not helper.is_main_process:
            return
        _forget(folder / METRICS, step)
        if helper.log_with:
            helper.init_trackers(TRACKER)

    def line(self, share: float, text: str) -> None:
        """Write a line of text; `share` of the budget is spent."""
        if not self._helper.is_main_process:
            return
        self._append(LOG, f"{time.strftime('%H:%M:%S')} {text}")
        if self._report is not None:
            self._report(share, text)

    def numbers(self, step: int, group: str, values: Mapping[str, float]) -> None:
        """Write numbers; `group` is what they were measured on, "training" or "held_out"."""
        if not self._helper.is_main_process:
            return
        named = {f"{group}/{name}": value for name, value in values.items()}
        self._append(METRICS, json.dumps({"step": step, **named}))
        self._helper.log(named, step)

    def pictures(self, step: int) -> None:
        """Hand on the pictures that the task has drawn into the run's folder."""
        if not self._helper.is_main_process:
            return
        for tracker in self._helper.trackers:
            for path in sorted(self._folder.glob("*.png")):
                with Image.open(path) as image:
                    values = np.asarray(image.convert("RGB"))[None]
                tracker.log_images({path.stem: values}, step, dataformats="NHWC")

    def _append(self, name: str, line: str) -> None:
        """Add a line to a file; a full disk is the checkpoint's matter, which says what to do."""
        with suppress(OSError), (self._folder / name).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def close(self) -> None:
        """Finish tensorboard's files."""
        if self._helper.is_main_process:
            for tracker in self._helper.trackers:
                tracker.finish()


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
