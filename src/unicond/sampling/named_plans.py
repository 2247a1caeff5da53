"""Named plans: ways through the plane of both times, from what is asked for to clean.

A plan of an image and its conditions is a way from `(1, 1)`, both pure noise, to `(0, 0)`, both
clean. What it is called says which of the two goes ahead:

    joint            the diagonal, both together
    image-first      (1, 1) (0, 1) (0, 0): the image from text alone, then the condition from it
    condition-first  (1, 1) (1, 0) (0, 0): the condition from text alone, then the image from it
    coarse(r)        (1, r) (0, 0): a given condition, noised to r, lowered in proportion
    curve(a)         y / (1 - y) = a / (1 - a) * x / (1 - x): a = 0 is condition-first, 0.5 the
                     diagonal, 1 image-first, in between smooth ways from one to the other
    x,y;x,y;...      straight lines between points, for example "1,1;0.5,1;0,0"

x is the image's share, y that of every condition that moves. Source: UniCon, arXiv:2410.11439,
formula (3) and its list of sampling schedules; the curve (equal odds) is ours.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from unicond.sampling.plans import path
from unicond.sampling.state import Move

NAMES = ("joint", "image-first", "condition-first", "coarse(R)", "curve(A)", "X,Y;X,Y;...")
Point = tuple[float, float]

_CORNERS: Mapping[str, tuple[Point, ...]] = {
    "joint": ((1.0, 1.0), (0.0, 0.0)),
    "image-first": ((1.0, 1.0), (0.0, 1.0), (0.0, 0.0)),
    "condition-first": ((1.0, 1.0), (1.0, 0.0), (0.0, 0.0)),
}


@dataclass(frozen=True)
class NamedPlan:
    """A way through the plane of both times, from a start to (0, 0).

    Args:
        name: as it was written.
        corners: (x, y) at both ends of every straight line, in shares of the start.
        start: times at which image and condition start; below 1 they must be given.
        alpha: of a smooth curve between the first and the last corner; None is straight lines.

    >>> parse("image-first").points(4)
    [(1.0, 1.0), (0.5, 1.0), (0.0, 1.0), (0.0, 0.5), (0.0, 0.0)]
    """

    name: str
    corners: tuple[Point, ...]
    start: Point = (1.0, 1.0)
    alpha: float | None = None

    def points(self, moves: int) -> list[Point]:
        """The way, cut into moves.

        A straight line gets moves in proportion to the longer of its two sides, and every corner is
        met; on a curve `x + y` falls evenly.

        Args:
            moves: how many; at least one a line.

        Returns:
            `moves + 1` pairs (x, y), shares of the start in [0, 1].

        Raises:
            ValueError: fewer moves than lines.
        """
        if self.alpha is not None:
            inner = [_on_curve(self.alpha, 2 * (moves - k) / moves) for k in range(1, moves)]
            return [self.corners[0], *inner, self.corners[-1]]
        lines = list(pairwise(self.corners))
        counts = _divide(moves, [max(a[0] - b[0], a[1] - b[1]) for a, b in lines], self.name)
        found = [self.corners[0]]
        for (here, there), count in zip(lines, counts, strict=True):
            # exact at the corners, and from 1 to 0 equal to the shares in `follow`
            found += [
                (_between(here[0], there[0], k, count), _between(here[1], there[1], k, count))
                for k in range(1, count + 1)
            ]
        return found


def parse(text: str) -> NamedPlan:
    """Read the name of a plan.

    Args:
        text: one of `NAMES`, with numbers in [0, 1].

    Returns:
        The plan.

    Raises:
        ValueError: it is none; the message says which there are, or what is wrong with a number.
    """
    name = text.strip().lower()
    if name in _CORNERS:
        return NamedPlan(name, _CORNERS[name])
    head, bracket, rest = name.partition("(")
    if bracket and head in ("coarse", "curve"):
        if not rest.endswith(")"):
            raise ValueError(f"plan {text!r} lacks its closing bracket: write {head}(0.4)")
        number = _number(rest[:-1], text)
        return _coarse(name, number) if head == "coarse" else _curve(name, number)
    if "," in name:
        return _free(name, [_point(part, text) for part in name.split(";")])
    raise ValueError(f"plan {text!r} is not known; there are {', '.join(NAMES)}")


def follow(
    plan: NamedPlan, times: Sequence[float], start: Mapping[str, float], hold: Collection[str] = ()
) -> list[Move]:
    """The moves of a named plan.

    A share u of a branch that starts at 1 is the time that `times` reach there (`times[0]` at 1,
    then linear in between, 0 at 0); a branch that starts at r goes `r / times[0]` times as far, as
    in `plans.descend`, which the diagonal equals.

    Args:
        plan: the way.
        times: descending times of the network calls; their number is that of the moves.
        start: {branch: time that it starts at}; `"image"` follows x, all others y.
        hold: branches that keep their start time.

    Returns:
        One move a time.

    Raises:
        ValueError: fewer moves than the plan has lines.
    """
    count = len(times)
    shares = [k / count for k in range(count + 1)]
    reached = [0.0, *reversed(times)]
    points = plan.points(count)
    columns: dict[str, list[float]] = {}
    for branch, r in start.items():
        if branch in hold or r == 0:
            columns[branch] = [r] * (count + 1)
            continue
        own = [point[0 if branch == "image" else 1] for point in points]
        fallen = [float(t) for t in np.interp(own, shares, reached)]
        columns[branch] = fallen if r == 1 else [r * t / times[0] for t in fallen]
    return path(columns)


def _coarse(name: str, r: float) -> NamedPlan:
    if not 0.0 < r < 1.0:
        raise ValueError(
            f"plan {name!r}: the number is the noise on the given condition, above 0 (given "
            "exactly: needs no plan) and below 1 (nothing is left of it: plan joint)"
        )
    return NamedPlan(name, _CORNERS["joint"], (1.0, r))


def _curve(name: str, alpha: float) -> NamedPlan:
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(
            f"plan {name!r}: the number goes from 0 (condition first) over 0.5 (together) to 1 "
            "(image first)"
        )
    ends = {0.0: "condition-first", 0.5: "joint", 1.0: "image-first"}
    if alpha in ends:
        return NamedPlan(name, _CORNERS[ends[alpha]])
    return NamedPlan(name, _CORNERS["joint"], alpha=alpha)


def _free(name: str, points: Sequence[Point]) -> NamedPlan:
    """Points in times; kept as shares of the first."""
    for here, there in pairwise(points):
        if here == there or there[0] > here[0] or there[1] > here[1]:
            raise ValueError(
                f"plan {name!r} goes from {_shown(here)} to {_shown(there)}: every line must lower "
                "a time and raise none"
            )
    if len(points) < 2 or points[-1] != (0.0, 0.0):
        raise ValueError(
            f"plan {name!r} ends at {_shown(points[-1])}: the last of at least two points is 0,0, "
            "where both are clean (a coarse condition that stays is given with hold=True)"
        )
    first = points[0]
    shares = [tuple(v / f if f else 0.0 for v, f in zip(p, first, strict=True)) for p in points]
    return NamedPlan(name, tuple((x, y) for x, y in shares), first)


def _on_curve(alpha: float, total: float) -> Point:
    """The point of the curve where `x + y = total`: the root of a quadratic, stable for k <= 1.

    With `k = alpha / (1 - alpha)`: `(k - 1) x^2 + (k + 1 - total (k - 1)) x - total = 0`.
    """
    if alpha > 0.5:
        x, y = _on_curve(1 - alpha, total)
        return y, x
    k = alpha / (1 - alpha)
    b = k + 1 - total * (k - 1)
    x = 2 * total / (b + math.sqrt(b * b + 4 * (k - 1) * total))
    return min(x, 1.0), min(max(total - x, 0.0), 1.0)


def _divide(moves: int, lengths: Sequence[float], name: str) -> list[int]:
    """Moves for each line: at least one, else in proportion (largest remainders first)."""
    if moves < len(lengths):
        raise ValueError(
            f"plan {name!r} has {len(lengths)} lines, which needs as many steps at least, not "
            f"{moves}"
        )
    spare = moves - len(lengths)
    wanted = [spare * length / sum(lengths) for length in lengths]
    counts = [1 + int(share) for share in wanted]
    last = sorted(range(len(lengths)), key=lambda i: int(wanted[i]) - wanted[i])
    for i in last[: moves - sum(counts)]:
        counts[i] += 1
    return counts


def _between(a: float, b: float, step: int, count: int) -> float:
    return b if step == count else (a * (count - step) + b * step) / count


def _point(part: str, text: str) -> Point:
    numbers = [_number(number, text) for number in part.split(",")]
    if len(numbers) != 2 or not all(0.0 <= number <= 1.0 for number in numbers):
        raise ValueError(
            f"plan {text!r}: {part.strip()!r} is no point; give the times of image and condition "
            "in [0, 1], as in 1,1;0.5,1;0,0"
        )
    return numbers[0], numbers[1]


def _number(part: str, text: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise ValueError(f"plan {text!r}: {part.strip()!r} is not a number") from None


def _shown(point: Point) -> str:
    return f"{point[0]:g},{point[1]:g}"
