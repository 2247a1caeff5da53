"""Fixed-point inversion: the latents from which the step down leads exactly here.

    latents_t = alpha_t x0(latents_s, s) + sigma_t eps(latents_s, s),   s > t

is solved for latents_s by stepping down from a guess and correcting it by what it misses:

    miss = latents_t - (alpha_t x0(guess, s) + sigma_t eps(guess, s)),    guess <- guess + miss / c

For models that predict eps it is the papers' iteration, `c = alpha_t / alpha_s`. For the others c
is what leaves a multiple of their own output (`paths.share`): the solution is the same, and it is
found at pure noise, too, where the papers' iteration stands still.

Source: Pan et al. 2023 (AIDI), arXiv:2309.04907; Meiri et al. 2023, arXiv:2312.12540.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from typing_extensions import override

from unicond.mechanisms.inversion.ascent import Ascent
from unicond.mechanisms.inversion.paths import (
    check_first_order,
    check_landed,
    lands,
    level,
    rises,
    share,
)
from unicond.sampling.predictions import Prediction, Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.state import Denoiser, Move, Report, Setup, State

_KEY = "fixed_point"


@dataclass(frozen=True)
class Solved(Prediction):
    """A prediction at the end of a move that goes up.

    Args:
        x0: predicted clean latents.
        eps: predicted unit noise.
        nudge: the last correction of the guess that they were made at.
        miss: (B,), root mean square of what the step down from that guess misses.
    """

    nudge: Tensor = field(kw_only=True)
    miss: Tensor = field(kw_only=True)


@dataclass(frozen=True, kw_only=True)
class FixedPoint(Ascent):
    """The exact inverse of the deterministic first-order step, where the iteration converges.

    At most `iterations` network calls a move, of the source's rows alone; a sample that is there
    stops by itself, and where the iteration diverges the best guess is taken. How well it went is
    reported (`State.reports`, `Output.reports`): the largest residual of a sample's moves, against
    the tolerance; `residuals` has all of them. With latent models the picture is the decoded one:
    what the autoencoder loses stays lost.

    Args:
        source: see `Ascent`.
        target: see `Ascent`.
        prompt: see `Ascent`.
        guided: see `Ascent`.
        iterations: network calls a move at most, usually 5 to 11.
        tolerance: a sample stops when it misses by less (root mean square); 0.0 never stops.

    Raises:
        ValueError: a number out of range.
    """

    iterations: int = 10
    tolerance: float = 1e-5

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1 or not self.tolerance >= 0:
            raise ValueError(
                "fixed-point inversion needs iterations >= 1 and tolerance >= 0, not "
                f"{self.iterations} and {self.tolerance}"
            )

    @override
    def check(self, setup: Setup) -> None:
        """Refuse a solver whose step is not the one that is solved for, too."""
        super().check(setup)
        check_first_order(self, setup.solver)

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """What goes up, by the last correction of its guess."""
        return [b for b in move.moving() if rises(move, b)] if rises(move, self.source) else ()

    @override
    def upward(
        self, denoiser: Denoiser, state: State, move: Move, variants: Sequence[Variant]
    ) -> list[Predictions]:
        """Predictions at the end of the move, each variant's solved for by itself."""
        return [self._solve(denoiser, state, move, variant) for variant in variants]

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Remember the residual beside the way."""
        if rises(move, self.source):
            check_landed(self, state, predictions, move, self.source)
            solved = predictions[self.source]
            if isinstance(solved, Solved):
                earlier = cast(tuple[Tensor, ...], state.memory.get(_KEY) or ())
                state = state.remember(_KEY, (*earlier, solved.miss))
                state = state.report(type(self).__name__, self._report(residuals(state)))
        return super().settle(state, predictions, move)

    def _report(self, missed: Tensor) -> Report:
        """The largest residual of each sample; with tolerance 0.0 nothing is promised."""
        return Report(
            missed.amax(0),
            self.tolerance or math.inf,
            "residual",
            "the iteration did not converge, so that the way down does not lead back exactly: use "
            "more steps or iterations, a smaller strength or noise level, or another inversion, "
            "such as 'direct' or 'edict' (through the windows of a panorama it often fails)",
        )

    def _solve(self, denoiser: Denoiser, state: State, move: Move, variant: Variant) -> Predictions:
        rising = [branch for branch in state.t if rises(move, branch)]
        times = {branch: move.s[branch] for branch in state.t}
        guess = dict(state.latents)
        best: dict[str, Solved] = {}
        predictions: Predictions = {}
        for _ in range(self.iterations):
            predictions = denoiser(state.at(guess, times), [variant])[0]
            for branch in rising:
                fresh = _corrected(predictions[branch], state, move, branch)
                best[branch] = self._better(best.get(branch), fresh)
                guess[branch] = lands(fresh, level(state, move.s, branch)) + fresh.nudge
            if all((best[branch].miss < self.tolerance).all() for branch in rising):
                break
        return {**predictions, **best}

    def _better(self, best: Solved | None, fresh: Solved) -> Solved:
        """The fresh guess where it misses by less, but for samples that were there before.

        A guess is given back without its correction where that made it worse.
        """
        if best is None:
            return fresh
        done = best.miss < self.tolerance
        better = ~done & (fresh.miss < best.miss)
        wide, stays = better[:, None, None, None], done[:, None, None, None]
        return Solved(
            torch.where(wide, fresh.x0, best.x0),
            torch.where(wide, fresh.eps, best.eps),
            nudge=torch.where(wide, fresh.nudge, stays * best.nudge),
            miss=torch.where(better, fresh.miss, best.miss),
        )


def residuals(state: State) -> Tensor:
    """How far each move of the way up was from its solution, before its last correction.

    Args:
        state: of the run, at the turn or later.

    Returns:
        (moves, B), root mean square of the latents that the step down misses.

    Raises:
        ValueError: this run had no fixed-point inversion.
    """
    found = cast(tuple[Tensor, ...], state.memory.get(_KEY) or ())
    if not found:
        raise ValueError("no residuals: this run had no FixedPoint that went up")
    return torch.stack(found)


def _corrected(guessed: Prediction, state: State, move: Move, branch: str) -> Solved:
    """What was predicted at the guess, and the correction of the guess."""
    here, there = level(state, move.t, branch), level(state, move.s, branch)
    miss = state.latents[branch] - lands(guessed, here)
    rms = miss.square().flatten(1).mean(1).sqrt()
    return Solved(
        guessed.x0, guessed.eps, nudge=miss / share(state.schedule, there, here), miss=rms
    )
