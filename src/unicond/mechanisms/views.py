"""Windows of a larger picture: what is said of the whole of it must not be asked of a part."""

from collections.abc import Sequence

from unicond.sampling.state import Mechanism, Move


def check_beside(other: Mechanism, moves: Sequence[Move], inside: bool) -> None:
    """Refuse a mechanism that must see more than a window.

    Args:
        other: a mechanism of the same run.
        moves: of the run.
        inside: whether it is asked for windows: what looks into the network is in any case.

    Raises:
        ValueError: it is about the whole picture.
    """
    who, seen = type(other).__name__, {other.sees(move) for move in moves}
    if "network" in seen:
        raise ValueError(f"{who} {BESIDE_VIEWS}")
    if inside and "whole" in seen:
        raise ValueError(
            f"{who} is about the whole picture, but Panorama asks it for one window at a time: put "
            "Panorama after it in the list of mechanisms (the first is the outermost)"
        )


BESIDE_VIEWS = (
    "looks into the network at the whole picture (so do a local blend, and masks from maps), and "
    "Panorama shows the network one window at a time: leave Panorama out, or say what belongs "
    "where by Regions, before Panorama in the list"
)
"""Why and what instead, after a name."""
