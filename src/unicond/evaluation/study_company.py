"""`unicond table company`: several adapters at once, each condition alone and in company.

The conditions of a company are asked for on the same scenes, those that fit all of them, with the
same prompts, which name nothing that any of them is measured by. `kept` is the share of the range
from text alone to the judge's reading of reconstructions that a condition covers in company, over
what it covers alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from unicond.conditions import CONDITIONS, Condition, named
from unicond.evaluation.bars import Bar, reaches
from unicond.evaluation.chunk import Chunk, features
from unicond.evaluation.estimates import Estimate, Estimates, over, row_of
from unicond.evaluation.measures import FIDELITIES
from unicond.evaluation.runner import Measure, Samples
from unicond.evaluation.study import Bench, Study, bars
from unicond.evaluation.tables import Row, Table
from unicond.model import given

COMPANIES = (
    ("pose", "depth"),
    ("identity", "pose"),
    ("identity", "appearance", "depth"),
    ("identity", "appearance", "depth", "pose"),
)
KEPT = 0.8
"""Of what it covers alone, each condition of the largest company."""
_NARROW = ("all", "people", "portraits")
"""Kinds of scenes, each a part of the one before."""
_TELLING = ("same_person", "other_frame")
"""Conditions whose prompts leave something out, each more than the one before."""


@dataclass(frozen=True, eq=False)
class Shared:
    """The same scenes as chunks of several conditions.

    Attributes:
        chunks: {condition: its chunk}; all have the same images and captions.
    """

    chunks: dict[str, Chunk]

    @property
    def first(self) -> Chunk:
        """Any of them, for what does not depend on the condition."""
        return next(iter(self.chunks.values()))

    def images(self, names: Sequence[str]) -> Tensor:
        """(B, 3, H, W) images under some of the conditions at once, or from text alone."""
        cases = self.first.cases
        if not names:
            return self.first.subject.text_to_image(cases.captions, cases.seeds)
        chosen = [self.chunks[name] for name in names]
        known = {each.subject.branch: given(each.cases.condition) for each in chosen}
        return chosen[0].subject.complete(cases.captions, cases.seeds, known)["image"]

    def scores(self, images: Tensor) -> Samples:
        """All conditions' scores of images, as `<condition>.<metric>`."""
        reading = self.first.judge(images)
        values = dict(self.first.seen(reading))
        for name, chunk in self.chunks.items():
            found = FIDELITIES[name].of_images(chunk, reading)
            values |= {f"{name}.{metric}": each for metric, each in found.items()}
        return Samples(values, features(reading))


def company_conditions(names: Sequence[str]) -> list[Condition]:
    """The conditions of a company, on scenes that fit all of them.

    Args:
        names: of the conditions.

    Returns:
        The conditions, each asking for the narrowest kind of scenes that one of them asks for.
    """
    own = [named(name) for name in names]
    narrowest = max((each.scenes for each in own), key=_NARROW.index)
    return [replace(each, scenes=narrowest) for each in own]


def teller(conditions: Sequence[Condition]) -> Condition:
    """The condition whose prompts leave out most; prompts of all conditions are its."""
    order = {source: number + 1 for number, source in enumerate(_TELLING)}
    return max(conditions, key=lambda each: order.get(each.source, 0))


def shared(bench: Bench, name: str, conditions: Sequence[Condition]) -> Callable[[range], Shared]:
    """What prepares the chunks of a company."""
    told = conditions.index(teller(conditions))
    makers = [bench.chunks(name, condition) for condition in conditions]

    def prepare(rows: range) -> Shared:
        chunks = [make_chunk(rows) for make_chunk in makers]
        captions = chunks[told].cases.captions
        nothing = tuple(() for _ in captions)
        for number, chunk in enumerate(chunks):
            cases = replace(chunk.cases, captions=captions)
            if not any(captions):  # an empty prompt names nothing
                cases = replace(cases, named=nothing, people=tuple(0 for _ in captions))
            chunks[number] = replace(chunk, cases=cases)
        keys = [condition.name for condition in conditions]
        return Shared(dict(zip(keys, chunks, strict=True)))

    return prepare


def _reconstructed(chunks: Shared) -> Samples:
    """The judge on the autoencoder's reconstructions."""
    return chunks.scores(chunks.first.subject.reconstruct(chunks.first.cases.images))


def _under(name: str, conditions: Sequence[str]) -> Measure[Shared]:
    """Images under some conditions at once."""

    def run(chunks: Shared) -> Samples:
        images = chunks.images(conditions)
        chunks.first.keep(name, images)
        if name == "together":
            chunks.first.keep("real", chunks.first.cases.images)
            for each, chunk in chunks.chunks.items():
                chunk.keep(each, chunk.cases.condition)
        return chunks.scores(images)

    return Measure(name, run)


def company_rows(bench: Bench, names: Sequence[str]) -> list[Row]:
    """Measure one company: a row a condition, and one of all."""
    title, conditions = "+".join(names), company_conditions(names)
    every = [
        Measure("probe_reconstruction", _reconstructed),
        _under("text_only", ()),
        *(_under(f"alone_{name}", (name,)) for name in names),
        _under("together", tuple(names)),
    ]
    found = bench.measure(title, every, shared(bench, title, conditions))
    rows: list[Row] = []
    for name in names:
        metric = FIDELITIES[name].metrics[0]
        estimates = Estimates(found, f"{name}.{metric}")
        alone, together = (
            estimates.number("range_covered", measure) for measure in (f"alone_{name}", "together")
        )
        numbers: dict[str, Estimate] = {
            metric: estimates.number(estimates.main, "together"),
            f"{metric}_alone": estimates.number(estimates.main, f"alone_{name}"),
            f"{metric}_text_only": estimates.number(estimates.main, "text_only"),
            "covered": together,
            "covered_alone": alone,
            "kept": partial(_kept, together, alone),
        }
        rows.append(row_of(f"{title}/{name}", numbers, bench.run.scenes))
    estimates = Estimates(found)
    seen = ("found", "keypoints", "seconds")
    rows.append(estimates.row(title, "together", seen))
    return rows


def _kept(together: Estimate, alone: Estimate, rows: Sequence[int]) -> float:
    return over(together(rows), alone(rows))


def make(bench: Bench) -> list[Row]:
    """All companies."""
    return [row for names in COMPANIES for row in company_rows(bench, names)]


def draw(table: Table, path: Path) -> Path:
    """What is covered in company and alone, and the share that is kept."""
    return bars(table, path, ("covered", "covered_alone", "kept"), "alone and in company")


def _expected(_: Sequence[Row]) -> list[Bar]:
    """Of the largest company."""
    title = "+".join(COMPANIES[-1])
    return [
        Bar(
            f"among {len(COMPANIES[-1])} conditions {name} keeps at least 80 % of what it covers "
            "alone",
            reaches(f"{title}/{name}", {"kept": (KEPT, math.inf)}),
            "in company and alone",
            ((f"{title}/{name}", "covered"), (f"{title}/{name}", "covered_alone")),
        )
        for name in COMPANIES[-1]
    ]


COMPANY = Study(
    "company",
    make,
    draw,
    version="2",
    expects=_expected,
    needs=tuple(each.name for each in CONDITIONS if any(each.name in names for names in COMPANIES)),
)
