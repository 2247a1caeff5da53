"""Solvers: pure steps from t to s, in `alpha` and `sigma`, so that they serve every kind of model.

Four of the field's names are one formula. With `tau = eta^2 (1 - (alpha_t sigma_s / (alpha_s
sigma_t))^2)`

    latents_s = alpha_s x0 + sigma_s (sqrt(1 - tau) eps + sqrt(tau) noise)

is DDIM; `eta = 1` is DDPM's ancestral step and, in the coordinates `latents / alpha`, Euler
ancestral; `eta = 0` is Euler (and Euler on a flow model). They differ in the spacing of their times
alone.

Solvers keep nothing: a multistep solver's history travels in the state and is dropped where the
direction turns. From pure noise (`alpha = 0`), where ratios to alpha are infinite, every solver
takes a DDIM step.

Source: DDIM, arXiv:2010.02502, eq. 12 and 16; Heun, arXiv:2206.00364, algorithm 1; DPM-Solver++ 2M,
arXiv:2211.01095, algorithm 2. Parity: diffusers' schedulers of these names.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from torch import Tensor

from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.schedules import NoiseSchedule
from unicond.sampling.state import Move, Predict, Setup, Solver, State


@dataclass(frozen=True)
class DDIM:
    """The formula above.

    Args:
        eta: scale of the noise's standard deviation, 0 (an ODE, reversible) to 1 (DDPM). Moves up
            need 0.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta must be in [0, 1], got {self.eta}")

    def check(self, setup: Setup) -> None:
        """Refuse moves up while eta > 0.

        Args:
            setup: the run.

        Raises:
            ValueError: a branch moves up while eta > 0.
        """
        for move in setup.moves:
            if move.kind == "step":
                self._check_way(move)

    def step(self, predict: Predict, state: State, move: Move) -> tuple[State, Predictions]:
        """One call; noise is drawn only where it is used.

        Args:
            predict: the conditioned denoiser.
            state: at `move.t`.
            move: where to go.

        Returns:
            The state at `move.s`, and the predictions made at `move.t`.

        Raises:
            ValueError: a branch moves up while eta > 0.
        """
        self._check_way(move)
        predictions = predict(state)
        latents = dict(state.latents)
        for branch in move.moving():
            latents[branch] = self._branch(state, move, branch, predictions[branch])
        return state.at(latents, move.s), predictions

    def _branch(self, state: State, move: Move, branch: str, prediction: Prediction) -> Tensor:
        (alpha, sigma), (to_alpha, to_sigma) = _scales(state.schedule, move, branch)
        if self.eta == 0:
            return to_alpha * prediction.x0 + to_sigma * prediction.eps
        tau = self.eta**2 * (1 - (alpha * to_sigma / (to_alpha * sigma)) ** 2)
        mean = to_alpha * prediction.x0 + to_sigma * math.sqrt(1 - tau) * prediction.eps
        if to_sigma == 0 or tau == 0:
            return mean
        return mean + to_sigma * math.sqrt(tau) * state.noise.draw(branch, mean)

    def _check_way(self, move: Move) -> None:
        up = [branch for branch in move.moving() if move.s[branch] > move.t[branch]]
        if self.eta > 0 and up:
            raise ValueError(
                f"branch {up[0]!r} moves up, which is deterministic: use eta=0, not {self.eta}"
            )


@dataclass(frozen=True)
class Heun:
    """Second order, two calls a move: an Euler step, then the mean of both ends' slopes.

    Slopes are those of `latents / alpha` along `sigma / alpha` (as in the source); on flow models,
    of the latents along t. A branch that ends clean takes the Euler step, as from pure noise.
    """

    def step(self, predict: Predict, state: State, move: Move) -> tuple[State, Predictions]:
        """Two calls, unless every moving branch starts at pure noise or ends clean."""
        euler, predictions = DDIM().step(predict, state, move)
        scales = {branch: _scales(state.schedule, move, branch) for branch in move.moving()}
        mended = [
            b for b, (now, then) in scales.items() if min(now[0], then[0], now[1], then[1]) > 0
        ]
        if state.schedule.prediction_type == "flow":
            mended = [b for b, (now, then) in scales.items() if then[1] > 0 and now[1] > 0]
        if not mended:
            return euler, predictions
        after, latents = predict(euler), dict(euler.latents)
        for branch in mended:
            (alpha, sigma), (to_alpha, to_sigma) = scales[branch]
            first, second = predictions[branch], after[branch]
            if state.schedule.prediction_type == "flow":
                slope = 0.5 * ((first.eps - first.x0) + (second.eps - second.x0))
                latents[branch] = state.latents[branch] + (to_sigma - sigma) * slope
            else:
                slope = 0.5 * (first.eps + second.eps)
                start = state.latents[branch] / alpha
                latents[branch] = to_alpha * (start + (to_sigma / to_alpha - sigma / alpha) * slope)
        return euler.at(latents, move.s), predictions


