"""Poses: PCK@0.1 with greedy matching, and how many keypoints of a figure are seen at all.

PCK@0.1 is the share of keypoints within 0.1 times the larger side of the reference person's box.
With several people, predictions and references are matched greedily by their pairwise PCK, best
first, and the share is taken over matched people.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PoseMatch:
    """How well the people of one picture were met.

    Attributes:
        pck: share of correct keypoints over matched people, in [0, 1].
        pairs: (predicted, reference) indices, best first; as many as the fewer of both.
    """

    pck: float
    pairs: tuple[tuple[int, int], ...]


def pck(
    predicted: Tensor,
    references: Tensor,
    visible: Tensor,
    sides: Tensor,
    found: Tensor | None = None,
    threshold: float = 0.1,
) -> PoseMatch:
    """PCK of one picture.

    Only the reference's visible keypoints count; one that was not found is wrong.

    Args:
        predicted: (P, K, 2) pixels.
        references: (R, K, 2) pixels.
        visible: (R, K) bool, which keypoints of the references count; at least one each.
        sides: (R,) larger side of each reference person's box, pixels, positive.
        found: (P, K) bool, which keypoints were predicted; None: all.
        threshold: share of the side within which a keypoint is right (the bound counts).

    Returns:
        The score and the matching. Nobody predicted: pck 0 and no pair.

    Raises:
        ValueError: shapes do not fit, nobody in the reference, or a person without visible keypoint
            or size.
    """
    found = torch.ones_like(predicted[..., 0], dtype=torch.bool) if found is None else found
    _check_people(predicted, references, visible, sides, found)
    if not len(predicted):
        return PoseMatch(0.0, ())
    distance = (predicted[:, None].double() - references[None].double()).norm(dim=-1)
    near = distance <= threshold * sides.double()[None, :, None]
    right = (near & visible[None] & found[:, None]).sum(-1)
    total = visible.sum(-1)
    share = (right / total[None]).clone()
    pairs: list[tuple[int, int]] = []
    for _ in range(min(share.shape)):
        best = int(share.argmax())
        pair = (best // share.shape[1], best % share.shape[1])
        pairs.append(pair)
        share[pair[0]], share[:, pair[1]] = -1, -1
    correct = sum(int(right[pair]) for pair in pairs)
    return PoseMatch(correct / sum(int(total[reference]) for _, reference in pairs), tuple(pairs))


def keypoints_seen(heatmaps: Tensor, threshold: float = 0.3) -> Tensor:
    """How many keypoints of each picture have a peak of at least `threshold`.

    Args:
        heatmaps: (B, K, h, w) in [0, 1].
        threshold: least peak, in (0, 1).

    Returns:
        (B,) int64, 0 to K.

    Raises:
        ValueError: wrong shape, or a threshold out of range.
    """
    if heatmaps.ndim != 4:
        raise ValueError(f"heatmaps must have shape (B, K, h, w), not {tuple(heatmaps.shape)}")
    if not 0 < threshold < 1:
        raise ValueError(f"threshold {threshold} is out of range; give a peak between 0 and 1")
    return (heatmaps.amax((2, 3)) >= threshold).sum(1)


def _check_people(
    predicted: Tensor, references: Tensor, visible: Tensor, sides: Tensor, found: Tensor
) -> None:
    people, points = references.shape[:2]
    shapes = [tuple(each.shape) for each in (references, visible, sides)]
    if shapes != [(people, points, 2), (people, points), (people,)]:
        raise ValueError(f"references must be (R, K, 2), (R, K) and (R,); these are {shapes}")
    if predicted.shape[1:] != references.shape[1:] or found.shape != predicted.shape[:2]:
        raise ValueError(
            f"predictions must be (P, {points}, 2) and (P, {points}), not "
            f"{tuple(predicted.shape)} and {tuple(found.shape)}"
        )
    if not people:
        raise ValueError("there is nobody in the reference: PCK is not defined; leave it out")
    if not visible.any(-1).all() or not (sides > 0).all():
        raise ValueError("every reference person needs a visible keypoint and a positive side")
