"""Pictures made from a depth map that is noised, blurred or missing in part: how much is kept.

Held-out scenes with their captions and exact depth; the map is spoilt before it is given:

    clean           as it is
    noise_S         noise of standard deviation S is added, on maps in [-1, 1]
    blur_P          blurred by a Gaussian of P pixels at 128 x 128, at other sizes in proportion
    missing_P       a share P of its columns, from the right, is not given

    depth           the adapter of joint attention, the map held; a missing part is made first
    depth_joint     the same, the missing part made together with the image
    depth_coarse    the map coarse up to t = 0.4: of what is spoilt only the coarse part
    readout         no adapter: a readout head of depth guides (`unicond.tasks.generate`)
    text            the caption alone, once: it knows of no map

`abs_rel` and `delta1` compare the judge's depth of the result with its depth of the real picture,
`found` is the share of the named objects that it sees.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from unicond.conditions import named
from unicond.evaluation.bars import Bar, beats
from unicond.evaluation.cases import TABLE_WORLD, Cases, HeldOut
from unicond.evaluation.chunk import Chunk, image_scores
from unicond.evaluation.curves import Panel
from unicond.evaluation.estimates import Estimate, Estimates, row_of
from unicond.evaluation.measures import FIDELITIES
from unicond.evaluation.runner import Measure, Samples
from unicond.evaluation.sheet import KEPT, keep_pictures
from unicond.evaluation.study import Bench
from unicond.evaluation.subject import Subject
from unicond.evaluation.tables import Row, Table
from unicond.evaluation.tasks.group import (
    COSTS,
    Cost,
    Group,
    cost_of,
    costs,
    kept_picture,
    shared_cost,
)
from unicond.evaluation.tasks.sweep import save_panels
from unicond.model import given
from unicond.operators.blurring import gaussian_blur
from unicond.pictures.sheet import Line
from unicond.sampling.noise import Generators
from unicond.tasks.generate import Generate
from unicond.tasks.heads import has_head

DEPTH = "depth"
TEXT, READOUT, COARSE_DEPTH, JOINT_DEPTH = "text", "readout", "depth_coarse", "depth_joint"
COARSE = 0.4
"""Up to which time the map of `depth_coarse` is coarse."""
METRICS: Mapping[str, str] = {
    "abs_rel": "the probe's depth against its depth of the real picture",
    "delta1": "share of the pixels within a quarter of it",
    "found": "share of the named objects that the probe sees",
}
SHOWN = 3
"""Scenes that are shown."""


@dataclass(frozen=True)
class Spoiling:
    """What is done to a map.

    Attributes:
        kind: `"noise"`, `"blur"` or `"missing"`.
        amount: 0.0 is nothing.
    """

    kind: str
    amount: float

    @property
    def case(self) -> str:
        """In the names of rows."""
        return f"{self.kind}_{self.amount:g}" if self.amount else "clean"

    def spoilt(self, maps: Tensor, seeds: Sequence[int]) -> Tensor:
        """Maps (B, 3, H, W) in [-1, 1], noisy or blurred; as they are where a part is missing."""
        if self.kind == "noise" and self.amount:
            streams = Generators(seeds, ("image", self.kind))  # the image's starts the run
            return (maps + self.amount * streams.draw(self.kind, maps[:, :1])).clamp(-1, 1)
        if self.kind == "blur" and self.amount:
            std = self.amount * maps.shape[-1] / 128
            shape = (maps.shape[1], maps.shape[2], maps.shape[3])
            return gaussian_blur(shape, std).forward(maps)
        return maps

    @property
    def known(self) -> float:
        """Share of the columns that is given, from the left."""
        return 1 - self.amount if self.kind == "missing" else 1.0


CLEAN = Spoiling("noise", 0.0)
SPOILINGS = (
    CLEAN,
    *(Spoiling("noise", amount) for amount in (0.25, 0.5, 1.0)),
    *(Spoiling("blur", amount) for amount in (2.0, 4.0, 8.0)),
    *(Spoiling("missing", amount) for amount in (0.25, 0.5)),
)


@dataclass(frozen=True, eq=False)
class Signals:
    """Some scenes.

    Attributes:
        cases: what they show, with their maps.
        bench: what is measured and what measures it.
    """

    cases: Cases
    bench: Bench

    def scores(self, name: str, pictures: Tensor, spent: Sequence[Cost]) -> Samples:
        """All that is measured on results (B, 3, H, W) in [-1, 1], which are kept for the page."""
        folder = self.bench.folder / "pictures"
        keep_pictures(folder / name, self.cases.numbers, pictures)
        chunk = Chunk(self.cases, self.subject, self.bench.judge, folder)
        found = image_scores(chunk, FIDELITIES[DEPTH], pictures)
        return Samples({**found.values, **costs(spent)}, found.vectors)

    @property
    def subject(self) -> Subject:
        """The model."""
        return Subject(self.bench.model, named(DEPTH).branch, self.bench.generation)


def _held(
    signals: Signals, maps: Tensor, known: float, noise: float = 0.0, plan: str | None = None
) -> Tensor:
    """By the adapter, from the left part of the maps."""
    cases, subject = signals.cases, signals.subject
    if plan is not None:
        subject = subject.with_settings(replace(subject.generation, plan=plan))
    told = {subject.branch: given(maps, mask=_left_part(maps, known), noise=noise)}
    return subject.complete(cases.captions, cases.seeds, told)["image"]


def _left_part(maps: Tensor, known: float) -> Tensor | None:
    """A mask (1, H, W) of the share of the columns that is known; None where all are."""
    if known == 1:
        return None
    mask = torch.zeros(1, *maps.shape[-2:])
    mask[..., : round(known * maps.shape[-1])] = 1
    return mask


def _read(signals: Signals, maps: Tensor, known: float) -> Tensor:
    """By a readout head, as a user asks for it, one picture at a time."""
    bench, made = signals.bench, list[Tensor]()
    cases, mask = signals.cases, _left_part(maps, known)
    for caption, seed, one in zip(cases.captions, cases.seeds, maps, strict=True):
        task = Generate(
            caption,
            method=READOUT,
            conditions={DEPTH: one},
            masks={} if mask is None else {DEPTH: mask},
            seed=seed,
            num_inference_steps=bench.generation.steps,
            guidance_scale=bench.generation.guidance,
        )
        made.append(task.run(bench.model).pictures["image"][0].float())
    return torch.stack(made)


def _told(signals: Signals, _maps: Tensor, _known: float) -> Tensor:
    return signals.subject.text_to_image(signals.cases.captions, signals.cases.seeds)


MADE_BY: Mapping[str, Callable[[Signals, Tensor, float], Tensor]] = {
    DEPTH: _held,
    JOINT_DEPTH: partial(_held, plan="joint"),
    COARSE_DEPTH: partial(_held, noise=COARSE),
    READOUT: _read,
    TEXT: _told,
}
"""{method: pictures (B, 3, H, W) of scenes, of spoilt maps and the share of them that is known}."""


def methods(bench: Bench, spoiling: Spoiling = CLEAN) -> tuple[str, ...]:
    """The methods that a model has and that a map has to do with, `text` last."""
    left = missing(bench)
    return tuple(name for name in MADE_BY if name not in left and _concerns(name, spoiling))


def missing(bench: Bench, spoilings: Sequence[Spoiling] = SPOILINGS) -> dict[str, str]:
    """{method: why a model has it not}, of those that some maps have to do with."""
    found: dict[str, str] = {}
    if named(DEPTH).branch not in bench.model.adapters:
        why = f"no adapter of depth is loaded (--adapter {DEPTH})"
        found |= {DEPTH: why, JOINT_DEPTH: why, COARSE_DEPTH: why}
    if not has_head(DEPTH, bench.model):
        found[READOUT] = "no readout head of depth ships for this base"
    return {m: why for m, why in found.items() if any(_concerns(m, each) for each in spoilings)}


def results(method: str, signals: Signals, spoiling: Spoiling = CLEAN) -> Samples:
    """A method's results of maps that are spoilt."""
    cases = signals.cases
    maps = spoiling.spoilt(cases.condition, cases.seeds)
    with cost_of(signals.bench.model) as cost:
        pictures = MADE_BY[method](signals, maps, spoiling.known)
    folder = signals.bench.folder / "pictures" / f"{spoiling.case}-map"
    shown = maps.clone()
    shown[..., round(spoiling.known * maps.shape[-1]) :] = 0
    keep_pictures(folder, cases.numbers, shown)
    spent = shared_cost(cost, len(pictures))
    name = method if spoiling == CLEAN else f"{spoiling.case}-{method}"
    return signals.scores(name, pictures, spent)


