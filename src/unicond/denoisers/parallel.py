"""Several models side by side in one run, each with branches and mechanisms of its own.

    state   {"image", "depth", "1:image", ...}      model 0: image, depth      model 1: image

A member sees the run as if it were alone: its branches have their own names, and its mechanisms
their own memory. One network call a member and step; a member none of whose branches moves is not
called at all, so that a plan stops a model by holding its branches.

Source of the idea: AMDM, arXiv:2410.01262 (n trajectories over one schedule).
"""

from collections.abc import Collection, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import cast

from torch import Tensor
from typing_extensions import override

from unicond.sampling.noise import NoiseSource
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, State


@dataclass(frozen=True, eq=False)
class Member:
    """One model of a run of several.

    Args:
        name: in front of its branches' names in the run; "" leaves them as they are.
        denoiser: of its branches by their own names.
        branches: their own names.
        noise: where its random draws come from.
        mechanisms: its own; the first is the outermost.
    """

    name: str
    denoiser: Denoiser
    branches: tuple[str, ...]
    noise: NoiseSource
    mechanisms: Sequence[Mechanism] = field(default=())

    def named(self, branch: str) -> str:
        """What the run calls one of its branches."""
        return f"{self.name}:{branch}" if self.name else branch

    def alone(self, state: State) -> State:
        """The run as the member sees it: its own branches, noise and memory."""
        here = {b: self.named(b) for b in self.branches if self.named(b) in state.latents}
        memory = state.memory.get(self._key)
        return State(
            {own: state.latents[branch] for own, branch in here.items()},
            {own: state.t[branch] for own, branch in here.items()},
            state.schedule,
            self.noise,
            cast(Mapping[str, object], memory or MappingProxyType({})),
        )

    def move(self, move: Move) -> Move:
        """A move of the run as the member sees it."""
        t, s = ({b: times[self.named(b)] for b in self.branches} for times in (move.t, move.s))
        names = {self.named(b): b for b in self.branches}
        shares = {names[b]: share for b, share in move.shares.items() if b in names}
        return replace(move, t=t, s=s, shares=shares)

    def move_back(self, move: Move) -> Move:
        """A move of the member by the run's names."""
        t, s = ({self.named(b): times[b] for b in self.branches} for times in (move.t, move.s))
        shares = {self.named(b): share for b, share in move.shares.items()}
        return replace(move, t=t, s=s, shares=shares)

    def back(self, found: State, state: State) -> State:
        """The run after the member has changed its part of it."""
        latents = dict(state.latents) | {self.named(b): v for b, v in found.latents.items()}
        t = dict(state.t) | {self.named(b): time for b, time in found.t.items()}
        return state.at(latents, t).remember(self._key, found.memory or None)

    def predictions(self, predictions: Predictions) -> Predictions:
        """Those of its branches, by their own names."""
        return {
            b: predictions[self.named(b)] for b in self.branches if self.named(b) in predictions
        }

    def predictions_back(self, found: Predictions) -> Predictions:
        """Its predictions by the run's names."""
        return {self.named(b): prediction for b, prediction in found.items()}

    @property
    def _key(self) -> str:
        return f"member {self.name}"


