"""What makes the pictures of COCO-MIG: one small interface, text alone, and models told of boxes.

    text             the caption alone, which knows no box
    gligen           each label in its box; migc likewise
    interact         each label as subject and as object of "and", both in its box
    interact+migc    both side by side, aggregated as AMDM published it (table 1)

Source: Zhou et al. 2024, arXiv:2402.05408; AMDM, arXiv:2410.01262.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from unicond.calls.output import Output
from unicond.evaluation.amdm.models import (
    GLIGEN,
    INTERACT,
    MIGC,
    PAPER,
    PAPER_STEPS,
    Manner,
    adapters_of,
    make,
)
from unicond.evaluation.amdm.wanted import of_entry
from unicond.evaluation.mig.bench import Entry
from unicond.evaluation.subject import Sampling
from unicond.model import Model
from unicond.tasks.together import TEXT

METHODS = (TEXT, GLIGEN, INTERACT, MIGC, f"{INTERACT}+{MIGC}")
NEGATIVE = (
    "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, "
    "cropped, worst quality, low quality"
)
"""What guidance moved away from in AMDM's table 1."""


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
    name = TEXT

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


@dataclass(frozen=True, eq=False)
class FromBoxes:
    """Grounding adapters that are told labels and boxes; several are aggregated.

    Attributes:
        model: with the adapters.
        sampling: its steps, solver and text guidance are used; default 50 moves of DDIM, as AMDM
            published it.
        adapters: the first one's picture is kept.
        manner: how several become one.
    """

    model: Model
    sampling: Sampling
    adapters: tuple[str, ...]
    manner: Manner = PAPER

    @property
    def name(self) -> str:
        """The adapters."""
        return "+".join(self.adapters)

    @property
    def settings(self) -> Sampling:
        """All that the pictures are sampled by."""
        asked = self.sampling
        return Sampling(asked.steps or PAPER_STEPS, asked.solver or "ddim", asked.guidance)

    @property
    def label(self) -> str:
        """The settings that are not the model's own."""
        told = self.manner.label() if len(self.adapters) > 1 else ""
        return f"{self.name} {self.settings.label()} {told}".strip()

    def __call__(self, entry: Entry, seeds: Sequence[int]) -> Output:
        """The pictures of labels in their boxes; see `Layouter`."""
        wanted = of_entry(entry, plain=False)
        adapters = self.adapters
        return make(self.model, adapters, wanted, seeds, self.settings, self.manner, NEGATIVE)


def check_method(method: str, adapters: Collection[str]) -> None:
    """Refuse a method that is none, or whose adapters are not there, before anything is loaded.

    Args:
        method: one of `METHODS`.
        adapters: names of those that will be loaded.

    Raises:
        ValueError: the message says what is missing.
    """
    if method not in METHODS:
        raise ValueError(f"--method {method!r} is not one of {', '.join(METHODS)}")
    missing = [name for name in adapters_of(method.split("+")) if name not in adapters]
    if missing:
        raise ValueError(
            f"--method {method} needs the adapter{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}: give "
            f"{' '.join(f'--adapter {name}=WHERE' for name in missing)}, a folder, a file or a "
            "hub id"
        )


def layouter(method: str, model: Model, sampling: Sampling) -> Layouter:
    """A method by its name.

    Args:
        method: one of `METHODS`.
        model: with its adapters.
        sampling: its steps, solver and text guidance are used.

    Returns:
        What makes its pictures.
    """
    if method == TEXT:
        return FromText(model, sampling)
    return FromBoxes(model, sampling, tuple(method.split("+")))
