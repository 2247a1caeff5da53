"""What a run is made of: the frozen state, the moves that change it, the seams of conditions."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import takewhile
from types import MappingProxyType
from typing import ClassVar, Literal, Protocol, TypeVar, cast, runtime_checkable

from torch import Tensor

from unicond.sampling.noise import NoiseSource
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.schedules import NoiseSchedule

Latents = Mapping[str, Tensor]
Times = Mapping[str, float]
_REPORTS = "reports"


@dataclass(frozen=True, eq=False)
class Report:
    """What a mechanism has to say of its run, beside the pictures.

    Args:
        value: (B,), how far each sample is from what the mechanism promises.
        tolerance: up to which that counts as kept; inf promises nothing.
        what: the value's name.
        advice: what it means where it is larger, and what to do.
    """

    value: Tensor
    tolerance: float
    what: str
    advice: str

    def missed(self) -> list[int]:
        """The samples whose value is above the tolerance, or no number."""
        return [n for n, one in enumerate(self.value) if not float(one) <= self.tolerance]


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

    def report(self, who: str, said: Report) -> "State":
        """The same state with what a mechanism reports, in the place of what it said before."""
        return self.remember(_REPORTS, MappingProxyType({**self.reports, who: said}))

    @property
    def reports(self) -> Mapping[str, Report]:
        """{mechanism: its report}."""
        return cast(Mapping[str, Report], self.memory.get(_REPORTS) or {})

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
        shares: {branch that moves: how much of its way down is behind it, in [0, 1)} (`numbered`).
    """

    t: Times
    s: Times
    kind: Literal["step", "renoise"] = "step"
    number: int = 0
    count: int = 1
    shares: Mapping[str, float] = field(default_factory=dict[str, float])

    def moving(self) -> tuple[str, ...]:
        """The branches that change their time."""
        return tuple(branch for branch in self.t if self.s[branch] != self.t[branch])

    def falls(self, branch: str) -> bool:
        """Whether a branch goes down; one that is not there does not."""
        return branch in self.t and self.s[branch] < self.t[branch]

    def rises(self, branch: str) -> bool:
        """Whether a branch goes up, along the flow or by noise; one that is not there does not."""
        return branch in self.t and self.s[branch] > self.t[branch]

    def share(self, branch: str | None = None) -> float:
        """How much of its way down is behind a branch; None: the one with most of it ahead."""
        behind = self.shares if branch is None else {branch: self.shares.get(branch, 0.0)}
        return min(behind.values(), default=0.0)

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


def numbered(plan: Sequence[Move]) -> list[Move]:
    """The moves of a plan with their number, count and shares.

    A branch's way down has as many levels as there are noisy ends among its moves along the flow:
    what is gone several times counts once, and a move up has the share of the one that leads down
    again.

    >>> up_and_down = [Move({"image": t}, {"image": s}) for t, s in ((0, 1), (1, 0.5), (0.5, 0))]
    >>> [move.share("image") for move in numbered(up_and_down)]
    [0.0, 0.0, 0.5]
    """
    levels: dict[str, set[float]] = {}
    for move in plan:
        for branch in move.moving() if move.kind == "step" else ():
            levels.setdefault(branch, set()).add(max(move.t[branch], move.s[branch]))

    def behind(move: Move, branch: str) -> float:
        here, way = max(move.t[branch], move.s[branch]), levels[branch]
        return sum(level > here for level in way) / len(way)

    return [
        replace(
            move,
            number=number,
            count=len(plan),
            shares={b: behind(move, b) for b in move.moving() if b in levels},
        )
        for number, move in enumerate(plan)
    ]


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


Sight = Literal["part", "whole", "network"]
"""What a mechanism must see to act: any window of the picture, all of it, or the network's inside
at all of it."""


