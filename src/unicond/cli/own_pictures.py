"""The options of `unicond train joint`, `gligen`, `interact`, `migc` for one's own pictures."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from unicond.adapters.grounding.config import Method
    from unicond.data.opening import Place
    from unicond.training.own.boxes import BoxJob
    from unicond.training.own.job import PictureJob
    from unicond.training.settings import LoopConfig, Precision, Setup

RANK, BATCH, LR, STEPS, EVERY, REPORT = 64, 4, 1e-4, 10_000, 500, 10
"""What is usual."""

Data = Annotated[
    str | None,
    typer.Option(help="Your own pairs: a folder with metadata.jsonl, tar shards, or a hub id."),
]
BoxedData = Annotated[
    str | None,
    typer.Option(help="Your own pictures with boxes: as of joint, and a column of boxes."),
]
Base = Annotated[
    str | None, typer.Option(help="With --data: folder, hub id, single file; default mini.")
]
Rank = Annotated[int | None, typer.Option(min=1, help=f"Of the joint LoRAs; default {RANK}.")]
YRank = Annotated[
    int | None, typer.Option(min=0, help="Of the condition's own LoRA, 0 is none; default --rank.")
]
YConvRank = Annotated[
    int | None,
    typer.Option(min=0, help="Of its LoRA on convolutions, 0 is none; default 0."),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help=f"Pairs a turn of one process; default {BATCH}.")
]
Accumulate = Annotated[int | None, typer.Option(min=1, help="Turns a step; default 1.")]
Lr = Annotated[float | None, typer.Option(help=f"Peak learning rate; default {LR:g}.")]
PrecisionOf = Annotated[
    Literal["bf16", "fp16", "no"] | None,
    typer.Option(help="Of the base and its activations; default what suits the device."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Of all random draws; default 0.")]
ValidateEvery = Annotated[
    int | None,
    typer.Option(min=1, help=f"Steps between checkpoints, scores, pictures; default {EVERY}."),
]
BoxedBatch = Annotated[
    int | None, typer.Option(min=1, help=f"Pictures a turn of one process; default {BATCH}.")
]
Scored = Annotated[
    int | None, typer.Option(min=1, help=f"Steps between checkpoints and scores; default {EVERY}.")
]
Square = Annotated[
    int | None, typer.Option(help="Side of the squares that are cut out; default the base's.")
]
Slots = Annotated[
    int | None,
    typer.Option(min=1, help="The most things it takes; default 30, 28 of migc, or --init's."),
]
HeldPictures = Annotated[
    int | None,
    typer.Option(min=0, help="Pictures that are not trained on; default a tenth, 8 at most."),
]
BoxColumn = Annotated[
    str | None, typer.Option(help="What the dataset calls the boxes; default boxes.")
]
Size = Annotated[
    int | None, typer.Option(help="Pictures have the area of this square; default the base's.")
]
Zoom = Annotated[
    float | None, typer.Option(help="Cut out less by a factor of up to this, >= 1; default 1.")
]
Flip = Annotated[float | None, typer.Option(help="Share of mirrored pairs; default 0.")]
Color = Annotated[float | None, typer.Option(help="How far colours change, 0.1 a bit; default 0.")]
HeldOut = Annotated[
    int | None,
    typer.Option(min=0, help="Pairs that are not trained on; default a tenth, 8 at most."),
]
Trigger = Annotated[
    str | None, typer.Option(help="Words in front of the condition's prompts; '' is none.")
]
Column = Annotated[str | None, typer.Option(help="What the dataset calls the condition.")]
Split = Annotated[str | None, typer.Option(help="Of a dataset on the hub; default train.")]
Subset = Annotated[str | None, typer.Option(help="Of a dataset on the hub, which has several.")]
ImageColumn = Annotated[str | None, typer.Option(help="What the dataset calls the pictures.")]
CaptionColumn = Annotated[str | None, typer.Option(help="What the dataset calls the captions.")]
AcceptChangedData = Annotated[
    bool,
    typer.Option("--accept-changed-data", help="Go on with a dataset that is no longer the same."),
]
CacheLatents = Annotated[
    bool, typer.Option("--cache-latents", help="Encode every pair once, cut in its middle.")
]
Checkpointing = Annotated[
    bool, typer.Option("--checkpointing", help="Gradient checkpoints: less memory, more time.")
]
EightBit = Annotated[
    bool, typer.Option("--eight-bit", help="AdamW's moments in 8 bits (bitsandbytes).")
]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was said on the command line; None and False are what was left out.

    The first seven options serve the embedded world, too; the others are for --data. `condition`
    is joint's, and nothing else's.
    """

    condition: str | None = None
    runs: Path
    out: Path | None = None
    minutes: float | None = None
    steps: int | None = None
    resume: bool = True
    init: Path | None = None
    base: str | None = None
    data: str | None = None
    rank: int | None = None
    y_rank: int | None = None
    y_conv_rank: int | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    lr: float | None = None
    precision: "Precision | None" = None
    seed: int | None = None
    validate_every: int | None = None
    size: int | None = None
    slots: int | None = None
    zoom: float | None = None
    flip: float | None = None
    color: float | None = None
    held_out: int | None = None
    trigger: str | None = None
    column: str | None = None
    split: str | None = None
    subset: str | None = None
    image_column: str | None = None
    caption_column: str | None = None
    accept_changed_data: bool = False
    cache_latents: bool = False
    checkpointing: bool = False
    eight_bit: bool = False

    def words(self, names: Sequence[str] | None = None) -> list[str]:
        """The options that were given, as they are typed; all, or some of them."""
        found: list[str] = []
        for name in names or [field.name for field in fields(self)]:
            value, flag = getattr(self, name), f"--{name.replace('_', '-')}"
            if name != "resume" and value is not None and value is not False:
                found += [flag] if value is True else [flag, str(value)]
        return found


