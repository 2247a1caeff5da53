"""How well depth is kept: AbsRel and delta1, relative (fitted) or metric (as it is).

The judge's depth of a real image is brought to metres by its fit to the exact depth; what it reads
in generated images is fitted to that. Where no real scene exists (joint generation), the reference
is the judge's picture at the world's usual span of disparities, and what it sees as sky does not
count. Metric drawings hold metres: they are scored with no fit at all, and once more fitted, as the
judge is, for comparison with it. Where they are the reference, the judge's relative depth is fitted
to them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.evaluation.chunk import Chunk, Values
from unicond.evaluation.estimates import FITTED
from unicond.evaluation.judge import Reading
from unicond.evaluation.metrics_depth import (
    DepthScores,
    align_depth,
    nominal_depth,
    score_depth,
    score_metres,
    valid_pixels,
)
from unicond.evaluation.runner import as_list
from unicond.pictures.metric_depth import read_metric_depth
from unicond.world.vocabulary import CLASSES

SKY = CLASSES.index("sky")
FAILED = (1.0, 0.0)
"""AbsRel and delta1 of a generated picture of nothing but sky: it does not leave the mean."""


def grey(pictures: Tensor) -> Tensor:
    """(B, 1, H, W) in [0, 1] of condition pictures (B, 3, H, W) in [-1, 1]."""
    return (pictures.mean(1, keepdim=True) + 1) / 2


@dataclass(frozen=True)
class DepthFidelity:
    """Relative inverse depth.

    Attributes:
        metrics: names of the scores.
    """

    metrics: tuple[str, ...] = ("abs_rel", "delta1")

    def of_images(self, chunk: Chunk, reading: Reading) -> Values:
        """The judge's depth against its depth of the real images."""
        real = chunk.real.inverse_depth
        reference = align_depth(real, chunk.cases.depth, exact_valid(chunk))
        valid = exact_valid(chunk) & valid_pixels(reference)
        return _score_where_possible(reading.inverse_depth, reference, valid)

    def of_drawings(self, chunk: Chunk, drawings: Tensor) -> Values:
        """Drawn depth against the exact depth, fitted."""
        return depth_values(score_depth(grey(drawings), chunk.cases.depth, exact_valid(chunk)))

    def of_judge(self, chunk: Chunk) -> Values:
        """The judge's depth of the real images against the exact depth, fitted."""
        inverse = chunk.real.inverse_depth
        return depth_values(score_depth(inverse, chunk.cases.depth, exact_valid(chunk)))

    def of_pairs(self, chunk: Chunk, reading: Reading, drawings: Tensor) -> Values:
        """Drawn depth, fitted to the judge's depth of the generated images."""
        del chunk
        reference = nominal_depth(reading.inverse_depth)
        valid = valid_pixels(reference, (reading.classes != SKY)[:, None])
        return _score_where_possible(grey(drawings), reference, valid, FAILED)


@dataclass(frozen=True)
class MetricDepthFidelity(DepthFidelity):
    """Depth in metres on the stated logarithmic scale."""

    def of_drawings(self, chunk: Chunk, drawings: Tensor) -> Values:
        """Drawn metres against the exact depth, with no alignment; AbsRel fitted, too."""
        metres, depth, valid = read_metric_depth(drawings), chunk.cases.depth, exact_valid(chunk)
        fitted = as_list(score_depth(1 / metres, depth, valid).abs_rel)
        as_they_are = depth_values(score_metres(metres, depth, valid))
        return {**as_they_are, f"abs_rel{FITTED}": fitted}

    def of_pairs(self, chunk: Chunk, reading: Reading, drawings: Tensor) -> Values:
        """The judge's depth of the generated images, fitted to the drawn metres."""
        del chunk
        metres = read_metric_depth(drawings)
        valid = valid_pixels(metres, (reading.classes != SKY)[:, None])
        return _score_where_possible(reading.inverse_depth, metres, valid, FAILED)


def exact_valid(chunk: Chunk) -> Tensor:
    """(B, 1, H, W) bool: hit by a ray, exact depth within the range."""
    return valid_pixels(chunk.cases.depth, chunk.cases.hit)


def depth_values(scores: DepthScores) -> Values:
    """Depth scores as values of a measure."""
    return {"abs_rel": as_list(scores.abs_rel), "delta1": as_list(scores.delta1)}


def _score_where_possible(
    inverse_depth: Tensor,
    depth: Tensor,
    valid: Tensor,
    otherwise: tuple[float, float] = (math.nan, math.nan),
) -> Values:
    """AbsRel and delta1; `otherwise` for pictures in which (almost) nothing is valid."""
    enough = valid.sum((1, 2, 3)) >= valid[0].numel() // 100
    rows = enough.nonzero().squeeze(1)
    scores = score_depth(inverse_depth[rows], depth[rows], valid[rows])
    out: dict[str, Sequence[float | None]] = {}
    found = {"abs_rel": scores.abs_rel, "delta1": scores.delta1}
    for (name, values), none in zip(found.items(), otherwise, strict=True):
        full = torch.full((len(valid),), none, dtype=torch.float64)
        full[rows] = values.cpu()
        out[name] = as_list(full)
    return out
