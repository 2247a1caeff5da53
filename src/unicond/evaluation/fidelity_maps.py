"""How well dense maps are kept: soft edges (EMSE), segmentation (mIoU), normals (mean angle).

Each map is read in three ways: exactly from the scene, by the judge from an image, and back from
a drawing; scores compare any two.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from unicond.evaluation.chunk import Chunk, Values
from unicond.evaluation.fidelity_depth import SKY, grey
from unicond.evaluation.judge import Reading
from unicond.evaluation.metrics_maps import mean_angle, mean_iou
from unicond.evaluation.metrics_pictures import edge_error
from unicond.evaluation.runner import as_list
from unicond.world.annotate import quantised, soft_edges
from unicond.world.palette import CLASS_RGB
from unicond.world.vocabulary import CLASSES


class MapFidelity(ABC):
    """A map as its exact, its read and its drawn form, all (B, ...) tensors of one shape."""

    @abstractmethod
    def _exact(self, chunk: Chunk) -> Tensor:
        """The scenes' own map."""

    @abstractmethod
    def _read(self, reading: Reading) -> Tensor:
        """The judge's map of images."""

    @abstractmethod
    def drawn(self, drawings: Tensor) -> Tensor:
        """What drawings (B, 3, H, W) say."""

    @abstractmethod
    def score(self, ours: Tensor, reference: Tensor) -> Values:
        """Scores of a map against another."""

    def of_images(self, chunk: Chunk, reading: Reading) -> Values:
        """The judge's map of generated images against its map of the real ones."""
        return self.score(self._read(reading), self._read(chunk.real))

    def of_drawings(self, chunk: Chunk, drawings: Tensor) -> Values:
        """Drawn maps against the exact ones."""
        return self.score(self.drawn(drawings), self._exact(chunk))

    def of_judge(self, chunk: Chunk) -> Values:
        """The judge's map of the real images against the exact one."""
        return self.score(self._read(chunk.real), self._exact(chunk))

    def of_pairs(self, chunk: Chunk, reading: Reading, drawings: Tensor) -> Values:
        """Drawn maps against the judge's map of the generated images."""
        del chunk
        return self.score(self.drawn(drawings), self._read(reading))


@dataclass(frozen=True)
class EdgeFidelity(MapFidelity):
    """Soft edges, (B, 1, H, W) in [0, 1]; references in their five levels, so that they have 0.

    Attributes:
        metrics: names of the scores.
    """

    metrics: tuple[str, ...] = ("emse",)

    def _exact(self, chunk: Chunk) -> Tensor:
        """The scenes' soft edges."""
        return grey(soft_edges(chunk.cases.drawn))

    def _read(self, reading: Reading) -> Tensor:
        """The judge's edges."""
        return reading.edges

    def drawn(self, drawings: Tensor) -> Tensor:
        """A drawing is grey."""
        return grey(drawings).clamp(0, 1)

    def score(self, ours: Tensor, reference: Tensor) -> Values:
        """Mean squared error where the reference has an edge; None where it has none."""
        levels = grey(quantised(reference))
        rows = (levels > 0).flatten(1).any(1)
        full = torch.full((len(ours),), torch.nan, dtype=torch.float64)
        if bool(rows.any()):
            full[rows.cpu()] = edge_error(ours[rows], levels[rows]).cpu()
        return {"emse": as_list(full)}


@dataclass(frozen=True)
class SegmentationFidelity(MapFidelity):
    """Class maps, (B, H, W) int64.

    Attributes:
        metrics: names of the scores.
    """

    metrics: tuple[str, ...] = ("miou",)

    def _exact(self, chunk: Chunk) -> Tensor:
        """The scenes' classes."""
        return chunk.cases.drawn.classes.long()

    def _read(self, reading: Reading) -> Tensor:
        """The judge's classes."""
        return reading.classes

    def drawn(self, drawings: Tensor) -> Tensor:
        """Every pixel is of the class whose colour is nearest."""
        palette = torch.tensor([CLASS_RGB[name] for name in CLASSES], device=drawings.device)
        shares = ((drawings + 1) / 2)[:, None]
        return (shares - palette[None, :, :, None, None]).square().sum(2).argmin(1)

    def score(self, ours: Tensor, reference: Tensor) -> Values:
        """Mean IoU over the classes that the reference shows."""
        return {"miou": as_list(mean_iou(ours, reference, range(len(CLASSES))))}


@dataclass(frozen=True)
class NormalFidelity(MapFidelity):
    """Normals, (B, 3, H, W); vectors shorter than a half are sky.

    Attributes:
        metrics: names of the scores.
    """

    metrics: tuple[str, ...] = ("angle",)

    def _exact(self, chunk: Chunk) -> Tensor:
        """The scenes' normals, 0 in the sky."""
        return chunk.cases.drawn.normals

    def _read(self, reading: Reading) -> Tensor:
        """The judge's normals, 0 where it sees sky."""
        return torch.where((reading.classes != SKY)[:, None], reading.normals, 0.0)

    def drawn(self, drawings: Tensor) -> Tensor:
        """A drawing holds the vectors themselves."""
        return drawings

    def score(self, ours: Tensor, reference: Tensor) -> Values:
        """Mean angle in degrees over the reference's surfaces."""
        valid = reference.norm(dim=1, keepdim=True) > 0.5
        return {"angle": as_list(mean_angle(ours, reference, valid))}
