"""What is measured of depth alone: the mean depth picture, and conditions that are coarse."""

from unicond.evaluation.cases import mean_picture
from unicond.evaluation.chunk import Chunk
from unicond.evaluation.fidelity_depth import depth_values, exact_valid
from unicond.evaluation.metrics_depth import score_depth
from unicond.evaluation.runner import Samples

COARSE = (0.2, 0.5, 0.8)
"""Times up to which depth is coarse."""


def mean_depth(chunk: Chunk) -> Samples:
    """The mean depth picture of other scenes, for every image the same."""
    picture = mean_picture(chunk.cases.images.shape[-1]).to(chunk.cases.depth.device)
    every = picture.expand(len(chunk.cases.seeds), -1, -1, -1)
    scores = score_depth(every, chunk.cases.depth, exact_valid(chunk))
    return Samples(depth_values(scores))
