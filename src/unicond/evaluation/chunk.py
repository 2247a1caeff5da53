"""A chunk of held-out scenes under test, and what every measure says of generated images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from torch import Tensor

from unicond.evaluation.cases import Cases
from unicond.evaluation.judge import Judge, Reading
from unicond.evaluation.metrics_objects import found_objects, seen_spots
from unicond.evaluation.metrics_people import keypoints_seen
from unicond.evaluation.runner import Samples
from unicond.evaluation.sheet import keep_pictures
from unicond.evaluation.subject import Subject
from unicond.world.vocabulary import CLASSES, COLOR_NAMES

MOST_NAMED = 3
"""Captions of more objects than this do not count for `found`."""
KEYPOINTS_WANTED = 12
"""Of 18: a person is there where the probe finds as many."""

Values = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True, eq=False)
class Chunk:
    """A chunk of scenes under test.

    Attributes:
        cases: the scenes.
        subject: the model.
        judge: reads pictures.
        pictures: folder where generated pictures are kept for the contact sheets.
    """

    cases: Cases
    subject: Subject
    judge: Judge
    pictures: Path

    @cached_property
    def real(self) -> Reading:
        """What the judge reads in the real images."""
        return self.judge(self.cases.images)

    def keep(self, name: str, pictures: Tensor) -> None:
        """Keep pictures for the sheets."""
        keep_pictures(self.pictures / name, self.cases.numbers, pictures)

    def seen(self, reading: Reading) -> Values:
        """Named objects and people that were found; None where a scene does not count."""
        areas = seen_spots(reading.classes, reading.colors)
        peaks = keypoints_seen(reading.keypoints).tolist()
        named: list[float | None] = []
        found: list[float | None] = []
        figures: list[float | None] = []
        for row, (words, people) in enumerate(
            zip(self.cases.named, self.cases.people, strict=True)
        ):
            counts = 1 <= len(words) <= MOST_NAMED
            named.append(len(words) if counts else None)
            hits = found_objects(words, areas[row], CLASSES, COLOR_NAMES)
            found.append(hits if counts else None)
            figures.append(float(peaks[row] >= KEYPOINTS_WANTED) if people == 1 else None)
        return {"named": named, "found": found, "keypoints": figures}


class Fidelity(Protocol):
    """How well a condition is kept: the measure of one kind of condition.

    All scores are one number a scene, None where the metric does not apply. Whatever generates
    images is scored as UniCon's table is: by what the judge reads in the generated image against
    what it reads in the real one, so that its own error stands on both sides.
    """

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores, the one that counts first."""
        ...

    def of_images(self, chunk: Chunk, reading: Reading) -> Values:
        """Generated images, as the judge reads them, against the condition that they follow."""
        ...

    def of_drawings(self, chunk: Chunk, drawings: Tensor) -> Values:
        """Condition pictures (B, 3, H, W) against what they should show of the images."""
        ...

    def of_judge(self, chunk: Chunk) -> Values:
        """The judge on the real images, against what is exactly known."""
        ...

    def of_pairs(self, chunk: Chunk, reading: Reading, drawings: Tensor) -> Values:
        """Condition pictures against generated images of the same run, as the judge reads them."""
        ...


def features(reading: Reading) -> dict[str, Sequence[Sequence[float]]]:
    """What Frechet distances are taken on, as JSON's numbers."""
    rounded = [[round(v, 6) for v in row] for row in reading.features.double().tolist()]
    return {"features": rounded}


def image_scores(chunk: Chunk, fidelity: Fidelity, images: Tensor) -> Samples:
    """All that is measured on generated images (B, 3, H, W) in [-1, 1]."""
    reading = chunk.judge(images)
    scores = fidelity.of_images(chunk, reading)
    return Samples({**scores, **chunk.seen(reading)}, features(reading))
