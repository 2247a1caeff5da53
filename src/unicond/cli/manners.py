"""How several models are aggregated, as it is said on the command line."""

from typing import cast, get_args

from unicond.aggregation.manner import Mean, Mix, Place, Start
from unicond.cli.generate import check_one_of


def moves_of(text: str) -> tuple[int, int] | Place:
    """What a command line says of a window.

    Args:
        text: `FIRST-LAST`, moves counted from 0, both ends inclusive; or `MOVES@SIGNAL`.

    Returns:
        (first, last), or a place.

    Raises:
        ValueError: it is neither.
    """
    mark = "@" if "@" in text else "-"
    before, _, after = text.partition(mark)
    try:
        first, last = int(before), float(after)
        if mark == "@":
            return Place(first, last)
        if last.is_integer() and 0 <= first <= last:
            return first, int(last)
    except ValueError as error:
        raise ValueError(f"{_neither(text)}: {error}") from None
    raise ValueError(_neither(text))


def window_of(text: str) -> tuple[int, int] | Place:
    """The same as a manner has it: (first, behind the last), or a place."""
    moves = moves_of(text)
    return moves if isinstance(moves, Place) else (moves[0], moves[1] + 1)


def _neither(text: str) -> str:
    return (
        f"--window {text!r} is not FIRST-LAST, as in 1-3 (moves count from 0), nor MOVES@SIGNAL, "
        "as in 3@120"
    )


def mix_of(text: str) -> Mix:
    """A rule by its name."""
    check_one_of(text, get_args(Mix), "--mix")
    return cast(Mix, text)


def mean_of(text: str) -> Mean | None:
    """A mean by its name, or `none`."""
    check_one_of(text, (*get_args(Mean), "none"), "--mean")
    return None if text == "none" else cast(Mean, text)


def start_of(text: str) -> Start:
    """A start by its name."""
    check_one_of(text, get_args(Start), "--start")
    return cast(Start, text)
