"""How long a training lasts, and the learning rate as a function of the share that is spent.

A budget is a number of optimiser steps or of minutes. On a slow or shared machine nobody knows
how many steps fit into an evening, so the learning rate follows the *share* of the budget: a
linear warm-up, a flat part, half a cosine down to 1 % of the peak. What would come apart at its
peak rate in the long run has a `head` at the peak, and a share of it after that.
"""

import math
from dataclasses import dataclass

FLOOR = 0.01
"""The learning rate ends at this share of its peak."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Exactly one of the two ways to say how long.

    Args:
        minutes: wall-clock minutes of training steps (validation and saving not counted).
        steps: optimiser steps; the only kind that resumes bit for bit.
        warmup: share of the budget in which the learning rate rises from 0.
        flat: share of the budget at which the cosine begins.
        head: share of the budget after which every rate is `rest` of what it would be.
        rest: in (0, 1].

    >>> Budget(steps=100, warmup=0.1, flat=0.5).rate(5, 0.0)
    0.5
    """

    minutes: float | None = None
    steps: int | None = None
    warmup: float = 0.03
    flat: float = 0.4
    head: float = 0.0
    rest: float = 1.0

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("a budget is either minutes or steps; give exactly one of them")
        if (self.minutes if self.steps is None else self.steps) <= 0:  # type: ignore[operator]
            raise ValueError(f"a budget of {self} lasts no time; give a positive number")
        if not 0 <= self.warmup <= self.flat <= 1:
            raise ValueError(
                f"shares must be ordered 0 <= warmup <= flat <= 1, got {self.warmup}, {self.flat}"
            )
        if not 0 <= self.head <= 1 or not 0 < self.rest <= 1:
            raise ValueError(
                f"head must be in [0, 1] and rest in (0, 1], got {self.head}, {self.rest}"
            )

    def share(self, step: int, seconds: float) -> float:
        """The share that is spent after `step` steps and `seconds` of training, in [0, 1]."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.minutes is not None
        return min(1.0, seconds / (60 * self.minutes))

    def rate(self, step: int, seconds: float) -> float:
        """What the peak learning rate is multiplied by, in [0, 1]."""
        share = self.share(step, seconds)
        peak = self.rest if share > self.head else 1.0
        if share < self.warmup:
            return peak * max(share, 1e-3) / self.warmup
        if share <= self.flat:
            return peak
        fall = (share - self.flat) / (1 - self.flat)
        return peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * fall)))
