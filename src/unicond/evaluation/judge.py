"""The judge: what the probe reads in pictures, in the words that the tables use.

This is the only place of the tables that knows the probe's own interface.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from unicond.backbones.stable_diffusion import EMBEDDED
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
    """

    inverse_depth: Tensor
    classes: Tensor
    colors: Tensor
    keypoints: Tensor
    features: Tensor


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
        return Reading(
            inverse_depth=((maps.depth + 1) / 2).to(pictures.device),
            classes=maps.classes.argmax(1).to(pictures.device),
            colors=maps.colors.argmax(1).to(pictures.device),
            keypoints=maps.keypoints.sigmoid().to(pictures.device),
            features=maps.features.to(pictures.device),
        )

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
