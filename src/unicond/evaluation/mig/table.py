"""`unicond evaluate mig`: does a model draw each thing in its box and in its colour?

One row, named after the way in which the pictures were made:

    success          instance success rate, over all instances
    miou             mean IoU, over all instances
    image_success    share of pictures all of whose instances succeed
    seconds          to make a picture
    success_l2 ...   instance success rate over the entries of two instances, ...
    miou_l2 ...      likewise mean IoU

Several pictures of one entry are that entry's share in every interval: entries are independent, the
pictures of one are not. The groups that the jackknife leaves out in turn have every level in them,
as far as there are enough entries.

Source: Zhou et al. 2024, arXiv:2402.05408; the rule is in `rule`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from unicond.evaluation.condition_table import Run
from unicond.evaluation.estimates import over, row_of
from unicond.evaluation.intervals import Estimate
from unicond.evaluation.mig.bench import Bench
from unicond.evaluation.mig.layouters import Layouter
from unicond.evaluation.mig.pictures import (
    Pictures,
    content_hash,
    counted,
    file_name,
    found_pictures,
)
from unicond.evaluation.mig.rule import Detector, judged
from unicond.evaluation.runner import Measure, Samples, collect, settings_hash
from unicond.evaluation.tables import Row, Table, describe_machine, save_table
from unicond.pictures.metadata import write_png
from unicond.pictures.reading import read_picture

VERSION = "1"
"""Raised when a number changes its meaning, so that old partial results are not read."""
MOST_EACH = 100
"""Pictures of one entry, at most: their seeds are apart from those of all others."""
MOST_ENTRIES = 10_000
"""Likewise, of a bench."""
IMAGES = "images"
"""Folder of the pictures that a run makes; name of the row of pictures that were there."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What is asked, and what measures it.

    Attributes:
        bench: all its entries are scored.
        detector: looks at the pictures.
        run: seed, entries at a time, where, and fingerprints of all that the numbers depend on.
        device: where the detector is.
    """

    bench: Bench
    detector: Detector
    run: Run
    device: torch.device | str = "cpu"

    def under(self, **own: str) -> "Trial":
        """The trial in a folder of its own, which is named after all its settings."""
        run = self.run
        settings = {**run.settings, **own, "table": f"mig {VERSION}", "seed": str(run.seed)}
        folder = f"mig-{settings_hash(settings | {'batch': str(run.batch)})}"
        return replace(self, run=replace(run, settings=settings, out=run.out / folder))

    def measure(self, name: str, run: Callable[[range], Samples]) -> Samples:
        """What a function of a range of entries finds on all, or has found before."""
        told, place = self.run, self.run.out / "parts"
        measure = Measure(name, run)
        found = collect([measure], _itself, len(self.bench), told.batch, place, told.quiet)
        return found[name]


def evaluate_model(layouter: Layouter, trial: Trial, each: int = 1) -> tuple[Table, Path]:
    """Make the pictures of a bench and score them, or go on with a run that was interrupted.

    Args:
        layouter: makes the pictures.
        trial: bench, detector, how and where.
        each: pictures an entry, 1 to `MOST_EACH`.

    Returns:
        The table, and the folder with its files: `table.json`, `table.csv`, and the pictures in
        `images/`.

    Raises:
        ValueError: too many pictures or entries, entries of which no picture can be made, or
            pictures of an earlier run are gone.
    """
    if not 1 <= each <= MOST_EACH or len(trial.bench) > MOST_ENTRIES:
        raise ValueError(
            f"{each} pictures of {len(trial.bench)} entries: give 1 to {MOST_EACH} an entry "
            f"(--per-entry), of at most {MOST_ENTRIES} entries"
        )
    _check_entries(layouter, trial.bench)
    placed = trial.under(generation=layouter.label, each=str(each))
    drawn = placed.measure("images", partial(_drawn, layouter, placed, each))
    pictures = found_pictures(placed.run.out / IMAGES, trial.bench, trial.run.quiet)
    return _scored(layouter.name, placed, pictures, drawn.seconds)


def evaluate_images(pictures: Pictures, trial: Trial) -> tuple[Table, Path]:
    """Score pictures that are there, or go on with a run that was interrupted.

    Args:
        pictures: of every entry, see `found_pictures`.
        trial: bench, detector, how and where.

    Returns:
        The table, and the folder with its files: `table.json`, `table.csv`.
    """
    return _scored(IMAGES, trial.under(images=content_hash(pictures)), pictures)


def _check_entries(layouter: Layouter, bench: Bench) -> None:
    """Raise ValueError, before anything is drawn, where entries ask for what cannot be told."""
    faults: list[str] = []
    for key, entry in bench.items():
        try:
            layouter.check(entry)
        except ValueError as error:
            faults.append(f"{key}: {error}")
    if faults:
        (told,) = counted(faults, len(bench), f"entries cannot be drawn by {layouter.name}")
        raise ValueError(
            f"{told}. Mend them in the bench, or score the first entries alone (--entries)"
        )


def _itself(rows: range) -> range:
    return rows


def _drawn(layouter: Layouter, trial: Trial, each: int, rows: range) -> Samples:
    """Make and write the pictures of a range of entries."""
    entries = list(trial.bench.items())
    for number in rows:
        key, entry = entries[number]
        first = trial.run.seed * MOST_EACH * MOST_ENTRIES + number
        out = layouter(entry, [first + sample * MOST_ENTRIES for sample in range(each)])
        for sample, picture in enumerate(out.pictures["image"]):
            path = trial.run.out / IMAGES / file_name(key, entry, sample)
            write_png(picture, path, out.settings("image", sample))
    return Samples({"pictures": [float(each)] * len(rows)})


def _judged(trial: Trial, pictures: Pictures, rows: range) -> Samples:
    """Sums over the instances of all pictures of an entry, for a range of entries."""
    keys = list(trial.bench)
    values: dict[str, list[float | None]] = {
        name: [] for name in ("pictures", "whole", "instances", "successes", "ious")
    }
    for key in (keys[number] for number in rows):
        read = (read_picture(path) for path in pictures[key])
        found = [judged(picture, trial.bench[key], trial.detector) for picture in read]
        verdicts = [one for picture in found for one in picture]
        values["pictures"].append(len(found))
        values["whole"].append(sum(all(one.success for one in picture) for picture in found))
        values["instances"].append(len(verdicts))
        values["successes"].append(sum(one.success for one in verdicts))
        values["ious"].append(math.fsum(one.iou for one in verdicts))
    return Samples(values)


def _scored(
    name: str, trial: Trial, pictures: Pictures, seconds: float | None = None
) -> tuple[Table, Path]:
    """Score pictures; `seconds` is what it took to make them all, None where that is not known."""
    samples = trial.measure("scores", partial(_judged, trial, pictures))
    levels = [entry.level for entry in trial.bench.values()]
    counts = {
        "pictures": sum(len(paths) for paths in pictures.values()),
        "instances": sum(trial.bench[key].level * len(paths) for key, paths in pictures.items()),
    }
    table = Table(
        command=trial.run.command,
        seed=trial.run.seed,
        seconds=samples.seconds + (seconds or 0.0),
        scenes=len(trial.bench),
        rows=(mig_row(name, samples, levels, seconds),),
        settings={**trial.run.settings, **{what: str(n) for what, n in counts.items()}},
        machine=describe_machine(trial.device),
    )
    save_table(table, trial.run.out)
    return table, trial.run.out


def mig_row(
    name: str, samples: Samples, levels: Sequence[int], seconds: float | None = None
) -> Row:
    """The row of a table.

    Args:
        name: of the row.
        samples: sums `pictures`, `whole`, `instances`, `successes` and `ious`, one an entry.
        levels: of the entries.
        seconds: that making all pictures took; None leaves the metric out.

    Returns:
        Every metric with its interval, all entries first, then each level that there is.
    """
    mixed = sorted(range(len(levels)), key=lambda entry: levels[entry])
    numbers: dict[str, Estimate] = {
        "success": partial(_ratio, samples, "successes", "instances", mixed),
        "miou": partial(_ratio, samples, "ious", "instances", mixed),
        "image_success": partial(_ratio, samples, "whole", "pictures", mixed),
    }
    if seconds is not None:
        each = seconds / math.fsum(value or 0.0 for value in samples.values["pictures"])
        numbers["seconds"] = lambda _rows: each
    row = row_of(name, numbers, len(mixed))
    for metric, upper in (("success", "successes"), ("miou", "ious")):
        for level in sorted(set(levels)):
            own = [entry for entry in mixed if levels[entry] == level]
            estimate = partial(_ratio, samples, upper, "instances", own)
            part = row_of(name, {f"{metric}_l{level}": estimate}, len(own))
            row = replace(
                row,
                metrics={**row.metrics, **part.metrics},
                intervals={**row.intervals, **part.intervals},
            )
    return row


def _ratio(
    samples: Samples, upper: str, lower: str, entries: Sequence[int], rows: Sequence[int]
) -> float:
    """A sum over another, both over those of some entries that count."""
    values = samples.values
    sums = [math.fsum(values[name][entries[row]] or 0.0 for row in rows) for name in (upper, lower)]
    return over(*sums)
