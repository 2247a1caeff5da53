"""Bars that measured numbers have to meet: every benchmark prints its own in this one manner.

A line a bar, as in `bar batches >= 1.6: 2.1, pass`; one that is not met ends in FAIL, and the
benchmark exits with status 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A measured number and the bar that it has to meet.

    Attributes:
        name: what was measured.
        value: as measured.
        limit: the most that is allowed; with `at_least`, the least.
        at_least: whether more is better.
    """

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the number is at the bar or on its good side; no number (NaN) is not."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return (
            f"bar {self.name} {sign} {self.limit:.4g}: {self.value:.4g}, "
            f"{'pass' if self.met else 'FAIL'}"
        )

    def to_json(self) -> dict[str, object]:
        """As it stands in a benchmark's JSON."""
        return {
            "bar": self.name,
            "value": self.value,
            "limit": self.limit,
            "at_least": self.at_least,
            "met": self.met,
        }


def report(bars: Sequence[Bar]) -> int:
    """Print every bar.

    Args:
        bars: those that were measured.

    Returns:
        The exit status of a benchmark: 0 if all are met (or there are none), else 1.
    """
    for bar in bars:
        print(bar)
    return int(not all(bar.met for bar in bars))
