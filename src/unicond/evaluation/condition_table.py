"""`unicond evaluate CONDITION`: one model of image and condition, in every direction, as a table.

Rows (depth calls the first two `depth_to_image` and `image_to_depth`):

    condition_to_image      the condition given, in the way that the model itself takes
    image_to_condition      the image given, likewise
      ..._two_way           the held branch looks back
      ..._one_way           it looks at nothing, so that it runs once
      ..._aligned           one-way, and tokens look around their own place
    joint                   both from text
    text_only               the floor of the first row
    probe_reconstruction    its ceiling: the judge on the autoencoder's reconstructions
    probe_real              the judge, a specialist, on the real images
    drawing_reconstruction  exact drawings through the autoencoder, read back

`range_covered` is how much of the gap between floor and ceiling the condition closes;
`error_ratio` the error of image -> condition over the sum of the last two rows' errors, of depth
after the fit;
`ratio_to_two_way` the error of a way over that of `..._two_way` on the same scenes and noises;
`agreement` the error of shuffled pairs over that of joint ones. Where the metric is a share, its
error is 1 - share.
"""

import hashlib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unicond.adapters.config import JointConfig
from unicond.conditions import Condition
from unicond.evaluation import sheet
from unicond.evaluation.bars import with_findings
from unicond.evaluation.cases import TABLE_WORLD, HeldOut
from unicond.evaluation.chunk import Chunk
from unicond.evaluation.condition_bars import bars_of
from unicond.evaluation.depth_measures import COARSE, mean_depth
from unicond.evaluation.estimates import FITTED, FOUND, SHUFFLED, Estimates
from unicond.evaluation.judge import Judge
from unicond.evaluation.measures import FIDELITIES, measures, own_way, ways
from unicond.evaluation.report import save_plot
from unicond.evaluation.runner import Measure, collect, settings_hash
from unicond.evaluation.subject import Sampling, Subject
from unicond.evaluation.tables import ALIGNMENT, Table, describe_machine, save_table
from unicond.world.generate import World
from unicond.world.render import render

VERSION = "4"
"""Raised when a measure changes its meaning, so that old partial results are not read."""


_FITTED = "scale and shift of the judge's depth are fitted in disparity"
ALIGNED_BY = {
    "depth": "scale and shift of all depth are fitted in disparity",
    "depth-metric": f"metres of drawings count as they are (image_to_condition, "
    f"drawing_reconstruction), but in abs_rel{FITTED} and error_ratio, and in rows of images, "
    f"{_FITTED}: the judge reads no absolute scale",
}
"""How depths are brought together before they are compared, which the tables say."""


@dataclass(frozen=True)
class Setting:
    """Named settings of sampling.

    Attributes:
        generation: wherever the image is generated.
        estimation: wherever the image is given.
    """

    generation: Sampling
    estimation: Sampling


SETTINGS: Mapping[str, Setting] = {
    "default": Setting(Sampling(), Sampling()),
    "paper": Setting(
        Sampling(
            steps=50,
            solver="ddim",
            eta=1.0,
            guidance=7.5,
            condition_guidance=0.0,
            perturbed_guidance=0.0,
            joint_plan="joint",
        ),
        Sampling(steps=20, solver="euler_ancestral", guidance=1.0, noise=0.1, ensemble=1),
    ),
}
"""The model's own, and those of UniCon's tables (arXiv:2410.11439, appendix D.2)."""


@dataclass(frozen=True)
class Run:
    """How a table is made.

    Attributes:
        scenes: how many held-out scenes.
        seed: of scenes and noise, 0 to 9999.
        batch: scenes at a time.
        out: folder of all runs; each has its own inside, named by a hash of its settings.
        command: shown in the table.
        settings: {name: value}: what was loaded, as fingerprints.
        quiet: show no progress.
    """

    scenes: int
    seed: int
    batch: int
    out: Path
    command: str
    settings: Mapping[str, str]
    quiet: bool = False


@dataclass(frozen=True)
class RowPlan:
    """A row to be made: its name, the measure that it shows, and which numbers."""

    name: str
    measure: str
    metrics: tuple[str, ...]


def evaluate(subject: Subject, judge: Judge, run: Run, condition: Condition) -> tuple[Table, Path]:
    """Measure a condition's table, or go on with one that was interrupted.

    Args:
        subject: model and settings.
        judge: reads pictures.
        run: how much, where.
        condition: of the subject's branch.

    Returns:
        The table, and the folder with its files: `table.json`, `table.csv`, `plot.png`, sheets.
    """
    size, config = subject.model.backbone.sample_size, subject.config
    settings = {
        **run.settings,
        "table": f"{condition.name} {VERSION}",
        "seed": str(run.seed),
        "world": world_fingerprint(size),
        "generation": subject.generation.label(),
        "estimation": subject.estimation.label(),
    }
    hashed = settings_hash(settings | {"batch": str(run.batch)})
    folder = run.out / f"{condition.name}-{hashed}"
    held_out = HeldOut(TABLE_WORLD, run.seed, size, folder, condition)

    def prepare(rows: range) -> Chunk:
        return Chunk(held_out.cases(rows), subject, judge, folder / "pictures")

    every = all_measures(condition, config)
    found = collect(every, prepare, run.scenes, run.batch, folder / "parts", run.quiet)
    estimates = Estimates(found, FIDELITIES[condition.name].metrics[0])
    plans = row_plans(condition, config)
    if condition.name in ALIGNED_BY:
        settings[ALIGNMENT] = ALIGNED_BY[condition.name]
    table = Table(
        command=run.command,
        seed=run.seed,
        seconds=math.fsum(each.seconds for each in found.values()),
        scenes=run.scenes,
        rows=tuple(estimates.row(plan.name, plan.measure, plan.metrics) for plan in plans),
        settings=settings,
        machine=describe_machine(subject.model.backbone.device),
    )
    table = with_findings(table, bars_of(condition, config))
    captions = held_out.captions(range(min(run.scenes, sheet.KEPT)))
    _write(table, folder, captions, condition, config)
    return table, folder


