"""A grounding adapter in a run: it is in the network while a move's calls are made.

Because it stands around one model's calls alone, models that share a network can each have their
own (`aggregation`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import override

from unicond.adapters.grounding.attach import Attachment
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Sight, State


@dataclass(frozen=True, eq=False)
class Grounded(Mechanism):
    """Things are drawn where a grounding says. No further network call, no random draw.

    Args:
        attachment: adapter, inputs and windows.
    """

    attachment: Attachment

    @override
    def sees(self, move: Move) -> Sight:
        return "network"

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        def grounded(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            with move.active(), self.attachment.active():
                return denoiser(state, variants)

        return grounded
