"""The plans of inversion, and what its methods share: which way a move goes, and where it lands.

An edit is one run. Its plan takes the `"source"` and the `"target"` from the given picture up to
noise and down again by the same times, or up in one jump of noise; both branches are rows of the
same network calls, so that attention on the target's way can look at the source's. The words are
the branches' own in the table of prompts: {"positive": {"source": the picture's, "target": the
wanted ones'}}.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from unicond.sampling import plans
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.schedules import NoiseSchedule
from unicond.sampling.solvers import DDIM
from unicond.sampling.state import Mechanism, Move, Solver, State, Times

BRANCHES = ("source", "target")
Level = tuple[float, float]
"""(alpha, sigma)."""


def latest(times: Sequence[float], strength: float) -> tuple[float, ...]:
    """The last `strength` of descending times: 1.0 is all of them, 0.0 none.

    Args:
        times: descending times of the network calls, as `schedule.times(n)` gives them.
        strength: in [0, 1]; anything above 0 keeps at least one time.

    Returns:
        `round(strength * len(times))` times.

    Raises:
        ValueError: a strength out of range.
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(
            f"strength {strength} is outside [0, 1]: 0.0 leaves the picture as it is, 1.0 uses all "
            "of the times"
        )
    count = max(round(strength * len(times)), 1 if strength > 0 else 0)
    return tuple(times[len(times) - count :])


def up_and_down(
    times: Sequence[float],
    branches: Collection[str] = BRANCHES,
    hold: Mapping[str, float] | None = None,
) -> list[Move]:
    """From the clean picture up along the model's own flow, and down by the same times.

    Args:
        times: descending times, the first is where the way turns.
        branches: what goes up and down together.
        hold: {branch: time that it stays at}, conditions.

    Returns:
        `2 * len(times)` moves; none if there are no times.
    """
    if not times:
        return []
    points = [0.0, *reversed(times), *times[1:], 0.0]
    held = {branch: [t] * len(points) for branch, t in (hold or {}).items()}
    return plans.path({**{branch: points for branch in branches}, **held})


def jump_and_down(
    times: Sequence[float],
    branches: Collection[str] = BRANCHES,
    hold: Mapping[str, float] | None = None,
) -> list[Move]:
    """From the clean picture up in one jump of noise, and down.

    Args:
        times: descending times, the first is where the jump leads.
        branches: what jumps and falls together.
        hold: {branch: time that it stays at}, conditions.

    Returns:
        `len(times) + 1` moves, of which the first calls no network; none if there are no times.
    """
    if not times:
        return []
    rest = dict(hold or {})
    here, there = ({**dict.fromkeys(branches, t), **rest} for t in (0.0, times[0]))
    start = {branch: [*times, 0.0] for branch in branches}
    held = {branch: [t] * (len(times) + 1) for branch, t in rest.items()}
    return [Move(here, there, kind="renoise"), *plans.path({**start, **held})]


def rises(move: Move, branch: str) -> bool:
    """Whether a branch is inverted by this move: it goes up, and not by a jump of noise."""
    return move.kind == "step" and move.rises(branch)


def falls(move: Move, branch: str) -> bool:
    """Whether a branch is denoised by this move."""
    return move.s[branch] < move.t[branch]


def level(state: State, times: Times, branch: str) -> Level:
    """`(alpha, sigma)` of a branch at one end of a move."""
    return state.schedule.alpha(times[branch]), state.schedule.sigma(times[branch])


def lands(prediction: Prediction, to: Level) -> Tensor:
    """`alpha x0 + sigma eps`, where a deterministic first-order step leads."""
    return to[0] * prediction.x0 + to[1] * prediction.eps


def share(schedule: NoiseSchedule, here: Level, there: Level) -> float:
    """The c of a step written as c times its own latents and a multiple of what the network says.

        latents_there = c latents_here + (alpha_there - c alpha_here) x0
                        + (sigma_there - c sigma_here) eps

    holds for every c. With this one the rest is a multiple of eps for models that predict it, of
    the velocity for flow models, and of v for all others (which v says something about at pure
    noise, too, where nothing can be divided by alpha).

    Args:
        schedule: the model's.
        here: (alpha, sigma) of the latents.
        there: those of the step's end.

    Returns:
        c.

    Raises:
        ValueError: one move between clean and pure noise, of which nothing is left on the way.
    """
    if schedule.prediction_type == "eps":
        return there[0] / here[0]
    if schedule.prediction_type == "flow":
        return (there[0] + there[1]) / (here[0] + here[1])
    c = (here[0] * there[0] + here[1] * there[1]) / (here[0] ** 2 + here[1] ** 2)
    if c <= 0:
        raise ValueError(
            "a single move between the clean picture and pure noise cannot be inverted; use more "
            "steps, or a strength below 1"
        )
    return c


def check_first_order(mechanism: Mechanism, solver: Solver) -> None:
    """Raise ValueError unless a solver takes the deterministic first-order step."""
    if not isinstance(solver, DDIM) or solver.eta > 0:
        raise _wrong_step(mechanism)


def check_landed(
    mechanism: Mechanism, state: State, predictions: Predictions, move: Move, branch: str
) -> None:
    """Raise ValueError unless the solver took the deterministic first-order step.

    Args:
        mechanism: that needs it.
        state: after the step.
        predictions: of the step.
        move: that was made.
        branch: whose.
    """
    prediction = predictions[branch]
    want = lands(prediction, level(state, move.s, branch))
    if prediction.nudge is not None:
        want = want + prediction.nudge
    found = state.latents[branch]
    # rounding alone: a stochastic or higher-order step is off by far more
    allowed = 1e3 * torch.finfo(want.dtype).eps * want.abs().amax().clamp_min(1.0)
    if (found - want).abs().amax() > allowed:
        raise _wrong_step(mechanism)


def _wrong_step(mechanism: Mechanism) -> ValueError:
    return ValueError(
        f"{type(mechanism).__name__} works on the solver's deterministic first-order step, "
        "which this solver does not take; use the 'ddim' solver with eta=0"
    )
