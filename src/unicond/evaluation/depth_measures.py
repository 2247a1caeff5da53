"""What `unicond evaluate depth` measures on one chunk of held-out scenes.

Whatever generates an image from a depth map is scored as UniCon's table is: the probe's depth of
the generated image against the probe's depth of the real one, so that the probe's own error stands
on both sides. The real one is brought to metres by its fit to the exact depth. The probe on the
autoencoder's reconstructions is the best that a latent model can reach, text alone the worst.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from unicond.evaluation.cases import Cases, mean_picture
from unicond.evaluation.judge import Judge, Reading
from unicond.evaluation.metrics_depth import (
    DepthScores,
    align_depth,
    nominal_depth,
    score_depth,
    valid_pixels,
)
from unicond.evaluation.metrics_objects import found_objects, seen_objects
from unicond.evaluation.metrics_people import keypoints_seen
from unicond.evaluation.metrics_pictures import psnr
from unicond.evaluation.runner import Measure, Samples, as_list
from unicond.evaluation.sheet import keep_pictures
from unicond.evaluation.subject import Subject
from unicond.world.vocabulary import CLASSES, COLOR_NAMES

MOST_NAMED = 3
"""Captions of more objects than this do not count for `found`."""
KEYPOINTS_WANTED = 12
"""Of 18: a person is there where the probe finds as many."""

Values = dict[str, Sequence[float | None]]


@dataclass(frozen=True, eq=False)
class DepthChunk:
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

    @cached_property
    def exact_valid(self) -> Tensor:
        """(B, 1, H, W) bool: hit by a ray, exact depth within the range."""
        return valid_pixels(self.cases.depth, self.cases.hit)

    @cached_property
    def reference(self) -> Tensor:
        """(B, 1, H, W) metres: the judge's depth of the real images, fitted to the exact depth."""
        return align_depth(self.real.inverse_depth, self.cases.depth, self.exact_valid)

    def against_exact(self, inverse_depth: Tensor) -> DepthScores:
        """Scores of inverse-depth pictures (B, 1, H, W) against the exact depth."""
        return score_depth(inverse_depth, self.cases.depth, self.exact_valid)

    def against_real(self, inverse_depth: Tensor) -> DepthScores:
        """Scores of inverse-depth pictures (B, 1, H, W) against the judge's depth of the real."""
        valid = self.exact_valid & valid_pixels(self.reference)
        return score_depth(inverse_depth, self.reference, valid)

    def seen(self, reading: Reading) -> Values:
        """Named objects and people that were found; None where a scene does not count."""
        areas = seen_objects(reading.classes, reading.colors)
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


def grey(pictures: Tensor) -> Tensor:
    """(B, 1, H, W) in [0, 1] of condition pictures (B, 3, H, W) in [-1, 1]."""
    return (pictures.mean(1, keepdim=True) + 1) / 2


def depth_scores(scores: DepthScores) -> Values:
    """Depth scores as values of a measure."""
    return {"abs_rel": as_list(scores.abs_rel), "delta1": as_list(scores.delta1)}


def _features(reading: Reading) -> dict[str, Sequence[Sequence[float]]]:
    rounded = [[round(v, 6) for v in row] for row in reading.features.double().tolist()]
    return {"features": rounded}


def image_scores(chunk: DepthChunk, images: Tensor) -> Samples:
    """All that is measured on generated images (B, 3, H, W) in [-1, 1]."""
    reading = chunk.judge(images)
    scores = depth_scores(chunk.against_real(reading.inverse_depth))
    return Samples(scores | chunk.seen(reading), _features(reading))


def _generated(chunk: DepthChunk, name: str, images: Tensor) -> Samples:
    """`image_scores`, and the images are kept for the sheets."""
    keep_pictures(chunk.pictures / name, chunk.cases.numbers, images)
    return image_scores(chunk, images)


def probe_real(chunk: DepthChunk) -> Samples:
    """The judge on the real images: depth against the exact depth, objects, keypoints."""
    keep_pictures(chunk.pictures / "real", chunk.cases.numbers, chunk.cases.images)
    keep_pictures(chunk.pictures / "depth", chunk.cases.numbers, chunk.cases.condition)
    scores = chunk.against_exact(chunk.real.inverse_depth)
    return Samples(depth_scores(scores) | chunk.seen(chunk.real), _features(chunk.real))


