"""`unicond evaluate settings`: the default settings, chosen by measurement on scenes of their own.

Depth chooses the base's. Depth -> image first sweeps text guidance x condition guidance, then
perturbed-attention guidance and steps x solver at the best of them; image -> depth sweeps steps x
noise on the image. Any other condition chooses what suits it on that base: both guidances, and
where it is a map of the image, steps and noise of its estimation.

The best generation is the one whose image is most faithful to the condition among those that find
the named objects within `FOUND_SLACK` of plain text-to-image's best: a condition must not be bought
with the caption. The best estimation is the most faithful one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from unicond.conditions import Condition
from unicond.evaluation.cases import SETTINGS_WORLD, HeldOut
from unicond.evaluation.chunk import Chunk, Fidelity, image_scores
from unicond.evaluation.condition_table import VERSION, Run, world_fingerprint
from unicond.evaluation.estimates import Estimates
from unicond.evaluation.judge import Judge
from unicond.evaluation.measures import FIDELITIES
from unicond.evaluation.runner import Measure, Samples, collect, settings_hash
from unicond.evaluation.subject import Sampling, Subject
from unicond.evaluation.tables import Row, Table, describe_machine, more_is_better, save_table

FOUND_SLACK = 0.03


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is swept.

    Attributes:
        guidance: of text, with and without the condition.
        condition_guidance: of the condition.
        perturbed_guidance: of shapes.
        steps: of generation; the first is that of the guidance sweep; None is the base's.
        solvers: of generation; the first is that of the other sweeps; None is the base's.
        estimation_steps: of image -> condition.
        noise: on the image of image -> condition.
        ensembles: noises whose estimates are averaged.
    """

    guidance: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0)
    condition_guidance: tuple[float, ...] = (0.0, 1.0, 2.0)
    perturbed_guidance: tuple[float, ...] = (0.0, 1.0)
    steps: tuple[int | None, ...] = (20, 10, 30)
    solvers: tuple[str | None, ...] = ("ddim", "dpmpp_2m", "euler_ancestral")
    estimation_steps: tuple[int, ...] = (1, 2, 4)
    noise: tuple[float, ...] = (0.0, 0.05, 0.1)
    ensembles: tuple[int, ...] = (1, 4)

    def __post_init__(self) -> None:
        empty = [name for name, values in vars(self).items() if not values]
        if empty:
            raise ValueError(f"nothing to try for {', '.join(empty)}; give at least one value each")


GRID_OF_BASE = Grid()
GRID_OF_CONDITION = Grid(
    guidance=(3.0, 5.0, 7.0),
    condition_guidance=(0.5, 1.0, 2.0, 3.0, 4.0),
    perturbed_guidance=(0.0,),
    steps=(None,),
    solvers=(None,),
)


@dataclass(frozen=True)
class Sweep:
    """The stages of a sweep: each measures some settings, and returns the rows and the best.

    Attributes:
        grid: what is swept.
        fidelity: of the condition.
        measure: {measure: samples} of some measures, on all scenes.
    """

    grid: Grid
    fidelity: Fidelity
    measure: Callable[[Sequence[Measure[Chunk]]], Mapping[str, Samples]]

    def texts(self) -> list[Row]:
        """Text -> image over text guidance."""
        base = Sampling(steps=self.grid.steps[0], solver=self.grid.solvers[0])
        return self._rows([self._text(replace(base, guidance=g)) for g in self.grid.guidance])

    def guidances(self, least_found: float) -> tuple[list[Row], Sampling]:
        """Condition -> image over both guidances, and the best."""
        base = Sampling(steps=self.grid.steps[0], solver=self.grid.solvers[0])
        return self._best_images(
            [
                replace(base, guidance=g, condition_guidance=c)
                for g, c in product(self.grid.guidance, self.grid.condition_guidance)
            ],
            least_found,
        )

    def shapes(self, base: Sampling, least_found: float) -> tuple[list[Row], Sampling]:
        """Condition -> image over perturbed-attention guidance, and the best."""
        return self._best_images(
            [replace(base, perturbed_guidance=s) for s in self.grid.perturbed_guidance], least_found
        )

    def samplers(self, base: Sampling, least_found: float) -> tuple[list[Row], Sampling]:
        """Condition -> image over steps and solver, and the best."""
        return self._best_images(
            [
                replace(base, steps=steps, solver=solver)
                for steps, solver in product(self.grid.steps, self.grid.solvers)
            ],
            least_found,
        )

    def estimations(self) -> tuple[list[Row], Sampling]:
        """Image -> condition over steps, noise and ensembles, and the best."""
        grid, solver = self.grid, self.grid.solvers[0]
        tried = [
            Sampling(steps=steps, noise=noise, solver=solver, ensemble=size)
            for steps, noise, size in product(grid.estimation_steps, grid.noise, grid.ensembles)
        ]
        rows = self._rows([self._estimate(each) for each in tried])
        return rows, tried[best_row(rows, -math.inf, self.fidelity.metrics[0])]

    def _best_images(
        self, tried: Sequence[Sampling], least_found: float
    ) -> tuple[list[Row], Sampling]:
        rows = self._rows([self._image(each) for each in tried])
        return rows, tried[best_row(rows, least_found, self.fidelity.metrics[0])]

    def _rows(self, tried: Sequence[Measure[Chunk]]) -> list[Row]:
        found = self.measure(tried)
        metrics = self.fidelity.metrics
        estimates, shown = Estimates(found, metrics[0]), (*metrics, "found", "seconds")
        return [estimates.row(name, name, shown) for name in found]

    def _text(self, sampling: Sampling) -> Measure[Chunk]:
        def run(chunk: Chunk) -> Samples:
            subject = chunk.subject.with_settings(generation=sampling)
            images = subject.text_to_image(chunk.cases.captions, chunk.cases.seeds)
            return image_scores(chunk, self.fidelity, images)

        return Measure(f"text {sampling.label()}", run)

    def _image(self, sampling: Sampling) -> Measure[Chunk]:
        def run(chunk: Chunk) -> Samples:
            cases, subject = chunk.cases, chunk.subject.with_settings(generation=sampling)
            images = subject.to_image(cases.captions, cases.seeds, cases.condition)
            return image_scores(chunk, self.fidelity, images)

        return Measure(f"image {sampling.label()}", run)

    def _estimate(self, sampling: Sampling) -> Measure[Chunk]:
        def run(chunk: Chunk) -> Samples:
            subject = chunk.subject.with_settings(estimation=sampling)
            drawn = subject.estimate(chunk.cases.images, chunk.cases.seeds)
            nothing_named: list[float | None] = [None] * len(drawn)
            scores = self.fidelity.of_drawings(chunk, drawn)
            return Samples({**scores, "named": nothing_named, "found": nothing_named})

        return Measure(f"estimate {sampling.label()}", run)


