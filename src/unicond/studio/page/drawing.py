"""Plans, boxes and progress as SVG and HTML: pure functions of what they show."""

from collections.abc import Mapping, Sequence
from html import escape

from unicond.sampling import named_plans, plans
from unicond.sampling.schedules import FlowSchedule
from unicond.sampling.state import Move

SIDE = 220
"""Of a drawing of the plane, in its own units."""
_EDGE = 26
INKS = ("#5e81ac", "#bf616a", "#a3be8c", "#b48ead", "#d08770")
"""Of the conditions, by turns."""
_LINE = 'fill="none" stroke="currentColor" stroke-opacity="0.25"'


def moves_of(
    starts: Mapping[str, float], hold: Sequence[str], plan: str | None, steps: int
) -> list[Move]:
    """The moves of a run whose times are even.

    Args:
        starts: {branch: time that it starts at}, the image among them.
        hold: branches that stay where they start.
        plan: a way by its name; None is straight.
        steps: times of the network's calls.

    Returns:
        One move a time.

    Raises:
        ValueError: nothing moves, or the plan is none.
    """
    times = FlowSchedule().times(steps)
    if plan is None:
        return plans.descend(times, starts, hold)
    return named_plans.follow(named_plans.parse(plan), times, starts, hold)


def plan_svg(moves: Sequence[Move]) -> str:
    """The way through the plane of both times: a line with a dot a move for each condition.

    Args:
        moves: of the image and its conditions; of the image alone, its time falls at the bottom.

    Returns:
        SVG.
    """
    points = [moves[0].t, *(move.s for move in moves)]
    conditions = [branch for branch in points[0] if branch != "image"]
    across = [point.get("image", 0.0) for point in points]
    parts = [
        f'<rect x="{_EDGE}" y="{_EDGE}" width="{_inner()}" height="{_inner()}" {_LINE}/>',
        f'<path d="M{_spot(0, 0)}L{_spot(1, 1)}" {_LINE} stroke-dasharray="3 4"/>',
        _text(SIDE / 2, SIDE - 6, "time of the image"),
        _text(10, SIDE / 2, "time of the condition", f' transform="rotate(-90 10 {SIDE / 2:g})"'),
    ]
    ways = {branch: [point[branch] for point in points] for branch in conditions}
    for number, (branch, up) in enumerate((ways or {"image": [0.0] * len(points)}).items()):
        ink = INKS[number % len(INKS)]
        spots = [_spot(x, y) for x, y in zip(across, up, strict=True)]
        dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.4"/>' for x, y in map(_pair, spots))
        x, y = _pair(spots[0])
        parts.append(
            f'<g fill="{ink}"><path d="M{"L".join(spots)}" fill="none" stroke="{ink}" '
            f'stroke-width="2"/>{dots}<circle cx="{x}" cy="{y}" r="6"><title>{escape(branch)}: '
            f"from {up[0]:.2f} to {up[-1]:.2f}</title></circle></g>"
        )
        parts.append(_text(SIDE / 2, 12 + 11 * number, branch, f' fill="{ink}"'))
    told = ", ".join(f"{branch} from {points[0][branch]:.2f}" for branch in points[0])
    return _svg(SIDE, SIDE, f"Plan: {told}", parts)


def boxes_svg(boxes: Sequence[tuple[str, str, Sequence[float]]], aspect: float = 1.0) -> str:
    """Boxes with their texts.

    Args:
        boxes: (text, colour, (left, top, right, bottom) in shares), later ones on top.
        aspect: width by height of the picture.

    Returns:
        SVG.
    """
    width, height = (320.0 * aspect, 320.0) if aspect < 1 else (320.0, 320.0 / aspect)
    parts = [f'<rect width="{width:g}" height="{height:g}" {_LINE}/>']
    for text, colour, (left, top, right, bottom) in boxes:
        ink = escape(colour, quote=True)
        parts.append(
            f'<rect x="{left * width:.1f}" y="{top * height:.1f}" '
            f'width="{(right - left) * width:.1f}" height="{(bottom - top) * height:.1f}" '
            f'fill="{ink}" fill-opacity="0.15" stroke="{ink}" stroke-width="3"/>'
        )
        parts.append(_text((left + right) / 2 * width, (top + bottom) / 2 * height, text))
    return _svg(width, height, f"{len(boxes)} boxes", parts)


def live_html(told: str, share: float, picture: str) -> str:
    """Where a job is.

    Args:
        told: in words.
        share: of its moves that are made, in [0, 1].
        picture: a JPEG in base64; empty shows none.

    Returns:
        HTML.
    """
    shown = f'<img alt="preview" src="data:image/jpeg;base64,{picture}">' if picture else ""
    return (
        f'<div class="live" role="status" aria-live="polite"><p>{escape(told)}</p>'
        f'<progress value="{share:.3f}" max="1"></progress>{shown}</div>'
    )


def left_text(done: int, total: int, seconds: float) -> str:
    """How far a run is, in words.

    Args:
        done: moves.
        total: moves.
        seconds: since the first one was begun.

    Returns:
        With the time that is left, as soon as a move tells it.
    """
    if not done:
        return "it begins"
    left = seconds / done * (total - done)
    whole = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
    return f"move {done} of {total}, {whole} left"


def _inner() -> float:
    return SIDE - 2 * _EDGE


def _spot(x: float, y: float) -> str:
    """Noise is at the right and at the top."""
    return f"{_EDGE + x * _inner():.1f} {SIDE - _EDGE - y * _inner():.1f}"


def _pair(spot: str) -> tuple[str, str]:
    x, _, y = spot.partition(" ")
    return x, y


def _text(x: float, y: float, text: str, more: str = "") -> str:
    ink = "" if "fill" in more else ' fill="currentColor"'
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="middle" font-size="11"{ink}{more}>'
        f"{escape(text)}</text>"
    )


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width:{width:g}px;width:100%" role="img"><title>{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )
