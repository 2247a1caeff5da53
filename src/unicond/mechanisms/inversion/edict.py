"""EDICT: two coupled states, each of which tells how the other steps, so that each step is undone.

    x' = c x + m(y),    x_s = p x' + (1 - p) y'
    y' = c y + m(x'),   y_s = p y' + (1 - p) x_s

    y' = (y_s - (1 - p) x_s) / p,   y = (y' - m(x')) / c           the same, upward
    x' = (x_s - (1 - p) y') / p,    x = (x' - m(y)) / c

m(y) is what the network predicts at y, time t, in a step from t to s: `(alpha_s - c alpha_t) x0 +
(sigma_s - c sigma_t) eps`. Where x and y are one, each line is the DDIM step. For models that
predict eps, `c = alpha_s / alpha_t` as in the paper; for the others c is what leaves a multiple of
their own output (`paths.share`), which pure noise has, too. The order of x and y is the same in
every step (the paper's code alternates).

Source: Wallace et al. 2022, arXiv:2211.12446, section 4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor

from unicond.mechanisms.inversion.paths import falls, level, share
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.state import Latents, Move, Predict, Setup, State, Times

_KEY = "solver"  # a jump of noise drops it, as every solver's history
_LAST = "edict"  # the first states, as the last step left them


@dataclass(frozen=True, kw_only=True)
class EDICT:
    """A solver whose way up is undone exactly, guided or not, if both ways have the same guidance.

    Two network calls a move; no random draw. The states are float64 between the ends, since each
    step divides by p; the picture comes back in the predictions' type. The network sees the rounded
    ones. With latent models the picture is the decoded one: what the autoencoder loses stays lost.

    Args:
        mix: p, in (0.5, 1], usually 0.93; smaller keeps both states closer and loses more digits.

    Raises:
        ValueError: a mix out of range.
    """

    mix: float = 0.93

    def __post_init__(self) -> None:
        if not 0.5 < self.mix <= 1.0:
            raise ValueError(f"EDICT's mix must be in (0.5, 1], usually 0.93; got {self.mix}")

    def check(self, setup: Setup) -> None:
        """Refuse plans of two directions, and what changes one of both states between two steps.

        Args:
            setup: the run.

        Raises:
            ValueError: some branches go up while others go down, a move between the clean picture
                and pure noise, or a mechanism that displaces a branch.
        """
        walked = set[str]()
        for number, move in enumerate(setup.moves):
            if move.kind == "renoise":
                walked.clear()
                continue
            below, above = (move.s, move.t) if _downward(move) else (move.t, move.s)
            _steps(setup.state, above, below, move.moving())
            walked.update(move.moving())
            following = setup.moves[number + 1 : number + 2]
            if not following or following[0].kind == "renoise":
                continue
            for mechanism in setup.mechanisms:
                for branch in sorted(walked.intersection(mechanism.displaces(move))):
                    raise _spoilt(branch, type(mechanism).__name__)

    def step(self, predict: Predict, state: State, move: Move) -> tuple[State, Predictions]:
        """Two calls, upward at the end of the move, downward at its start.

        Args:
            predict: the conditioned denoiser.
            state: at `move.t`; the second states are in `state.memory["solver"]`.
            move: where to go.

        Returns:
            The state at `move.s`, and the first call's predictions.

        Raises:
            ValueError: some branches go up while others go down, or something has changed a branch
                since the last step.
        """
        moving = move.moving()
        down = _downward(move)
        others = cast(Mapping[str, Tensor], state.memory.get(_KEY) or {})
        _check_untouched(state, others)
        first = {branch: state.latents[branch].double() for branch in moving}
        second = {branch: others.get(branch, first[branch]) for branch in moving}
        walk = self._down if down else self._up
        found, x, y = walk(predict, state, move, first, second)
        ended = {b: x[b].to(found[b].x0.dtype) if move.s[b] == 0 else x[b] for b in moving}
        after = state.at({**state.latents, **ended}, move.s)
        after = after.remember(_KEY, MappingProxyType({**others, **y}))
        return after.remember(_LAST, MappingProxyType(after.latents)), found

    def _down(
        self, predict: Predict, state: State, move: Move, x: Latents, y: Latents
    ) -> tuple[Predictions, Latents, Latents]:
        p, steps = self.mix, _steps(state, move.t, move.s, x)
        found = predict(state.at({**state.latents, **y}, move.t))
        x = {b: steps[b].c * x[b] + steps[b].rest(found[b]) for b in x}
        again = predict(state.at({**state.latents, **x}, move.t))
        y = {b: steps[b].c * y[b] + steps[b].rest(again[b]) for b in y}
        x = {b: p * x[b] + (1 - p) * y[b] for b in x}
        return found, x, {b: p * y[b] + (1 - p) * x[b] for b in y}

    def _up(
        self, predict: Predict, state: State, move: Move, x: Latents, y: Latents
    ) -> tuple[Predictions, Latents, Latents]:
        """`_down` from `move.s` to `move.t`, undone line by line from the last."""
        p, steps = self.mix, _steps(state, move.s, move.t, x)
        y = {b: (y[b] - (1 - p) * x[b]) / p for b in y}
        x = {b: (x[b] - (1 - p) * y[b]) / p for b in x}
        found = predict(state.at({**state.latents, **x}, move.s))
        y = {b: (y[b] - steps[b].rest(found[b])) / steps[b].c for b in y}
        again = predict(state.at({**state.latents, **y}, move.s))
        return found, {b: (x[b] - steps[b].rest(again[b])) / steps[b].c for b in x}, y


def _downward(move: Move) -> bool:
    """Whether the moving branches go down; refused where some do and some do not."""
    down = {falls(move, branch) for branch in move.moving()}
    if len(down) > 1:
        raise ValueError(f"EDICT moves all branches one way, not {dict(move.t)}, {dict(move.s)}")
    return down == {True}


def _check_untouched(state: State, others: Latents) -> None:
    last = cast(Latents, state.memory.get(_LAST) or {})
    for branch in others:
        if not torch.equal(last[branch], state.latents[branch]):
            raise _spoilt(branch, "something")


def _spoilt(branch: str, who: str) -> ValueError:
    return ValueError(
        f"EDICT walks with two states, and after a step {who} changes one of them in {branch!r}, "
        "of which the other knows nothing: leave out what mends or displaces the state (masks, "
        "ILVR, DDNM, DPS, Layout, a local blend, Direct), or use another inversion, such as "
        "'direct'"
    )


@dataclass(frozen=True)
class _Step:
    """A step down, affine in the latents: `c latents + rest`."""

    c: float
    x0: float
    eps: float

    def rest(self, prediction: Prediction) -> Tensor:
        """m, float64."""
        return self.x0 * prediction.x0.double() + self.eps * prediction.eps.double()


def _steps(state: State, above: Times, below: Times, branches: Iterable[str]) -> dict[str, _Step]:
    steps: dict[str, _Step] = {}
    for branch in branches:
        here, there = level(state, above, branch), level(state, below, branch)
        c = share(state.schedule, here, there)
        steps[branch] = _Step(c, there[0] - c * here[0], there[1] - c * here[1])
    return steps
