"""Chunks of what is asked for, and how pictures of it are scored: layouts, and people who act."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor

from unicond.calls.output import Output
from unicond.evaluation.amdm.layouts import Layout, layout
from unicond.evaluation.amdm.models import Wanted
from unicond.evaluation.amdm.relations import find, holds
from unicond.evaluation.amdm.scenes import Acting, acting
from unicond.evaluation.amdm.wanted import of_entry
from unicond.evaluation.cases import TABLE_WORLD
from unicond.evaluation.judge import Reading
from unicond.evaluation.mig.probed import look, spots_of
from unicond.evaluation.runner import Measure, Samples
from unicond.evaluation.sheet import keep_pictures
from unicond.evaluation.study import Bench, network_calls
from unicond.evaluation.tasks.group import cost_of
from unicond.evaluation.tasks.placed import clear_scene
from unicond.model import Model
from unicond.world.captions import STYLE_WORDS
from unicond.world.render import Rendering, render
from unicond.world.scene import Scene
from unicond.world.vocabulary import RELATIONS, STYLES

Maker = Callable[[Model, Wanted, Sequence[int]], Output]
"""A way of making one picture's samples, one a seed."""
Values = dict[str, float]
REAL = "probe_real"
"""The scenes themselves: what Frechet distances are taken to, and what the probe sees in them."""
MOST_EACH = 100
"""Pictures of one case, at most."""
MOST_CASES = 10_000
LOOKS = tuple(style for style in STYLES if style != "photo")
"""Styles that are shown; they take turns."""
OTHERS = 20_000
"""First index of the scenes that show a style: no table has so many of its own."""
ROUNDS = 3
"""Turns of each maker where pictures are timed: one can be held up by what else a machine does."""


def seeds_of(seed: int, number: int, each: int) -> list[int]:
    """The seeds of a case's pictures, apart from those of all others.

    Args:
        seed: of the table.
        number: of the case, below `MOST_CASES`.
        each: pictures, at most `MOST_EACH`.

    Returns:
        One a picture.
    """
    first = seed * MOST_CASES * MOST_EACH + number
    return [first + sample * MOST_CASES for sample in range(each)]


@dataclass(frozen=True, eq=False)
class Cases:
    """Some pictures that are asked for.

    Attributes:
        numbers: of the cases, consecutive.
        wanted: what is asked.
        drawn: the scenes that show it.
        score: of a case's row and a reading of its pictures, {metric: sum over the pictures}.
        bench: what is measured and what measures it.
        each: pictures of each.
        part: folder of what is kept to be shown.
    """

    numbers: tuple[int, ...]
    wanted: tuple[Wanted, ...]
    drawn: Rendering
    score: Callable[[int, Reading], Values]
    bench: Bench
    each: int
    part: str

    def samples(self, name: str, maker: Maker) -> Samples:
        """What a maker makes of every case, scored, and what a picture of it costs."""
        model, scored, firsts = self.bench.model, list[Values](), list[Tensor]()
        features: list[list[float]] = []
        for row, (number, wanted) in enumerate(zip(self.numbers, self.wanted, strict=True)):
            seeds = seeds_of(self.bench.run.seed, number, self.each)
            with cost_of(model) as cost, network_calls(model) as rows:
                pictures = maker(model, wanted, seeds).pictures["image"].float()
            reading = self.bench.judge(pictures)
            spent = {
                "seconds": cost.seconds / self.each,
                "calls": float(cost.calls),
                "network_rows": sum(rows) / self.each,
            }
            scored.append(self.score(row, reading) | spent)
            features.append(reading.features[0].tolist())
            firsts.append(pictures[0])
        self._keep(name, torch.stack(firsts))
        return _joined(scored, features)

    def real(self) -> Samples:
        """The scenes themselves, scored."""
        images = self.drawn.image
        self._keep(REAL, images)
        readings = [self.bench.judge(image[None]) for image in images]
        scored = [self.score(row, reading) for row, reading in enumerate(readings)]
        return _joined(scored, [reading.features[0].tolist() for reading in readings])

    def _keep(self, name: str, pictures: Tensor) -> None:
        keep_pictures(self.bench.folder / "pictures" / self.part / name, self.numbers, pictures)


def _joined(scored: Sequence[Values], features: Sequence[Sequence[float]]) -> Samples:
    """The cases' numbers, metric by metric."""
    values = {name: [each[name] for each in scored] for name in scored[0]}
    return Samples(values, {"features": features})


def layouts(bench: Bench, part: str, each: int, styled: bool, rows: range) -> Cases:
    """Layouts of mini-MIG.

    Args:
        bench: what is measured and what measures it.
        part: folder of what is kept to be shown.
        each: pictures of each.
        styled: another scene shows a style, in which the layout's own is drawn, and words say of
            none; else all are photos and a photo is shown.
        rows: which layouts.

    Returns:
        Them, with a score of `pictures`, `whole`, `instances`, `successes` and `ious` (as
        `mig.table` has them), of `placed` and `colored` instances, and of `styles` that were taken.
    """
    asked = [layout(bench.run.seed, number) for number in rows]
    styles = [style_of(number, styled) for number in rows]
    scenes = [one.scene.with_style(style) for one, style in zip(asked, styles, strict=True)]
    looks = shown(bench, rows, styles)
    wanted = [
        replace(told, caption=unstyled(told.caption)) if styled else told
        for told in (of_entry(o.entry, True, seen) for o, seen in zip(asked, looks, strict=True))
    ]
    score = partial(_score_layout, asked, styles)
    drawn = drawn_of(bench, scenes)
    return Cases(tuple(rows), tuple(wanted), drawn, score, bench, each, part)


