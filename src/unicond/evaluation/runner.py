"""Measuring many scenes in chunks, so that an interrupted run goes on where it stopped.

A *measure* turns a chunk of scenes into one number a scene and metric (and, for distances between
distributions, one vector a scene). Each chunk of each measure is a JSON file, written whole or not
at all, in a folder named by a hash of all that the numbers depend on: a rerun reads what is there,
and another setting never reads another's. Chunks are the outer loop, so that measures share what
a chunk has prepared. A process locks the chunk that it is at: the same command started several
times shares the work, and each of them ends with the whole table.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from unicond.evaluation.tables import write_atomically
from unicond.progress import EVERY, Tell, progress
from unicond.sharing import shared

Chunk = TypeVar("Chunk")


@dataclass(frozen=True)
class Samples:
    """What a measure found on some scenes.

    Attributes:
        values: {metric: one number a scene; None where the metric does not apply to it}.
        vectors: {name: one vector a scene}.
        seconds: time that it took.
    """

    values: Mapping[str, Sequence[float | None]]
    vectors: Mapping[str, Sequence[Sequence[float]]] = field(
        default_factory=dict[str, Sequence[Sequence[float]]]
    )
    seconds: float = 0.0

    def mean(self, metric: str) -> float:
        """The mean over the scenes to which the metric applies.

        Args:
            metric: its name.

        Returns:
            The mean; NaN if it applies to none.

        Raises:
            ValueError: no such metric.
        """
        if metric not in self.values:
            raise ValueError(f"no metric {metric!r}; there are {', '.join(self.values)}")
        known = [value for value in self.values[metric] if value is not None]
        return math.fsum(known) / len(known) if known else math.nan


@dataclass(frozen=True)
class Measure(Generic[Chunk]):
    """A named way to measure a chunk; the name is also that of its files."""

    name: str
    run: Callable[[Chunk], Samples]


def settings_hash(settings: Mapping[str, str]) -> str:
    """Twelve hex digits that differ when any setting does."""
    text = json.dumps(dict(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def as_list(values: Tensor) -> list[float | None]:
    """(N,) as Python numbers that JSON can hold; None where not finite."""
    return [value if math.isfinite(value) else None for value in values.double().tolist()]


def collect(
    measures: Sequence[Measure[Chunk]],
    prepare: Callable[[range], Chunk],
    scenes: int,
    batch: int,
    folder: Path,
    quiet: bool = False,
    every: float = EVERY,
) -> dict[str, Samples]:
    """Measure scenes 0 to `scenes - 1`, or read what was measured before.

    Args:
        measures: with different names.
        prepare: makes the chunk of a range of scenes; called only where something is missing.
        scenes: how many, 1 or more.
        batch: scenes a chunk, 1 or more.
        folder: of the partial results.
        quiet: show no progress.
        every: seconds between two lines of it, where stderr is no terminal.

    Returns:
        {measure: its samples, in the order of the scenes}.

    Raises:
        ValueError: no scene, no batch, or two measures of one name.
    """
    if scenes < 1 or batch < 1:
        raise ValueError(f"{scenes} scenes in batches of {batch}: give 1 or more of both")
    names = [measure.name for measure in measures]
    if len(set(names)) < len(names):
        raise ValueError(f"two measures have one name: {names}")
    chunks = [range(at, min(at + batch, scenes)) for at in range(0, scenes, batch)]
    found: dict[range, list[Samples]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    with progress("measuring", len(chunks) * len(measures), every, quiet) as tell:
        for rows in shared(chunks, lambda rows: folder / f"{rows.start:05d}-{len(rows):03d}.lock"):
            before = len(found) * len(measures)
            found[rows] = _measured(measures, prepare, rows, folder, before, tell)
    ordered = [found[rows] for rows in chunks]
    return {name: join_samples([each[n] for each in ordered]) for n, name in enumerate(names)}


def _measured(
    measures: Sequence[Measure[Chunk]],
    prepare: Callable[[range], Chunk],
    rows: range,
    folder: Path,
    before: int,
    tell: Tell,
) -> list[Samples]:
    """What every measure finds on one chunk, or has found before; `before` parts are done."""
    chunk: Chunk | None = None
    found: list[Samples] = []
    for measure in measures:
        tell(before + len(found), what=f"{measure.name} {rows.start}-{rows.stop - 1}")
        path = folder / f"{measure.name}-{rows.start:05d}-{len(rows):03d}.json"
        samples = _read(path)
        if samples is None:
            started = time.perf_counter()
            chunk = prepare(rows) if chunk is None else chunk
            samples = _timed(measure.run(chunk), len(rows), started, measure.name)
            write_atomically(path, json.dumps(asdict(samples)))
        found.append(samples)
    tell(before + len(found))
    return found


def join_samples(parts: Sequence[Samples]) -> Samples:
    """The samples of consecutive chunks as one.

    Args:
        parts: of one measure, in order, one or more.

    Returns:
        All values and vectors, and the sum of the times.
    """
    return Samples(
        {name: [v for part in parts for v in part.values[name]] for name in parts[0].values},
        {name: [v for part in parts for v in part.vectors[name]] for name in parts[0].vectors},
        math.fsum(part.seconds for part in parts),
    )


def _timed(samples: Samples, scenes: int, started: float, name: str) -> Samples:
    lengths = {key: len(each) for key, each in (*samples.values.items(), *samples.vectors.items())}
    if set(lengths.values()) - {scenes}:
        raise ValueError(f"measure {name!r} must give one value a scene ({scenes}); got {lengths}")
    return Samples(samples.values, samples.vectors, time.perf_counter() - started)


def _read(path: Path) -> Samples | None:
    """What was measured before; None where there is nothing, or nothing readable."""
    try:
        return Samples(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None