@dataclass(frozen=True, eq=False)
class Parallel(Mechanism):
    """The members of a run: its denoiser, and the mechanism that carries theirs.

    Args:
        members: with different names.
        restore: whether members put back what they know after a move. Where something is done to
            all of their states then, `Restored` does it, behind that.
    """

    members: Sequence[Member]
    restore: bool = True

    def __call__(
        self, state: State, variants: Sequence[Variant] = (Variant(),)
    ) -> list[Predictions]:
        """One prediction set a variant, of every member's branches in the state."""
        return _called([(member, member.denoiser) for member in self.members], state, variants)

    @override
    def check(self, setup: Setup) -> None:
        """Each member's mechanisms check the run as the member sees it."""
        for member in self.members:
            moves = [member.move(move) for move in setup.moves]
            Setup(member.alone(setup.state), moves, setup.solver, member.mechanisms).check()

    @override
    def displaces(self, move: Move) -> Collection[str]:
        return [
            member.named(branch)
            for member in self.members
            for mechanism in member.mechanisms
            for branch in mechanism.displaces(member.move(move))
        ]

    @override
    def begin(self, state: State) -> State:
        for member in self.members:
            state = begun(member, state)
        return state

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """Each member's denoiser in its own mechanisms; members that hold are left out."""
        asked: list[tuple[Member, Denoiser]] = []
        for member in self.members:
            if not _moves(member, move):
                continue
            own, mine = member.denoiser, member.move(move)
            for mechanism in reversed(member.mechanisms):
                own = mechanism.wrap(own, mine)
            asked.append((member, own))

        def wrapped(state: State, variants: Sequence[Variant] = (Variant(),)) -> list[Predictions]:
            return _called(asked, state, variants)

        return wrapped

    @override
    def revise(self, predictions: Predictions, state: State, move: Move) -> Predictions:
        revised = dict(predictions)
        for member in self.members:
            if not _moves(member, move):
                continue
            own, alone, mine = (
                member.predictions(predictions),
                member.alone(state),
                member.move(move),
            )
            for mechanism in member.mechanisms:
                own = mechanism.revise(own, alone, mine)
            revised |= member.predictions_back(own)
        return revised

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        for member in self.members:
            asked = [one for one in member.mechanisms if self.restore or not one.restores]
            state = _settled(member, asked, state, predictions, move)
        return state


@dataclass(frozen=True, eq=False)
class Restored(Mechanism):
    """Members put back what they know, once all that is done to their states together is done.

    Args:
        members: of a run of `Parallel(members, restore=False)`.
    """

    members: Sequence[Member]

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        for member in self.members:
            asked = [one for one in member.mechanisms if one.restores]
            state = _settled(member, asked, state, predictions, move)
        return state


def begun(member: Member, state: State) -> State:
    """Let a member begin from where it is in a run.

    Args:
        member: remembers nothing of what it began with before.
        state: of the run.

    Returns:
        The run, where its mechanisms have begun.
    """
    found = replace(member.alone(state), memory=MappingProxyType({}))
    for mechanism in member.mechanisms:
        found = mechanism.begin(found)
    return member.back(found, state)


def _settled(
    member: Member,
    asked: Sequence[Mechanism],
    state: State,
    predictions: Predictions,
    move: Move,
) -> State:
    """The run after some of a member's mechanisms have settled; one that holds is left alone."""
    if not _moves(member, move):
        return state
    found, own, mine = member.alone(state), member.predictions(predictions), member.move(move)
    for mechanism in asked:
        found = mechanism.settle(found, own, mine)
    return member.back(found, state)


def _moves(member: Member, move: Move) -> bool:
    """Whether any of a member's branches moves."""
    return bool(member.move(move).moving())


def _called(
    asked: Sequence[tuple[Member, Denoiser]], state: State, variants: Sequence[Variant]
) -> list[Predictions]:
    """Every member's predictions, by the run's names.

    Each is called in a context of its own: controls of one network do not look into another's.
    """
    found: list[dict[str, object]] = [{} for _ in variants]
    for member, denoiser in asked:
        said = Context().run(denoiser, member.alone(state), variants)
        for one, other in zip(found, said, strict=True):
            one.update(member.predictions_back(other))
    return cast("list[Predictions]", found)


@dataclass(frozen=True)
class MemberNoise:
    """The run's noise: each branch's from its member.

    Args:
        members: of the run.
    """

    members: Sequence[Member]

    def draw(self, branch: str, like: Tensor) -> Tensor:
        """Unit Gaussian noise of the shape, dtype and device of `like` (B, C, H, W)."""
        for member in self.members:
            for own in member.branches:
                if member.named(own) == branch:
                    return member.noise.draw(own, like)
        raise ValueError(f"no model of this run has the branch {branch!r}")
