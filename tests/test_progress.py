"""A bar on a terminal; elsewhere lines on stderr, now and then and at the end."""

import io
import re

import pytest

from unicond import progress as module
from unicond.progress import progress


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_a_line_now_and_then_where_there_is_no_terminal(clock, capsys):
    with progress("measuring", 8) as tell:
        for done in range(8):
            tell(done, what=f"depth {done}")
            clock.now += 12
        tell(8)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "measuring: depth 3, 3 of 8 (38%), 36 s",
        "measuring: depth 6, 6 of 8 (75%), 72 s",
        "measuring, 8 of 8 (100%), 96 s",
    ]


def test_short_and_quiet_work_tells_nothing(clock, capsys):
    for quiet, seconds in ((False, 9), (True, 90)):
        with progress("sampling", quiet=quiet) as tell:
            for done in range(3):
                tell(done + 1, 3)
                clock.now += seconds
    assert capsys.readouterr().err == ""


def test_a_total_that_is_told_later_or_never(clock, capsys):
    with progress("annotating", every=0) as tell:
        tell(3)
        tell(0, 0)
        tell(4, 8, "poses")
    assert capsys.readouterr().err.splitlines() == [
        "annotating, 3, 0 s",
        "annotating, 0, 0 s",
        "annotating: poses, 4 of 8 (50%), 0 s",
    ]


def test_a_bar_on_a_terminal(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with progress("measuring", 4) as tell:
        tell(2, what="depth [0-24]")
        tell(4)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "depth [0-24]" in shown
    assert "4/4" in shown
    assert "measuring, 4" not in shown
