"""How well people are kept: their pose (PCK@0.1) and who they are (four attributes)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.evaluation.chunk import Chunk, Values
from unicond.evaluation.judge import Reading
from unicond.evaluation.metrics_people import pck
from unicond.evaluation.people import (
    People,
    exact_attributes,
    exact_people,
    read_attributes,
    read_people,
)
from unicond.evaluation.skeletons import read_skeletons
from unicond.world.scene import Scene
from unicond.world.vocabulary import GROUNDS


def people_of(reading: Reading) -> list[People]:
    """Everybody that the judge sees in B pictures."""
    return read_people(reading.keypoints, reading.offsets, reading.classes)


def pck_values(ours: list[People], references: list[People]) -> list[float | None]:
    """PCK@0.1 of every picture; None where the reference shows nobody."""
    out: list[float | None] = []
    for people, reference in zip(ours, references, strict=True):
        sides = reference.sides()
        known = sides > 0
        if not bool(known.any()):
            out.append(None)
            continue
        found = pck(
            people.xy, reference.xy[known], reference.found[known], sides[known], people.found
        )
        out.append(found.pck)
    return out


@dataclass(frozen=True)
class PoseFidelity:
    """Skeletons of several people, matched greedily.

    Attributes:
        metrics: names of the scores.
    """

    metrics: tuple[str, ...] = ("pck",)

    def of_images(self, chunk: Chunk, reading: Reading) -> Values:
        """Who the judge sees in generated images against who it sees in the real ones."""
        return {"pck": pck_values(people_of(reading), people_of(chunk.real))}

    def of_drawings(self, chunk: Chunk, drawings: Tensor) -> Values:
        """Drawn skeletons against the exact ones."""
        exact = exact_people(chunk.cases.scenes, drawings.shape[-1])
        return {"pck": pck_values(read_skeletons(drawings), exact)}

    def of_judge(self, chunk: Chunk) -> Values:
        """Who the judge sees in the real images against the exact skeletons."""
        exact = exact_people(chunk.cases.scenes, chunk.cases.images.shape[-1])
        return {"pck": pck_values(people_of(chunk.real), exact)}

    def of_pairs(self, chunk: Chunk, reading: Reading, drawings: Tensor) -> Values:
        """Drawn skeletons against who the judge sees in the generated images."""
        del chunk
        return {"pck": pck_values(read_skeletons(drawings), people_of(reading))}


@dataclass(frozen=True)
class IdentityFidelity:
    """Skin, hair, shirt and trousers of a person, and that pose and place are *not* kept.

    `attributes` is the share of the four that the judge reads as they are; `same_pose` is the PCK
    against the reference's own pose, and `same_ground` whether the ground is the reference's: both
    should be low, for a copy of the reference would have all attributes.

    Attributes:
        metrics: names of the scores.
    """

    metrics: tuple[str, ...] = ("attributes", "same_pose", "same_ground")

    def of_images(self, chunk: Chunk, reading: Reading) -> Values:
        """Generated images against the person of the condition's pictures."""
        assert chunk.cases.partners is not None
        return _kept(reading, chunk.cases.partners[0], chunk.cases.images.shape[-1])

    def of_drawings(self, chunk: Chunk, drawings: Tensor) -> Values:
        """Generated other pictures against the person of the images."""
        return _kept(chunk.judge(drawings), chunk.cases.scenes, chunk.cases.images.shape[-1])

    def of_judge(self, chunk: Chunk) -> Values:
        """The real images against the person of the condition's pictures: the very same."""
        return self.of_images(chunk, chunk.real)

    def of_pairs(self, chunk: Chunk, reading: Reading, drawings: Tensor) -> Values:
        """Two generated pictures of one person, as the judge reads both."""
        other = chunk.judge(drawings)
        ours, theirs = read_attributes(reading), read_attributes(other)
        return {
            "attributes": share_alike(ours, theirs),
            "same_pose": pck_values(people_of(reading), people_of(other)),
            "same_ground": (reading.ground == other.ground).double().tolist(),
        }


def _kept(reading: Reading, scenes: tuple[Scene, ...], size: int) -> Values:
    """What a reading shares with the people of scenes."""
    exact = torch.tensor([exact_attributes(scene.people[0].identity) for scene in scenes])
    grounds = torch.tensor([GROUNDS.index(scene.place.ground) for scene in scenes])
    return {
        "attributes": share_alike(read_attributes(reading), exact.to(reading.ground.device)),
        "same_pose": pck_values(people_of(reading), exact_people(scenes, size)),
        "same_ground": (reading.ground.cpu() == grounds).double().tolist(),
    }


def share_alike(ours: Tensor, theirs: Tensor) -> list[float | None]:
    """Share of the attributes (B, 4) that are equal; one that neither shows is not."""
    return ((ours == theirs) & (theirs >= 0)).double().mean(1).tolist()
