"""Every choice of the aggregation of InteractDiffusion and MIGC, one at a time, on mini-MIG.

Around the default manner (`ablation/default`), beside the paper's (`ablation/paper`):

    mix/*          rule by which states become one, and what they are pulled to; with another mean
                   than the default's, models start from their own noise (`Manner.pulling_to`)
    window/k       k moves are aggregated from the default's first on, at last all moves of the
                   plan; 0 is InteractDiffusion alone
    weight/w       of InteractDiffusion
    step/f         f times the published step sizes, which the posterior mean takes
    first/*        whose picture is kept
    models/n       further models: GLIGEN, text alone, an image prompt (of another photo); the first
                   keeps its share, the others share the rest
    start/*        others start from their own noise, from the first one's, or join it
    against/*      at as many network calls as the aggregation takes or more: InteractDiffusion with
                   more moves, the score sum and MagicFusion in the same moves and in all, both
                   adapters in one network; and an adapter averaged of InteractDiffusion and GLIGEN
                   (with MIGC it has no weight in common) beside the aggregation of those two

Each row has `success`, `miou`, `placed`, `colored`, the Frechet distance `fid` of the probe's
features to the scenes', `seconds`, network `calls` and `network_rows` of a picture. The default,
`window/*`, `weight/*`, `first/*`, each model alone and the scenes themselves have `relation`, too,
and `relation_loss` to InteractDiffusion, on scenes of people who act. What several rows share is
made once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import get_args

from unicond.aggregation.manner import PAPER, STEP_SIZES, WEIGHT, Manner, Mean, Mix, Place, Start
from unicond.calls.output import Output
from unicond.evaluation.amdm.blends import (
    Blend,
    blended,
    both,
    magic_fusion,
    score_sum,
    with_averaged,
)
from unicond.evaluation.amdm.cases import REAL, Maker, layouts, measures, people
from unicond.evaluation.amdm.layouts import layout
from unicond.evaluation.amdm.models import (
    GLIGEN,
    INTERACT,
    MIGC,
    Wanted,
    make,
    steps_of,
    window_of,
)
from unicond.evaluation.amdm.part import Asked, Part, Pictures, grid, maker
from unicond.evaluation.amdm.rows import short_row, with_loss, with_relations
from unicond.evaluation.curves import Bars, Panel, save_curves
from unicond.evaluation.study import Bench
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.model import Model
from unicond.sampling.window import Window
from unicond.tasks.together import STYLE, TEXT

PAIR = (INTERACT, MIGC)
MIXES: tuple[Mix, ...] = get_args(Mix)
MEANS: tuple[Mean | None, ...] = (*get_args(Mean), None)
STARTS: tuple[Start, ...] = get_args(Start)
LENGTHS = (1, 2, 3, 4, 5, 10, 20)
"""Moves that are aggregated; all of them come last."""
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
FACTORS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0)
"""Of the step sizes."""
COMPANY = (INTERACT, MIGC, GLIGEN, TEXT, STYLE)
"""The models, in the order in which they join."""
USUAL = "default"
SHOWN = 4
_METRICS = ("success", "miou", "fid")
_SETTINGS = ("window", "weight", "step", "models")
_KINDS = ("mix", "first", "start", "against")
_ACTED = ("window", "weight", "first")
"""Settings and kinds that are made of people who act, too."""


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
    """An aggregation.

    Attributes:
        manner: how models become one.
        models: the first one's picture is kept.
        facts: of its row.
    """

    manner: Manner
    models: tuple[str, ...] = PAIR
    facts: Mapping[str, float] = field(default_factory=dict[str, float])


def variants(bench: Bench, usual: Manner) -> dict[str, Variant]:
    """{row: how it is made}, around a manner."""
    sampling = bench.generation
    alone = _own(INTERACT, maker((INTERACT,), sampling))
    found = {INTERACT: alone, MIGC: _own(MIGC, maker((MIGC,), sampling))}
    found |= {"window/0": replace(alone, facts={"window": 0})}
    default = Variant(USUAL, maker(PAIR, sampling, usual))
    steps = steps_of(bench.model, sampling)
    one = replace(usual, window=Place(1))
    begin, first = (int(window_of(bench.model, sampling, m).from_t) for m in (one, usual))
    for name, choice in _choices(usual, steps, first, begin).items():
        if (choice.manner, choice.models) == (usual, PAIR):
            found[name] = replace(default, facts=choice.facts)
        else:
            made = maker(choice.models, sampling, choice.manner)
            found[name] = replace(_own(name, made), facts=choice.facts)
    return found | _against(bench, usual)


def _choices(usual: Manner, steps: int, first: int, begin: int) -> dict[str, _Choice]:
    """{row: its aggregation}, in runs of so many moves: a first one is, or can be, aggregated."""
    found = {USUAL: _Choice(usual), "paper": _Choice(PAPER)}
    for mix in MIXES:
        for mean in MEANS:
            manner = replace(usual, mix=mix).pulling_to(mean)
            found[f"mix/{mix}-{mean or 'none'}"] = _Choice(manner)
    for length in (n for n in LENGTHS if first + n <= steps):
        found[f"window/{length}"] = _Choice(usual.lasting(length), facts={"window": length})
    every = replace(usual, window=(begin, steps))
    found["window/all"] = _Choice(every, facts={"window": steps})
    for weight in WEIGHTS:
        same = (usual.weights or (WEIGHT,)) == (weight,)
        manner = usual if same else replace(usual, weights=(weight,))
        found[f"weight/{weight:g}"] = _Choice(manner, facts={"weight": weight})
    pulling = usual if usual.mean else usual.pulling_to("posterior")
    for factor in FACTORS:
        manner = pulling if factor == 1 else pulling.scaled(factor)
        found[f"step/{factor:g}"] = _Choice(manner, facts={"step": factor})
    swapped = replace(usual, step_sizes=STEP_SIZES[::-1]) if usual.mean else usual
    found |= {f"first/{INTERACT}": _Choice(usual), f"first/{MIGC}": _Choice(swapped, PAIR[::-1])}
    for count in range(2, len(COMPANY) + 1):
        facts = {"models": float(count)}
        manner = usual if count == 2 else replace(usual, weights=None)
        found[f"models/{count}"] = _Choice(manner, COMPANY[:count], facts)
    starts = [start for start in STARTS if start != "joined" or usual.mean != "released"]
    return found | {f"start/{start}": _Choice(replace(usual, start=start)) for start in starts}


def _against(bench: Bench, usual: Manner) -> dict[str, Variant]:
    """What the aggregation is compared with."""
    sampling = bench.generation
    steps, window = steps_of(bench.model, sampling), window_of(bench.model, sampling, usual)
    # calls of the other model, which is asked until the window has passed
    extra = int(window.to_t - (window.from_t if usual.start == "joined" else 0))
    longer = replace(sampling, steps=steps + extra)
    mean = with_averaged(bench.model, GLIGEN)
    pair = (INTERACT, GLIGEN)
    found: dict[str, Maker] = {
        "more_steps": maker((INTERACT,), longer),
        "both_adapters": _BothAdapters(sampling),
        "averaged_gligen": _OnModel(mean, sampling),
        "aggregated_gligen": maker(pair, sampling, usual),
    }
    same = window if usual.start == "joined" else Window.steps(0, extra)
    for name, blend in (("score_sum", score_sum), ("magic_fusion", magic_fusion)):
        found[name] = _Blended(blend, sampling, same)
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


def make_rows(bench: Bench, sizes: Asked) -> list[Row]:
    """All rows."""
    every = variants(bench, sizes.manner)
    made = {each.measure: each.maker for each in every.values()}
    prepare = partial(layouts, bench, "ablation", sizes.each, False)
    found = bench.measure("ablation", measures(made), prepare, sizes.layouts)
    shown = {each.measure for name, each in every.items() if name.split("/")[0] in _ACTED}
    acting = {name: made[name] for name in made if name in {INTERACT, MIGC, USUAL, *shown}}
    prepare = partial(people, bench, "ablation-people", 1, False)
    acted = bench.measure("ablation-people", measures(acting), prepare, sizes.scenes)
    rows: list[Row] = []
    for name, each in (("truth", None), *every.items()):
        measure, facts = (each.measure, each.facts) if each else (REAL, {})
        row = short_row(f"ablation/{name}", found, measure)
        if measure in acted:
            row = with_loss(with_relations(row, acted[measure]), acted, measure, INTERACT)
        rows.append(replace(row, metrics={**row.metrics, **facts}))
    return rows


def show(bench: Bench, sizes: Asked) -> Pictures:
    """The first layouts by every variant, from the same seeds."""
    numbers = range(min(SHOWN, sizes.layouts))
    titles = [layout(bench.run.seed, number).entry.caption for number in numbers]
    groups: dict[str, list[str]] = {}
    for name, each in variants(bench, sizes.manner).items():
        groups.setdefault(name.split("/")[0], []).append(each.measure)
    return {group: grid(bench, "ablation", titles, kinds) for group, kinds in groups.items()}


def draw(table: Table, path: Path) -> Path:
    """Success, mIoU and Frechet distance over each setting and of each kind; then relations."""
    metrics = [metric for metric in _METRICS if metric in table.metrics()]
    title = f"aggregation, {table.scenes} layouts"
    return save_curves(panels(table, metrics), path, title, len(metrics))


def panels(table: Table, metrics: Sequence[str]) -> list[Panel | Bars]:
    """Metrics over each setting, and of each kind as bars; the models alone are levels.

    Args:
        table: of the part.
        metrics: a column each.

    Returns:
        What is drawn, line by line; in the last one `relation`, where it was measured.
    """
    levels = {"alone": table.row(f"ablation/{INTERACT}"), "MIGC": table.row(f"ablation/{MIGC}")}

    def panel(what: str, metric: str) -> Panel | Bars:
        if what in _SETTINGS:
            return Panel(what, metric, {"": [r for r in table.rows if what in r.metrics]}, levels)
        return Bars(metric, _bars(table, what), levels, f"{what} (network calls)")

    found = [panel(what, metric) for what in (*_SETTINGS, *_KINDS) for metric in metrics]
    return found + [panel(what, "relation") for what in _ACTED if "relation" in table.metrics()]


def _bars(table: Table, kind: str) -> dict[str, Row]:
    """{label: row} of a kind, with what a picture costs; the default is the first."""
    start, usual = f"ablation/{kind}/", table.row(f"ablation/{USUAL}")
    named = {row.name.removeprefix(start): row for row in table.rows if row.name.startswith(start)}
    return {
        f"{name.replace('_', ' ')} ({row.metrics['calls']:.0f})": row
        for name, row in {USUAL: usual, **named}.items()
    }


PART = Part(
    "ablation",
    "Every choice of the aggregation of InteractDiffusion and MIGC, and what else could be done "
    "with as many network calls.",
    COMPANY,
    make_rows,
    show,
    draw,
    Asked(layouts=100, each=1, scenes=100),
)
