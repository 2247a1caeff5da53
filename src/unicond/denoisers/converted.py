"""A denoiser whose network predicts something else than the run's: read by its own schedule."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unicond.sampling.predictions import Predictions
from unicond.sampling.rows import Variant
from unicond.sampling.schedules import NoiseSchedule
from unicond.sampling.state import Denoiser, State


@dataclass(frozen=True, eq=False)
class Converted:
    """A denoiser in a run of another model with the same noise.

    Args:
        denoiser: whose predictions are wanted.
        schedule: of its model, equal to the run's but for what the network predicts.
    """

    denoiser: Denoiser
    schedule: NoiseSchedule

    def __call__(
        self, state: State, variants: Sequence[Variant] = (Variant(),)
    ) -> list[Predictions]:
        """Its predictions, x0 and eps, one set a variant."""
        return self.denoiser(replace(state, schedule=self.schedule), variants)
