"""Models that wait until the window begins, and join from where the first one is then.

Nothing is asked of them before: a window of k moves costs k calls of each, wherever it lies. What
they know themselves is put into the state that they join from, as at the start of a run.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from typing_extensions import override

from unicond.denoisers.parallel import Member, begun
from unicond.sampling.predictions import Predictions
from unicond.sampling.state import Mechanism, Move, State


@dataclass(frozen=True, kw_only=True)
class Joined(Mechanism):
    """All members but the first get the first one's state before a move, and begin from there.

    No network call. It stands behind what else changes the first one's state.

    Args:
        members: the others hold until then, at the time of that move.
        branch: that they get, by their own name of it.
        number: of the move.
    """

    members: Sequence[Member]
    branch: str
    number: int

    @override
    def displaces(self, move: Move) -> Collection[str]:
        joining = self.members[1:] if move.number == self.number - 1 else ()
        return [member.named(self.branch) for member in joining]

    @override
    def begin(self, state: State) -> State:
        return self._joined(state) if self.number == 0 else state

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Join after the move before."""
        return self._joined(state) if move.number == self.number - 1 else state

    def _joined(self, state: State) -> State:
        first, *others = self.members
        here = state.latents[first.named(self.branch)]
        branches = [member.named(self.branch) for member in others]
        state = state.at({**state.latents, **dict.fromkeys(branches, here)}, state.t)
        for member in others:
            state = begun(member, state)
        return state
