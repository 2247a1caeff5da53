"""A photo drawn in another style, where the true result is known: the world renders it.

A case is the style, which takes turns over held-out scenes of one to three solids.

    style_injection   `unicond.tasks.edit.Edit`, the look taken from a picture of another scene in
                      that style; the words of the photo's own branch say nothing of a style
    sdedit            the same task, the style said by the caption
    sdedit+depth      the same, under the photo's own depth, as the model reads it
    text              the caption in that style, without the photo

    style_taken   the judge reads the style that was asked for
    abs_rel       the judge's depth against the scene's, fitted: content kept
    miou          mean IoU of the judge's classes with the scene's: content kept

`unedited` is the photo as it was, `truth` the true result through the model's autoencoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unicond.evaluation.bars import Bar, beats
from unicond.evaluation.cases import TABLE_WORLD
from unicond.evaluation.metrics_depth import score_depth, valid_pixels
from unicond.evaluation.metrics_maps import mean_iou
from unicond.evaluation.report import save_plot
from unicond.evaluation.runner import Measure, Samples, as_list
from unicond.evaluation.sheet import KEPT, keep_pictures
from unicond.evaluation.study import Bench
from unicond.evaluation.tables import Row, Table
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
from unicond.evaluation.tasks.placed import caption_of, clear_scene
from unicond.pictures.sheet import Line
from unicond.tasks.edit import Edit
from unicond.world.edits import style_words
from unicond.world.render import Rendering, render
from unicond.world.scene import Scene
from unicond.world.vocabulary import CLASSES
from unicond.world.vocabulary import STYLES as ALL_STYLES

PHOTO = "photo"
STYLES = tuple(style for style in ALL_STYLES if style != PHOTO)
TEXT = "text"
DEPTH, SHAPED = "depth", "sdedit+depth"
METHODS = ("style_injection", "sdedit", SHAPED, TEXT)
BOUNDS = ("unedited", TEXT, "truth")
MOST_SOLIDS = 3
OTHERS = 10_000
"""First index of the scenes that show a style: no table has so many of its own."""
METRICS: Mapping[str, str] = {
    "style_taken": "share of results in which the probe reads the style",
    "abs_rel": "the probe's depth against the scene's",
    "miou": "mean IoU of the probe's classes with the scene's",
}
SHOWN_EACH = 2
"""Scenes of each style that are shown."""


@dataclass(frozen=True)
class Restyling:
    """A photo and how it is to look.

    Attributes:
        scene: of the photo.
        style: one of `STYLES`.
        other: a scene of its own, which shows the style.
    """

    scene: Scene
    style: str
    other: Scene

    @property
    def plain(self) -> str:
        """What the photo shows, without a style."""
        return caption_of(self.scene)

    @property
    def styled(self) -> str:
        """The same in the style."""
        return f"{style_words(self.style)} {self.plain}"

    @property
    def look(self) -> str:
        """What the picture shows that the style is taken from."""
        return f"{style_words(self.style)} {caption_of(self.other)}"


@dataclass(frozen=True, eq=False)
class Restylings:
    """Some of them, drawn.

    Attributes:
        numbers: of the cases, consecutive.
        each: what is asked.
        before: the photos, with their exact maps.
        after: the true results.
        looks: (B, 3, H, W) in [-1, 1], the pictures that show the styles.
        bench: what is measured and what measures it.
    """

    numbers: tuple[int, ...]
    each: tuple[Restyling, ...]
    before: Rendering
    after: Rendering
    looks: Tensor
    bench: Bench

    def scores(self, name: str, pictures: Tensor, spent: Sequence[Cost]) -> Samples:
        """All that is measured on results (B, 3, H, W) in [-1, 1], which are kept for the page."""
        keep_pictures(self.bench.folder / "pictures" / name, self.numbers, pictures)
        reading, truth = self.bench.judge(pictures), self.after
        valid = valid_pixels(truth.depth, truth.valid)
        wanted = [ALL_STYLES.index(one.style) for one in self.each]
        taken = [read == style for read, style in zip(reading.style.tolist(), wanted, strict=True)]
        kept = mean_iou(reading.classes, truth.classes.long(), range(len(CLASSES)))
        found = {
            "style_taken": as_share(taken),
            "abs_rel": as_list(score_depth(reading.inverse_depth, truth.depth, valid).abs_rel),
            "miou": as_list(kept),
        }
        return Samples({**found, **costs(spent)})

    def task(self, row: int, method: str) -> Edit:
        """What a method that starts from the photo is asked."""
        one, bench = self.each[row], self.bench
        taken = method == "style_injection"
        return Edit(
            self.before.image[row],
            one.plain if taken else one.styled,
            source_prompt=one.plain,
            method="sdedit" if method == SHAPED else method,
            keep=(DEPTH,) if method == SHAPED else (),
            style=self.looks[row] if taken else None,
            style_prompt=one.look if taken else "",
            seed=self.seed(row),
            num_inference_steps=bench.generation.steps,
            guidance_scale=bench.generation.guidance,
        )

    def result(self, row: int, method: str) -> Tensor:
        """What a method makes, (3, H, W) in [-1, 1]."""
        bench = self.bench
        if method != TEXT:
            out = self.task(row, method).run(bench.model)
        else:
            out = bench.model(
                self.each[row].styled,
                seed=self.seed(row),
                branches=["image"],
                num_inference_steps=bench.generation.steps,
                guidance_scale=bench.generation.guidance,
            )
        return out.pictures["image"][0].float()

    def seed(self, row: int) -> int:
        """Of a case's noise."""
        return self.bench.run.seed * 1_000_000 + self.numbers[row]


