"""Models that wait until the window begins, and join from where the first one is then.

Nothing is asked of them before: a window of k moves costs k calls of each, wherever it lies.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from typing_extensions import override

from unicond.sampling.predictions import Predictions
from unicond.sampling.state import Mechanism, Move, State


@dataclass(frozen=True, kw_only=True)
class Joined(Mechanism):
    """All branches but the first get the first one's state before a move. No network call.

    Args:
        branches: of the models; the others hold until then, at the time of that move.
        number: of the move.
    """

    branches: Sequence[str]
    number: int

    @override
    def displaces(self, move: Move) -> Collection[str]:
        return self.branches[1:] if move.number == self.number - 1 else ()

    @override
    def begin(self, state: State) -> State:
        return self._joined(state) if self.number == 0 else state

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Join after the move before."""
        return self._joined(state) if move.number == self.number - 1 else state

    def _joined(self, state: State) -> State:
        here = state.latents[self.branches[0]]
        return state.at({**state.latents, **dict.fromkeys(self.branches, here)}, state.t)