def probe_reconstruction(chunk: DepthChunk) -> Samples:
    """The judge on the autoencoder's reconstructions, and their PSNR."""
    images = chunk.subject.reconstruct(chunk.cases.images)
    drawn = chunk.subject.reconstruct(chunk.cases.condition)
    samples = _generated(chunk, "probe_reconstruction", images)
    fidelity: Values = {
        "psnr": as_list(psnr(images, chunk.cases.images)),
        "psnr_depth": as_list(psnr(drawn, chunk.cases.condition)),
    }
    return Samples({**samples.values, **fidelity}, samples.vectors)


def text_only(chunk: DepthChunk) -> Samples:
    """Images from the captions alone."""
    images = chunk.subject.text_to_image(chunk.cases.captions, chunk.cases.seeds)
    return _generated(chunk, "text_only", images)


def depth_to_image(noise: float = 0.0) -> Measure[DepthChunk]:
    """Images from caption and depth; the depth coarse up to time `noise`."""
    name = f"coarse_{noise:g}" if noise else "depth_to_image"

    def run(chunk: DepthChunk) -> Samples:
        cases = chunk.cases
        images = chunk.subject.to_image(cases.captions, cases.seeds, cases.condition, noise)
        return _generated(chunk, name, images)

    return Measure(name, run)


def image_to_depth(chunk: DepthChunk) -> Samples:
    """Depth pictures of the real images, against the exact depth."""
    drawn = chunk.subject.estimate(chunk.cases.images, chunk.cases.seeds)
    keep_pictures(chunk.pictures / "image_to_depth", chunk.cases.numbers, drawn)
    return Samples(depth_scores(chunk.against_exact(grey(drawn))))


def mean_depth(chunk: DepthChunk) -> Samples:
    """The mean depth picture of other scenes, for every image the same."""
    picture = mean_picture(chunk.cases.images.shape[-1]).to(chunk.cases.depth.device)
    every = picture.expand(len(chunk.cases.seeds), -1, -1, -1)
    return Samples(depth_scores(chunk.against_exact(every)))


def joint(chunk: DepthChunk) -> Samples:
    """Image and depth from the captions: do they agree?

    The judge's depth of the generated image is the reference, at the world's usual span of
    disparities; where it sees sky nothing counts. `abs_rel_shuffled` scores every depth against the
    next image of the chunk instead.
    """
    images, drawn = chunk.subject.joint(chunk.cases.captions, chunk.cases.seeds)
    keep_pictures(chunk.pictures / "joint_image", chunk.cases.numbers, images)
    keep_pictures(chunk.pictures / "joint_depth", chunk.cases.numbers, drawn)
    reading = chunk.judge(images)
    reference = nominal_depth(reading.inverse_depth)
    ground = (reading.classes != CLASSES.index("sky"))[:, None]
    valid = valid_pixels(reference, ground)
    own = _score_where_possible(grey(drawn), reference, valid)
    other = _score_where_possible(grey(drawn).roll(1, 0), reference, valid)
    shuffled = [None] * len(images) if len(images) == 1 else other["abs_rel"]
    found: Values = {"abs_rel_shuffled": shuffled, **chunk.seen(reading)}
    return Samples(own | found, _features(reading))


def _score_where_possible(inverse_depth: Tensor, depth: Tensor, valid: Tensor) -> Values:
    """Scores; None for generated pictures in which (almost) nothing is valid."""
    enough = valid.sum((1, 2, 3)) >= valid[0].numel() // 100
    rows = enough.nonzero().squeeze(1)
    scores = score_depth(inverse_depth[rows], depth[rows], valid[rows])
    out: dict[str, Sequence[float | None]] = {}
    for name, values in (("abs_rel", scores.abs_rel), ("delta1", scores.delta1)):
        full = torch.full((len(valid),), torch.nan, dtype=torch.float64)
        full[rows] = values.cpu()
        out[name] = as_list(full)
    return out


COARSE = (0.2, 0.5, 0.8)


def measures() -> list[Measure[DepthChunk]]:
    """Everything that the depth table needs, cheap ones first."""
    return [
        Measure("probe_real", probe_real),
        Measure("mean_depth", mean_depth),
        Measure("probe_reconstruction", probe_reconstruction),
        Measure("image_to_depth", image_to_depth),
        Measure("text_only", text_only),
        depth_to_image(),
        Measure("joint", joint),
        *(depth_to_image(noise) for noise in COARSE),
    ]
