"""Sweeps of `unicond table tasks`: one setting varied, each task's own measures at every value.

A part is some methods of a task, measured as the task's group measures them, on fewer scenes. Its
rows are `task/SETTING_VALUE/method` (restoration: `task/operator-SETTING_VALUE/method`), and have
the setting as a metric, so that they are drawn as curves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from unicond.evaluation.curves import Panel, save_curves
from unicond.evaluation.estimates import FOUND, Estimate, Estimates, mean, row_of
from unicond.evaluation.runner import Measure, Samples
from unicond.evaluation.sheet import KEPT
from unicond.evaluation.study import Bench
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks.group import COSTS, kept_picture
from unicond.pictures.sheet import Line

Setting = Literal["guidance", "steps"]
"""Of `Bench.generation`."""
SHOWN = 2
"""Scenes that are shown of each method."""


class Drawn(Protocol):
    """Cases of a task: a dataclass that knows its bench."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def bench(self) -> Bench:
        """What is measured and what measures it."""
        ...


Cases = TypeVar("Cases", bound=Drawn)


@dataclass(frozen=True)
class Part(Generic[Cases]):
    """Some methods of a task.

    Attributes:
        task: first part of the rows' names.
        methods: of a bench, in the order shown.
        prepare: the cases of a range of scenes.
        measure: a method on cases, under the settings of their bench.
        metrics: {metric: what it says}, those that are drawn first.
        case: of the task, where it has several.
        kept: the folder of a method's pictures under a value of the setting; None is the method.
        drawn: so many metrics are drawn.
        missing: {method: why a bench has it not}.
        weigh: from a scene's number to its weight in the means of the metrics.
    """

    task: str
    methods: Callable[[Bench], Sequence[str]]
    prepare: Callable[[Bench, range], Cases]
    measure: Callable[[str, Cases], Samples]
    metrics: Mapping[str, str]
    case: str = ""
    kept: Callable[[str, Sampling], str] | None = None
    drawn: int = 2
    missing: Callable[[Bench], Mapping[str, str]] = lambda _: {}
    weigh: Callable[[int], float] = lambda _: 1.0

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.task}-{self.case}" if self.case else self.task

    def at(self, setting: Setting, value: float) -> str:
        """The second part of the rows' names."""
        start = f"{self.case}-" if self.case else ""
        return f"{start}{setting}_{value:g}"

    def under(self, bench: Bench, setting: Setting, value: float) -> Bench:
        """The same bench under a value of the setting; its pictures lie apart."""
        change = Sampling(guidance=value) if setting == "guidance" else Sampling(steps=int(value))
        told = {key: each for key, each in vars(change).items() if each is not None}
        generation = replace(bench.generation, **told)
        folder = bench.folder / "swept" / self.task / self.at(setting, value)
        return replace(bench, generation=generation, folder=folder)

    def run(self, method: str, setting: Setting, value: float, cases: Cases) -> Samples:
        """A method on cases under a value of the setting."""
        return self.measure(method, replace(cases, bench=self.under(cases.bench, setting, value)))

    def rows(self, bench: Bench, setting: Setting, values: Sequence[float]) -> list[Row]:
        """All methods at all values, measured."""
        asked = [(value, method) for value in values for method in self.methods(bench)]
        measures = [
            Measure(
                f"{self.at(setting, value)}-{method}", partial(self.run, method, setting, value)
            )
            for value, method in asked
        ]
        found = bench.measure(f"{self.name}-{setting}", measures, partial(self.prepare, bench))
        rows: list[Row] = []
        for value, method in asked:
            at = self.at(setting, value)
            measure = f"{at}-{method}"
            numbers = {metric: self._number(found, measure, metric) for metric in self.metrics}
            numbers |= {cost: partial(mean, found[measure], cost) for cost in COSTS}
            row = row_of(f"{self.task}/{at}/{method}", numbers, bench.run.scenes)
            rows.append(replace(row, metrics={**row.metrics, setting: value}))
        return rows

    def _number(self, found: Mapping[str, Samples], measure: str, metric: str) -> Estimate:
        """A mean over the scenes; of objects found, over all that are named."""
        if metric in FOUND:
            return Estimates(found).number(metric, measure)
        return partial(mean, found[measure], metric, weigh=self.weigh)

    def lines(
        self, bench: Bench, setting: Setting, values: Sequence[float]
    ) -> dict[str, list[Line]]:
        """The first pictures of each method, a line a scene, from value to value."""
        found: dict[str, list[Line]] = {}
        captions = [f"{setting} {value:g}" for value in values]
        for method in self.methods(bench):
            for number in range(min(bench.run.scenes, SHOWN, KEPT)):
                pictures = [
                    kept_picture(under, self._folder(method, under), number)
                    for under in (self.under(bench, setting, value) for value in values)
                ]
                line = Line(f"scene {number}", pictures, captions)
                found.setdefault(f"{self.name}, {method}", []).append(line)
        return found

    def panels(self, table: Table, setting: Setting) -> list[Panel]:
        """The drawn metrics over the setting, a line a method."""
        lines: dict[str, list[Row]] = {}
        for row in table.rows:
            task, case, method = row.name.split("/")
            mine = task == self.task and case.rpartition("-")[0] == self.case
            if mine and setting in row.metrics:
                lines.setdefault(method, []).append(row)
        shown = list(self.metrics)[: self.drawn]
        return [
            Panel(setting, metric, lines, log=setting == "steps", what=self.name)
            for metric in shown
            if lines
        ]

    def _folder(self, method: str, under: Bench) -> str:
        return method if self.kept is None else self.kept(method, under.generation)


def save_panels(panels: Sequence[Panel], table: Table, path: Path, what: str) -> Path:
    """Draw a sweep.

    Args:
        panels: in the order shown.
        table: of the numbers.
        path: of the PNG.
        what: was swept.

    Returns:
        The path.
    """
    return save_curves(panels, path, f"{what}, {table.scenes} held-out scenes", columns=4)
