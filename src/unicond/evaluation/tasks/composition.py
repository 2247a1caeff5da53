"""Two solids in one picture, one on the left and one on the right, by several ways of composing.

Held-out scenes of two solids that lie side by side; the boxes are exact.

    composable      both solids as concepts of equal weight, no prompt: which side is chance
    composable_not  the words of both, and not the right one: a negative weight
    magic_fusion    two models: one is told of the left solid, a second base of the right one
    magic_fusion_1  the same with one model twice, where no second base is given
    panorama        a picture twice as wide, the left solid in its left half, the other in its right
    blended         both in their boxes of a given picture, the scene's own empty ground
    multidiffusion  both in their boxes, the ground's words outside
    ...+segmentation  `blended` and `multidiffusion` under a segmentation drawn from the same boxes
    text            "a red ball left of a blue box on grass", in words alone

    both_there    the judge sees both anywhere, each at least a quarter as large as in the scene
    right_sides   both are there, the middle of the left one's largest area left of the right one's
    left_alone    the left one is there, the right one is not: what `composable_not` is asked for
    right_place   both lie in their boxes, at an IoU of at least 0.5 (see `metrics_boxes`)

Magic fusion is meant for two models that know different things; of one model it is the lower bound
of what it can do. A panorama's solids are as large as in the scene, and so are their boxes, each in
its half. `truth` is the scene itself through the model's autoencoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unicond.evaluation.bars import Bar, beats
from unicond.evaluation.cases import TABLE_WORLD
from unicond.evaluation.metrics_boxes import (
    PLACED,
    both_there,
    left_alone,
    placed_ious,
    right_sides,
)
from unicond.evaluation.metrics_objects import MIN_PIXELS, seen_spots
from unicond.evaluation.report import save_plot
from unicond.evaluation.runner import Measure, Samples
from unicond.evaluation.sheet import KEPT, keep_pictures
from unicond.evaluation.study import Bench
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks.composed import (
    METHODS,
    ONE_MODEL,
    SEGMENTATION,
    SHAPED,
    TEXT,
    TWO_MODELS,
    WITHOUT,
    Asked,
    Pair,
    halved,
)
from unicond.evaluation.tasks.group import (
    ALL,
    Cost,
    Group,
    as_share,
    case_rows,
    cost_of,
    costs,
    kept_picture,
    only,
    through_autoencoder,
)
from unicond.evaluation.tasks.placed import clear_scene, things_of
from unicond.pictures.sheet import Line
from unicond.tasks.layout import segmented
from unicond.world.render import render
from unicond.world.scene import Scene

TRUTH = "truth"
METRICS: Mapping[str, str] = {
    "both_there": "share of pictures in which the probe sees both solids",
    "right_sides": "and the left one left of the right one",
    "right_place": "share of pictures in which both lie in their boxes, at an IoU of 0.5 or more",
    "left_alone": "share of pictures with the left solid and without the right one",
}
SHOWN = 6
"""Scenes that are shown."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Some pairs, drawn.

    Attributes:
        numbers: of the cases, consecutive.
        pairs: what is asked.
        truth: (B, 3, H, W) in [-1, 1], the scenes.
        empty: (B, 3, H, W), the same without the solids.
        bench: what is measured and what measures it.
    """

    numbers: tuple[int, ...]
    pairs: tuple[Pair, ...]
    truth: Tensor
    empty: Tensor
    bench: Bench

    def scores(self, name: str, pictures: Tensor, spent: Sequence[Cost]) -> Samples:
        """All that is measured on results (B, 3, H, W) in [-1, 1], which are kept for the page."""
        keep_pictures(self.bench.folder / "pictures" / name, self.numbers, pictures)
        reading = self.bench.judge(pictures)
        least = round(MIN_PIXELS * (pictures.shape[-2] / 128) ** 2)  # as of the scene's square
        seen = seen_spots(reading.classes, reading.colors, least)
        wide = pictures.shape[-1] > pictures.shape[-2]
        both = [halved(pair.spots) if wide else pair.spots for pair in self.pairs]
        found = {
            "both_there": [both_there(*one) for one in zip(both, seen, strict=True)],
            "right_sides": [right_sides(*one) for one in zip(both, seen, strict=True)],
            "right_place": [
                min(placed_ious(*one)) >= PLACED for one in zip(both, seen, strict=True)
            ],
            "left_alone": [left_alone(*one) for one in zip(both, seen, strict=True)],
        }
        values = {metric: as_share(answers) for metric, answers in found.items()}
        return Samples({**values, **costs(spent)})


def methods(bench: Bench) -> tuple[str, ...]:
    """The methods that a bench has the models for."""
    left = {*missing(bench), *([] if bench.other is None else [ONE_MODEL])}
    return tuple(name for name in METHODS if name not in left)


def missing(bench: Bench) -> dict[str, str]:
    """{method: why a bench has it not}."""
    why = f"no adapter of it is loaded (--adapter {SEGMENTATION})"
    shaped = {} if segmented(bench.model) is not None else dict.fromkeys(SHAPED, why)
    return shaped | (
        {} if bench.other is not None else {TWO_MODELS: "no second base (--other-base)"}
    )


def results(method: str, pairs: Pairs) -> Samples:
    """A method's results, one picture at a time, as a user asks for them."""
    made: list[Tensor] = []
    spent: list[Cost] = []
    bench = pairs.bench
    models = [bench.model, *([] if bench.other is None else [bench.other.model])]
    for number, pair, empty in zip(pairs.numbers, pairs.pairs, pairs.empty, strict=True):
        seed = bench.run.seed * 1_000_000 + number
        with cost_of(*models) as cost:
            made.append(METHODS[method](Asked(pair, empty, seed, bench)))
        spent.append(cost)
    return pairs.scores(method, torch.stack(made), spent)


