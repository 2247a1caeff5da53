"""MCG: a step of DPS, then the measured part is put in place at the noise level of the state.

    x_s <- x_s - zeta grad_{x_t} || y - A x0_hat(x_t) ||
    x_s <- (I - A^+ A) x_s + A^+ (alpha_s y + sigma_s A z)

The gradient keeps the free part on the data while the other is replaced.

Source: Chung et al. 2022, arXiv:2206.00941, algorithm 1; the form of the gradient is that of DPS.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from unicond.mechanisms.guidance.dps import DPS
from unicond.mechanisms.guidance.gradients import ascends
from unicond.mechanisms.process.own_step import mends
from unicond.sampling.predictions import Predictions
from unicond.sampling.state import Move, State


@dataclass(frozen=True, eq=False, kw_only=True)
class MCG(DPS):
    """DPS with a projection after each step; for linear operators, one noise draw a step more.

    What is measured is taken as exact: noise in y comes out as it went in. One network call a move,
    with a graph and a backward pass. On latent models the gradient runs through the decoder, and
    the projection is made on the predicted clean picture (one decoding and two encodings a step,
    see `Measurement.projected`), so that y is met only nearly. It rests while something is
    inverted, the projection too.

    Args:
        measurement: y and the linear A; the noise level does not enter.
        scale: zeta of DPS; 0.0 is off, the projection too.
        branch: what was measured.
        window: when it acts.

    Raises:
        ValueError: an operator that is not linear, or a negative scale.
    """

    restores: ClassVar[bool] = True

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        self.measurement.linear("MCG")

    @override
    def displaces(self, move: Move) -> Collection[str]:
        """What DPS displaces, and its own branch by the projection."""
        mended = (self.branch,) if self._projects(move) else ()
        return {*super().displaces(move), *mended}

    @override
    def begin(self, state: State) -> State:
        """Check that the measurement fits, and note that the branch is mended."""
        state = super().begin(state)
        return mends(state, self.branch, self) if self.scale else state

    @override
    def settle(self, state: State, predictions: Predictions, move: Move) -> State:
        """Put the measured part in place."""
        if not self._projects(move):
            return state
        return self.measurement.projected(state, predictions, self.branch)

    def _projects(self, move: Move) -> bool:
        moves = self.branch in move.moving() and not ascends(move)
        return self.scale != 0 and moves and self.window.active(move, self.branch)
