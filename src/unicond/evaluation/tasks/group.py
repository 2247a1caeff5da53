"""What a group of `unicond table tasks` is, and what its rows have in common.

A group measures the methods of one task, each on the same held-out cases. Its rows are named
`group/case/method`; all have means over the scenes of the case with their 95 % intervals, and what
a scene costs: `seconds` and the network's `calls`; `seed` is the table's. A group is made by
`tabulate` as every study is, so that it goes on where it was interrupted and several processes
share it; it is one file beside this one, named in `registry.GROUPS`. Its bars say what is expected
of its numbers.
"""

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unicond.evaluation.bars import Bar
from unicond.evaluation.estimates import Estimate, mean, row_of
from unicond.evaluation.runner import Samples
from unicond.evaluation.study import Bench, Study, network_calls
from unicond.evaluation.subject import fingerprint
from unicond.evaluation.tables import Row, Table
from unicond.loading import load_readout
from unicond.model import Model
from unicond.pictures.reading import read_picture
from unicond.pictures.sheet import Line
from unicond.tasks.heads import has_head

ALL = "all"
"""The case of a group's rows over all of its scenes."""
COSTS = ("seconds", "calls")
"""What every row has beside its metrics."""

LEFT_OUT = "rows left out"
"""The setting that says which rows a table has none of."""


@dataclass(frozen=True)
class Group:
    """One task's methods, and how they are measured.

    Attributes:
        name: in the rows, and of `--group`.
        about: what is done and what is known, in a sentence.
        make: measures, and returns the rows.
        show: after `make`: {title: lines of pictures}.
        draw: saves the plot of the group's table as a PNG.
        bounds: methods that others are compared with: trivial ones, and what cannot be reached.
        metrics: {metric: what it says}, in the order shown.
        needs: the conditions whose adapters it takes.
        version: raised when the meaning of its numbers changes.
        base: what it is measured on where no base is named.
        takes: conditions whose adapters it has rows for, and goes without.
        bars: what is expected of its numbers.
        scenes: how many it is measured on where no number is asked for.
        missing: {row: why a model has none of it}.
        companion: it has a row of two models, the other one given.
        heads: conditions whose readout heads its rows are read by, where the base has them.
    """

    name: str
    about: str
    make: Callable[[Bench], Sequence[Row]]
    show: Callable[[Bench], Mapping[str, Sequence[Line]]]
    draw: Callable[[Table, Path], object]
    bounds: tuple[str, ...]
    metrics: Mapping[str, str]
    needs: tuple[str, ...] = ()
    version: str = "1"
    base: str = "mini"
    takes: tuple[str, ...] = ()
    bars: tuple[Bar, ...] = ()
    scenes: int = 100
    missing: Callable[[Bench], Mapping[str, str]] = lambda _: {}
    companion: bool = False
    heads: tuple[str, ...] = ()

    @property
    def adapters(self) -> tuple[str, ...]:
        """Those that it is measured with: what it needs, and what it goes without."""
        return (*self.needs, *self.takes)

    @property
    def study(self) -> Study:
        """The group as `tabulate` takes it."""
        return Study(
            f"tasks-{self.name}",
            self._seeded,
            self.draw,
            needs=self.needs,
            version=self.version,
            bare=not self.needs,
            also=self._heads,
            expects=lambda _: self.bars,
        )

    def noted(self, table: Table, bench: Bench) -> Table:
        """The group's table with what it has no row of."""
        left = self.missing(bench)
        told = {LEFT_OUT: "; ".join(f"{name}: {why}" for name, why in left.items())}
        return replace(table, settings={**table.settings, **(told if left else {})})

    def _heads(self, bench: Bench) -> dict[str, str]:
        """{readout head: its fingerprint}, which loads with no adapter."""
        there = [kind for kind in self.heads if has_head(kind, bench.model)]
        return {f"readout head {kind}": fingerprint(load_readout(kind)) for kind in there}

    def _seeded(self, bench: Bench) -> list[Row]:
        """The rows, each with the seed that it was made by."""
        seed = {"seed": bench.run.seed}
        return [replace(row, metrics={**row.metrics, **seed}) for row in self.make(bench)]


@dataclass
class Cost:
    """What something cost.

    Attributes:
        seconds: time.
        calls: of the networks.
    """

    seconds: float = 0.0
    calls: int = 0


@contextmanager
def cost_of(*models: Model) -> Generator[Cost]:
    """What is done with models of different networks while this is open; known when it closes."""
    cost, started = Cost(), time.perf_counter()
    with ExitStack() as watched:
        rows = [watched.enter_context(network_calls(model)) for model in models]
        yield cost
    cost.seconds = time.perf_counter() - started
    cost.calls = sum(map(len, rows))


