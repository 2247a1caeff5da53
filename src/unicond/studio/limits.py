"""What may be asked for: the size of a job, and how many a client may send."""

import time
from collections.abc import Callable

from unicond.calls.request import seeds_of
from unicond.studio.settings import Limits
from unicond.tasks.forms import Aggregate, AnyForm, Generate

MODELS = 8
"""Of one picture; the network runs once for each in every move."""
FORGOTTEN = 10_000
"""Clients whose rates are remembered."""


class Refused(ValueError):
    """More is asked for than this server gives."""


def rows_of(form: AnyForm) -> int:
    """How many samples a form asks for.

    Args:
        form: any.

    Returns:
        At least 1.

    Raises:
        ValueError: seeds and count that do not fit together.
    """
    if isinstance(form, Generate):
        seed = form.seed if isinstance(form.seed, int) else list(form.seed)
        return len(seeds_of(seed, form.count, {}))
    return form.count


def check(form: AnyForm, limits: Limits) -> None:
    """Refuse a form that asks for too much.

    Args:
        form: any; its pictures are not looked at.
        limits: what is given.

    Raises:
        Refused: it does.
    """
    count = form.count or 1
    if count > limits.count or rows_of(form) > limits.count:
        raise Refused(f"count is {max(count, rows_of(form))}; at most {limits.count} are made")
    if isinstance(form, Generate) and (form.ensemble_size or 1) > limits.count:
        raise Refused(f"ensemble_size is {form.ensemble_size}; at most {limits.count} are averaged")
    if isinstance(form, Aggregate) and len(form.model) > MODELS:
        raise Refused(f"model lists {len(form.model)}; at most {MODELS} are mixed")
    for name, number in (("steps", form.steps), *_iterations(form)):
        if number is not None and number > limits.steps:
            raise Refused(f"{name} is {number}; at most {limits.steps} are made")
    if form.size is not None:
        height, width = (form.size, form.size) if isinstance(form.size, int) else form.size
        if height * width > limits.pixels:
            raise Refused(f"size is {height} x {width}; at most {limits.pixels} pixels are made")
    for name, text in (("prompt", form.prompt), ("negative_prompt", form.negative_prompt)):
        if len(text) > limits.prompt:
            raise Refused(f"{name} has {len(text)} characters; at most {limits.prompt} are taken")


def _iterations(form: AnyForm) -> list[tuple[str, int | None]]:
    if not isinstance(form, Generate):
        return []
    return [("reconstruction_iterations", form.reconstruction_iterations)]


class Rates:
    """How many jobs a minute each client sends: a bucket of `burst`, filled at `rate` a minute.

    Args:
        rate: jobs a minute.
        burst: jobs at once.
        clock: tells seconds.
    """

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate / 60, burst, clock
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, user: str) -> float:
        """Count a job.

        Args:
            user: who sends it.

        Returns:
            0.0, or the seconds until the client may send one.
        """
        now = self._clock()
        left, then = self._left.get(user, (float(self._burst), now))
        left = min(float(self._burst), left + (now - then) * self._rate)
        if left < 1:
            self._left[user] = (left, now)
            return (1 - left) / self._rate
        if len(self._left) >= FORGOTTEN:
            self._left.clear()
        self._left[user] = (left - 1, now)
        return 0.0
