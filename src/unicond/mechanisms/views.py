"""Windows of a larger picture: what is said of the whole of it must not be asked of a part."""

from unicond.sampling.state import State

_KEY = "view"


def cropped(state: State) -> State:
    """The state of one window, marked as such."""
    return state.remember(_KEY, True)


def check_whole(state: State, who: str, looks: bool = False) -> None:
    """Refuse a window of a larger picture.

    Args:
        state: that a mechanism is asked to act on.
        who: the mechanism, for the message.
        looks: whether it looks into the network's call, so that it cannot go outside of the
            windows either.

    Raises:
        ValueError: the state is that of a window.
    """
    if state.memory.get(_KEY) is None:
        return
    if looks:
        raise ValueError(f"{who} {BESIDE_VIEWS}")
    raise ValueError(
        f"{who} is about the whole picture, but Panorama asks it for one window at a time: put "
        "Panorama after it in the list of mechanisms (the first is the outermost)"
    )


BESIDE_VIEWS = (
    "looks into the network at the whole picture, and Panorama shows the network one window at a "
    "time: leave Panorama out, or say what belongs where by Regions, before Panorama in the list"
)
"""Why and what instead, after a name."""
