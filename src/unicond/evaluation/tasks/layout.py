"""Drawing things where boxes say: held-out scenes of one to five solids.

A case is the number of solids, which takes turns over the scenes. Each method is the public task
`unicond.tasks.layout.Layout`, given the caption and the exact boxes of what is seen of each solid,
one picture at a time.

    instances   share of the boxes in which the thing is, by COCO-MIG's rule: of the areas of its
                class, that which lies best on the box has an IoU of at least 0.5 with it, and a
                fifth of the class's pixels in the box have its colour
    miou        mean over the boxes of that IoU, whatever the colour where it is below 0.5; 0 where
                the colour is wrong, or nothing of the class is seen

Both are over the boxes of all scenes, as COCO-MIG has it: a scene of five weighs as five of one.

`segmentation`, `segmented_regions`, `gligen`, `interact` and `migc` have rows where the model has
their adapters. `text` is the caption alone, `truth` the scene itself through the model's
autoencoder: what the judge sees of things that are in place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unicond.evaluation.bars import Bar, beats
from unicond.evaluation.cases import TABLE_WORLD
from unicond.evaluation.mig.probed import look
from unicond.evaluation.report import save_plot
from unicond.evaluation.runner import Measure, Samples
from unicond.evaluation.sheet import KEPT, keep_pictures
from unicond.evaluation.study import Bench
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks.group import (
    ALL,
    Cost,
    Group,
    case_rows,
    cost_of,
    costs,
    kept_picture,
    only,
    through_autoencoder,
)
from unicond.evaluation.tasks.placed import Things, clear_scene, things_of
from unicond.pictures.sheet import Line
from unicond.tasks.layout import DRAWN, GROUNDED, Layout, segmented
from unicond.tasks.layout import METHODS as TASK_METHODS
from unicond.tasks.places import draw_outlines
from unicond.world.render import render
from unicond.world.scene import Scene

SEGMENTATION = "segmentation"
READOUT = "readout"
"""Follows a map, too, which no other method is given: its rows are of the group `robustness`."""
TEXT, TRUTH = "text", "truth"
MOST_SOLIDS = 5
METRICS: Mapping[str, str] = {
    "instances": "share of the boxes in which the probe sees the thing, by COCO-MIG's rule",
    "miou": "mean IoU of the boxes with what is seen, 0 where nothing is or its colour is wrong",
}
SHOWN_EACH = 2
"""Scenes of each number of solids that are shown."""


@dataclass(frozen=True, eq=False)
class Layouts:
    """Some layouts.

    Attributes:
        numbers: of the cases, consecutive.
        things: what is asked for.
        truth: (B, 3, H, W) in [-1, 1], the scenes that they were taken from.
        bench: what is measured and what measures it.
    """

    numbers: tuple[int, ...]
    things: tuple[Things, ...]
    truth: Tensor
    bench: Bench

    def scores(self, name: str, pictures: Tensor, spent: Sequence[Cost]) -> Samples:
        """All that is measured on results (B, 3, H, W) in [-1, 1], which are kept for the page."""
        keep_pictures(self.bench.folder / "pictures" / name, self.numbers, pictures)
        reading = self.bench.judge(pictures)
        spots = [one.spots for one in self.things]
        seen = look(spots, reading.classes, reading.colors)
        told = [[one.verdict for one in each] for each in seen]
        found: dict[str, list[float | None]] = {
            "instances": [sum(one.success for one in each) / len(each) for each in told],
            "miou": [sum(one.iou for one in each) / len(each) for each in told],
        }
        return Samples({**found, **costs(spent)})


def asked(things: Things, method: str, number: int, bench: Bench) -> Layout:
    """The task that a layout is for a method.

    Args:
        things: what is to be where.
        method: one of `unicond.tasks.layout.METHODS`.
        number: of the scene; the noise follows from it.
        bench: with the steps and the guidance.

    Returns:
        The task.
    """
    return Layout(
        things.caption,
        things.boxes,
        method=method,
        seed=bench.run.seed * 1_000_000 + number,
        num_inference_steps=bench.generation.steps,
        guidance_scale=bench.generation.guidance,
    )


def results(method: str, layouts: Layouts) -> Samples:
    """A method's results, one picture at a time, as a user asks for them."""
    made: list[Tensor] = []
    spent: list[Cost] = []
    bench = layouts.bench
    for number, things in zip(layouts.numbers, layouts.things, strict=True):
        task = asked(things, method, number, bench)
        with cost_of(bench.model) as cost:
            made.append(task.run(bench.model).pictures["image"][0].float())
        spent.append(cost)
    return layouts.scores(method, torch.stack(made), spent)


