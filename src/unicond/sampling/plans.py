"""Plans: lists of moves, made by pure functions. Which branch is a condition is the plan's matter.

A branch that starts at 1 is generated, one that is held at 0 is given, one that starts in between
is a coarse condition. All tasks of one joint model are paths through the plane of the branches'
times (UniCon, formula (3)): joint sampling goes down the diagonal, depth to image along one edge.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from unicond.sampling.state import Move, Times

Plan = Sequence[Move]


def path(times: Mapping[str, Sequence[float]]) -> list[Move]:
    """Moves along the given times of each branch.

    Args:
        times: {branch: (n + 1) times}; all of one length.

    Returns:
        One move fewer than there are times.

    Raises:
        ValueError: the lengths differ, or a time is outside [0, 1].
    """
    lengths = {branch: len(points) for branch, points in times.items()}
    if len(set(lengths.values())) != 1 or min(lengths.values()) < 2:
        raise ValueError(f"every branch needs the same number of times, at least 2; got {lengths}")
    for branch, points in times.items():
        for t in points:
            if not 0.0 <= t <= 1.0:
                raise ValueError(f"branch {branch!r} would be at time {t}, outside [0, 1]")
    rows = [dict(zip(times, row, strict=True)) for row in zip(*times.values(), strict=True)]
    return [Move(t, s) for t, s in pairwise(rows)]


def descend(
    times: Sequence[float], start: Mapping[str, float], hold: Collection[str] = (), end: float = 0.0
) -> list[Move]:
    """Every branch falls from its start to the end, together.

    A branch that starts at 1 follows `times`; one that starts at r falls in proportion,
    `r * times / times[0]`; one that starts at 0 or is held stays. So `{"image": 1, "depth": 1}` is
    joint, `{"image": 1, "depth": 0}` depth to image, `{"image": 1, "depth": 0.4}` coarse (formula
    (3)).

    Args:
        times: descending times of the network calls.
        start: {branch: time that it starts at}.
        hold: branches that keep their start time.
        end: where the falling branches end; 0 is clean.

    Returns:
        One move a time.

    Raises:
        ValueError: no branch falls, or a start is outside [0, 1].
    """
    if not any(r > 0 and branch not in hold for branch, r in start.items()):
        raise ValueError(
            f"nothing to generate: no branch of {dict(start)} starts above 0 and is free to move"
        )
    columns: dict[str, list[float]] = {}
    for branch, r in start.items():
        if branch in hold or r == 0:
            columns[branch] = [r] * (len(times) + 1)
        elif r == 1:
            columns[branch] = [*times, end]
        else:
            columns[branch] = [*(r * t / times[0] for t in times), min(end, r)]
    return path(columns)


def segments(corners: Sequence[Times], moves: Sequence[int]) -> list[Move]:
    """Straight lines between corners, for any path: image first, inversion, there and back.

    Args:
        corners: times of all branches at n + 1 points.
        moves: how many equal moves each of the n lines is cut into.

    Returns:
        `sum(moves)` moves.

    Raises:
        ValueError: the numbers of corners and lines do not fit, or a line has no move.
    """
    if len(corners) != len(moves) + 1 or min(moves, default=0) < 1:
        raise ValueError(
            f"{len(corners)} corners need {len(corners) - 1} positive counts, got {list(moves)}"
        )
    plan: list[Move] = []
    for here, there, count in zip(corners[:-1], corners[1:], moves, strict=True):
        shares = [step / count for step in range(count)]
        columns = {
            b: [here[b] + share * (there[b] - here[b]) for share in shares] + [there[b]]
            for b in here
        }
        plan += path(columns)
    return plan


def held(plan: Plan) -> frozenset[str]:
    """The branches that never move."""
    return frozenset(plan[0].t) - {branch for move in plan for branch in move.moving()}


def check(plan: Plan) -> None:
    """Raise ValueError where a branch jumps between two moves."""
    for number, (before, after) in enumerate(pairwise(plan), start=1):
        for branch in before.s:
            if after.t.get(branch) != before.s[branch]:
                raise ValueError(
                    f"branch {branch!r} ends move {number - 1} at {before.s[branch]} but move "
                    f"{number} starts at "
                    f"{after.t.get(branch)}; plans must be continuous (see plans.segments)"
                )