def _truth(pairs: Pairs) -> Samples:
    folder = pairs.bench.folder / "pictures"
    keep_pictures(folder / "given", pairs.numbers, pairs.empty)
    pictures = through_autoencoder(pairs.bench.model, pairs.truth)
    return pairs.scores(TRUTH, pictures, [Cost()] * len(pairs.pairs))


def sides(scene: Scene) -> tuple[int, int] | None:
    """The left and the right one of two solids; None where they do not lie side by side."""
    found = [each for each in scene.relations if each.name == "left of"]
    return (found[0].subject, found[0].target) if found else None


def held_out(bench: Bench, rows: Sequence[int]) -> list[Scene]:
    """The scenes of a range: two solids side by side."""
    world = TABLE_WORLD + bench.run.seed
    return [
        clear_scene(world, number, 2, lambda scene: sides(scene) is not None) for number in rows
    ]


def prepared(bench: Bench, rows: range) -> Pairs:
    """The pairs of a range of scenes, drawn."""
    scenes, size = held_out(bench, rows), bench.model.backbone.sample_size
    drawn = render(scenes, size)
    bare = [replace(scene, solids=(), relations=()) for scene in scenes]
    pairs: list[Pair] = []
    for things in things_of(scenes, drawn):
        both = sides(things.scene)
        assert both is not None
        pairs.append(Pair(things, *both))
    empty = render(bare, size).image.clone()
    return Pairs(tuple(rows), tuple(pairs), drawn.image.clone(), empty, bench)


def make(bench: Bench) -> list[Row]:
    """All methods."""
    measures: list[Measure[Pairs]] = [Measure(TRUTH, _truth)]
    measures += [Measure(method, partial(results, method)) for method in methods(bench)]
    found = bench.measure("composition", measures, partial(prepared, bench))
    return case_rows("composition", found, [ALL] * bench.run.scenes, tuple(METRICS))


def show(bench: Bench) -> Mapping[str, Sequence[Line]]:
    """The first scenes: the empty ground that is given to `blended`, truth, every method's."""
    pairs = prepared(bench, range(min(bench.run.scenes, SHOWN, KEPT)))
    parts = ("given", TRUTH, *methods(bench))
    lines: list[Line] = []
    for number, pair in zip(pairs.numbers, pairs.pairs, strict=True):
        pictures = [kept_picture(bench, part, number) for part in parts]
        lines.append(Line(pair.caption, pictures, parts))
    return {"two_solids": lines}


def draw(table: Table, path: Path) -> Path:
    """There and in place: a bar a method."""
    whole = only(table, "composition", ALL)
    return save_plot(whole, path, list(METRICS), f"composition, {table.scenes} held-out scenes")


BARS = (
    Bar(
        "the best method has both there, and both in their places, more often than text alone",
        beats(f"composition/{ALL}", (("both_there", TEXT), ("right_place", TEXT)), (TEXT, TRUTH)),
        "what the probe sees of the scene itself, and of text alone",
        tuple(
            (f"composition/{ALL}/{method}", metric)
            for method in (TRUTH, TEXT)
            for metric in METRICS
        ),
    ),
    Bar(
        "composable diffusion leaves a thing out whose weight is negative, and keeps the other",
        beats(
            f"composition/{ALL}",
            (("left_alone", TEXT),),
            tuple(name for name in (*METHODS, TRUTH) if name != WITHOUT),
        ),
        "what is there",
        tuple(
            (f"composition/{ALL}/{method}", metric)
            for method in (WITHOUT, TEXT)
            for metric in ("left_alone", "both_there")
        ),
    ),
)
COMPOSITION = Group(
    "composition",
    "Two solids in one picture, the one left of the other.",
    make,
    show,
    draw,
    (TEXT, TRUTH),
    METRICS,
    takes=(SEGMENTATION,),
    bars=BARS,
    version="5",
    missing=missing,
    companion=True,
)
