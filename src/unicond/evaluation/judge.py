"""The judge: what the probe reads in pictures, in the words that the tables use.

This is the only place of the tables that knows the probe's own interface.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from unicond.backbones.files import EMBEDDED
from unicond.evaluation.probes import Probe
from unicond.evaluation.subject import fingerprint

PROBES = EMBEDDED / "probes"
"""The probe that ships with the package."""


@dataclass(frozen=True)
class Reading:
    """What a judge reads in B pictures.

    Attributes:
        inverse_depth: (B, 1, H, W) in [0, 1], near is 1; a little beyond where the judge errs.
        classes: (B, H, W) int64, index into `vocabulary.CLASSES`.
        colors: (B, H, W) int64, index into `vocabulary.COLOR_NAMES`.
        keypoints: (B, 18, h, w) in [0, 1], a heatmap a keypoint.
        features: (B, D), what Frechet distances are taken on.
        offsets: (B, 2, h, w) from a pixel of a person to that person's middle, as shares of the
            picture's width and height.
        normals: (B, 3, H, W), of about unit length where there is a surface.
        edges: (B, 1, H, W) in [0, 1].
        parts: (B, H, W) int64, index into `vocabulary.PARTS`.
        skins: (B, 4, H, W) logits over `vocabulary.SKINS`, meant where the part is skin.
        ground: (B,) int64, index into `vocabulary.GROUNDS`.
        style: (B,) int64, index into `vocabulary.STYLES`.
    """

    inverse_depth: Tensor
    classes: Tensor
    colors: Tensor
    keypoints: Tensor
    features: Tensor
    offsets: Tensor
    normals: Tensor
    edges: Tensor
    parts: Tensor
    skins: Tensor
    ground: Tensor
    style: Tensor


class Judge(Protocol):
    """Anything that reads pictures."""

    def __call__(self, pictures: Tensor) -> Reading:
        """Read pictures (B, 3, H, W) in [-1, 1]."""
        ...


@dataclass(frozen=True, eq=False)
class ProbeJudge:
    """The probe as a judge.

    Attributes:
        probe: in evaluation mode.
        device: where it runs.
    """

    probe: Probe
    device: torch.device

    def __call__(self, pictures: Tensor) -> Reading:
        """Read pictures (B, 3, H, W) in [-1, 1]; the reading lies where they do."""
        with torch.no_grad():
            maps = self.probe(pictures.to(self.device))
        reading = Reading(
            inverse_depth=(maps.depth + 1) / 2,
            classes=maps.classes.argmax(1),
            colors=maps.colors.argmax(1),
            keypoints=maps.keypoints.sigmoid(),
            features=maps.features,
            offsets=maps.offsets,
            normals=maps.normals,
            edges=((maps.edges + 1) / 2).clamp(0, 1),
            parts=maps.parts.argmax(1),
            skins=maps.skins,
            ground=maps.ground.argmax(1),
            style=maps.style.argmax(1),
        )
        return Reading(**{name: each.to(pictures.device) for name, each in vars(reading).items()})

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits of the probe's weights."""
        return fingerprint(self.probe)


def load_judge(folder: Path | None = None, device: str | torch.device | None = None) -> ProbeJudge:
    """The probe of a folder, or the embedded one.

    Args:
        folder: where `Probe.save_pretrained` wrote.
        device: where to run; CUDA where there is one, else the CPU.

    Returns:
        A judge.

    Raises:
        ValueError: the folder holds no probe, or a damaged one.
    """
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return ProbeJudge(Probe.from_pretrained(folder or PROBES).to(chosen), chosen)
