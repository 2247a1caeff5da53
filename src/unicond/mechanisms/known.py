"""Checks before a run: of scales, of branches, and that what is known has their shape."""

import math

from torch import Tensor

from unicond.sampling.state import State


def check_scale(scale: float, what: str = "scale") -> None:
    """Raise ValueError where a scale or weight is negative, infinite or no number."""
    if not 0.0 <= scale < math.inf:
        raise ValueError(f"{what} is {scale}; it must be 0 (off) or positive, and finite")


def check_branch(state: State, branch: str, who: str) -> State:
    """The same state, or ValueError where it has no such branch."""
    if branch not in state.latents:
        raise ValueError(
            f"{who} is asked of {branch!r}, but the branches of this run are "
            f"{', '.join(state.latents)}"
        )
    return state


def check_known(state: State, branch: str, known: Tensor, mask: Tensor | None, who: str) -> State:
    """Refuse what does not belong to a branch of this run.

    Args:
        state: at the beginning.
        branch: of which something is known.
        known: (B or 1, C, H, W) clean latents.
        mask: (B or 1, 1, H, W) in [0, 1], 1 is known; None is everywhere.
        who: wants to know, for messages.

    Returns:
        The same state.

    Raises:
        ValueError: no such branch, another shape or number of samples, or a mask out of range.
    """
    latents = check_branch(state, branch, who).latents[branch]
    samples, channels, *size = latents.shape
    parts = (("what is known", known, channels), ("the mask", mask, 1))
    for name, given, depth in parts:
        if given is not None and given.shape not in ((1, depth, *size), (samples, depth, *size)):
            raise ValueError(
                f"{name} of {branch!r} has shape {tuple(given.shape)}, its latents "
                f"{tuple(latents.shape)}; {who} needs (B or 1, {depth}, {size[0]}, {size[1]})"
            )
    if mask is not None and not (mask.amin() >= 0 and mask.amax() <= 1):
        raise ValueError(
            f"the mask of {branch!r} goes from {float(mask.amin()):g} to {float(mask.amax()):g}; "
            "it must be in [0, 1]: 1 is known, 0 is free"
        )
    return state
