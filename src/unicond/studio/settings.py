"""What a server serves, where it keeps it, and what it refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from unicond.pictures.checks import MAX_PROMPT

MEBI = 2**20
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask for; more is refused.

    Args:
        body: bytes of a request.
        body_seconds: within which a request must have arrived.
        pixels: of a picture that is given, and of one that is made.
        side: of a picture that is given, in pixels.
        aspect: longer side by shorter side of a picture that is given.
        pictures: that a job gives.
        steps: of a job; also iterations of an optimiser in each.
        count: samples of a job; also noises that an estimate is the mean of.
        prompt: characters.
        seconds: that a job may run; it is stopped after the move in which they end.
        waiting: jobs in the queue.
        waiting_each: jobs of one client in the queue.
        rate: jobs a minute of one client, on average.
        burst: jobs that a client may send at once.
        streams: answers of one client that wait or stream at the same time.
        free: bytes of the disk that stay free.

    Raises:
        ValueError: one is below 0, or the rate, for which clients would wait for ever, is 0.
    """

    body: int = 32 * MEBI
    body_seconds: float = 60.0
    pixels: int = 16 * MEBI
    side: int = 16_384
    aspect: float = 16.0
    pictures: int = 16
    steps: int = 200
    count: int = 16
    prompt: int = MAX_PROMPT - 1
    seconds: float = 1800.0
    waiting: int = 1000
    waiting_each: int = 100
    rate: float = 600.0
    burst: int = 100
    streams: int = 32
    free: int = 64 * MEBI

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError("the limit rate is to be above 0")
        for one in fields(self):
            if not getattr(self, one.name) >= 0:
                raise ValueError(f"the limit {one.name} is to be at least 0")


def limits_of(told: Sequence[tuple[str, str]]) -> Limits:
    """Limits, some of which are told as texts.

    Args:
        told: (name, number) of each.

    Returns:
        All of them.

    Raises:
        ValueError: no name of a limit, or no number that it can be.
    """
    names = [one.name for one in fields(Limits)]
    for name, text in told:
        if name not in names:
            raise ValueError(f"there is no limit {name!r}; there are {', '.join(names)}")
        try:
            _LIMITS.validate_python({name: text})
        except ValidationError as error:
            raise ValueError(f"the limit {name}={text}: {error.errors()[0]['msg']}") from None
    return _LIMITS.validate_python(dict(told))


_LIMITS = TypeAdapter(Limits)


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How long what was made is kept.

    Args:
        seconds: after its end a job is removed with its pictures.
        bytes: of all pictures, given and made; the oldest ended jobs are removed first.
        copy_seconds: after which the page's copies of pictures are removed.
        copy_bytes: of these copies; the oldest are removed first.
        every: seconds between two looks.
    """

    seconds: float = 7 * 24 * 3600.0
    bytes: int = 10 * 1024 * MEBI
    copy_seconds: float = 24 * 3600.0
    copy_bytes: int = 1024 * MEBI
    every: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model that may be asked for.

    Args:
        base: what `unicond.load` takes.
        adapters: names, folders, hub ids; `BRANCH=where` renames a branch.
        dtype: of the network; None is what suits the device.
    """

    base: str
    adapters: tuple[str, ...] = ()
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that `create_app` needs.

    Args:
        data: folder of the queue and of all pictures; made if missing, one server at a time.
        models: {name in requests: what it is}; the first is the default.
        devices: one worker for each; None is CUDA where there is one, else the CPU.
        engine: what workers are: processes of this machine, or replicas of Ray Serve.
        rows: samples that a worker makes at once, of several jobs where they go together.
        keys: {name of a client: SHA-256 of its key in hexadecimal}; without any, all are let in.
        hosts: names by which the server may be called; none is any.
        limits: of requests.
        keeping: of what was made.
        log_prompts: prompts go to the log, too.
        page: there is a page for people, too.
    """

    data: Path
    models: Mapping[str, Served]
    devices: tuple[str | None, ...] = (None,)
    engine: Literal["local", "ray"] = "local"
    rows: int = 8
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    hosts: tuple[str, ...] = ()
    limits: Limits = Limits()
    keeping: Keeping = Keeping()
    log_prompts: bool = False
    page: bool = True
