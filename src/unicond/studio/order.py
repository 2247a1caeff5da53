"""What a worker is started with."""

from dataclasses import dataclass

from pydantic import TypeAdapter

from unicond.studio.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is started with.

    Args:
        name: of the worker, which no other one had or will have.
        device: where its models are.
        settings: of the server, without its keys.
    """

    name: str
    device: str | None
    settings: Settings


ORDER = TypeAdapter(Order)
