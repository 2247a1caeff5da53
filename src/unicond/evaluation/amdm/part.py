"""What a part of `unicond table amdm` is: it measures, it shows, and it says what it needs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from unicond.aggregation.manner import DEFAULT, Manner
from unicond.calls.output import Output
from unicond.evaluation.amdm.cases import Maker
from unicond.evaluation.amdm.models import PAPER_STEPS, Wanted, adapters_of, make, window_of
from unicond.evaluation.bars import Bar
from unicond.evaluation.study import Bench, Study
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks.group import kept_picture
from unicond.model import Model
from unicond.pictures.sheet import Line

Pictures = Mapping[str, Sequence[Line]]
"""{title: lines}."""


@dataclass(frozen=True)
class Asked:
    """How much a part measures, and how models are aggregated.

    Attributes:
        layouts: of mini-MIG.
        each: pictures of each layout.
        scenes: of people who act.
        manners: how several become one; `sweep` alone takes more than one.
    """

    layouts: int
    each: int
    scenes: int
    manners: tuple[Manner, ...] = (DEFAULT,)

    @property
    def manner(self) -> Manner:
        """The only manner."""
        [only] = self.manners
        return only


@dataclass(frozen=True)
class Part:
    """A part of the table.

    Attributes:
        name: of `--part`, and first in its rows' names, but for `mig`.
        about: what is measured, in a sentence or two.
        models: whose adapters it takes.
        make: measures, and returns the rows.
        show: after `make`: the pictures of its page.
        draw: saves the plot of its table as a PNG.
        sizes: what it measures where nothing is said.
        steps: moves, where nothing is said; several are of different rows.
        beside: {title: HTML} that stands on its page above the numbers.
        of_scenes: its cases are people who act alone, no layouts.
        sweeps: it compares several manners.
        version: raised when the meaning of its numbers changes.
        bars: what is expected of its numbers.
    """

    name: str
    about: str
    models: tuple[str, ...]
    make: Callable[[Bench, Asked], Sequence[Row]]
    show: Callable[[Bench, Asked], Pictures]
    draw: Callable[[Table, Path], object]
    sizes: Asked
    steps: tuple[int, ...] = (PAPER_STEPS,)
    beside: Mapping[str, str] = field(default_factory=dict[str, str])
    of_scenes: bool = False
    sweeps: bool = False
    version: str = "2"
    bars: tuple[Bar, ...] = ()

    def study(self, sizes: Asked) -> Study:
        """The part as `tabulate` takes it."""

        def rows(bench: Bench) -> Sequence[Row]:
            return self.make(bench, sizes)

        return Study(
            f"amdm-{self.name}",
            rows,
            self.draw,
            version=self.version,
            bare=True,
            expects=lambda _: self.bars,
        )

    def check(self, adapters: Collection[str], manners: int = 1) -> None:
        """Refuse a model that lacks an adapter, and several manners for a part that takes one.

        Args:
            adapters: names of those that will be loaded.
            manners: how many are asked for.

        Raises:
            ValueError: the message says how to get what is missing.
        """
        if manners > 1 and not self.sweeps:
            raise ValueError(
                f"--part {self.name} is made in one manner of aggregation, not in {manners}: give "
                "--mix, --mean, --window, --start and --weight once each, or take --part sweep"
            )
        needed = adapters_of(self.models)
        missing = [name for name in needed if name not in adapters]
        if missing:
            commands = ", ".join(f"`unicond train {name}`" for name in missing)
            raise ValueError(
                f"table amdm --part {self.name} needs the adapters {', '.join(needed)}, but there "
                f"is no {', no '.join(missing)}: train what is missing with {commands}, or give "
                f"{' '.join(f'--adapter {name}=FOLDER' for name in missing)}"
            )

    def check_windows(self, model: Model, manners: Sequence[Manner], steps: int | None) -> None:
        """Refuse windows that a run does not have.

        Args:
            model: that is measured.
            manners: that are asked for.
            steps: moves; None are the part's own.

        Raises:
            ValueError: the message says which moves there are.
        """
        try:
            for count, manner in product(self.steps if steps is None else (steps,), manners):
                window_of(model, Sampling(count), manner)
        except ValueError as error:
            raise ValueError(f"--part {self.name}: {error}") from None


def maker(names: Sequence[str], sampling: Sampling, manner: Manner = DEFAULT) -> Maker:
    """The maker of one model, or of several that are aggregated; see `models.make`."""

    def made(model: Model, wanted: Wanted, seeds: Sequence[int]) -> Output:
        return make(model, names, wanted, seeds, sampling, manner)

    return made


def grid(bench: Bench, part: str, titles: Sequence[str], kinds: Sequence[str]) -> list[Line]:
    """Same-seed pictures of the first cases, a line a case, a column a maker.

    Args:
        bench: with the folder.
        part: folder of the pictures.
        titles: one a case.
        kinds: makers, in the order shown.

    Returns:
        Lines of a sheet.
    """
    return [
        Line(title, [kept_picture(bench, f"{part}/{kind}", number) for kind in kinds], kinds)
        for number, title in enumerate(titles)
    ]