def best_row(rows: Sequence[Row], least_found: float, metric: str = "abs_rel") -> int:
    """The number of the most faithful row among those that find enough of what was named.

    Args:
        rows: with the metric, and `found` unless nothing was named.
        least_found: rows below it are left out, unless that leaves none.
        metric: of fidelity.

    Returns:
        Its index.
    """
    enough = [n for n, row in enumerate(rows) if row.metrics.get("found", 1.0) >= least_found]
    sign = -1 if more_is_better(metric) else 1
    return min(enough or range(len(rows)), key=lambda n: sign * rows[n].metrics[metric])


def sweep_settings(
    subject: Subject, judge: Judge, run: Run, condition: Condition, grid: Grid | None = None
) -> tuple[Table, Path]:
    """Measure the grid, stage by stage, or go on with a sweep that was interrupted.

    Args:
        subject: the model; its own settings are not used.
        judge: reads pictures.
        run: how much, where.
        condition: of the subject's branch.
        grid: what is swept; None is what suits the base (depth) or another condition.

    Returns:
        The table, with the choices in its `settings`, and its folder.
    """
    size = subject.model.backbone.sample_size
    settings = {
        **run.settings,
        "table": f"settings of {condition.name} {VERSION}",
        "seed": str(run.seed),
        "world": world_fingerprint(size),
    }
    folder = run.out / f"settings-{settings_hash(settings | {'batch': str(run.batch)})}"
    held_out = HeldOut(SETTINGS_WORLD, run.seed, size, folder, condition)

    def prepare(rows: range) -> Chunk:
        return Chunk(held_out.cases(rows), subject, judge, folder / "pictures")

    def measure(tried: Sequence[Measure[Chunk]]) -> Mapping[str, Samples]:
        return collect(tried, prepare, run.scenes, run.batch, folder / "parts", run.quiet)

    usual = GRID_OF_BASE if condition.name == "depth" else GRID_OF_CONDITION
    sweep = Sweep(grid or usual, FIDELITIES[condition.name], measure)
    texts = sweep.texts()
    least_found = max(row.metrics.get("found", 0.0) for row in texts) - FOUND_SLACK
    guided, best = sweep.guidances(least_found)
    rows = [*texts, *guided]
    if len(sweep.grid.perturbed_guidance) > 1:
        shaped, best = sweep.shapes(best, least_found)
        rows += shaped
    if len(sweep.grid.steps) * len(sweep.grid.solvers) > 1:
        sampled, best = sweep.samplers(best, least_found)
        rows += sampled
    chosen = {"best generation": best.label()}
    if condition.aligned:
        estimated, estimation = sweep.estimations()
        rows += estimated
        chosen["best estimation"] = estimation.label()
    seconds = math.fsum(row.metrics["seconds"] for row in rows) * run.scenes
    machine = describe_machine(subject.model.backbone.device)
    every = settings | chosen
    table = Table(run.command, run.seed, seconds, run.scenes, tuple(rows), every, machine)
    save_table(table, folder)
    return table, folder