COMMON = ("condition", "runs", "out", "minutes", "steps", "resume", "init")
OWN = tuple(field.name for field in fields(Asked) if field.name not in (*COMMON, "slots"))
_JOINT = ("condition", "rank", "y_rank", "y_conv_rank", "zoom", "flip", "color", "trigger")
_JOINT += ("cache_latents",)
BOXED_COMMON = tuple(name for name in COMMON if name not in _JOINT)
BOXED = (*(name for name in OWN if name not in _JOINT), "slots")
"""What trainings on boxes take of these."""


def job_of(asked: Asked) -> "PictureJob":
    """What was asked for, with what is usual for the rest.

    Args:
        asked: on the command line.

    Returns:
        What `training.own.run.train_pictures` takes.

    Raises:
        ValueError: options that exclude each other, or values outside of their ranges.
    """
    from unicond.data.augment import AugmentConfig
    from unicond.training.own.job import PictureJob, PictureRecipe

    assert asked.condition is not None
    base, rank = asked.base or "mini", asked.rank or RANK
    out = asked.out or asked.runs / "adapters" / f"{asked.condition}-{Path(base).name}"
    augment = AugmentConfig(
        crop="center" if asked.cache_latents else "random",
        zoom=1.0 if asked.zoom is None else asked.zoom,
        flip=asked.flip or 0.0,
        color=asked.color or 0.0,
    )
    recipe = PictureRecipe(
        rank=rank,
        y_rank=rank if asked.y_rank is None else asked.y_rank,
        y_conv_rank=asked.y_conv_rank or 0,
        side=asked.size,
        augment=augment,
        keep_latents=asked.cache_latents,
        held_out=asked.held_out,
        loop=_loop(asked),
    )
    return PictureJob(
        base=base,
        data=_place(asked),
        condition=asked.condition,
        out=out,
        runs=asked.runs,
        recipe=recipe,
        setup=_setup(asked),
        recompute=asked.checkpointing,
        trigger=asked.trigger,
        init=asked.init,
        resume=asked.resume,
        accept_changed=asked.accept_changed_data,
        command=_command(asked, "joint"),
    )


def box_job_of(asked: Asked, method: "Method") -> "BoxJob":
    """What was asked for of a grounding adapter, with what is usual for the rest.

    Args:
        asked: on the command line.
        method: whose adapter.

    Returns:
        What `training.own.run_boxes.train_boxes` takes.

    Raises:
        ValueError: options that exclude each other, or values outside of their ranges.
    """
    from unicond.training.own.boxes import BoxJob, BoxRecipe

    base, own = asked.base or "mini", {"side": asked.size, "held_out": asked.held_out}
    return BoxJob(
        base=base,
        data=_place(asked),
        out=asked.out or asked.runs / "adapters" / f"{method}-{Path(base).name}",
        runs=asked.runs,
        recipe=BoxRecipe.of(method, loop=_loop(asked), **own),
        slots=asked.slots,
        setup=_setup(asked),
        recompute=asked.checkpointing,
        init=asked.init,
        resume=asked.resume,
        accept_changed=asked.accept_changed_data,
        command=_command(asked, method),
    )


def _place(asked: Asked) -> "Place":
    """Where the data lie."""
    from unicond.data.opening import Place

    assert asked.data is not None
    columns = asked.column, asked.image_column, asked.caption_column
    return Place(asked.data, asked.split or "train", asked.subset, *columns)


def _setup(asked: Asked) -> "Setup":
    """How the machine is used."""
    from unicond.training.settings import Setup

    return Setup(
        accumulate=asked.accumulate or 1,
        eight_bit=asked.eight_bit,
        pause_steps=asked.validate_every or EVERY,
        track=True,
    )


def _loop(asked: Asked) -> "LoopConfig":
    """How it is optimised; a step takes the pairs of all turns of all processes."""
    from unicond.training import processes
    from unicond.training.budget import Budget
    from unicond.training.loop import LoopConfig

    if asked.minutes is not None and asked.steps is not None:
        raise ValueError("give --minutes or --steps, not both")
    steps = None if asked.minutes is not None else asked.steps or STEPS
    count = processes.this_process().num_processes
    return LoopConfig(
        batch_size=(asked.batch_size or BATCH) * (asked.accumulate or 1) * count,
        lr=LR if asked.lr is None else asked.lr,
        budget=Budget(minutes=asked.minutes, steps=steps),
        beta2=0.999,
        average=0.999,
        precision=asked.precision or _precision(),
        seed=asked.seed or 0,
        report_steps=REPORT,
    )


def _precision() -> "Precision":
    """What suits the device."""
    import torch

    if not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _command(asked: Asked, stage: str) -> str:
    """The command line, for the adapter's card."""
    from unicond.training import processes

    count = processes.this_process().num_processes
    start = ["unicond"]
    if count > 1:
        launch = ["accelerate", "launch", "--num_processes"]
        if processes.device().type == "cpu":  # on which accelerate starts one process only
            launch = ["torchrun", "--nproc-per-node"]
        start = [*launch, str(count), "--module", "unicond"]
    return shlex.join([*start, "train", stage, *asked.words()])
