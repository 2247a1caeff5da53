"""What workers are, as the supervisor needs it: processes (`processes`), or Ray's (`on_ray`)."""

from typing import Protocol

from unicond.studio.channel import Event
from unicond.studio.order import Order


class Link(Protocol):
    """A worker, as the server reaches it."""

    async def told(self) -> Event | None:
        """The next thing that it tells; None when it has ended."""
        ...

    def send(self, line: str) -> None:
        """Send a line (see `channel`), unless it has ended."""
        ...

    def close(self) -> None:
        """Have it end."""
        ...

    def kill(self) -> None:
        """End it, whatever it does; called in a thread."""
        ...

    async def ended(self) -> str:
        """Wait until it has ended, and say how."""
        ...


class Engine(Protocol):
    """Starts workers."""

    def open(self) -> None:
        """Get what workers need; called once, in a thread.

        Raises:
            ValueError: it cannot be had.
        """
        ...

    async def start(self, order: Order) -> Link:
        """Start a worker.

        Args:
            order: what it is started with.

        Returns:
            The worker, which tells when it is ready.
        """
        ...

    def close(self) -> None:
        """Let go of what `open` got; called in a thread."""
        ...