def _score_layout(
    asked: Sequence[Layout], styles: Sequence[str], row: int, reading: Reading
) -> Values:
    entry, pictures = asked[row].entry, len(reading.classes)
    found = look([spots_of(entry)] * pictures, reading.classes, reading.colors)
    every = [one for seen in found for one in seen]
    return {
        "pictures": pictures,
        "whole": sum(all(one.verdict.success for one in seen) for seen in found),
        "instances": len(every),
        "successes": sum(one.verdict.success for one in every),
        "ious": sum(one.verdict.iou for one in every),
        "placed": sum(one.placed for one in every),
        "colored": sum(one.colored for one in every),
        "styles": int((reading.style == STYLES.index(styles[row])).sum()),
    }


def people(bench: Bench, part: str, each: int, styled: bool, rows: range) -> Cases:
    """Scenes of somebody who acts.

    Args:
        bench: what is measured and what measures it.
        part: folder of what is kept to be shown.
        each: pictures of each.
        styled: as of `layouts`.
        rows: which scenes.

    Returns:
        Them, with a score of `relations` asked for, how many are `held`, of each relation likewise
        `asked <name>` and `held <name>`, and of `pictures` and `styles` that were taken.
    """
    asked = [acting(bench.run.seed, number) for number in rows]
    styles = [style_of(number, styled) for number in rows]
    scenes = [one.scene.with_style(style) for one, style in zip(asked, styles, strict=True)]
    looks = shown(bench, rows, styles)
    wanted = [
        Wanted(unstyled(one.caption) if styled else one.caption, one.plain, one.colored, seen)
        for one, seen in zip(asked, looks, strict=True)
    ]
    drawn = drawn_of(bench, scenes)
    score = partial(_score_people, asked, styles, drawn)
    return Cases(tuple(rows), tuple(wanted), drawn, score, bench, each, part)


def _score_people(
    asked: Sequence[Acting], styles: Sequence[str], drawn: Rendering, row: int, reading: Reading
) -> Values:
    scene, pictures = asked[row].scene, len(reading.classes)
    depth, valid = (maps[row].expand(pictures, -1, -1, -1) for maps in (drawn.depth, drawn.valid))
    found = find([scene] * pictures, reading, depth, valid)
    told = [(one.name, holds(one, each)) for each in found for one in scene.relations]
    values: Values = {
        "relations": len(told),
        "held": sum(held for _, held in told),
        "pictures": pictures,
        "styles": int((reading.style == STYLES.index(styles[row])).sum()),
    }
    for relation in RELATIONS:
        own = [held for name, held in told if name == relation]
        values |= {f"asked {relation}": len(own), f"held {relation}": sum(own)}
    return values


def unstyled(caption: str) -> str:
    """A photo's caption without the words that say so, which would contradict another style.

    >>> unstyled("a photo of a red ball and a box")
    'a red ball and a box'
    """
    for words in STYLE_WORDS["photo"]:
        caption = caption.removeprefix(f"{words} ")
    return caption


def style_of(number: int, styled: bool) -> str:
    """The style of a case: they take turns."""
    return LOOKS[number % len(LOOKS)] if styled else "photo"


def shown(bench: Bench, rows: Sequence[int], styles: Sequence[str]) -> list[Tensor]:
    """A picture (3, H, W) of another scene in the style of each case."""
    world = TABLE_WORLD + bench.run.seed
    others = [clear_scene(world, OTHERS + number, 1 + number % 3) for number in rows]
    scenes = [scene.with_style(style) for scene, style in zip(others, styles, strict=True)]
    return list(drawn_of(bench, scenes).image)


def drawn_of(bench: Bench, scenes: Sequence[Scene]) -> Rendering:
    """Scenes as the model's pictures are large; the maps are copies of the renderer's."""
    drawn = render(scenes, bench.model.backbone.sample_size)
    return Rendering(**{name: value.clone() for name, value in vars(drawn).items()})


def measures(makers: Mapping[str, Maker]) -> list[Measure[Cases]]:
    """The scenes themselves, and every maker."""
    found = [Measure(REAL, Cases.real)]
    for name, maker in makers.items():
        found.append(Measure(name, partial(_measured, name, maker)))
    return found


def timed(makers: Mapping[str, Maker]) -> Measure[Cases]:
    """How long a picture takes: all makers in turn for every case, each time another one first.

    Args:
        makers: by their names.

    Returns:
        A measure of seconds, `{name: one number a case}`, each the median of `ROUNDS`. A first
        picture, which finds nothing warm, is not counted.
    """
    return Measure("times", partial(_times, makers))


def _times(makers: Mapping[str, Maker], cases: Cases) -> Samples:
    model, names = cases.bench.model, list(makers)
    found: dict[str, list[float | None]] = {name: [] for name in names}
    [seed, *_] = seeds_of(cases.bench.run.seed, cases.numbers[0], 1)
    makers[names[-1]](model, cases.wanted[0], [seed])
    for number, wanted in zip(cases.numbers, cases.wanted, strict=True):
        seeds = seeds_of(cases.bench.run.seed, number, 1)
        taken: dict[str, list[float]] = {name: [] for name in names}
        for turn in range(number, number + ROUNDS):
            first = turn % len(names)
            for name in (*names[first:], *names[:first]):
                with cost_of(model) as cost:
                    makers[name](model, wanted, seeds)
                taken[name].append(cost.seconds)
        for name, seconds in taken.items():
            found[name].append(median(seconds))
    return Samples(found)


def _measured(name: str, maker: Maker, cases: Cases) -> Samples:
    return cases.samples(name, maker)
