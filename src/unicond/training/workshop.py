"""Where a training works: folders, overrides of the preset, what is up to date, what is kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from safetensors import SafetensorError

from unicond.data import renders
from unicond.data.folders import whole_folder
from unicond.data.renders import Recipe as Renders
from unicond.data.renders import RenderRecipe, Told
from unicond.pictures.files import make_output_folder
from unicond.training import cards, checkpoints, presets, processes
from unicond.training.budget import Budget
from unicond.training.cards import TrainingCard
from unicond.training.checkpoints import SaveError
from unicond.training.journal import Report, silent
from unicond.training.loop import LoopConfig, Task, fit, seeded
from unicond.training.presets import Preset


class Recipe(Protocol):
    """What every stage's configuration has."""

    @property
    def loop(self) -> LoopConfig:
        """How it is optimised."""
        ...

    @property
    def scenes(self) -> int:
        """Number of training scenes."""
        ...


R = TypeVar("R")
LIMITED = ("normal_scenes", "reconstructed_scenes")
"""Fields of recipes that are at most `scenes`."""


@dataclass(frozen=True)
class Workshop:
    """Where a training works, and how it is told to differ from its preset.

    Args:
        preset: name of the recipes.
        weights: folder of all finished weights.
        runs: folder of checkpoints, logs and sample pictures.
        cache: folder of renders and latents.
        minutes: another budget than the preset's.
        steps: another budget than the preset's, in steps.
        scenes: another number of training scenes.
        resume: go on from a run's checkpoint; one of another run is set aside. If not, it is
            overwritten.
        init: weights to start from: a folder that an earlier run of the same stage made.
        report: told the share that is done and a line of text.
    """

    preset: str = "mini"
    weights: Path = Path("runs/weights")
    runs: Path = Path("runs")
    cache: Path = Path("runs/cache")
    minutes: float | None = None
    steps: int | None = None
    scenes: int | None = None
    resume: bool = True
    init: Path | None = None
    report: Report = field(default=silent)

    def command(self, stage: str) -> str:
        """The command line that runs a stage as this workshop would."""
        flags = {
            "preset": self.preset,
            "minutes": self.minutes,
            "steps": self.steps,
            "scenes": self.scenes,
            "init": self.init and (self.init.name if self.init.is_absolute() else self.init),
        }
        said = [f"--{name} {value}" for name, value in flags.items() if value is not None]
        return " ".join(["unicond train", stage, *said])

    @property
    def recipes(self) -> Preset:
        """The preset's recipes."""
        return presets.named(self.preset)

    @property
    def device(self) -> torch.device:
        """Where training runs."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def changed(self, config: R) -> R:
        """A stage's recipe with this workshop's budget and number of scenes."""
        loop: LoopConfig = config.loop  # type: ignore[attr-defined]
        changes: dict[str, object] = {"loop": presets.with_budget(loop, self.minutes, self.steps)}
        if self.scenes is not None:
            changes["scenes"] = self.scenes
            for name in LIMITED:
                if hasattr(config, name):
                    changes[name] = min(getattr(config, name), self.scenes)
        return replace(config, **changes)  # type: ignore[type-var]

    def drawn(self, recipe: Renders, count: int, names: Sequence[str]) -> Path:
        """The folder of the renders of a recipe; what is missing is drawn first."""
        told = self.telling("scenes drawn")
        return renders.draw(recipe, self.cache, count, names, self.device, told)

    def telling(self, what: str) -> Told:
        """Tells how far something is that has to be made before a training begins."""

        def told(done: int, wanted: int) -> None:
            self.report(0.0, f"{what}: {done} of {wanted}")

        return told

    def parent(self, name: str, stage: str) -> Path:
        """A folder of weights that must be there.

        Args:
            name: of the folder.
            stage: the command that makes it.

        Returns:
            The folder.

        Raises:
            ValueError: it is not; the message says which command makes it.
        """
        folder = self.weights / name
        if not folder.exists():
            made = f"unicond train {stage} --preset {self.preset}"
            raise ValueError(f"{folder} is not there; make it first: {made}")
        return folder


@dataclass(frozen=True)
class Job:
    """One stage that is to be run.

    Args:
        name: of its run.
        title: what it makes, for the card.
        command: that runs it, for the card.
        folder: of the finished weights.
        config: its recipe.
        parents: {name: fingerprint} of the weights that it builds on.
    """

    name: str
    title: str
    command: str
    folder: Path
    config: Recipe
    parents: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Recipe, parents and world as one hash (see `cards`)."""
        return cards.key(self.config, {**self.parents, "world": world()})


def world() -> str:
    """What tells the embedded world, as it is drawn now, from those of other versions."""
    return RenderRecipe().folder(Path()).name


Save = Callable[[Path, TrainingCard], None]