def methods(bench: Bench) -> tuple[str, ...]:
    """The methods that are measured."""
    left = missing(bench)
    return tuple(name for name in METHODS if name not in left)


def missing(bench: Bench) -> dict[str, str]:
    """{method: why a bench has no row of it}."""
    there = DEPTH in bench.model.adapters
    return {} if there else {SHAPED: f"no adapter of it is loaded (--adapter {DEPTH})"}


def results(method: str, restylings: Restylings) -> Samples:
    """A method's results, one picture at a time, as a user asks for them."""
    made: list[Tensor] = []
    spent: list[Cost] = []
    for row in range(len(restylings.each)):
        with cost_of(restylings.bench.model) as cost:
            made.append(restylings.result(row, method))
        spent.append(cost)
    return restylings.scores(method, torch.stack(made), spent)


def _unedited(restylings: Restylings) -> Samples:
    spent = [Cost()] * len(restylings.each)
    return restylings.scores("unedited", restylings.before.image, spent)


def _truth(restylings: Restylings) -> Samples:
    folder = restylings.bench.folder / "pictures"
    keep_pictures(folder / "target", restylings.numbers, restylings.after.image)
    keep_pictures(folder / "look", restylings.numbers, restylings.looks)
    pictures = through_autoencoder(restylings.bench.model, restylings.after.image)
    return restylings.scores("truth", pictures, [Cost()] * len(restylings.each))


def asked(bench: Bench, number: int) -> Restyling:
    """What is asked of a scene: styles take turns, and so do one to three solids."""
    world, style = TABLE_WORLD + bench.run.seed, STYLES[number % len(STYLES)]
    solids = 1 + number // len(STYLES) % MOST_SOLIDS
    scene, other = (clear_scene(world, n, solids) for n in (number, OTHERS + number))
    return Restyling(scene, style, other)


def prepared(bench: Bench, rows: range) -> Restylings:
    """The photos of a range of scenes, drawn."""
    each, size = tuple(asked(bench, number) for number in rows), bench.model.backbone.sample_size
    scenes = [one.scene for one in each]
    styled = [one.scene.with_style(one.style) for one in each]
    others = [one.other.with_style(one.style) for one in each]
    before, after, looks = (
        Rendering(**{name: value.clone() for name, value in vars(render(those, size)).items()})
        for those in (scenes, styled, others)
    )
    return Restylings(tuple(rows), each, before, after, looks.image, bench)


def make(bench: Bench) -> list[Row]:
    """All methods on all styles."""
    measures: list[Measure[Restylings]] = [
        Measure("unedited", _unedited),
        Measure("truth", _truth),
        *(Measure(method, partial(results, method)) for method in methods(bench)),
    ]
    found = bench.measure("style", measures, partial(prepared, bench))
    cases = [STYLES[number % len(STYLES)] for number in range(bench.run.scenes)]
    return case_rows("style", found, cases, tuple(METRICS))


def show(bench: Bench) -> Mapping[str, Sequence[Line]]:
    """The first photos of each style: as they were, the truth, the look, and every method's."""
    lines: dict[str, list[Line]] = {}
    for number in range(min(bench.run.scenes, SHOWN_EACH * len(STYLES), KEPT)):
        one = asked(bench, number)
        kinds = ("unedited", "target", "look", *methods(bench))
        pictures = [kept_picture(bench, kind, number) for kind in kinds]
        lines.setdefault(one.style, []).append(Line(one.styled, pictures, kinds))
    return lines


def draw(table: Table, path: Path) -> Path:
    """Taken and kept over all styles: a bar a method."""
    whole = only(table, "style", ALL)
    return save_plot(whole, path, list(METRICS), f"style, {table.scenes} held-out scenes")


BARS = (
    Bar(
        "the best method takes the style more often than the unedited input, and keeps the content "
        "better than text alone",
        beats(f"style/{ALL}", (("style_taken", "unedited"), ("abs_rel", TEXT)), BOUNDS),
        "what the probe reads of the true result, and of each method",
        tuple(
            (f"style/{ALL}/{method}", metric)
            for method in ("truth", *METHODS)
            for metric in ("style_taken", "abs_rel")
        ),
    ),
)
STYLE = Group(
    "style",
    "A photo drawn in another style; the world renders the true result.",
    make,
    show,
    draw,
    BOUNDS,
    METRICS,
    takes=(DEPTH,),
    bars=BARS,
    missing=missing,
    version="2",
)
