"""What edits by attention share: a source and a target that walk side by side.

Both are branches of one run, each with its own prompt, at the same time in every move, so that the
source's queries, keys, maps and features of that very time are in the same network call. The target
starts where the source does: at the start of the run, and, where the plan first goes up (inversion
of a given picture), at its top.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from typing_extensions import override

from unicond.sampling.controls import Control, acting
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, State

Span = tuple[float, float]
"""A share [start, stop) of the layers of a kind in the decoder, in running order."""


@dataclass(frozen=True, kw_only=True)
class Edit(Mechanism):
    """A target that is drawn as its prompt says, with something of the source.

    The target's rows are one more sample's in every network call. Mechanisms that change the
    source's latents after a step (inversion) go before it.

    Args:
        source: the branch that is read.
        target: the branch that is written.

    Raises:
        ValueError: both are the same.
    """

    source: str = "source"
    target: str = "target"

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ValueError(
                f"source and target are both {self.source!r}; an edit needs two branches, each "
                "with its own prompt"
            )

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a target that is held, and a source that is elsewhere."""
        setup.needs_motion(self, self.target)
        for move in setup.moves:
            if {self.source, self.target} <= move.t.keys() and self._falls(move):
                check_times(move, self.source, self.target)

    @override
    def begin(self, state: State) -> State:
        """The target starts where the source does."""
        for branch in (self.source, self.target):
            if branch not in state.latents:
                raise ValueError(f"no branch {branch!r} in this run; it has {sorted(state.t)}")
        return self._started(state)

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """While the plan goes up, the target follows the source."""
        went_up = move.rises(self.source)
        return self._started(state) if went_up else state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Let the controls into the network's call, where the target goes down."""
        if not self._falls(move) or not self.acts(move):
            return denoiser

        def controlled(
            state: State, variants: Sequence[Variant] = (Variant(),)
        ) -> list[Predictions]:
            with acting(*self.controls(state, move)):
                return denoiser(state, variants)

        return controlled

    @abstractmethod
    def acts(self, move: Move) -> bool:
        """Whether anything is done in this move; if not, the network runs as without it."""

    @abstractmethod
    def controls(self, state: State, move: Move) -> Sequence[Control]:
        """What is done inside the network's call of a move, in this order."""

    def start(self, state: State) -> Tensor:
        """The target's latents (B, C, H, W) where it starts."""
        return state.latents[self.source]

    def _falls(self, move: Move) -> bool:
        return move.falls(self.target)

    def _started(self, state: State) -> State:
        return replace(state, latents={**state.latents, self.target: self.start(state)})


def check_times(move: Move, looked_at: str, target: str) -> None:
    """Raise ValueError unless a branch that is looked at is where the target is."""
    if move.t[looked_at] != move.t[target]:
        raise ValueError(
            f"{looked_at!r} is at t={move.t[looked_at]:.4f} and {target!r} at "
            f"{move.t[target]:.4f}; both need the same times in the plan"
        )


def check_span(name: str, span: Span) -> None:
    """Raise ValueError where a span of layers is not in [0, 1]."""
    if not 0.0 <= span[0] <= span[1] <= 1.0:
        raise ValueError(f"{name} is {span}; give shares 0 <= start <= stop <= 1 of the layers")
