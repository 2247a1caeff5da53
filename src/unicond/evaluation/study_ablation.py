"""`unicond table ablation`: UniCon's ablations in miniature, trained and measured.

Each row is a run of `training.ablation`: depth -> image between text alone and the judge on
reconstructions, and image -> depth (`<metric>_estimated`) where the run learned it. `steps` and
`data` are shares of a whole run. All rows are measured on the same scenes and noises:
`ratio_to_full` is that of errors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from unicond.adapters.joint import JointAdapter
from unicond.conditions import named
from unicond.evaluation.curves import Panel, save_curves
from unicond.evaluation.estimates import Estimates, row_of
from unicond.evaluation.measures import FIDELITIES, own_way
from unicond.evaluation.runner import Samples
from unicond.evaluation.study import Bench, Study, picked
from unicond.evaluation.subject import fingerprint
from unicond.evaluation.tables import Row, Table
from unicond.model import Loaded, Model
from unicond.training.ablation import VARIANTS, train_ablated
from unicond.training.workshop import Workshop

CONDITION = "depth"
AROUND = ("probe_real", "probe_reconstruction", "text_only")


@dataclass(frozen=True)
class Ablation:
    """The runs that are trained, and where.

    Attributes:
        shop: where; its minutes, steps and scenes are those of a whole run.
        names: of the runs, the whole one first.
    """

    shop: Workshop
    names: tuple[str, ...] = tuple(VARIANTS)

    def __post_init__(self) -> None:
        unknown = [name for name in self.names if name not in VARIANTS]
        if unknown or self.names[:1] != ("full",):
            raise ValueError(
                f"runs are {', '.join(VARIANTS)}, and full is the first, which the others are "
                f"compared with; got {', '.join(self.names)}"
            )


def make(ablation: Ablation, bench: Bench) -> list[Row]:
    """Train and measure every run."""
    found: dict[str, dict[str, Samples]] = {}
    for name in ablation.names:
        folder = train_ablated(ablation.shop, name, CONDITION)
        ablation.shop.report(1.0, f"{name}: measuring {bench.run.scenes} scenes")
        found[name] = _measured(bench, name, folder)
    main = FIDELITIES[CONDITION].metrics
    whole, rows = found["full"], list[Row]()
    for name, samples in found.items():
        own = {"full": whole["to_image"], "own": samples["to_image"]}
        estimates = Estimates({**{level: whole[level] for level in AROUND}, **own}, main[0])
        shown = (*main, "range_covered", "fid", "found", "seconds")
        numbers = {metric: estimates.number(metric, "own") for metric in shown}
        numbers["ratio_to_full"] = estimates.ratio("own", "full")
        if "to_condition" in samples:
            drawn = Estimates(samples, main[0])
            numbers |= {f"{m}_estimated": drawn.number(m, "to_condition") for m in main}
        row = row_of(name, numbers, bench.run.scenes)
        variant = VARIANTS[name]
        facts = {"steps": variant.steps, "data": variant.data}
        rows.append(replace(row, metrics={**row.metrics, **facts}))
    levels = Estimates(whole, main[0])
    rows += [levels.row(level, level, (*main, "fid")) for level in AROUND[1:]]
    return rows


def _measured(bench: Bench, name: str, folder: Path) -> dict[str, Samples]:
    """{direction or level: samples} of one run; levels are the whole run's alone."""
    condition = named(CONDITION)
    adapter = JointAdapter.from_pretrained(folder).to(bench.model.backbone.device)
    loaded = Loaded(str(folder), adapter.requires_grad_(False).eval())
    subject = bench.subject(condition, Model(bench.model.backbone, {condition.branch: loaded}))
    directions = {"to_image": f"to_image_{own_way(subject.config, 'condition_held')}"}
    if VARIANTS[name].loss:
        directions["to_condition"] = f"to_condition_{own_way(subject.config, 'image_held')}"
    levels = AROUND if name == "full" else ()
    part = f"{name}-{fingerprint(adapter)}"  # other weights, other partial results
    wanted = picked(subject, condition, (*levels, *directions.values()))
    found = bench.measure(part, wanted, bench.chunks(part, condition, subject))
    return {
        **{level: found[level] for level in levels},
        **{direction: found[measure] for direction, measure in directions.items()},
    }


def draw(table: Table, path: Path) -> Path:
    """Fidelity over training steps and over data, with and without the condition's loss."""
    rows = {row.name: row for row in table.rows}
    main = FIDELITIES[CONDITION].metrics[0]

    def line(*names: str) -> list[Row]:
        return [rows[name] for name in names if name in rows]

    lacking: Sequence[str] = ("no_condition_loss", "no_condition_noise", "two_way", "decoder")
    data = {
        "with the condition's loss": line("data_1_16", "data_1_4", "full"),
        "without": line(
            "data_1_16_no_condition_loss", "data_1_4_no_condition_loss", "no_condition_loss"
        ),
    }
    panels = [
        Panel(
            "steps",
            main,
            {"whole model": line("steps_1_4", "steps_1_2", "full")},
            {name.replace("_", " "): rows[name] for name in lacking if name in rows},
            log=True,
        ),
        Panel("data", main, data, log=True),
        Panel("data", "fid", data, log=True),
    ]
    return save_curves(panels, path, f"ablations, {table.scenes} held-out scenes")


def ablation_study(ablation: Ablation) -> Study:
    """The study of some runs."""
    return Study("ablation", partial(make, ablation), draw, bare=True)
