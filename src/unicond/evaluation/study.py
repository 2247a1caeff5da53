"""`unicond table NAME`: what a study is, and how its table is made by the tables' own runner.

A study measures one model, with one or several adapters, under settings that vary. It is made of
parts, each a list of measures on the held-out scenes of its own condition; a part is what `collect`
runs and goes on with. `varied` makes one measure of another: the same, under other settings.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from unicond.conditions import CONDITIONS, Condition, named
from unicond.evaluation.bars import Bar, with_findings
from unicond.evaluation.cases import TABLE_WORLD, HeldOut
from unicond.evaluation.chunk import Chunk
from unicond.evaluation.condition_table import VERSION, Run, world_fingerprint
from unicond.evaluation.estimates import Estimates
from unicond.evaluation.judge import Judge
from unicond.evaluation.measures import FIDELITIES, measures
from unicond.evaluation.report import save_plot
from unicond.evaluation.runner import Measure, Samples, collect, settings_hash
from unicond.evaluation.subject import Sampling, Subject
from unicond.evaluation.tables import Row, Table, describe_machine, save_table
from unicond.model import Model

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Other:
    """A second base that the same adapters are measured on.

    Attributes:
        model: that base, with the adapters.
        style: of the scenes that it is measured on.
    """

    model: Model
    style: str = "photo"


@dataclass(eq=False)
class Bench:
    """What a study is measured with.

    Attributes:
        model: with every adapter of the study.
        judge: reads pictures.
        run: how much, where.
        generation: settings wherever the image is generated.
        other: a second base, where the study compares two.
        folder: of this study's files.
        seconds: spent measuring so far, earlier runs included.
    """

    model: Model
    judge: Judge
    run: Run
    generation: Sampling = field(default_factory=Sampling)
    other: Other | None = None
    folder: Path = Path()
    seconds: float = 0.0

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions whose adapters the model has, in their usual order."""
        return tuple(each for each in CONDITIONS if each.branch in self.model.adapters)

    def subject(self, condition: Condition, model: Model | None = None) -> Subject:
        """The model as the subject of one condition's measures."""
        return Subject(model or self.model, condition.branch, self.generation)

    def chunks(
        self, name: str, condition: Condition, subject: Subject | None = None, style: str = "photo"
    ) -> Callable[[range], Chunk]:
        """What prepares the chunks of a part.

        Args:
            name: of the part.
            condition: what its images are paired with.
            subject: None is that of the condition.
            style: of the scenes.

        Returns:
            A function of a range of scenes.
        """
        tested = subject or self.subject(condition)
        size = tested.model.backbone.sample_size
        place = self.folder / "scenes" / f"{condition.scenes}-{style}"  # parts share the list
        held_out = HeldOut(TABLE_WORLD, self.run.seed, size, place, condition, style)

        def prepare(rows: range) -> Chunk:
            return Chunk(held_out.cases(rows), tested, self.judge, self.folder / "pictures" / name)

        return prepare

    def measure(
        self,
        name: str,
        measures: Sequence[Measure[Made]],
        prepare: Callable[[range], Made],
        scenes: int | None = None,
    ) -> dict[str, Samples]:
        """Measure a part, or go on with one that was interrupted.

        Args:
            name: of the part.
            measures: with different names.
            prepare: makes the chunk of a range of scenes.
            scenes: how many; None is as many as the run has.

        Returns:
            {measure: its samples}.
        """
        run, place = self.run, self.folder / "parts" / name
        count = run.scenes if scenes is None else scenes
        found = collect(measures, prepare, count, run.batch, place, run.quiet)
        self.seconds += sum(samples.seconds for samples in found.values())
        return found

    def estimates(self, condition: Condition, wanted: Sequence[Measure[Chunk]]) -> Estimates:
        """Measure some of a condition, and estimate from that by its main metric."""
        name = condition.name
        found = self.measure(name, wanted, self.chunks(name, condition))
        return Estimates(found, FIDELITIES[name].metrics[0])


