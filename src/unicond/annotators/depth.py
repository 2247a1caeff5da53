"""Depth by any of transformers' depth estimators, such as Depth Anything V2.

The condition is inverse depth, nearest white, farthest black. Relative estimators give it as it is;
metric ones give distances, which are inverted.

Source: Yang et al. 2024, arXiv:2406.09414.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModelForDepthEstimation

from unicond.annotators.base import default_device, loaded, pil_images
from unicond.pictures.depth import read_depth

_METRIC_TYPES = ("zoedepth", "glpn", "depth_pro")
"""Models that only estimate distances, and whose configuration does not say so."""


class DepthAnnotator:
    """A depth estimator.

    Args:
        model: hub id or folder.
        device: where to run; CUDA where there is one if None.

    Raises:
        ValueError: no depth estimator can be loaded from there.
    """

    kind = "depth"

    def __init__(self, model: str | Path, device: str | torch.device | None = None) -> None:
        self.name, self.device = f"depth:{model}", default_device(device)
        self._network = loaded(
            lambda: AutoModelForDepthEstimation.from_pretrained(model), "depth", model
        ).to(self.device)
        self._processor = loaded(
            lambda: AutoImageProcessor.from_pretrained(model, backend="pil"), "depth", model
        )
        config = self._network.config
        told = getattr(config, "depth_estimation_type", "relative")
        self.metric = told == "metric" or config.model_type in _METRIC_TYPES

    @torch.no_grad()
    def estimate(self, pictures: Tensor) -> Tensor:
        """What the network says of pictures, at their size.

        Args:
            pictures: (B, 3, H, W) in [-1, 1].

        Returns:
            (B, H, W) float32 on the CPU: metres if `metric`, else inverse depth in any unit.
        """
        inputs = self._processor(images=pil_images(pictures), return_tensors="pt").to(self.device)
        found = self._network(**inputs).predicted_depth.float()
        size = (pictures.shape[-2], pictures.shape[-1])
        grown = functional.interpolate(found[:, None], size, mode="bilinear", align_corners=False)
        return grown[:, 0].cpu()

    def __call__(self, pictures: Tensor) -> Tensor:
        """Inverse depth of pictures (B, 3, H, W) in [-1, 1], each scaled to [-1, 1]; near is 1.

        A picture whose depth is the same everywhere is a `PictureError`.
        """
        kind = "metric" if self.metric else "near-white"
        return torch.stack([read_depth(depth, kind) for depth in self.estimate(pictures)])
