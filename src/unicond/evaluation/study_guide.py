"""`unicond table guide`: both branches from text, steered to a given depth ("depth guidance").

The depth branch is generated; guidance by its prediction pulls image and depth towards the target,
with weights swept and with an optimiser. `abs_rel` is that of the judge's depth of the image, as
everywhere, `abs_rel_drawn` that of the depth that was generated beside it.
"""

from dataclasses import replace
from pathlib import Path

from unicond.conditions import named
from unicond.evaluation.chunk import Chunk, image_scores
from unicond.evaluation.curves import Panel, save_curves
from unicond.evaluation.estimates import row_of
from unicond.evaluation.measures import FIDELITIES, own_way
from unicond.evaluation.runner import Measure, Samples
from unicond.evaluation.study import Bench, Study, picked, varied
from unicond.evaluation.subject import Sampling
from unicond.evaluation.tables import Row, Table
from unicond.mechanisms.guidance.gradients import AdamW
from unicond.model import given

WEIGHTS = (0.3, 1.0, 3.0, 10.0)
"""Of the guidance."""
OPTIMIZERS = {"adamw": AdamW(), "adamw_0.1": AdamW(learning_rate=0.1)}
"""In the place of a weight: the usual one, and one of five times its length."""
DRAWN = "abs_rel_drawn"
SHOWN = ("abs_rel", "delta1", "range_covered", "fid", "found")


def _guided(chunk: Chunk) -> Samples:
    """Both branches from text, guided to the condition's pictures."""
    cases, subject = chunk.cases, chunk.subject
    known = {subject.branch: given(cases.condition, guide=True)}
    made = subject.complete(cases.captions, cases.seeds, known)
    for branch, pictures in made.items():
        chunk.keep(branch, pictures)
    fidelity = FIDELITIES["depth"]
    scores = image_scores(chunk, fidelity, made["image"])
    drawn = fidelity.of_drawings(chunk, made[subject.branch])
    return Samples({**scores.values, DRAWN: drawn["abs_rel"]}, scores.vectors)


def make(bench: Bench) -> list[Row]:
    """Weights and the optimiser, beside the floor and what conditioning reaches."""
    depth = named("depth")
    subject = bench.subject(depth)
    own = f"to_image_{own_way(subject.config, 'condition_held')}"
    measure = Measure("guide", _guided)
    tried = {f"weight_{weight:g}": Sampling(weight=weight) for weight in WEIGHTS}
    tried |= {name: Sampling(optimizer=each) for name, each in OPTIMIZERS.items()}
    around = picked(subject, depth, ("probe_real", "probe_reconstruction", "text_only", own))
    guided = [varied(measure, name, generation=each) for name, each in tried.items()]
    estimates = bench.estimates(depth, [*around, *guided])
    named_ = {"text_only": "text_only", **{name: name for name in tried}, "depth_to_image": own}
    rows: list[Row] = []
    for name, source in {**named_, "probe_reconstruction": "probe_reconstruction"}.items():
        numbers = {metric: estimates.number(metric, source) for metric in SHOWN}
        if name in tried:
            numbers[DRAWN] = estimates.number(DRAWN, source)
        numbers["seconds"] = estimates.number("seconds", source)
        row = row_of(name, numbers, bench.run.scenes)
        weight = tried[name].weight if name in tried else None
        facts = {} if weight is None else {"weight": weight}
        rows.append(replace(row, metrics={**row.metrics, **facts}))
    return rows


def draw(table: Table, path: Path) -> Path:
    """Fidelity, text and quality over the weight."""
    rows = [row for row in table.rows if row.name.startswith("weight_")]
    levels = {
        name.replace("_", " "): table.row(name)
        for name in ("text_only", *OPTIMIZERS, "depth_to_image", "probe_reconstruction")
    }
    panels = [
        Panel("weight", y, {"guided": rows}, levels, log=True)
        for y in ("abs_rel", "found", "fid")
        if any(y in row.metrics for row in rows)
    ]
    return save_curves(panels, path, f"depth guidance, {table.scenes} held-out scenes")


GUIDE = Study(
    "guide",
    make,
    draw,
    needs=("depth",),
    version="2",
)