@dataclass(frozen=True)
class _Past:
    """The last step of one branch: its x0, its half log-SNR, and which way it went."""

    x0: Tensor
    log_snr: float
    upward: bool


@dataclass(frozen=True)
class DPMSolverPP2M:
    """DPM-Solver++ 2M: second order, one call a move.

    With `lambda = log(alpha / sigma)`, `h = lambda_s - lambda_t`, `r = h_last / h`:

        D = (1 + 1 / (2 r)) x0 - 1 / (2 r) x0_last
        latents_s = (sigma_s / sigma_t) latents_t - alpha_s (exp(-h) - 1) D

    A branch without a past in this direction takes a first-order step, as does one that ends clean.
    """

    def step(self, predict: Predict, state: State, move: Move) -> tuple[State, Predictions]:
        """One call; the history is in `state.memory["solver"]`."""
        predictions = predict(state)
        latents = dict(state.latents)
        history = dict(cast(Mapping[str, _Past], state.memory.get("solver") or {}))
        for branch in move.moving():
            latents[branch], history[branch] = self._branch(
                state, move, branch, predictions[branch], history
            )
        return state.at(latents, move.s).remember("solver", MappingProxyType(history)), predictions

    def _branch(
        self,
        state: State,
        move: Move,
        branch: str,
        prediction: Prediction,
        history: Mapping[str, _Past],
    ) -> tuple[Tensor, _Past]:
        now, then = _scales(state.schedule, move, branch)
        upward = move.s[branch] > move.t[branch]
        past = _Past(prediction.x0, _log_snr(*now), upward)
        target = _log_snr(*then)
        if math.isinf(past.log_snr) or math.isinf(target):
            return then[0] * prediction.x0 + then[1] * prediction.eps, past
        h, x0, last = target - past.log_snr, prediction.x0, history.get(branch)
        if last is not None and last.upward == upward and not math.isinf(last.log_snr):
            share = h / (2 * (past.log_snr - last.log_snr))  # 1 / (2 r)
            x0 = (1 + share) * x0 - share * last.x0
        stepped = then[1] / now[1] * state.latents[branch] - then[0] * math.expm1(-h) * x0
        return stepped, past


SOLVERS: Mapping[str, Solver] = MappingProxyType(
    {
        "ddim": DDIM(),
        "ddpm": DDIM(eta=1.0),
        "euler": DDIM(),
        "euler_ancestral": DDIM(eta=1.0),
        "heun": Heun(),
        "dpmpp_2m": DPMSolverPP2M(),
    }
)


def named(name: str, eta: float | None = None) -> Solver:
    """The solver of a name.

    Args:
        name: a key of `SOLVERS`.
        eta: replaces the noise scale of `"ddim"`; other names fix it.

    Returns:
        The solver.

    Raises:
        ValueError: unknown name, or an eta for a solver that has none.
    """
    if name not in SOLVERS:
        raise ValueError(f"solver {name!r} is not known; known: {', '.join(SOLVERS)}")
    if eta is None:
        return SOLVERS[name]
    if name != "ddim":
        raise ValueError(f"eta is the 'ddim' solver's; {name!r} has none. Drop eta, or use 'ddim'")
    return DDIM(eta)


def _scales(
    schedule: NoiseSchedule, move: Move, branch: str
) -> tuple[tuple[float, float], tuple[float, float]]:
    """`(alpha_t, sigma_t), (alpha_s, sigma_s)` of a branch."""
    t, s = move.t[branch], move.s[branch]
    return (schedule.alpha(t), schedule.sigma(t)), (schedule.alpha(s), schedule.sigma(s))


def _log_snr(alpha: float, sigma: float) -> float:
    """`log(alpha / sigma)`: infinite at the clean end, minus infinite at pure noise."""
    if sigma == 0:
        return math.inf
    return math.log(alpha / sigma) if alpha > 0 else -math.inf
