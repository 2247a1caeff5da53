"""What is asked of a training on one's own pictures."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from typing_extensions import override

from unicond import conditions
from unicond.data.augment import AugmentConfig
from unicond.data.conditions import kind_of
from unicond.data.opening import Place
from unicond.loading import can_be_branch
from unicond.sampling.suits import Suits
from unicond.training.budget import Budget
from unicond.training.joint import JointRecipe
from unicond.training.loop import LoopConfig, Setup
from unicond.training.own.pairs import MIDDLE


def usual_loop() -> LoopConfig:
    """How adapters are optimised on one's own pictures where nothing else is said."""
    return LoopConfig(
        batch_size=4,
        lr=1e-4,
        budget=Budget(steps=10_000),
        beta2=0.999,
        average=0.999,
        report_steps=10,
    )


@dataclass(frozen=True, kw_only=True)
class PictureRecipe(JointRecipe):
    """How an adapter is trained on one's own pictures.

    Args:
        side: of a square of the pictures' area, in pixels; None is the base's own.
        augment: how pictures are cut and changed.
        keep_latents: encode every pair once, cut in its middle.
        held_out: pairs that are not trained on; None is a tenth, 8 at most.
    """

    rank: int = 64
    y_rank: int = 64
    side: int | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    keep_latents: bool = False
    held_out: int | None = None
    loop: LoopConfig = field(default_factory=usual_loop)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_latents and self.augment != MIDDLE:
            raise ValueError(
                "latents that are kept are of one cut of every picture: leave out --zoom, "
                "--flip and --color, or --cache-latents"
            )


@dataclass(frozen=True)
class OwnCondition:
    """What an adapter's configuration says of a condition in a dataset."""

    branch: str
    shows: str
    aligned: bool
    trigger: str
    suits: Suits = field(default=Suits())


class OwnRecipe(Protocol):
    """What recipes of trainings on one's own pictures have."""

    @property
    def loop(self) -> LoopConfig:
        """How it is optimised; `batch_size` is of all turns and processes."""
        ...

    @property
    def side(self) -> int | None:
        """Of a square of the pictures' area, in pixels; None is the base's own."""
        ...


@dataclass(frozen=True, kw_only=True)
class OwnJob(ABC):
    """One training on one's own pictures.

    Args:
        base: folder, hub id, single file or embedded name.
        data: where the pictures lie.
        out: the adapter's folder.
        runs: folder of the run (`<what>-<name of out>`) and of latents.
        setup: how the machine is used.
        recompute: gradient checkpoints.
        init: an adapter to start from.
        resume: go on from the run's checkpoint.
        accept_changed: go on where the data are no longer those that the run began with.
        sample_steps: network calls of a picture that is drawn to be looked at.
        command: the command line, for the card.

    Attributes:
        ROWS: what messages call the rows of the data.
        ROOM: what to do where checkpoints do not fit.
    """

    ROWS: ClassVar[str] = "pictures"
    ROOM: ClassVar[str] = "make room, or give other --runs"

    base: str
    data: Place
    out: Path
    runs: Path
    setup: Setup
    recompute: bool = False
    init: Path | None = None
    resume: bool = True
    accept_changed: bool = False
    sample_steps: int = 20
    command: str = "not stated"

    @property
    @abstractmethod
    def what(self) -> str:
        """The stage's command."""

    @property
    @abstractmethod
    def how(self) -> OwnRecipe:
        """The recipe."""

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.runs / f"{self.what}-{self.out.name}"

    @property
    def checkpoint(self) -> Path:
        """Of the run."""
        return self.folder / "checkpoint"

    @property
    def cache(self) -> Path:
        """Of what all runs can use."""
        return self.runs / "cache"


@dataclass(frozen=True, kw_only=True)
class PictureJob(OwnJob):
    """The training of a joint adapter on pairs.

    Args:
        condition: its kind, one of `data.conditions.KINDS` or a name of one's own.
        recipe: how.
        trigger: in front of the condition's prompts; None is the condition's own.
    """

    ROWS: ClassVar[str] = "pairs"
    ROOM: ClassVar[str] = "make room, give other --runs, or a lower --rank"

    condition: str
    recipe: PictureRecipe
    trigger: str | None = None

    @property
    @override
    def what(self) -> str:
        return "joint"

    @property
    @override
    def how(self) -> PictureRecipe:
        return self.recipe


def condition_of(name: str, trigger: str | None = None) -> OwnCondition:
    """What an adapter of a condition says of it.

    Args:
        name: of the condition.
        trigger: words in front of its prompts; None is the embedded world's for its conditions,
            nothing for loose ones, and `"<name>_map, "` for others.

    Returns:
        Branch, kind and trigger words.

    Raises:
        ValueError: the name cannot be a branch's.
    """
    branch, aligned = name.replace("-", "_"), kind_of(name).aligned
    if not can_be_branch(branch):
        raise ValueError(
            f"condition {name!r} cannot be a branch of a model's call: take letters, digits and _, "
            "and no name of a setting"
        )
    known = next((one for one in conditions.CONDITIONS if one.name == name), None)
    if trigger is None:
        trigger = known.trigger if known else f"{branch}_map, " if aligned else ""
    elif trigger and not trigger[-1].isspace():
        trigger = f"{trigger.rstrip(',')}, "
    return OwnCondition(branch, known.shows if known else branch, aligned, trigger)
