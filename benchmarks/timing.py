"""Comparing speeds on a machine that does other things too.

A lone time says as much about the machine as about the code. So the candidates take turns, every
round runs each of them once, and what counts is the median over the rounds of the ratio *within* a
round: what slows the machine down slows both sides.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Ratio:
    """How much longer one candidate takes than another.

    Attributes:
        name: what is compared, e.g. "pair / two plain rows".
        median: over the rounds.
        low: the least round.
        high: the greatest round.
    """

    name: str
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.name:<48} {self.median:6.2f}  ({self.low:.2f} to {self.high:.2f})"


def interleave(
    candidates: Mapping[str, Callable[[], object]], rounds: int = 5, least: float = 0.3
) -> dict[str, list[float]]:
    """Run all candidates in turn, after one round to warm up.

    Args:
        candidates: {name: what to run}.
        rounds: how often each is timed.
        least: seconds that a timing shall last; short candidates are repeated within it, all
            equally often.

    Returns:
        {name: seconds a run in each round}.

    Raises:
        ValueError: nothing to run, or no round.
    """
    if not candidates or rounds < 1:
        raise ValueError(f"{len(candidates)} candidates in {rounds} rounds: give 1 or more of both")
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    shortest = min(_timed(run, 1) for run in candidates.values())
    times = max(1, round(least / max(shortest, 1e-6)))
    for _ in range(rounds):
        for name, run in candidates.items():
            seconds[name].append(_timed(run, times))
    return seconds


def ratio(seconds: Mapping[str, list[float]], one: str, other: str, name: str = "") -> Ratio:
    """Time of one candidate over that of another, round by round.

    Args:
        seconds: what `interleave` returned.
        one: the numerator.
        other: the denominator.
        name: of the ratio; default both names.

    Returns:
        Median and range over the rounds.
    """
    rounds = [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
    title = name or f"{one} / {other}"
    return Ratio(title, statistics.median(rounds), min(rounds), max(rounds))


def _timed(run: Callable[[], object], times: int) -> float:
    """Seconds a run, over several; an accelerator is waited for."""
    _wait()
    started = time.perf_counter()
    for _ in range(times):
        run()
    _wait()
    return (time.perf_counter() - started) / times


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
