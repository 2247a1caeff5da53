"""`unicond train ...`: every trainer, and all of them in order."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from unicond.cli import own_pictures as own
from unicond.conditions import CONDITIONS, NAMES

if TYPE_CHECKING:
    from unicond.training.workshop import Workshop

Method = Literal["gligen", "interact", "migc"]

app = typer.Typer(help="Train the models that ship, from nothing.", no_args_is_help=True)

Preset = Annotated[str, typer.Option(help="Name of the recipes: mini or tiny.")]
Out = Annotated[Path, typer.Option(help="Folder of all finished weights.")]
Runs = Annotated[Path, typer.Option(help="Folder of checkpoints, logs, samples and caches.")]
Minutes = Annotated[
    float | None, typer.Option(min=0.01, help="Train for so long instead of the preset's time.")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Train for so many steps instead.")]
Scenes = Annotated[int | None, typer.Option(min=8, help="Number of training scenes.")]
Resume = Annotated[bool, typer.Option(help="Go on from the run's checkpoint, if there is one.")]
Init = Annotated[
    Path | None,
    typer.Option(help="Start from these weights of the same kind: a folder, or 'mini'."),
]
Style = Annotated[str, typer.Option(help="Fine-tune the base in --init to this style alone.")]
Publish = Annotated[
    Path | None, typer.Option(help="Copy what ships into this folder when all is done.")
]
Condition = Annotated[
    str,
    typer.Option(
        help=f"What the second branch shows: {', '.join(NAMES)}; with --data, or a name of yours."
    ),
]
Read = Annotated[
    str,
    typer.Option(
        help="What the head reads off the picture: "
        f"{', '.join(each.name for each in CONDITIONS if each.aligned)}."
    ),
]
JointOut = Annotated[
    Path | None,
    typer.Option(help="Folder of all finished weights; with --data, the adapter's own."),
]
OwnInit = Annotated[
    Path | None,
    typer.Option(
        help="Start from these weights: a folder, or one that ships; with --data, also a hub id "
        "or a published file."
    ),
]
STAGES = {
    "vae": "The autoencoder: pictures and annotation drawings to latents and back.",
    "pixels": "A base of 64 x 64 pixels, mini-pixel: text to pictures without an autoencoder.",
    "gligen": "A grounding adapter: phrases in boxes. Needs the base.",
    "interact": "A grounding adapter: who does what to whom, and where. Needs the base.",
    "migc": "A grounding adapter: instances in boxes. Needs the base.",
    "image-encoder": "What image prompts look through. Needs the base.",
    "image-prompt": "An IP-Adapter: pictures as prompts. Needs the base and the image encoder.",
    "probes": "The judge: reads pictures back into their annotations. Needs the autoencoder.",
}
"""Stages that take the common options alone; grounding adapters also those for --data."""


@contextmanager
def _reported() -> Generator[Callable[[float, str], None]]:
    """A progress bar on a terminal, lines elsewhere; errors in one line."""
    console = Console(stderr=True)
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            row = bar.add_task("preparing", total=1.0)

            def report(share: float, line: str) -> None:
                bar.update(row, completed=share, description=escape(line))
                if not console.is_terminal:
                    console.print(line, highlight=False, markup=False)

            yield report
    except ValueError as error:
        console.print(f"[red]error:[/red] {escape(str(error))}", highlight=False)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        console.print("stopped; nothing is half written, the same command goes on")
        raise typer.Exit(130) from stop


def _shop(
    report: Callable[[float, str], None],
    preset: str,
    out: Path,
    runs: Path,
    minutes: float | None,
    steps: int | None,
    scenes: int | None,
    resume: bool,
    init: Path | None = None,
    kept: str = "adapters",
) -> "Workshop":
    from unicond.training.workshop import Workshop

    if minutes is not None and steps is not None:
        raise ValueError("give --minutes or --steps, not both")
    if init is not None:
        init = _found(init, kept)
    return Workshop(
        preset=preset,
        weights=out,
        runs=runs,
        cache=runs / "cache",
        minutes=minutes,
        steps=steps,
        scenes=scenes,
        resume=resume,
        init=init,
        report=report,
    )


def _found(init: Path, kept: str) -> Path:
    """A folder of weights: on disk, or among those that ship, where their kind is kept."""
    from unicond.backbones.files import EMBEDDED

    for folder in (init, EMBEDDED / init, EMBEDDED / kept / init):
        if folder.is_dir():
            return folder
    raise ValueError(f"--init {init} is no folder, and no weights of that name ship")


def _add_stage(stage: str, about: str) -> None:
    """The command of one of `STAGES`."""

    def command(
        preset: Preset = "mini",
        out: Out = Path("runs/weights"),
        runs: Runs = Path("runs"),
        minutes: Minutes = None,
        steps: Steps = None,
        scenes: Scenes = None,
        resume: Resume = True,
        init: Init = None,
    ) -> None:
        from unicond.training import stages

        train: dict[str, Callable[[Workshop], Path]] = {
            "vae": stages.train_vae,
            "pixels": stages.train_pixels,
            "image-encoder": stages.train_image_encoder,
            "image-prompt": stages.train_image_prompt,
            "probes": stages.train_probes,
        }
        with _reported() as report:
            train[stage](_shop(report, preset, out, runs, minutes, steps, scenes, resume, init))

    app.command(name=stage, help=about)(command)


def _add_grounding(method: Method, about: str) -> None:
    """The command of a grounding adapter."""

    def command(
        data: own.BoxedData = None,
        base: own.Base = None,
        preset: Preset = "mini",
        out: JointOut = None,
        runs: Runs = Path("runs"),
        minutes: Minutes = None,
        steps: Steps = None,
        scenes: Scenes = None,
        resume: Resume = True,
        init: OwnInit = None,
        batch_size: own.BoxedBatch = None,
        accumulate: own.Accumulate = None,
        lr: own.Lr = None,
        precision: own.PrecisionOf = None,
        seed: own.Seed = None,
        validate_every: own.Scored = None,
        size: own.Square = None,
        slots: own.Slots = None,
        held_out: own.HeldPictures = None,
        column: own.BoxColumn = None,
        split: own.Split = None,
        subset: own.Subset = None,
        image_column: own.ImageColumn = None,
        caption_column: own.CaptionColumn = None,
        accept_changed_data: own.AcceptChangedData = False,
        checkpointing: own.Checkpointing = False,
        eight_bit: own.EightBit = False,
    ) -> None:
        said = dict(locals())
        asked = own.Asked(**{name: said[name] for name in (*own.BOXED_COMMON, *own.BOXED)})
        with _reported() as report:
            if _is_own(asked, own.BOXED, preset, scenes):
                from unicond.training.own.run_boxes import train_boxes

                train_boxes(own.box_job_of(asked, method), report)
                return
            from unicond.training import stages

            weights = out or Path("runs/weights")
            shop = _shop(report, preset, weights, runs, minutes, steps, scenes, resume, init)
            stages.train_grounding(shop, method)

    whose = "With --data, of your own pictures with boxes, for any base of one text encoder."
    app.command(name=method, help=f"{about}\n\n{whose}")(command)


def _is_own(asked: own.Asked, names: Sequence[str], preset: str, scenes: int | None) -> bool:
    """Whether one's own pictures are trained on; options of the others are refused."""
    if asked.data is not None:
        if scenes is not None or preset != "mini":
            raise ValueError("--scenes and --preset are of the embedded world: not with --data")
        return True
    if words := asked.words(names):
        raise ValueError(f"{words[0]} is for pictures of your own: give --data, too")
    return False


