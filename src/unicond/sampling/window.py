"""When something is active: one type for everything that is on for a part of a run."""

from dataclasses import dataclass
from typing import Literal

from unicond.sampling.state import Move


@dataclass(frozen=True)
class Window:
    """Half open: active while `to_t < t <= from_t` (t falls during sampling).

    Args:
        from_t: upper end; with `by="steps"` the first move, with `by="share"` the first share of
            the way.
        to_t: lower end, excluded; moves and shares likewise.
        by: what is compared, the move's time, its number in the plan, or its share of the way
            (`Move.share`).

    >>> Window.steps(1, 4).active(Move({"image": 0.9}, {"image": 0.8}, number=3, count=10))
    True
    >>> Window.share(0, 0.3).active(Move({"image": 0.9}, {"image": 0.8}, shares={"image": 0.3}))
    False
    """

    from_t: float = 1.0
    to_t: float = -1.0
    by: Literal["time", "steps", "share"] = "time"

    def __post_init__(self) -> None:
        low, high = (self.to_t, self.from_t) if self.by == "time" else (self.from_t, self.to_t)
        if low > high:
            raise ValueError(f"the window {self} is empty: it ends before it begins")

    @staticmethod
    def steps(start: int, stop: int) -> "Window":
        """The moves start, start + 1, ..., stop - 1, counted from 0."""
        return Window(start, stop, "steps")

    @staticmethod
    def share(start: float, stop: float) -> "Window":
        """The moves whose share of the way is in [start, stop): what papers call steps' share.

        It is counted down the way of the branch that moves, from where it begins: not by time, nor
        by moves up.
        """
        return Window(start, stop, "share")

    def active(self, move: Move, branch: str | None = None) -> bool:
        """Whether the window holds at this move, for a branch (of which shares are counted)."""
        if self.by == "time":
            return self.to_t < move.time <= self.from_t
        position = move.number if self.by == "steps" else move.share(branch)
        return self.from_t <= position < self.to_t


ALWAYS = Window()