def prepared(bench: Bench, rows: range) -> Signals:
    """The scenes of a range, drawn."""
    return Signals(_held_out(bench).cases(rows), bench)


def _held_out(bench: Bench) -> HeldOut:
    size, place = bench.model.backbone.sample_size, bench.folder / "scenes" / f"{DEPTH}-photo"
    return HeldOut(TABLE_WORLD, bench.run.seed, size, place, named(DEPTH))


def asked(bench: Bench) -> list[tuple[Spoiling, str]]:
    """What is measured: every method of every map, `text` once."""
    return [(one, name) for one in SPOILINGS for name in methods(bench, one)]


def _concerns(method: str, spoiling: Spoiling) -> bool:
    if method == JOINT_DEPTH:
        return spoiling.known < 1
    return method != TEXT or spoiling == CLEAN


def make(bench: Bench) -> list[Row]:
    """All methods of all maps."""
    every = asked(bench)
    measures = [
        Measure(f"{one.case}-{method}", partial(results, method, spoiling=one))
        for one, method in every
    ]
    found = bench.measure("signals", measures, partial(prepared, bench))
    estimates, rows = Estimates(found), list[Row]()
    for one, method in every:
        name = f"{one.case}-{method}"
        numbers: dict[str, Estimate] = {
            metric: partial(estimates.value, metric, name) for metric in METRICS
        }
        numbers |= {cost: partial(_mean, found[name], cost) for cost in COSTS}
        row = row_of(f"signals/{one.case}/{method}", numbers, bench.run.scenes)
        kinds = dict.fromkeys(each.kind for each in SPOILINGS) if one == CLEAN else {one.kind: None}
        facts = dict.fromkeys(kinds, one.amount)
        rows.append(replace(row, metrics={**row.metrics, **facts}))
    return rows


