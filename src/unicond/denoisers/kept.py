"""What a denoiser keeps from call to call: the words, and held branches, whose rows do not change.

A branch that does not move and looks at nothing (or receives nothing) has rows that depend on
nothing that changes. They run once; from then on each call has only the rows of the others, which
look at the keys and values that every layer kept. The numbers are those of recomputed rows. With
`refresh` rows that do change are kept too, for some calls: an approximation.

The words of a run do not change at all: they are gathered once for each layout of rows, and the
layers keep the keys and values that they make of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from unicond.sampling.predictions import Predictions
from unicond.sampling.prompts import Prompt
from unicond.sampling.rows import Memory, Variant
from unicond.sampling.state import State

Variants = tuple[Variant, ...]


@dataclass
class Kept:
    """One recorded call.

    Args:
        latents: {held branch: its latents then}.
        t: {held branch: its time then}.
        memory: what the layers kept.
        predictions: {variant: predictions of the held branches}.
        age: how many calls have read it.
    """

    latents: Mapping[str, Tensor]
    t: Mapping[str, float]
    memory: Memory = field(default_factory=Memory)
    predictions: Mapping[Variant, Predictions] = field(default_factory=dict)
    age: int = 0

    def fits(self, state: State) -> bool:
        """Whether the held branches are still what they were, the very same tensors."""
        return all(
            state.latents[branch] is latents and state.t[branch] == self.t[branch]
            for branch, latents in self.latents.items()
        )


@dataclass(frozen=True)
class Words:
    """The words of the rows of a call.

    Args:
        prompt: of all rows, gathered.
        memory: what the layers keep of them; None where they change from call to call.
    """

    prompt: Prompt
    memory: Memory | None = None


@dataclass(frozen=True)
class Keeper:
    """Which branches are kept, and the calls that were recorded, one for each set of variants.

    What a denoiser returns does not depend on it, but for rounding, and for the age that `refresh`
    allows.

    Args:
        branches: the held branches whose rows are kept.
        refresh: calls that a recording serves, itself counted; None is without end.
    """

    branches: frozenset[str] = frozenset()
    refresh: int | None = None
    _calls: dict[Variants, Kept] = field(default_factory=dict, repr=False, compare=False)

    def fresh(self) -> "Keeper":
        """The same branches, and nothing recorded."""
        return Keeper(self.branches, self.refresh)

    def recall(self, state: State, variants: Variants) -> Kept | None:
        """The recording that serves this call, if there is one."""
        kept = self._calls.get(variants)
        if kept is None or not kept.fits(state):
            return None
        kept.age += 1
        return None if self.refresh is not None and kept.age >= self.refresh else kept

    def begin(self, state: State, variants: Variants) -> Kept | None:
        """A new recording, in the place of an older one; None if nothing is to be kept."""
        held = {b: state.latents[b] for b in state.latents if b in self.branches}
        if not held or any(latents.requires_grad for latents in held.values()):
            return None
        self._calls[variants] = Kept(held, {branch: state.t[branch] for branch in held})
        return self._calls[variants]
