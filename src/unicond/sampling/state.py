"""What a run is made of: the frozen state, the moves that change it, the seams of conditions."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, Protocol

from torch import Tensor

from unicond.sampling.noise import NoiseSource
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.schedules import NoiseSchedule

Latents = Mapping[str, Tensor]
Times = Mapping[str, float]


@dataclass(frozen=True)
class State:
    """Everything that changes during a run.

    Args:
        latents: {branch: (B, C, H, W)}, float32, each at noise level `t[branch]`.
        t: {branch: time in [0, 1]}.
        schedule: the noise schedule that all branches share.
        noise: where random draws come from.
        memory: what solvers and mechanisms must remember, under a key of their own.
    """

    latents: Latents
    t: Times
    schedule: NoiseSchedule
    noise: NoiseSource
    memory: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def at(self, latents: Latents, t: Times) -> "State":
        """The same run at other latents and times."""
        return replace(self, latents=latents, t=t)

    def remember(self, key: str, value: object) -> "State":
        """The same state with one memory changed; None forgets it."""
        kept = {name: kept for name, kept in self.memory.items() if name != key}
        return replace(
            self, memory=MappingProxyType(kept if value is None else {**kept, key: value})
        )

    def scales(self, branch: str) -> tuple[float, float]:
        """`(alpha, sigma)` of a branch at its present time."""
        return self.schedule.alpha(self.t[branch]), self.schedule.sigma(self.t[branch])


@dataclass(frozen=True)
class Move:
    """Where every branch is and where it goes.

    `s < t` denoises, `s == t` holds, `s > t` inverts; `kind="renoise"` goes up by the forward
    kernel.

    Args:
        t: {branch: present time}.
        s: {branch: next time}.
        kind: along the model's own flow, or by adding noise.
        number: position in the plan, from 0.
        count: number of moves in the plan.
    """

    t: Times
    s: Times
    kind: Literal["step", "renoise"] = "step"
    number: int = 0
    count: int = 1

    def moving(self) -> tuple[str, ...]:
        """The branches that change their time."""
        return tuple(branch for branch in self.t if self.s[branch] != self.t[branch])

    @property
    def time(self) -> float:
        """The noisiest present time among the branches that move (among all, if none does)."""
        return max(self.t[branch] for branch in self.moving() or self.t)

    @contextmanager
    def active(self) -> Generator["Move"]:
        """Make this the `current_move()` inside the block."""
        token = _CURRENT.set(self)
        try:
            yield self
        finally:
            _CURRENT.reset(token)


_CURRENT: ContextVar[Move | None] = ContextVar("unicond_move", default=None)


def current_move() -> Move | None:
    """The move that is being made, for what acts inside a network for a while; None if untold."""
    return _CURRENT.get()


class Denoiser(Protocol):
    """All branches in, all predictions out, in one network call."""

    def __call__(
        self, state: State, variants: Sequence[Variant] = (Variant(),)
    ) -> list[Predictions]:
        """The predictions at the state's latents and times, one set for each variant."""
        ...


Predict = Callable[[State], Predictions]


class Solver(Protocol):
    """A pure step from `move.t` to `move.s`."""

    def step(self, predict: Predict, state: State, move: Move) -> tuple[State, Predictions]:
        """The state at `move.s`, and the predictions made at `move.t`; held branches untouched."""
        ...


class Mechanism:
    """One conditioning method: override the seams it uses. Mechanisms hold parameters only.

    `begin` sets the start state (inversion), `wrap` changes how the denoiser is called (attention,
    blending), `revise` changes predictions (process, guidance), `settle` the state after the step
    (correction, aggregation).
    """

    def begin(self, state: State) -> State:
        """The state that the run starts from."""
        return state

    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """The denoiser to use during this move."""
        return denoiser

    def revise(self, predictions: Predictions, state: State, move: Move) -> Predictions:
        """The predictions that the solver is handed; `state` is the one that they were made at."""
        return predictions

    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """The state after the move."""
        return state