for _stage, _about in STAGES.items():
    if _stage in ("gligen", "interact", "migc"):
        _add_grounding(_stage, _about)
    else:
        _add_stage(_stage, _about)


@app.command()
def text2image(
    style: Style = "",
    preset: Preset = "mini",
    out: Out = Path("runs/weights"),
    runs: Runs = Path("runs"),
    minutes: Minutes = None,
    steps: Steps = None,
    scenes: Scenes = None,
    resume: Resume = True,
    init: Init = None,
) -> None:
    """The base: text to pictures. Needs the autoencoder."""
    from unicond.training import stages

    with _reported() as report:
        shop = _shop(report, preset, out, runs, minutes, steps, scenes, resume, init)
        stages.train_text2image(shop, style)


@app.command()
def joint(
    condition: Condition = "depth",
    data: own.Data = None,
    base: own.Base = None,
    preset: Preset = "mini",
    out: JointOut = None,
    runs: Runs = Path("runs"),
    minutes: Minutes = None,
    steps: Steps = None,
    scenes: Scenes = None,
    resume: Resume = True,
    init: Init = None,
    rank: own.Rank = None,
    y_rank: own.YRank = None,
    y_conv_rank: own.YConvRank = None,
    batch_size: own.BatchSize = None,
    accumulate: own.Accumulate = None,
    lr: own.Lr = None,
    precision: own.PrecisionOf = None,
    seed: own.Seed = None,
    validate_every: own.ValidateEvery = None,
    size: own.Size = None,
    zoom: own.Zoom = None,
    flip: own.Flip = None,
    color: own.Color = None,
    held_out: own.HeldOut = None,
    trigger: own.Trigger = None,
    column: own.Column = None,
    split: own.Split = None,
    subset: own.Subset = None,
    image_column: own.ImageColumn = None,
    caption_column: own.CaptionColumn = None,
    accept_changed_data: own.AcceptChangedData = False,
    cache_latents: own.CacheLatents = False,
    checkpointing: own.Checkpointing = False,
    eight_bit: own.EightBit = False,
) -> None:
    """A joint adapter: an image and its condition together.

    With --data, of your own pictures, for any base; else of the embedded world, for mini.
    """
    said = dict(locals())
    asked = own.Asked(**{name: said[name] for name in (*own.COMMON, *own.OWN)})
    with _reported() as report:
        if _is_own(asked, own.OWN, preset, scenes):
            from unicond.training.own.run import train_pictures

            train_pictures(own.job_of(asked), report)
            return
        from unicond.training import stages

        weights = out or Path("runs/weights")
        shop = _shop(report, preset, weights, runs, minutes, steps, scenes, resume, init)
        stages.train_joint(shop, condition)


@app.command()
def readout(
    condition: Read = "depth",
    preset: Preset = "mini",
    out: Out = Path("runs/weights"),
    runs: Runs = Path("runs"),
    minutes: Minutes = None,
    steps: Steps = None,
    scenes: Scenes = None,
    resume: Resume = True,
    init: Init = None,
) -> None:
    """A readout head: reads a map off the base's features, for guidance. Needs the base."""
    from unicond.training import stages

    with _reported() as report:
        shop = _shop(report, preset, out, runs, minutes, steps, scenes, resume, init, "readout")
        stages.train_readout(shop, condition)


@app.command(name="all")
def all_(
    preset: Preset = "mini",
    out: Out = Path("runs/weights"),
    runs: Runs = Path("runs"),
    minutes: Minutes = None,
    steps: Steps = None,
    scenes: Scenes = None,
    resume: Resume = True,
    publish: Publish = None,
) -> None:
    """Every weight that ships, in order; what is up to date is skipped."""
    from unicond.training import stages

    with _reported() as report:
        shop = _shop(report, preset, out, runs, minutes, steps, scenes, resume)
        stages.train_all(shop)
        if publish is not None:
            stages.publish(shop, publish)
