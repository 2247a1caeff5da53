"""Intervals as they are drawn and written: they end where they end, also beside the middle."""

import pytest

from unicond.evaluation.report import spread, whiskers
from unicond.evaluation.tables import Row

ALL = Row("a", {"done": 1.0}, {"done": (0.478, 1.0)})
EVEN = Row("b", {"done": 0.5}, {"done": (0.25, 0.75)})
BARE = Row("c", {"done": 0.4})


def test_whiskers_end_where_the_interval_does():
    below, above = whiskers([ALL, EVEN, BARE], "done")
    assert below == pytest.approx([0.522, 0.25, 0.0])
    assert above == pytest.approx([0.0, 0.25, 0.0])


@pytest.mark.parametrize(("row", "text"), [(ALL, "[0.478, 1.000]"), (EVEN, "±0.250"), (BARE, "")])
def test_an_interval_is_written_as_it_lies(row, text):
    assert spread(row, "done") == text