def _mean(samples: Samples, metric: str, _rows: Sequence[int]) -> float:
    return samples.mean(metric)


def show(bench: Bench) -> Mapping[str, Sequence[Line]]:
    """The first scenes, map by map: what was given, and every method's."""
    numbers = range(min(bench.run.scenes, SHOWN, KEPT))
    lines: dict[str, list[Line]] = {}
    for one in SPOILINGS:
        own = [method for each, method in asked(bench) if each == one]
        for number in numbers if own else ():
            parts = [f"{one.case}-map"]
            parts += [m if one == CLEAN else f"{one.case}-{m}" for m in own]
            pictures = [kept_picture(bench, part, number) for part in parts]
            line = Line(f"scene {number}", pictures, ["map", *own])
            lines.setdefault(one.case, []).append(line)
    return lines


def draw(table: Table, path: Path) -> Path:
    """Depth and words over each way of spoiling, a line a method, text alone as a level."""
    panels: list[Panel] = []
    for kind in dict.fromkeys(one.kind for one in SPOILINGS):
        lines: dict[str, list[Row]] = {}
        for row in table.rows:
            method = row.name.split("/")[2]
            if kind in row.metrics and method != TEXT:
                lines.setdefault(method, []).append(row)
        level = {TEXT: table.row(f"signals/{CLEAN.case}/{TEXT}")}
        panels += [Panel(kind, metric, lines, level) for metric in ("abs_rel", "found")]
    return save_panels(panels, table, path, "a depth map spoilt")


BARRED: Mapping[str, str] = {
    CLEAN.case: "an exact depth map",
    Spoiling("noise", 0.25).case: "a depth map with a little noise",
    Spoiling("missing", 0.5).case: "half a depth map",
}
"""{case: what is given there} of the cases in which a way has to beat text alone."""
BARS = tuple(
    Bar(
        f"the best way from {what} is nearer to the true depth than text alone",
        beats(
            f"signals/{case}",
            (("abs_rel", TEXT), ("delta1", TEXT)),
            (TEXT,),
            f"signals/{CLEAN.case}",
        ),
        "what each way makes of the map, and of an exact one",
        tuple(
            (f"signals/{each}/{method}", metric)
            for each in dict.fromkeys((case, CLEAN.case))
            for method in MADE_BY
            for metric in ("abs_rel", "delta1")
        ),
    )
    for case, what in BARRED.items()
)
ROBUSTNESS = Group(
    "robustness",
    "A picture made from a depth map that is noised, blurred or half missing.",
    make,
    show,
    draw,
    (TEXT,),
    METRICS,
    takes=(DEPTH,),
    bars=BARS,
    scenes=20,
    missing=missing,
    heads=(DEPTH,),
    version="3",
)