def all_measures(condition: Condition, config: JointConfig) -> list[Measure[Chunk]]:
    """Everything that a condition's table needs."""
    if condition.name != "depth":
        return measures(condition, config)
    return [*measures(condition, config, COARSE), Measure("mean_depth", mean_depth)]


def row_plans(condition: Condition, config: JointConfig) -> list[RowPlan]:
    """The rows of a condition's table.

    Args:
        condition: what is paired with the image.
        config: of its adapter.

    Returns:
        The rows, in the order shown.
    """
    main = FIDELITIES[condition.name].metrics
    depth = condition.name == "depth"
    to_image, to_condition = (
        ("depth_to_image", "image_to_depth")
        if depth
        else ("condition_to_image", "image_to_condition")
    )
    counts = tuple(FOUND)[1:] if depth else ()
    sight, ratio = ("found", "keypoints"), ("error_ratio",) if condition.aligned else ()
    drawn = (*main, *((main[0] + FITTED,) if condition.source == "metric_depth" else ()))
    psnrs = ("psnr", f"psnr_{condition.branch}")
    plans = [
        RowPlan(
            to_image,
            f"to_image_{own_way(config, 'condition_held')}",
            (*main, "range_covered", "fid", *sight, *counts, "seconds"),
        ),
        *_way_plans(to_image, "to_image", condition, config, (*main, "range_covered", "fid")),
        RowPlan("probe_reconstruction", "probe_reconstruction", (*main, "fid", *sight, *psnrs)),
        RowPlan("text_only", "text_only", (*main, "fid", *(() if depth else sight))),
        RowPlan(
            to_condition,
            f"to_condition_{own_way(config, 'image_held')}",
            (*drawn, *ratio, "seconds"),
        ),
        *_way_plans(to_condition, "to_condition", condition, config, (*drawn, *ratio)),
        RowPlan("probe_real", "probe_real", (*main, *sight)),
        RowPlan(
            "joint",
            "joint",
            (*main, main[0] + SHUFFLED, "agreement", "fid", *sight, "seconds"),
        ),
    ]
    if condition.aligned:
        plans.append(RowPlan("drawing_reconstruction", "drawing_reconstruction", drawn))
    if depth:
        plans += [
            RowPlan("text", "text_only", (*sight, *counts, "seconds")),
            RowPlan("mean_depth", "mean_depth", main),
            *(RowPlan(f"coarse_{r:g}", f"coarse_{r:g}", (*main, "fid", "found")) for r in COARSE),
        ]
    return plans


def _way_plans(
    name: str,
    measure: str,
    condition: Condition,
    config: JointConfig,
    metrics: tuple[str, ...],
) -> list[RowPlan]:
    """One row for each way in which the held branch is measured."""
    return [
        RowPlan(
            f"{name}_{way}",
            f"{measure}_{way}",
            (*metrics, *(() if way == "two_way" else ("ratio_to_two_way",)), "seconds"),
        )
        for way in ways(condition, config)
    ]


def _write(
    table: Table,
    folder: Path,
    captions: Sequence[str],
    condition: Condition,
    config: JointConfig,
) -> None:
    save_table(table, folder)
    wanted = (*FIDELITIES[condition.name].metrics, "range_covered", "fid", "found")
    shown = [metric for metric in wanted if metric in table.metrics()]
    title = f"{condition.name}, {table.scenes} held-out scenes"
    save_plot(table, folder / "plot.png", shown, title)
    image, drawing = own_way(config, "condition_held"), own_way(config, "image_held")
    for name, kinds in (
        ("sheet.png", ("condition", f"to_image_{image}")),
        ("sheet_text.png", ("text_only",)),
        ("sheet_joint.png", ("joint_image", "joint_condition")),
        ("sheet_estimation.png", ("real", f"to_condition_{drawing}", "condition")),
    ):
        sheet.draw_sheet(folder / "pictures", kinds, captions).save(folder / name)


def world_fingerprint(size: int) -> str:
    """Twelve hex digits of how the world draws its first scenes, in 8 bits."""
    images = render(World(TABLE_WORLD, style="photo").scenes(0, 4), size).image
    return hashlib.sha256(((images + 1) * 127.5).round().byte().numpy().tobytes()).hexdigest()[:12]


def command_line(arguments: Sequence[str]) -> str:
    """The command as one would type it."""
    return "unicond " + shlex.join(arguments)