def costs(each: Sequence[Cost]) -> dict[str, list[float | None]]:
    """The values of `COSTS`, one a scene."""
    return {name: [float(getattr(cost, name)) for cost in each] for name in COSTS}


def shared_cost(cost: Cost, scenes: int) -> list[Cost]:
    """What each of some scenes cost that were made in the same calls: time is shared."""
    return [Cost(cost.seconds / scenes, cost.calls)] * scenes


def case_rows(
    group: str,
    found: Mapping[str, Samples],
    cases: Sequence[str],
    metrics: Sequence[str],
    weigh: Callable[[int], float] = lambda _: 1.0,
) -> list[Row]:
    """A row for each method on all scenes, and on those of each case.

    Args:
        group: first part of the rows' names.
        found: {method: its samples}.
        cases: of the scenes, one each.
        metrics: in the order shown; the costs follow.
        weigh: from a scene's number to its weight in the means of the metrics.

    Returns:
        Rows `group/case/method`, those of all scenes first; metrics that apply to no scene of a
        case are left out.
    """
    rows: list[Row] = []
    for case in dict.fromkeys((ALL, *cases)):
        scenes = [n for n, each in enumerate(cases) if case in (ALL, each)]
        for method, samples in found.items():
            numbers: dict[str, Estimate] = {
                metric: partial(_over, samples, metric, scenes, weigh=weigh) for metric in metrics
            }
            numbers |= {cost: partial(_over, samples, cost, scenes) for cost in COSTS}
            rows.append(row_of(f"{group}/{case}/{method}", numbers, len(scenes)))
    return rows


def _over(
    samples: Samples,
    metric: str,
    scenes: Sequence[int],
    rows: Sequence[int],
    weigh: Callable[[int], float] = lambda _: 1.0,
) -> float:
    """The mean of a metric over some of a case's scenes."""
    return mean(samples, metric, [scenes[row] for row in rows], weigh)


def gain(samples: Samples, other: Samples, metric: str) -> Estimate:
    """How much more of a metric one measure has than another on the same scenes, in the mean."""
    return lambda rows: mean(samples, metric, rows) - mean(other, metric, rows)


def as_share(values: Sequence[bool]) -> list[float | None]:
    """Yes and no as 1 and 0, whose mean is a share."""
    return [float(value) for value in values]


def only(table: Table, group: str, case: str) -> Table:
    """The rows of one case, named by their methods alone: for a plot.

    Args:
        table: of a group.
        group: its name.
        case: of the rows.

    Returns:
        A table of those.
    """
    start = f"{group}/{case}/"
    rows = [row for row in table.rows if row.name.startswith(start)]
    named = tuple(replace(row, name=row.name.removeprefix(start)) for row in rows)
    return replace(table, rows=named)


def through_autoencoder(model: Model, pictures: Tensor) -> Tensor:
    """(B, 3, H, W) pictures as the model's autoencoder gives them back: the best a latent has."""
    with torch.no_grad():
        decoded = model.backbone.decode(model.backbone.encode(pictures))
    return decoded.to(pictures).clamp(-1, 1)


def kept_picture(bench: Bench, part: str, number: int) -> Tensor:
    """A picture that a measure kept, (3, H, W) in [-1, 1].

    Args:
        bench: of the group.
        part: folder of the measure's pictures.
        number: of the scene.

    Returns:
        The picture.
    """
    return read_picture(bench.folder / "pictures" / part / f"{number:03d}.png")


def joined(tables: Sequence[Table], command: str, names: Sequence[str]) -> Table:
    """The tables of several groups as one.

    Args:
        tables: one or more, of one seed.
        command: that made them.
        names: of the groups.

    Returns:
        All rows; settings that the tables do not share, and findings, are named by their group.
    """
    first = tables[0]
    named = list(zip(names, tables, strict=True))
    same = {
        key: value
        for key, value in first.settings.items()
        if all(table.settings.get(key) == value for table in tables)
    }
    own = {
        f"{group} {key}": value
        for group, table in named
        for key, value in table.settings.items()
        if key not in same
    }
    if len({table.scenes for table in tables}) > 1:
        own |= {f"{group} scenes": str(table.scenes) for group, table in named}
    findings = [
        replace(each, claim=each.claim if len(tables) == 1 else f"{group}: {each.claim}")
        for group, table in named
        for each in table.findings
    ]
    return Table(
        command=command,
        seed=first.seed,
        seconds=math.fsum(table.seconds for table in tables),
        scenes=max(table.scenes for table in tables),
        rows=tuple(row for table in tables for row in table.rows),
        settings=same | own,
        machine=first.machine,
        findings=tuple(findings),
    )