def run(shop: Workshop, job: Job, build: Callable[[], tuple[Task, Save]]) -> Path:
    """Train a stage unless its weights are up to date; they appear when they are whole.

    Args:
        shop: where.
        job: what.
        build: loads the data and returns the task, and what writes its weights into a folder.

    Returns:
        The folder of weights.

    Raises:
        SaveError: the weights cannot be written (a full disk); the training is kept.
    """
    if cards.up_to_date(job.folder, job.key) and shop.init is None:
        shop.report(1.0, f"{job.folder} is up to date")
        return job.folder
    place = shop.runs / job.name
    make_output_folder(job.folder.parent)
    make_output_folder(place)
    loop = job.config.loop
    if shop.device.type == "cuda":
        loop = presets.on_gpu(loop, own_budget=shop.minutes is not None)
    loop = replace(loop, precision=processes.as_main(presets.as_fast(loop, shop.device).precision))
    if loop.precision != job.config.loop.precision:
        shop.report(0.0, "in float32: bfloat16 is slower on this CPU")
    about = {"identity": _identity(shop, job), "world": world()}
    resume = shop.resume and _same_run(shop, place, about)
    with seeded(loop.seed):
        task, save = build()
    scores = fit(task, loop, place, resume, shop.report, about=about)
    state = processes.this_process()
    if state.is_main_process:
        card = replace(_card(shop, job, scores), precision=loop.precision)
        _write(job, save, card, place)
        shop.report(1.0, f"{job.folder} is ready")
    state.wait_for_everyone()  # the next stage looks for what this one has made
    return job.folder


def _write(job: Job, save: Save, card: TrainingCard, place: Path) -> None:
    """Put finished weights in their place."""
    try:
        with whole_folder(job.folder) as aside:
            save(aside, card)
            card.write(aside)
            for path in aside.rglob("*"):  # safetensors' files are for their owner alone
                path.chmod(0o755 if path.is_dir() else 0o644)
    except (OSError, SafetensorError) as error:
        raise SaveError(
            f"cannot write {job.folder} ({str(error).splitlines()[0]}); its training is done and "
            f"kept in {place / 'checkpoint'}: make room, and run the same command again"
        ) from error


def _identity(shop: Workshop, job: Job) -> str:
    """What tells a run from others, beside the world: its recipe, parents and start.

    The budget does not count: a run can be given more time.
    """
    timeless = replace(job.config.loop, budget=Budget(steps=1))
    config = replace(job.config, loop=timeless)  # type: ignore[type-var]
    return cards.key(config, {**job.parents, "init": str(shop.init)})


def _same_run(shop: Workshop, place: Path, about: Mapping[str, str]) -> bool:
    """Whether a run's folder holds a checkpoint of this recipe, parents, start and world.

    The folder of another run is set aside, so that no checkpoint of something else is taken for the
    result, and none is lost.
    """
    state, checkpoint = processes.this_process(), place / "checkpoint"
    if state.is_main_process:
        checkpoints.recover(checkpoint)
    state.wait_for_everyone()
    file = place / "identity.txt"  # where runs of old have it
    old = {"identity": file.read_text()} if file.exists() else {}
    found = {"world": about["world"], **old, **checkpoints.about(checkpoint)}  # some tell no world
    differ = [name for name, value in about.items() if found.get(name) != value]
    other = bool(differ) and checkpoint.exists()
    state.wait_for_everyone()  # all have looked
    if other and state.is_main_process:
        aside = _set_aside(place)
        what = " and ".join(_TOLD[name] for name in differ)
        shop.report(
            0.0,
            f"{place} was another run ({what} differ): it is kept as {aside}, and this one is "
            f"begun anew; to go on with that one, give it its name again, and what it was begun "
            "with",
        )
    state.wait_for_everyone()
    return not differ


_TOLD = {"identity": "recipe, parents or start", "world": "the pictures of the world"}


def _set_aside(folder: Path) -> Path:
    """Give a run's folder a name that is free, and return it."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.another-run-{number}")).exists():
        number += 1
    return folder.rename(aside)


def _card(shop: Workshop, job: Job, scores: Mapping[str, float]) -> TrainingCard:
    """What there is to say of a finished run, and of those before it."""
    old = cards.read(shop.init) if shop.init else None
    position = checkpoints.position(shop.runs / job.name / "checkpoint")
    return TrainingCard(
        title=job.title,
        command=job.command,
        key=job.key,
        seed=job.config.loop.seed,
        seconds=round(position.seconds, 1),
        steps=position.step,
        hardware=cards.hardware(shop.device),
        scores=scores,
        earlier=(*old.earlier, old.run) if old else (),
        parents={**(old.parents if old else {}), **job.parents},
        recipe=cards.plain(job.config),
    )