def _truth(layouts: Layouts) -> Samples:
    pictures = through_autoencoder(layouts.bench.model, layouts.truth)
    return layouts.scores(TRUTH, pictures, [Cost()] * len(layouts.things))


def methods(bench: Bench) -> tuple[str, ...]:
    """The methods that are measured: `text` last, those that are adapters where they are."""
    left = missing(bench)
    return tuple(name for name in TASK_METHODS if name not in (*left, READOUT))


def missing(bench: Bench) -> dict[str, str]:
    """{method: why a bench has no row of it}."""
    drawn = [] if segmented(bench.model) is None else [SEGMENTATION]
    there = {*drawn, *bench.model.grounders}
    takes = dict.fromkeys(DRAWN, SEGMENTATION) | {name: name for name in GROUNDED}
    return {
        name: f"no adapter of it is loaded (--adapter {takes[name]})"
        for name in TASK_METHODS
        if name in takes and takes[name] not in there
    }


def solids_of(number: int) -> int:
    """How many solids a scene has: they take turns."""
    return 1 + number % MOST_SOLIDS


def case_of(solids: int) -> str:
    """The case of scenes of so many solids."""
    return f"{solids}_boxes" if solids > 1 else "1_box"


def held_out(bench: Bench, rows: Sequence[int]) -> list[Scene]:
    """The scenes of a range."""
    world = TABLE_WORLD + bench.run.seed
    return [clear_scene(world, number, solids_of(number)) for number in rows]


def prepared(bench: Bench, rows: range) -> Layouts:
    """The layouts of a range of scenes."""
    scenes = held_out(bench, rows)
    drawn = render(scenes, bench.model.backbone.sample_size)
    return Layouts(tuple(rows), things_of(scenes, drawn), drawn.image.clone(), bench)


def make(bench: Bench) -> list[Row]:
    """All methods, by the number of solids."""
    measures: list[Measure[Layouts]] = [Measure(TRUTH, _truth)]
    measures += [Measure(method, partial(results, method)) for method in methods(bench)]
    found = bench.measure("layout", measures, partial(prepared, bench))
    cases = [case_of(solids_of(number)) for number in range(bench.run.scenes)]
    return case_rows("layout", found, cases, tuple(METRICS), solids_of)


def show(bench: Bench) -> Mapping[str, Sequence[Line]]:
    """The first layouts by their number of solids: boxes, truth, and every method's."""
    size, names = bench.model.backbone.sample_size, (TRUTH, *methods(bench))
    layouts = prepared(bench, range(min(bench.run.scenes, SHOWN_EACH * MOST_SOLIDS, KEPT)))
    lines: dict[str, list[Line]] = {}
    for number, things in zip(layouts.numbers, layouts.things, strict=True):
        pictures = [draw_outlines(things.boxes, (size, size))]
        pictures += [kept_picture(bench, name, number) for name in names]
        line = Line(things.caption, pictures, ("boxes", *names))
        lines.setdefault(case_of(len(things.spots)), []).append(line)
    return lines


def draw(table: Table, path: Path) -> Path:
    """Instances and IoU over all scenes: a bar a method."""
    whole = only(table, "layout", ALL)
    return save_plot(whole, path, list(METRICS), f"layout, {table.scenes} held-out scenes")


BARS = (
    Bar(
        "the best method has more instances in place, and a better mIoU, than text alone",
        beats(f"layout/{ALL}", (("instances", TEXT), ("miou", TEXT)), (TEXT, TRUTH)),
        "what the probe sees of things that are in place, by their number",
        tuple(
            (f"layout/{case}/{TRUTH}", metric)
            for case in map(case_of, range(1, MOST_SOLIDS + 1))
            for metric in METRICS
        ),
    ),
)
LAYOUT = Group(
    "layout",
    "Things drawn in their boxes: one to five solids.",
    make,
    show,
    draw,
    (TEXT, TRUTH),
    METRICS,
    takes=(SEGMENTATION, *GROUNDED),
    bars=BARS,
    missing=missing,
    version="3",
)
