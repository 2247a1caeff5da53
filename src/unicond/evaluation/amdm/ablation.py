"""Every choice of the aggregation of InteractDiffusion and MIGC, one at a time, on mini-MIG.

Around the paper's setting (`ablation/published`):

    mix/*          rule by which states become one, and what they are pulled to
    window/k       k moves after the first are aggregated; 0 is InteractDiffusion alone
    weight/w       of InteractDiffusion
    step/f         f times the published step sizes
    first/*        whose picture is kept
    models/n       further models: GLIGEN, text alone, an image prompt (of another photo)
    noise/*        all models start from one noise, or each from its own
    against/*      at as many network calls as the aggregation takes or more: InteractDiffusion with
                   more moves, the score sum and MagicFusion in the first moves and in all, both
                   adapters in one network; and an adapter averaged of InteractDiffusion and GLIGEN
                   (with MIGC it has no weight in common) beside the aggregation of those two

Each row has `success`, `miou`, `placed`, `colored`, the Frechet distance `fid` of the probe's
features to the scenes', `seconds`, network `calls` and `network_rows` of a picture. What several
rows share is made once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import get_args

from unicond.aggregation.aggregate import STEP_SIZES
from unicond.aggregation.manifold import Mean
from unicond.aggregation.mixing import Mix
from unicond.calls.output import Output
from unicond.evaluation.amdm.blends import (
    Blend,
    blended,
    both,
    magic_fusion,
    score_sum,
    with_averaged,
)
from unicond.evaluation.amdm.cases import REAL, Maker, layouts, measures
from unicond.evaluation.amdm.layouts import layout
from unicond.evaluation.amdm.models import GLIGEN, INTERACT, MIGC, PAPER, Manner, Wanted, make
from unicond.evaluation.amdm.part import Part, Pictures, Sizes, grid, maker
from unicond.evaluation.amdm.rows import short_row
from unicond.evaluation.curves import Panel, save_curves
from unicond.evaluation.study import Bench
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.model import Model
from unicond.sampling.window import Window
from unicond.tasks.together import STYLE, TEXT

PAIR = (INTERACT, MIGC)
MIXES: tuple[Mix, ...] = get_args(Mix)
MEANS: tuple[Mean | None, ...] = (*get_args(Mean), None)
LENGTHS = (1, 2, 3, 5, 10, 20)
"""Moves that are aggregated; all of them come last."""
WEIGHTS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
HALF = 0.5
"""The published weight."""
FACTORS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
"""Of the step sizes."""
COMPANY = (INTERACT, MIGC, GLIGEN, TEXT, STYLE)
"""The models, in the order in which they join."""
PUBLISHED = "published"
SHOWN = 4
_METRICS = ("success", "miou", "fid")
_SETTINGS = ("window", "weight", "step", "models")


@dataclass(frozen=True, eq=False)
class Variant:
    """One row.

    Attributes:
        measure: what is made for it; variants can share one.
        maker: of that.
        facts: {setting: its value}, which the row has beside what is measured.
    """

    measure: str
    maker: Maker
    facts: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class _Choice:
    """An aggregation that differs from the published one.

    Attributes:
        manner: how models become one.
        models: the first one's picture is kept.
        facts: of its row.
    """

    manner: Manner = PAPER
    models: tuple[str, ...] = PAIR
    facts: Mapping[str, float] = field(default_factory=dict[str, float])


def variants(bench: Bench) -> dict[str, Variant]:
    """{row: how it is made}."""
    sampling = bench.generation
    alone = _own(INTERACT, maker((INTERACT,), sampling))
    found = {INTERACT: alone, MIGC: _own(MIGC, maker((MIGC,), sampling))}
    found |= {"window/0": replace(alone, facts={"window": 0})}
    published = Variant(PUBLISHED, maker(PAIR, sampling))
    for name, choice in _choices(_steps(bench)).items():
        if (choice.manner, choice.models) == (PAPER, PAIR):
            found[name] = replace(published, facts=choice.facts)
        else:
            made = maker(choice.models, sampling, choice.manner)
            found[name] = replace(_own(name, made), facts=choice.facts)
    return found | _against(bench)


def _choices(steps: int) -> dict[str, _Choice]:
    """{row: its aggregation}, in runs of so many moves."""
    found = {PUBLISHED: _Choice()}
    for mix in MIXES:
        for mean in MEANS:
            manner = replace(PAPER, mix=mix, mean=mean)
            found[f"mix/{mix}-{mean or 'none'}"] = _Choice(manner)
    for length in dict.fromkeys((*(n for n in LENGTHS if n < steps), steps - 1)):
        manner = replace(PAPER, window=(1, 1 + length))
        found[f"window/{length}"] = _Choice(manner, facts={"window": length})
    for weight in WEIGHTS:
        manner = PAPER if weight == HALF else replace(PAPER, weights=(weight,))
        found[f"weight/{weight:g}"] = _Choice(manner, facts={"weight": weight})
    for factor in FACTORS:
        manner = PAPER if factor == 1 else PAPER.scaled(factor)
        found[f"step/{factor:g}"] = _Choice(manner, facts={"step": factor})
    swapped = replace(PAPER, step_sizes=STEP_SIZES[::-1])
    found |= {f"first/{INTERACT}": _Choice(), f"first/{MIGC}": _Choice(swapped, PAIR[::-1])}
    for count in range(2, len(COMPANY) + 1):
        found[f"models/{count}"] = _Choice(models=COMPANY[:count], facts={"models": count})
    shared = replace(PAPER, shared_noise=True)
    return found | {"noise/separate": _Choice(), "noise/shared": _Choice(shared)}


def _against(bench: Bench) -> dict[str, Variant]:
    """What the aggregation is compared with."""
    sampling, steps = bench.generation, _steps(bench)
    extra = PAPER.window[1]  # calls of the other model, which is asked until the window has passed
    longer = replace(sampling, steps=steps + extra)
    mean = with_averaged(bench.model, GLIGEN)
    pair = (INTERACT, GLIGEN)
    found: dict[str, Maker] = {
        "more_steps": maker((INTERACT,), longer),
        "both_adapters": _BothAdapters(sampling),
        "averaged_gligen": _OnModel(mean, sampling),
        "aggregated_gligen": maker(pair, sampling),
    }
    for name, blend in (("score_sum", score_sum), ("magic_fusion", magic_fusion)):
        found[name] = _Blended(blend, sampling, Window.steps(0, extra))
        found[f"{name}_all"] = _Blended(blend, sampling, Window.steps(0, steps))
    return {f"against/{name}": _own(f"against/{name}", made) for name, made in found.items()}


@dataclass(frozen=True, eq=False)
class _Blended:
    """A maker: both in one process."""

    blend: Blend
    sampling: Sampling
    window: Window

    def __call__(self, model: Model, wanted: Wanted, seeds: Sequence[int]) -> Output:
        return blended(self.blend, model, PAIR, wanted, seeds, self.sampling, self.window)


@dataclass(frozen=True, eq=False)
class _BothAdapters:
    """A maker: both adapters in one network."""

    sampling: Sampling

    def __call__(self, model: Model, wanted: Wanted, seeds: Sequence[int]) -> Output:
        return both(model, PAIR, wanted, seeds, self.sampling)


@dataclass(frozen=True, eq=False)
class _OnModel:
    """A maker: InteractDiffusion of another model."""

    other: Model
    sampling: Sampling

    def __call__(self, model: Model, wanted: Wanted, seeds: Sequence[int]) -> Output:
        del model
        return make(self.other, (INTERACT,), wanted, seeds, self.sampling)


def _own(name: str, made: Maker) -> Variant:
    """A variant with a measure of its own."""
    return Variant(name.replace("/", "-"), made)


def _steps(bench: Bench) -> int:
    return bench.generation.steps or bench.model.backbone.defaults.num_inference_steps


def make_rows(bench: Bench, sizes: Sizes) -> list[Row]:
    """All rows."""
    every = variants(bench)
    made = measures({each.measure: each.maker for each in every.values()})
    prepare = partial(layouts, bench, "ablation", sizes.each, False)
    found = bench.measure("ablation", made, prepare, sizes.layouts)
    rows = [short_row("ablation/truth", found, REAL)]
    for name, each in every.items():
        row = short_row(f"ablation/{name}", found, each.measure)
        rows.append(replace(row, metrics={**row.metrics, **each.facts}))
    return rows


def show(bench: Bench, sizes: Sizes) -> Pictures:
    """The first layouts by every variant, from the same seeds."""
    numbers = range(min(SHOWN, sizes.layouts))
    titles = [layout(bench.run.seed, number).entry.caption for number in numbers]
    groups: dict[str, list[str]] = {}
    for name, each in variants(bench).items():
        groups.setdefault(name.split("/")[0], []).append(each.measure)
    return {group: grid(bench, "ablation", titles, kinds) for group, kinds in groups.items()}


def draw(table: Table, path: Path) -> Path:
    """Success, mIoU and Frechet distance over each setting, InteractDiffusion alone as a level."""
    levels = {"alone": table.row(f"ablation/{INTERACT}"), "MIGC": table.row(f"ablation/{MIGC}")}
    panels = [
        Panel(x, y, {"": [row for row in table.rows if x in row.metrics]}, levels)
        for x in _SETTINGS
        for y in _METRICS
    ]
    shown = [panel for panel in panels if any(panel.y in row.metrics for row in panel.lines[""])]
    return save_curves(shown, path, f"aggregation, {table.scenes} layouts", len(_METRICS))


PART = Part(
    "ablation",
    "Every choice of the aggregation of InteractDiffusion and MIGC, and what else could be done "
    "with as many network calls.",
    COMPANY,
    make_rows,
    show,
    draw,
    Sizes(layouts=100, each=1, scenes=1),
)
