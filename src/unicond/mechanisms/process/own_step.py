"""What methods share that bring a reverse step of their own.

Such a method revises the predictions so that

    latents_s = alpha_s x0 + sigma_s eps

is its step, noise included. That is what DDIM with eta 0 makes of them; after any other solver the
step is made here, so that the method is the same beside all of them.
"""

import math
from dataclasses import replace

from unicond.mechanisms.measurement import Measurement
from unicond.sampling.predictions import Predictions
from unicond.sampling.state import Mechanism, Move, State


def begun(state: State, branch: str, owner: Mechanism, measurement: Measurement) -> State:
    """Check what was measured, and note that the steps of this branch are taken.

    Args:
        state: at the beginning.
        branch: whose steps they are.
        owner: the mechanism that makes them.
        measurement: what it knows.

    Returns:
        The state with the note.

    Raises:
        ValueError: the measurement does not fit, another mechanism has taken the steps, or one that
            mends the state comes before.
    """
    key = f"step of {branch}"
    other = state.memory.get(key)
    if other is not None and other is not owner:
        names = f"{type(other).__name__} and {type(owner).__name__}"
        raise ValueError(
            f"{names} both make the steps of {branch!r} themselves; use one of them, or a guidance "
            "(DPS, PiGDM) beside the other"
        )
    mender = state.memory.get(_mended(branch))
    if mender is not None:
        first, then = type(owner).__name__, type(mender).__name__
        raise ValueError(
            f"{then} mends {branch!r} after each step, and {first}, which makes the steps itself, "
            f"would undo that: put {first} before {then} in the list of mechanisms"
        )
    return measurement.check(state, branch).remember(key, owner)


def mends(state: State, branch: str, owner: Mechanism) -> State:
    """The state with a note that a mechanism changes this branch after each step."""
    return state.remember(_mended(branch), owner)


def _mended(branch: str) -> str:
    return f"{branch} is mended"


def falling(state: State, move: Move, branch: str) -> bool:
    """Whether a prediction is the one that a step down starts from.

    Not in moves up, and not in a solver's second call, which is made at the end of the move.
    """
    down = move.kind == "step" and move.s[branch] < move.t[branch]
    return down and state.t[branch] == move.t[branch]


def stepped(state: State, predictions: Predictions, branch: str) -> State:
    """The state with this branch's step made from its predictions; a nudge is added as ever.

    Args:
        state: after the solver's step.
        predictions: revised, made at `move.t`.
        branch: the one to step.

    Returns:
        The state; after DDIM with eta 0 it is the same, bit for bit.
    """
    prediction, (alpha, sigma) = predictions[branch], state.scales(branch)
    latents = alpha * prediction.x0 + sigma * prediction.eps
    if prediction.nudge is not None:
        latents = latents + prediction.nudge
    return replace(state, latents={**state.latents, branch: latents})


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless a parameter is in [0, 1]."""
    if not 0.0 <= value <= 1.0 or math.isnan(value):
        raise ValueError(f"{name} must be in [0, 1], got {value}")
