"""`unicond table scales`, `schedules`, `steps`: one setting swept for every adapter.

scales      condition guidance and joint scale: fidelity of the condition, text share found
schedules   ways through the times of image and condition at equal network calls: synchronous
            (joint), asynchronous (one branch ahead, curves), and from a clean condition
steps       how few steps an estimation takes, and how many noises are worth averaging
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unicond.conditions import Condition
from unicond.evaluation.bars import Bar, within
from unicond.evaluation.chunk import Chunk
from unicond.evaluation.condition_bars import PAIRED, agreeing
from unicond.evaluation.curves import Panel, save_curves
from unicond.evaluation.estimates import SHUFFLED, Estimate, Estimates, row_of
from unicond.evaluation.measures import FIDELITIES, own_way
from unicond.evaluation.runner import Measure
from unicond.evaluation.study import Bench, Study, bars, counted, picked, varied
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table

GUIDANCES = (0.0, 0.5, 1.0, 2.0, 3.0)
"""Of the condition."""
JOINT_SCALES = (0.0, 0.5, 1.0, 1.5, 2.0)
STEPS = (1, 2, 4, 20)
"""Of estimation, by one noise."""
ENSEMBLES = (1, 2, 4, 8)
"""Of estimation, in its own steps."""
FEW = 1.05
"""The most that few steps may have of the error of 20, with its whole interval."""
PLANS = (
    "joint",
    "condition-first",
    "curve(0.1)",
    "curve(0.3)",
    "curve(0.7)",
    "curve(0.9)",
    "image-first",
)
SHOWN = ("range_covered", "fid", "found", "seconds")
CALLS = "network_rows"


def rows_of(
    condition: Condition,
    estimates: Estimates,
    names: Mapping[str, Mapping[str, float]],
    metrics: Sequence[str],
    scenes: int,
) -> list[Row]:
    """A row a measure, with the numbers that it was made by.

    Args:
        condition: of all of them.
        estimates: of the measures.
        names: {measure: {setting: its value}}.
        metrics: what is shown of each.
        scenes: how many were measured.

    Returns:
        Rows named `<condition>/<measure>`.
    """
    rows: list[Row] = []
    for name, facts in names.items():
        numbers: dict[str, Estimate] = {m: estimates.number(m, name) for m in metrics}
        row = row_of(f"{condition.name}/{name}", numbers, scenes)
        rows.append(replace(row, metrics={**row.metrics, **facts}))
    return rows


def scales(bench: Bench) -> list[Row]:
    """Condition guidance and joint scale, for every adapter."""
    rows: list[Row] = []
    for condition in bench.conditions:
        subject = bench.subject(condition)
        own = f"to_image_{own_way(subject.config, 'condition_held')}"
        around = ("probe_real", "probe_reconstruction", "text_only")
        [given] = picked(subject, condition, (own,))
        tried: dict[str, tuple[Sampling, dict[str, float]]] = {
            f"condition_guidance_{c:g}": (
                Sampling(condition_guidance=c),
                {"condition_guidance": c},
            )
            for c in GUIDANCES
        }
        tried |= {
            f"joint_scale_{w:g}": (Sampling(joint_scale=w), {"joint_scale": w})
            for w in JOINT_SCALES
        }
        swept = [varied(given, name, generation=each) for name, (each, _) in tried.items()]
        estimates = bench.estimates(condition, [*picked(subject, condition, around), *swept])
        facts = {name: each for name, (_, each) in tried.items()}
        shown = (*FIDELITIES[condition.name].metrics, *SHOWN)
        levels = {"text_only": {}, "probe_reconstruction": {}}
        rows += rows_of(condition, estimates, facts, shown, bench.run.scenes)
        rows += rows_of(condition, estimates, levels, shown, bench.run.scenes)
    return rows


def draw_scales(table: Table, path: Path) -> Path:
    """Fidelity and text over both scales, a line a condition."""
    names = dict.fromkeys(row.name.split("/")[0] for row in table.rows)
    panels: list[Panel] = []
    for x in ("condition_guidance", "joint_scale"):
        lines = {name: _of(table, name, x) for name in names}
        for y in ("range_covered", "found", "fid"):
            if any(y in row.metrics for rows in lines.values() for row in rows):
                panels.append(Panel(x, y, lines))
    return save_curves(panels, path, f"scales, {table.scenes} held-out scenes")


def steps(bench: Bench) -> list[Row]:
    """Estimation in few steps and by several noises, for every aligned adapter."""
    tried = {f"steps_{n}": Sampling(steps=n, ensemble=1) for n in STEPS}
    tried |= {f"ensemble_{n}": Sampling(ensemble=n) for n in ENSEMBLES}
    rows: list[Row] = []
    for condition in bench.conditions:
        if not condition.aligned:
            continue
        subject = bench.subject(condition)
        own = f"to_condition_{own_way(subject.config, 'image_held')}"
        [drawn, *around] = picked(subject, condition, (own, "probe_real", "drawing_reconstruction"))
        swept = [varied(drawn, name, estimation=each) for name, each in tried.items()]
        estimates = bench.estimates(condition, [*around, *swept])
        main = FIDELITIES[condition.name].metrics
        for name in tried:
            numbers = {m: estimates.number(m, name) for m in (*main, "error_ratio")}
            numbers["ratio_to_20"] = estimates.ratio(name, f"steps_{STEPS[-1]}")
            numbers["seconds"] = estimates.number("seconds", name)
            row = row_of(f"{condition.name}/{name}", numbers, bench.run.scenes)
            setting, _, number = name.partition("_")
            rows.append(replace(row, metrics={**row.metrics, setting: float(number)}))
        rows.append(estimates.row(f"{condition.name}/probe_real", "probe_real", main))
    if not rows:
        raise ValueError(
            "table steps measures the estimation of maps of the image's own view, but no adapter "
            "here is aligned: give one, as in --adapter depth"
        )
    return rows


def draw_steps(table: Table, path: Path) -> Path:
    """Errors over steps and ensembles, a line a condition."""
    names = dict.fromkeys(row.name.split("/")[0] for row in table.rows)
    panels: list[Panel] = []
    for x in ("steps", "ensemble"):
        lines = {name: _of(table, name, x) for name in names}
        panels += [Panel(x, y, lines, log=True) for y in ("ratio_to_20", "error_ratio")]
    return save_curves(panels, path, f"estimation, {table.scenes} held-out scenes")


def schedules(bench: Bench) -> list[Row]:
    """Named plans of both branches from text, and one branch from the other, clean."""
    rows: list[Row] = []
    for condition in bench.conditions:
        subject, main = bench.subject(condition), FIDELITIES[condition.name].metrics
        calls = subject.generation.steps or subject.model.backbone.defaults.num_inference_steps
        same = Sampling(steps=calls)
        both = picked(subject, condition, ("joint",))[0]
        image = f"to_image_{own_way(subject.config, 'condition_held')}"
        drawn = f"to_condition_{own_way(subject.config, 'image_held')}"
        given, estimated = picked(subject, condition, (image, drawn))
        tried: list[Measure[Chunk]] = [
            counted(varied(both, plan, generation=replace(same, plan=plan))) for plan in PLANS
        ]
        tried += [
            counted(varied(given, "clean_condition", generation=same)),
            counted(varied(estimated, "clean_image", estimation=same)),
        ]
        around = picked(subject, condition, ("probe_real", "text_only"))
        estimates = bench.estimates(condition, [*around, *tried])
        scenes, fact = bench.run.scenes, {"calls": calls}
        shown = (*main, main[0] + SHUFFLED, "agreement", "fid", "found", CALLS, "seconds")
        rows += rows_of(condition, estimates, dict.fromkeys(PLANS, fact), shown, scenes)
        shown = (*main, "fid", "found", CALLS, "seconds")
        rows += rows_of(condition, estimates, {"clean_condition": fact}, shown, scenes)
        shown = (*main, CALLS, "seconds")
        rows += rows_of(condition, estimates, {"clean_image": fact}, shown, scenes)
        shown = (*main, "fid", "found", "seconds")
        rows += rows_of(condition, estimates, {"text_only": fact}, shown, scenes)
    return rows


def draw_schedules(table: Table, path: Path) -> Path:
    """How well pairs agree, how real images are, what is found of the text."""
    return bars(table, path, ("agreement", "fid", "found"), "ways to sample")


def _few(rows: Sequence[Row]) -> list[Bar]:
    """An adapter's own few steps cost nothing; rows are `<condition>/<measure>`."""
    return [
        Bar(
            f"{name}: its own few steps are as accurate as 20, one noise each",
            within(f"{name}/ensemble_1", "ratio_to_20", high=FEW),
            "what is compared",
            tuple((f"{name}/{each}", "error_ratio") for each in ("ensemble_1", "steps_20")),
        )
        for name in dict.fromkeys(row.name.split("/")[0] for row in rows)
    ]


def _agreeing(rows: Sequence[Row]) -> list[Bar]:
    """Of the conditions that pairs have a bar of."""
    names = dict.fromkeys(row.name.split("/")[0] for row in rows)
    return [agreeing(f"{name}/joint") for name in names if name in PAIRED]


def _of(table: Table, name: str, setting: str) -> list[Row]:
    """The rows of a condition in which a setting is swept."""
    own = [row for row in table.rows if row.name.split("/")[0] == name]
    return [row for row in own if setting in row.metrics]


SCALES = Study(
    "scales",
    scales,
    draw_scales,
)
STEPS_STUDY = Study("steps", steps, draw_steps, expects=_few)
SCHEDULES = Study(
    "schedules",
    schedules,
    draw_schedules,
    usual=("depth",),
    expects=_agreeing,
)
