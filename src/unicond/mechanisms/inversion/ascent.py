"""What all methods that walk up share: whose words, who rides along, and what is remembered.

On the way up the target *is* the source. It has no rows of its own in the network, is given the
source's predictions, and so takes the same steps; at the turn both are the same latents. The way is
remembered (`trajectory`), so that other methods can lead back to it.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import cast

from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.inversion.paths import rises
from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Mechanism, Move, Setup, State

_KEY = "inversion"


@dataclass(frozen=True, kw_only=True)
class Ascent(Mechanism):
    """The way up of an inversion; goes before guidance and attention. No random draw.

    Args:
        source: the branch that holds the given picture, (B, C, H, W), and is inverted.
        target: the branch that rides along, to be edited on the way down; None if there is none
            (the source itself is edited, or only reconstructed).
        prompt: name of the prompt on the way up, in the place of `"positive"`. Two branches have
            words of their own under one name; one branch alone needs a second name.
        guided: whether guidance acts on the way up; methods other than EDICT want it off.
    """

    source: str = "source"
    target: str | None = "target"
    prompt: str = "positive"
    guided: bool = False

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ValueError(
                f"source and target are both {self.source!r}; give two branches, or target=None"
            )

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a source that does not go up: nothing would be inverted."""
        setup.needs_motion(self, self.source)
        known = self.source in setup.state.t
        if known and setup.moves and not any(rises(move, self.source) for move in setup.moves):
            raise ValueError(
                f"{type(self).__name__} inverts {self.source!r}, but no move of this plan takes it "
                "up along the flow: use the plan of inversion.paths.up_and_down"
            )

    @override
    def begin(self, state: State) -> State:
        """Put the source's picture into the target, and begin to remember the way."""
        if self.source not in state.latents:
            raise ValueError(
                f"branch {self.source!r} is to be inverted, but the branches of this run are "
                f"{', '.join(state.latents)}"
            )
        if trajectory(state):
            raise ValueError(
                f"{type(self).__name__} is a second inversion in this run, and the way up is one: "
                "keep one of them (what else goes up is carried by the same moves)"
            )
        state = follow(state, self.source, self.target)
        return self._remember(state, {}, state.t[self.source])

    @override
    def wrap(self, denoiser: Denoiser, move: Move) -> Denoiser:
        """On the way up: the source alone, under its own prompt; on the way down nothing."""
        if not rises(move, self.source):
            return denoiser

        def ascending(
            state: State, variants: Sequence[Variant] = (Variant(),)
        ) -> list[Predictions]:
            rest = {b: v for b, v in state.latents.items() if b != self.target}
            alone = state.at(rest, {branch: state.t[branch] for branch in rest})
            found = self.upward(denoiser, alone, move, [self._asked(v) for v in variants])
            if self.target is None:
                return found
            return [{**one, self.target: one[self.source]} for one in found]

        return ascending

    @abstractmethod
    def upward(
        self, denoiser: Denoiser, state: State, move: Move, variants: Sequence[Variant]
    ) -> list[Predictions]:
        """The predictions that lead up.

        Args:
            denoiser: what is inside.
            state: without the target.
            move: that goes up.
            variants: how to evaluate the denoiser.

        Returns:
            One set a variant.
        """

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Remember where the way up has led."""
        if not rises(move, self.source):
            return state
        return self._remember(state, trajectory(state), move.s[self.source])

    def _asked(self, variant: Variant) -> Variant:
        prompt = self.prompt if variant.prompt == "positive" else variant.prompt
        return replace(variant, prompt=prompt, guided=variant.guided and self.guided)

    def _remember(self, state: State, way: Mapping[float, Tensor], t: float) -> State:
        return state.remember(_KEY, MappingProxyType({**way, t: state.latents[self.source]}))


def follow(state: State, source: str, target: str | None) -> State:
    """The state with the source's latents in the target.

    Args:
        state: both at one time.
        source: a branch.
        target: another one, or None.

    Returns:
        The state.

    Raises:
        ValueError: there is no such target, or it is elsewhere.
    """
    if target is None:
        return state
    if state.t.get(target) != state.t[source]:
        raise ValueError(
            f"target {target!r} has to start beside {source!r}, at t={state.t[source]}; this run "
            f"starts at {dict(state.t)} (see inversion.methods.plan_edit)"
        )
    return replace(state, latents={**state.latents, target: state.latents[source]})


def trajectory(state: State) -> Mapping[float, Tensor]:
    """{time: the source's latents (B, C, H, W) on the way up}, from the picture itself on."""
    return cast(Mapping[float, Tensor], state.memory.get(_KEY) or {})


def check_way(mechanism: Mechanism, setup: Setup, source: str, moves: Sequence[Move]) -> None:
    """Refuse a run whose way up does not pass where a mechanism will look for it.

    Args:
        mechanism: that looks.
        setup: the run.
        source: the branch in question.
        moves: after which it looks.

    Raises:
        ValueError: the branch never moves, or is not inverted through the times of these moves.
    """
    setup.needs_motion(mechanism, source)
    inverted = any(isinstance(m, Ascent) and m.source == source for m in setup.mechanisms)
    passed = {setup.state.t[source]} if inverted else set[float]()
    for move in setup.moves:
        if inverted and rises(move, source):
            passed.add(move.s[source])
        if move in moves and move.s[source] not in passed:
            raise _lost(mechanism, move.s[source], passed)


def waypoint(mechanism: Mechanism, state: State, t: float) -> Tensor:
    """Where the way up was at a time.

    Args:
        mechanism: that asks.
        state: of the run.
        t: the time.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: the way up did not pass there.
    """
    way = trajectory(state)
    if t not in way:
        raise _lost(mechanism, t, way)
    return way[t]


def _lost(mechanism: Mechanism, t: float, way: Iterable[float]) -> ValueError:
    return ValueError(
        f"{type(mechanism).__name__} needs the inverted latents at t={t:.4f}, and the way up "
        f"passed {', '.join(f'{one:.4f}' for one in way) or 'nothing'}: put DDIMInversion or "
        "FixedPoint before it, and go down by the times of the way up (inversion.paths."
        "up_and_down)"
    )
