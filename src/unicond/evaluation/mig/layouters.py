"""What makes the pictures of COCO-MIG: one small interface, and text alone, which knows no box."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from unicond.evaluation.mig.bench import Entry
from unicond.evaluation.subject import Sampling
from unicond.model import Model
from unicond.output import Output


class Layouter(Protocol):
    """A way of making an entry's pictures.

    `name` is that of its row; `label` says all that its pictures depend on, but for the weights.
    """

    @property
    def name(self) -> str:
        """Of the way."""
        ...

    @property
    def label(self) -> str:
        """Its settings in words."""
        ...

    def __call__(self, entry: Entry, seeds: Sequence[int]) -> Output:
        """Make pictures.

        Args:
            entry: what they show.
            seeds: one a picture.

        Returns:
            A run whose branch `"image"` is those pictures.
        """
        ...


@dataclass(frozen=True, eq=False)
class FromText:
    """The caption as the prompt, nothing else: what a model does without boxes.

    Attributes:
        model: generates; the branches of its adapters come from text, too.
        sampling: its steps, solver and text guidance are used.
    """

    model: Model
    sampling: Sampling
    name = "text"

    @property
    def label(self) -> str:
        """The settings that are not the model's own."""
        return f"{self.name} {self.sampling.label()}"

    def __call__(self, entry: Entry, seeds: Sequence[int]) -> Output:
        """The pictures of a caption; see `Layouter`."""
        return self.model(
            entry.caption,
            seed=list(seeds),
            num_inference_steps=self.sampling.steps,
            solver=self.sampling.solver,
            guidance_scale=self.sampling.guidance,
        )
