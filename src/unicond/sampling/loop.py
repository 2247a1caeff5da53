"""The denoising loop. There is no other one, and it names no method.

check       (once)   that there can be such a run
for each move of the plan:
    begin   (once)   the start state
    wrap             the denoiser
    revise           the predictions
    solver.step      t -> s
    settle           the state after the step
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from unicond.sampling.predictions import Predictions
from unicond.sampling.state import (
    Denoiser,
    Mechanism,
    Move,
    Predict,
    Setup,
    Solver,
    State,
    numbered,
)


@dataclass(frozen=True)
class Progress:
    """What `run` yields after each move: the move, where it led, and by which predictions."""

    move: Move
    state: State
    predictions: Predictions


def run(
    state: State,
    denoiser: Denoiser,
    plan: Sequence[Move],
    solver: Solver,
    mechanisms: Sequence[Mechanism] = (),
) -> Iterator[Progress]:
    """Carry a state through a plan, yielding after each move.

    Args:
        state: latents and times of every branch; consumed by the first move.
        denoiser: all branches in, all predictions out.
        plan: moves whose times join up.
        solver: a pure step.
        mechanisms: conditioning methods; the first is the outermost around the denoiser and the
            first to revise.

    Yields:
        The move, the state it led to, and the predictions, after each move.

    Raises:
        ValueError: the plan jumps, or the solver or a mechanism refuses the run; raised before the
            denoiser is asked.
    """
    moves = numbered(plan)
    Setup(state, moves, solver, mechanisms).check()
    for mechanism in mechanisms:
        state = mechanism.begin(state)
    for move in moves:
        if move.kind == "renoise":
            predictions: Predictions = {}
            state = _renoise(state, move)
        else:
            state, predictions = solver.step(_conditioned(denoiser, mechanisms, move), state, move)
            state = _nudge(state, predictions, move)
        for mechanism in mechanisms:
            state = mechanism.settle(state, predictions, move)
        yield Progress(move, state, predictions)


def _conditioned(denoiser: Denoiser, mechanisms: Sequence[Mechanism], move: Move) -> Predict:
    for mechanism in reversed(mechanisms):
        denoiser = mechanism.wrap(denoiser, move)

    def predict(state: State) -> Predictions:
        predictions = denoiser(state)[0]
        for mechanism in mechanisms:
            predictions = mechanism.revise(predictions, state, move)
        return predictions

    return predict


def _renoise(state: State, move: Move) -> State:
    """`x_s = r x_t + sqrt(sigma_s^2 - r^2 sigma_t^2) z`, `r = alpha_s / alpha_t`."""
    latents: dict[str, Tensor] = dict(state.latents)
    for branch in move.moving():
        alpha, sigma = state.scales(branch)
        to_alpha, to_sigma = (
            state.schedule.alpha(move.s[branch]),
            state.schedule.sigma(move.s[branch]),
        )
        ratio = to_alpha / alpha
        spread = math.sqrt(max(to_sigma**2 - ratio**2 * sigma**2, 0.0))
        clean = latents[branch]
        latents[branch] = ratio * clean + spread * state.noise.draw(branch, clean)
    return state.at(latents, move.s).remember("solver", None)


def _nudge(state: State, predictions: Predictions, move: Move) -> State:
    """Add the displacements that mechanisms asked for; held branches stay what they are."""
    latents = dict(state.latents)
    for branch in move.moving():
        nudge = predictions[branch].nudge
        if nudge is not None:
            latents[branch] = latents[branch] + nudge
    return replace(state, latents=latents)
