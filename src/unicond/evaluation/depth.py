"""`unicond evaluate depth`: one model of image and depth, in every direction, as a table.

Rows: `depth_to_image` between its floor `text_only` and its ceiling `probe_reconstruction`;
`image_to_depth` beside `mean_depth` and the specialist `probe_real`; `joint` beside its own
shuffled pairs; `coarse_*`; `text`. What each measures stands in `depth_measures`.
"""

import hashlib
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unicond.evaluation import sheet
from unicond.evaluation.cases import TABLE_WORLD, HeldOut
from unicond.evaluation.depth_measures import COARSE, DepthChunk, measures
from unicond.evaluation.judge import Judge
from unicond.evaluation.metrics_pictures import fid
from unicond.evaluation.report import save_plot
from unicond.evaluation.runner import Samples, collect, settings_hash
from unicond.evaluation.subject import Subject
from unicond.evaluation.tables import Row, Table, describe_machine, save_table
from unicond.world.generate import World
from unicond.world.render import render

VERSION = "1"
"""Raised when a measure changes its meaning, so that old partial results are not read."""

ROWS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "depth_to_image",
        "depth_to_image",
        ("abs_rel", "delta1", "fid", "found", "keypoints", "seconds"),
    ),
    (
        "probe_reconstruction",
        "probe_reconstruction",
        ("abs_rel", "delta1", "fid", "found", "keypoints", "psnr", "psnr_depth"),
    ),
    ("text_only", "text_only", ("abs_rel", "delta1", "fid")),
    ("text", "text_only", ("found", "keypoints", "seconds")),
    ("image_to_depth", "image_to_depth", ("abs_rel", "delta1", "seconds")),
    ("probe_real", "probe_real", ("abs_rel", "delta1", "found", "keypoints")),
    ("mean_depth", "mean_depth", ("abs_rel", "delta1")),
    (
        "joint",
        "joint",
        ("abs_rel", "delta1", "abs_rel_shuffled", "fid", "found", "keypoints", "seconds"),
    ),
    *((f"coarse_{r:g}", f"coarse_{r:g}", ("abs_rel", "delta1", "fid", "found")) for r in COARSE),
)
"""(row, measure, metrics)."""

SHEETS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("sheet.png", ("depth", "depth_to_image")),
    ("sheet_text.png", ("text_only",)),
    ("sheet_joint.png", ("joint_image", "joint_depth")),
    ("sheet_estimation.png", ("real", "image_to_depth", "depth")),
)
"""(file, kinds of pictures side by side)."""


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


def evaluate_depth(subject: Subject, judge: Judge, run: Run) -> tuple[Table, Path]:
    """Measure the depth table, or go on with one that was interrupted.

    Args:
        subject: model and settings.
        judge: reads pictures.
        run: how much, where.

    Returns:
        The table, and the folder with its files: `table.json`, `table.csv`, `plot.png`, sheets.
    """
    size = subject.model.backbone.sample_size
    settings = {
        **run.settings,
        "table": f"depth {VERSION}",
        "seed": str(run.seed),
        "world": world_fingerprint(size),
        "generation": subject.generation.label(),
        "estimation": subject.estimation.label(),
    }
    folder = run.out / f"depth-{settings_hash(settings | {'batch': str(run.batch)})}"
    held_out = HeldOut(TABLE_WORLD, run.seed, size, folder)

    def prepare(rows: range) -> DepthChunk:
        return DepthChunk(held_out.cases(rows), subject, judge, folder / "pictures")

    found = collect(measures(), prepare, run.scenes, run.batch, folder / "parts", run.quiet)
    table = Table(
        command=run.command,
        seed=run.seed,
        seconds=math.fsum(each.seconds for each in found.values()),
        scenes=run.scenes,
        rows=depth_rows(found),
        settings=settings,
        machine=describe_machine(subject.model.backbone.device),
    )
    _write(table, folder, held_out.captions(range(min(run.scenes, sheet.KEPT))))
    return table, folder


def depth_rows(found: Mapping[str, Samples]) -> tuple[Row, ...]:
    """The rows of the table from the samples of its measures.

    `found` is objects found over objects named, over all scenes together; `range_covered` says how
    far from text alone to the best possible the depth condition gets:
    `(text_only - depth_to_image) / (text_only - probe_reconstruction)` in AbsRel.

    Args:
        found: {measure: samples} of every measure of `depth_measures.measures()`.

    Returns:
        One row each of `ROWS`.
    """
    rows: list[Row] = []
    for name, measure, metrics in ROWS:
        values = {m: metric(m, found[measure], found["probe_real"]) for m in metrics}
        if name == "depth_to_image":
            worst, best = found["text_only"].mean("abs_rel"), found["probe_reconstruction"]
            span = worst - best.mean("abs_rel")
            values["range_covered"] = (worst - values["abs_rel"]) / span if span else math.nan
        rows.append(Row(name, finite(values)))
    return tuple(rows)


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Only those metrics that apply; JSON knows no NaN."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def metric(name: str, samples: Samples, real: Samples | None = None) -> float:
    """One metric of one measure over all scenes.

    Args:
        name: of the metric.
        samples: of the measure.
        real: of the judge on the real images, for `fid`.

    Returns:
        Its value; NaN where it applies to no scene.
    """
    scenes = len(next(iter(samples.values.values())))
    if name == "seconds":
        return samples.seconds / scenes
    if name == "fid" and real is not None:
        pair = [torch.tensor(each.vectors["features"]) for each in (samples, real)]
        return fid(*pair) if scenes > 1 else math.nan
    if name == "found":
        named = math.fsum(value or 0 for value in samples.values["named"])
        hits = math.fsum(value or 0 for value in samples.values["found"])
        return hits / named if named else math.nan
    return samples.mean(name)


def _write(table: Table, folder: Path, captions: Sequence[str]) -> None:
    save_table(table, folder)
    shown = [m for m in ("abs_rel", "delta1", "fid", "found") if m in table.metrics()]
    save_plot(table, folder / "plot.png", shown, f"depth, {table.scenes} held-out scenes")
    for name, kinds in SHEETS:
        sheet.draw_sheet(folder / "pictures", kinds, captions).save(folder / name)


def world_fingerprint(size: int) -> str:
    """Twelve hex digits of how the world draws its first scenes, in 8 bits."""
    images = render(World(TABLE_WORLD, style="photo").scenes(0, 4), size).image
    return hashlib.sha256(((images + 1) * 127.5).round().byte().numpy().tobytes()).hexdigest()[:12]


def command_line(arguments: Sequence[str]) -> str:
    """The command as one would type it."""
    return "unicond " + shlex.join(arguments)