class Mechanism:
    """One conditioning method: override the seams it uses. Mechanisms hold parameters only.

    `begin` sets the start state (inversion), `wrap` changes how the denoiser is called (attention,
    blending), `revise` changes predictions (process, guidance), `settle` the state after the step
    (correction, aggregation).

    The other three are asked before anything runs: `check` refuses a run that cannot be,
    `displaces` and `sees` tell the others' checks what this one does.
    """

    restores: ClassVar[bool] = False
    """Whether `settle` puts back what is known, into whatever the state is: it comes last."""

    @property
    def starts(self) -> Collection[str]:
        """The branches whose start `begin` makes of what it holds: they may start part-way."""
        return ()

    def check(self, setup: "Setup") -> None:
        """Raise ValueError where plan, solver, shapes or the other mechanisms rule this one out."""

    def displaces(self, move: Move) -> Collection[str]:
        """The branches that this move leaves elsewhere than the solver's step: nudged or mended."""
        return ()

    def sees(self, move: Move) -> Sight:
        """What it must see in this move."""
        return "part"

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


@runtime_checkable
class Checks(Protocol):
    """Of a solver, too, that does not take every plan, or every mechanism beside it."""

    def check(self, setup: "Setup") -> None:
        """Raise ValueError where the run cannot be."""
        ...


Other = TypeVar("Other", bound=Mechanism)


@dataclass(frozen=True)
class Setup:
    """A run before its first move: all that is known before the network is asked.

    Args:
        state: where it starts, before any mechanism's `begin`.
        moves: the plan, numbered.
        solver: makes the steps.
        mechanisms: outermost first.
    """

    state: State
    moves: Sequence[Move]
    solver: Solver
    mechanisms: Sequence[Mechanism]

    def check(self) -> None:
        """Raise ValueError where the plan jumps, or the solver or a mechanism refuses the run."""
        t = self.state.t
        for move in self.moves:
            _check_joins(t, move)
            t = move.s
        for part in (self.solver, *self.mechanisms):
            if isinstance(part, Checks):
                part.check(self)

    def goes_around(
        self,
        mechanism: Mechanism,
        others: tuple[type[Other], ...],
        meets: Callable[[Other, Move], bool],
        why: str,
    ) -> None:
        """Raise ValueError where a mechanism stands inside of one that it has to go around.

        Args:
            mechanism: that acts.
            others: what may not stand before it in the list, around it.
            meets: whether another one and the mechanism act in a move.
            why: what comes of it, for the message.
        """
        for other in takewhile(lambda one: one is not mechanism, self.mechanisms):
            if isinstance(other, others) and any(meets(other, move) for move in self.moves):
                who, around = type(mechanism).__name__, type(other).__name__
                raise ValueError(
                    f"{who} stands inside of {around}, {why}: put {who} before {around} in the "
                    "list of mechanisms (the first is the outermost)"
                )

    def needs_motion(self, mechanism: Mechanism, branch: str, noisy: bool = False) -> None:
        """Raise ValueError where a mechanism would do nothing, since its branch never moves.

        Args:
            mechanism: that acts.
            branch: on which.
            noisy: whether a branch that is held above t = 0 will do: its prediction changes with
                what it looks at.
        """
        held = all(branch in m.t and m.s[branch] == m.t[branch] for m in self.moves)
        if not self.moves or not held or (noisy and self.moves[0].t[branch] > 0):
            return
        moving = dict.fromkeys(b for move in self.moves for b in move.moving())
        raise ValueError(
            f"{type(mechanism).__name__} acts on branch {branch!r}, which this run holds at "
            f"t={self.moves[0].t[branch]:g} from beginning to end, so that it would do nothing: "
            f"name a branch that moves ({', '.join(moving) or 'none does'}), let the plan move "
            f"{branch!r}, or leave it out"
        )


def _check_joins(t: Times, move: Move) -> None:
    for branch, here in t.items():
        if move.t.get(branch) != here or branch not in move.s:
            raise ValueError(
                f"branch {branch!r} is at t={here:.4f} but move {move.number} starts at "
                f"{move.t.get(branch)}; "
                "plans must name every branch and be continuous (see plans.segments)"
            )
        if move.kind == "renoise" and move.s[branch] < here:
            raise ValueError(
                f"branch {branch!r} would be renoised down, from {here} to {move.s[branch]}"
            )
