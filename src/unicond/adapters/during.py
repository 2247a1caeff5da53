"""An adapter that is in the network while a move's calls are made, as a mechanism of the run.

Because it stands around one model's calls alone, models that share a network can each have their
own (`aggregation`).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import override

from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Sight, State


class Attachable(Protocol):
    """An adapter with what one run gives it."""

    def active(self) -> AbstractContextManager[None]:
        """It is in its network, inside the block."""
        ...

    def acts(self, move: Move) -> bool:
        """Whether it does anything in a move's calls."""
        ...


@dataclass(frozen=True, eq=False)
class Attached(Mechanism):
    """An adapter acts in a model's calls. No further network call, no random draw.

    Args:
        attachment: adapter, inputs and windows.
    """

    attachment: Attachable

    @override
    def sees(self, move: Move) -> Sight:
        return "network"

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        def called(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            with move.active(), self.attachment.active():
                return denoiser(state, variants)

        return called
