"""Which moves of a run are aggregated: those that can be, and those that are asked for."""

import math
from collections.abc import Sequence
from dataclasses import replace

from unicond.aggregation.manner import DEFAULT, Mean, Place
from unicond.sampling.plans import Plan
from unicond.sampling.schedules import NoiseSchedule
from unicond.sampling.state import Move, numbered
from unicond.sampling.window import Window

_NONE = "after no move of this plan can the models be aggregated"
_RELEASED = (
    "mean='released' reuses what was predicted at the move before, and not at pure noise: "
    "mean='posterior' or None does not"
)


def moves_of(window: tuple[int, int] | Place) -> Window | Place:
    """A window of a `Manner` as `together.aggregate` takes it."""
    return window if isinstance(window, Place) else Window.steps(*window)


def placed(
    asked: Window | Place,
    plan: Plan,
    branch: str,
    schedule: NoiseSchedule,
    numel: int,
    mean: Mean | None,
) -> Window:
    """The moves of a plan that a window means.

    Args:
        asked: a window, or its place.
        plan: of the first model.
        branch: its picture.
        schedule: of the run.
        numel: values of a sample's latents.
        mean: what states are pulled to.

    Returns:
        A window of steps.

    Raises:
        ValueError: it ends beyond the plan, holds at no move, or at one that cannot be aggregated;
            or a place that is not the default's finds fewer moves than it asks for.
    """
    can = able(plan, [branch], schedule, mean)
    if not can:
        raise ValueError(_NONE if mean != "released" else f"{_NONE}; {_RELEASED}")
    if isinstance(asked, Place):
        said = signals(plan, branch, schedule, numel)
        first = next((number for number in can if said[number] >= asked.signal), None)
        return _found(asked, can, first)
    numbers = inside(asked, plan, branch)
    if wrong := [number for number in numbers if number not in can]:
        raise ValueError(
            f"the window {asked} holds at move {wrong[0]}, after which {branch!r} cannot be "
            f"aggregated; the moves from {can[0]} to {can[-1]} can"
            + (f": {_RELEASED}" if mean == "released" else "")
        )
    return Window.steps(numbers[0], numbers[-1] + 1)


def _found(asked: Place, can: Sequence[int], first: int | None) -> Window:
    """The window of a place, from the first of the moves that can be on whose state says enough."""
    stop = can[-1] + 1
    if asked != DEFAULT.window and (first is None or first + asked.moves > stop):
        left = "none says so much" if first is None else f"only {stop - first} are left there"
        raise ValueError(
            f"the window {asked} asks for {asked.moves} moves from a signal of {asked.signal:g} on,"
            f" but of the moves {can[0]} to {can[-1]}, which can be aggregated, {left}: take more "
            "steps, or ask for fewer moves or less signal"
        )
    first = can[-1] if first is None else first
    return Window.steps(first, min(first + asked.moves, stop))


def retimed(plan: Plan, like: Plan, branch: str) -> Plan:
    """A plan at another one's times.

    Args:
        plan: of any branches; those that go along with `branch` stay with it.
        like: of as many moves.
        branch: whose times are taken.

    Returns:
        As many moves; the same where another branch moves by itself.
    """
    found: list[Move] = []
    for move, other in zip(plan, like, strict=True):
        with_it = [b for b in move.t if (move.t[b], move.s[b]) == (move.t[branch], move.s[branch])]
        if {*move.moving()} - {*with_it}:
            return plan
        t, s = (dict.fromkeys(with_it, times[branch]) for times in (other.t, other.s))
        found.append(replace(move, t={**move.t, **t}, s={**move.s, **s}))
    return found


def inside(window: Window, plan: Plan, branch: str) -> list[int]:
    """The moves at which a window holds.

    Args:
        window: that is asked for.
        plan: of the run.
        branch: whose way is counted.

    Returns:
        Their numbers, rising, at least one.

    Raises:
        ValueError: there is none, or the window ends beyond the plan.
    """
    count = len(plan)
    if window.by == "steps" and window.to_t > count:
        raise ValueError(
            f"the window of moves {window.from_t:g} to {window.to_t - 1:g} ends beyond the plan, "
            f"whose moves are 0 to {count - 1}: let it end there, or take more steps"
        )
    numbers = [move.number for move in numbered(plan) if window.active(move, branch)]
    if not numbers:
        raise ValueError(
            f"the window {window} holds at none of the {count} moves: nothing would be aggregated"
        )
    return numbers


def together(move: Move, branches: Sequence[str]) -> bool:
    """Whether all branches step."""
    return move.kind == "step" and set(branches) <= set(move.moving())


def signals(plan: Plan, branch: str, schedule: NoiseSchedule, numel: int) -> list[float]:
    """How much the state of a branch says of its picture at the beginning of every move.

    Args:
        plan: of the run.
        branch: above t = 0 in all its moves.
        schedule: of the run.
        numel: values of a sample's latents.

    Returns:
        `numel alpha^2 / sigma^2` of each; inf at t = 0.
    """
    found: list[float] = []
    for move in plan:
        alpha, sigma = schedule.alpha(move.t[branch]), schedule.sigma(move.t[branch])
        found.append(numel * (alpha / sigma) ** 2 if sigma > 0 else math.inf)
    return found


def able(
    plan: Plan, branches: Sequence[str], schedule: NoiseSchedule, mean: Mean | None
) -> list[int]:
    """The moves after which states can be aggregated.

    All branches must move along the flow, and the released mean reuses what was predicted at the
    move before, which must not have been at pure noise.

    Args:
        plan: of the run.
        branches: that are aggregated.
        schedule: of the run.
        mean: what states are pulled to.

    Returns:
        Their numbers, rising.
    """
    moving = [together(move, branches) for move in plan]
    if mean != "released":
        return [number for number, moves in enumerate(moving) if moves]
    return [
        number
        for number in range(1, len(plan))
        if moving[number]
        and moving[number - 1]
        and all(schedule.alpha(plan[number - 1].t[branch]) > 0 for branch in branches)
    ]
