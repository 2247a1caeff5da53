"""What makes the pictures of COCO-MIG: one small interface, text alone, and models told of boxes.

    text             the caption alone, which knows no box
    gligen           each label in its box; migc likewise
    interact         each label as subject and as object of "and", both in its box
    migc-official    migc as its authors ran it on COCO-MIG: 25 steps of 50 of Euler, phrases
                     repeated
    interact+migc    both side by side, aggregated as AMDM published it (table 1)

All start from AMDM's sampling, 50 steps of DDIM and its negative prompt, unless something else is
asked for; `migc-official` from MIGC's.

Source: Zhou et al. 2024, arXiv:2402.05408; AMDM, arXiv:2410.01262.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from unicond.aggregation.manner import PAPER, Manner
from unicond.calls.groundings import check
from unicond.calls.output import Output
from unicond.evaluation.amdm.models import (
    GLIGEN,
    INTERACT,
    MIGC,
    PAPER_STEPS,
    Wanted,
    adapters_of,
    make,
)
from unicond.evaluation.amdm.wanted import of_entry
from unicond.evaluation.mig.bench import Entry
from unicond.evaluation.subject import Sampling
from unicond.model import Model
from unicond.tasks.together import TEXT

OFFICIAL = "migc-official"
METHODS = (TEXT, GLIGEN, INTERACT, MIGC, OFFICIAL, f"{INTERACT}+{MIGC}")
NEGATIVE = (
    "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, "
    "cropped, worst quality, low quality"
)
"""What guidance moved away from in AMDM's table 1."""
OFFICIAL_NEGATIVE = "worst quality, low quality, bad anatomy"
"""What it moved away from in MIGC's."""
OFFICIAL_STEPS = 25
"""MIGC's last acting step, of 50."""
MOST_REPEATS = 7
"""Of a phrase: as many as there are instances, but no more."""


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

    def check(self, entry: Entry) -> None:
        """Refuse an entry of which it cannot make pictures.

        Args:
            entry: what they would show.

        Raises:
            ValueError: too many things, or a label that is too long.
        """
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
        sampling: its steps, solver and text guidance are used; default as of `FromBoxes`.
    """

    model: Model
    sampling: Sampling
    name = TEXT

    @property
    def label(self) -> str:
        """The settings that are not the model's own."""
        return f"{self.name} {usual(self.sampling).label()}"

    def check(self, entry: Entry) -> None:
        """It is told no boxes, and takes every entry."""

    def __call__(self, entry: Entry, seeds: Sequence[int]) -> Output:
        """The pictures of a caption; see `Layouter`."""
        told = usual(self.sampling)
        return self.model.only(*self.model.adapters)(
            entry.caption,
            negative_prompt=NEGATIVE,
            seed=list(seeds),
            num_inference_steps=told.steps,
            solver=told.solver,
            guidance_scale=told.guidance,
        )


def usual(asked: Sampling, solver: str = "ddim") -> Sampling:
    """What is asked for, else 50 moves of a solver."""
    return Sampling(asked.steps or PAPER_STEPS, asked.solver or solver, asked.guidance)


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
    def label(self) -> str:
        """The settings that are not the model's own."""
        told = self.manner.label() if len(self.adapters) > 1 else ""
        return f"{self.name} {usual(self.sampling).label()} {told}".strip()

    def check(self, entry: Entry) -> None:
        """Every adapter takes its boxes; see `Layouter`."""
        said = of_entry(entry, plain=False).colored
        for name in self.adapters:
            check(self.model.backbone, self.model.grounders[name].adapter, said)

    def __call__(self, entry: Entry, seeds: Sequence[int]) -> Output:
        """The pictures of labels in their boxes; see `Layouter`."""
        wanted = of_entry(entry, plain=False)
        settings = usual(self.sampling)
        return make(self.model, self.adapters, wanted, seeds, settings, self.manner, NEGATIVE)


@dataclass(frozen=True, eq=False)
class Official:
    """MIGC as its authors ran it on COCO-MIG.

    Attributes:
        model: with the adapter.
        sampling: its steps, solver and text guidance are used; default 50 moves of Euler.
    """

    model: Model
    sampling: Sampling
    name = OFFICIAL

    @property
    def label(self) -> str:
        """The settings that are not the model's own."""
        return f"{self.name} {usual(self.sampling, 'euler').label()}"

    def check(self, entry: Entry) -> None:
        """The adapter takes its boxes; see `Layouter`."""
        said = self._wanted(entry).colored
        check(self.model.backbone, self.model.grounders[MIGC].adapter, said)

    def __call__(self, entry: Entry, seeds: Sequence[int]) -> Output:
        """The pictures of labels in their boxes; see `Layouter`."""
        wanted, settings = self._wanted(entry), usual(self.sampling, "euler")
        return make(self.model, [MIGC], wanted, seeds, settings, negative=OFFICIAL_NEGATIVE)

    def _wanted(self, entry: Entry) -> Wanted:
        wanted, steps = of_entry(entry, plain=False), usual(self.sampling, "euler").steps
        told = replace(
            wanted.colored,
            migc_steps=OFFICIAL_STEPS * (steps or PAPER_STEPS) // PAPER_STEPS,
            repeat=min(len(entry.segment), MOST_REPEATS),
        )
        return replace(wanted, colored=told)


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
    missing = [name for name in adapters_of(models_of(method)) if name not in adapters]
    if missing:
        raise ValueError(
            f"--method {method} needs the adapter{'s' if len(missing) > 1 else ''} "
            f"{', '.join(missing)}: give "
            f"{' '.join(f'--adapter {name}=WHERE' for name in missing)}, a folder, a file or a "
            "hub id"
        )


def models_of(method: str) -> tuple[str, ...]:
    """The models that a method asks."""
    return (MIGC,) if method == OFFICIAL else tuple(method.split("+"))


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
    if method == OFFICIAL:
        return Official(model, sampling)
    return FromBoxes(model, sampling, tuple(method.split("+")))