@dataclass(frozen=True)
class Study:
    """A table that `unicond table` makes.

    Attributes:
        name: of the command.
        make: measures, and returns the rows.
        draw: saves the plot of the table as a PNG.
        needs: the conditions whose adapters it takes, all of them; none takes any adapters.
        usual: the adapters that it takes if none is named and `needs` is empty; none is all.
        version: raised when the meaning of its numbers changes.
        bare: it brings its own adapters; the model has none.
        also: {setting: value} of what its numbers depend on beside the model and the probes.
        expects: what is asked of its rows.
    """

    name: str
    make: Callable[[Bench], Sequence[Row]]
    draw: Callable[[Table, Path], object]
    needs: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()
    version: str = "1"
    bare: bool = False
    also: Callable[[Bench], Mapping[str, str]] = lambda _: {}
    expects: Callable[[Sequence[Row]], Sequence[Bar]] = lambda _: ()

    def check(self, branches: Iterable[str]) -> None:
        """Refuse a model that lacks an adapter.

        Args:
            branches: of the model's adapters.

        Raises:
            ValueError: one is missing, or none is there; the message says how to get it.
        """
        there = set(branches)
        if self.bare:
            return
        missing = [name for name in self.needs if named(name).branch not in there]
        unknown = there - {condition.branch for condition in CONDITIONS}
        if unknown:
            raise ValueError(
                f"no condition has the branch {sorted(unknown)[0]!r}: give --adapter "
                f"CONDITION=FOLDER with one of {', '.join(each.name for each in CONDITIONS)}"
            )
        if missing or not there:
            what = f"the adapters {', '.join(self.needs)}" if self.needs else "an adapter"
            lacks = f", but there is no {', '.join(missing)}" if missing else ""
            name = (*missing, "depth")[0]
            raise ValueError(
                f"table {self.name} needs {what}{lacks}: train it with `unicond train joint "
                f"--condition {name}`, or give --adapter {name}=FOLDER"
            )


def tabulate(study: Study, bench: Bench) -> tuple[Table, Path]:
    """Make a study's table, or go on with one that was interrupted.

    Args:
        study: which.
        bench: what is measured and what measures it; its folder and seconds are set here.

    Returns:
        The table, and the folder with its files: `table.json`, `table.csv`, `plot.png`.

    Raises:
        ValueError: the model lacks an adapter.
    """
    study.check(bench.model.adapters)
    run, backbone = bench.run, bench.model.backbone
    settings = {
        **run.settings,
        **study.also(bench),
        "table": f"{study.name} {study.version}, {VERSION}",
        "seed": str(run.seed),
        "world": world_fingerprint(backbone.sample_size),
        "generation": bench.generation.label(),
    }
    if bench.other is not None:
        settings["other style"] = bench.other.style
    hashed = settings_hash(settings | {"batch": str(run.batch)})
    bench.folder, bench.seconds = run.out / f"{study.name}-{hashed}", 0.0
    rows = tuple(study.make(bench))
    table = Table(
        command=run.command,
        seed=run.seed,
        seconds=bench.seconds,
        scenes=run.scenes,
        rows=rows,
        settings=settings,
        machine=describe_machine(backbone.device),
    )
    table = with_findings(table, study.expects(rows))
    save_table(table, bench.folder)
    study.draw(table, bench.folder / "plot.png")
    return table, bench.folder


def bars(table: Table, path: Path, metrics: Sequence[str], title: str) -> Path:
    """A plot of bars: those of some metrics that a table has, or its first."""
    every = table.metrics()
    shown = [metric for metric in metrics if metric in every] or every[:1]
    return save_plot(table, path, shown, f"{title}, {table.scenes} held-out scenes")


def picked(subject: Subject, condition: Condition, names: Sequence[str]) -> list[Measure[Chunk]]:
    """Some of the measures of a condition's own table, by their names."""
    every = {each.name: each for each in measures(condition, subject.config)}
    return [every[name] for name in names]


def varied(
    measure: Measure[Chunk],
    name: str,
    generation: Sampling | None = None,
    estimation: Sampling | None = None,
) -> Measure[Chunk]:
    """The same measure under other settings.

    Args:
        measure: of a chunk.
        name: of the new one; its pictures lie apart.
        generation: replaces those of the subject where it is not None, setting by setting.
        estimation: likewise.

    Returns:
        A measure.
    """

    def run(chunk: Chunk) -> Samples:
        subject = chunk.subject.with_settings(
            _over(chunk.subject.generation, generation), _over(chunk.subject.estimation, estimation)
        )
        pictures = chunk.pictures / name
        return measure.run(Chunk(chunk.cases, subject, chunk.judge, pictures))

    return Measure(name, run)


def _over(own: Sampling, other: Sampling | None) -> Sampling:
    """Settings, but for those that others name."""
    named_ = {} if other is None else {k: v for k, v in vars(other).items() if v is not None}
    return replace(own, **named_)


def counted(measure: Measure[Chunk]) -> Measure[Chunk]:
    """The same measure, and how many rows a scene the network computed: `network_rows`."""

    def run(chunk: Chunk) -> Samples:
        with network_calls(chunk.subject.model) as rows:
            samples = measure.run(chunk)
        count = len(chunk.cases.seeds)
        every: list[float | None] = [sum(rows) / count] * count
        return Samples({**samples.values, "network_rows": every}, samples.vectors)

    return Measure(measure.name, run)


@contextmanager
def network_calls(model: Model) -> Generator[list[int]]:
    """How many rows each call of the network computes, call by call, while this is open."""
    rows: list[int] = []
    hook = partial(_note, rows)
    handle = model.backbone.network.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield rows
    finally:
        handle.remove()


def _note(
    rows: list[int], module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    """Note the batch of a network's call: its first argument, or `sample`."""
    del module
    sample = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
    assert isinstance(sample, torch.Tensor)
    rows.append(len(sample))
