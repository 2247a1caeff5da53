"""Semantic segmentation by any of transformers' models, in a fixed palette.

The colour of a class is its number with the bits dealt out to red, green and blue in turn, the
highest places first: neighbours in number are far apart in colour, and no two of 256 are equal.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from unicond.annotators.base import default_device, loaded, pil_images


def palette(count: int) -> Tensor:
    """Colours of classes.

    Args:
        count: of classes, at most 256.

    Returns:
        (count, 3) uint8; class 0 is black.

    Raises:
        ValueError: more classes than colours.

    >>> palette(4).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    if not 1 <= count <= 256:
        raise ValueError(f"{count} classes cannot be told apart by colour; 1 to 256 can")
    number = torch.arange(count)
    colors = torch.zeros(count, 3, dtype=torch.long)
    for place in range(8):
        colors[:, place % 3] |= ((number >> place) & 1) << (7 - place // 3)
    return colors.to(torch.uint8)


class SegmentationAnnotator:
    """A semantic segmenter.

    Args:
        model: hub id or folder.
        device: where to run; CUDA where there is one if None.

    Raises:
        ValueError: no segmenter can be loaded from there, or it has more than 256 classes.
    """

    kind = "segmentation"

    def __init__(self, model: str | Path, device: str | torch.device | None = None) -> None:
        self.name, self.device = f"segmentation:{model}", default_device(device)
        self._network = loaded(
            lambda: AutoModelForSemanticSegmentation.from_pretrained(model), "segmentation", model
        ).to(self.device)
        self._processor = loaded(
            lambda: AutoImageProcessor.from_pretrained(model, backend="pil"), "segmentation", model
        )
        self.labels = tuple(str(name) for _, name in sorted(self._network.config.id2label.items()))
        self._palette = palette(len(self.labels))

    @torch.no_grad()
    def classes(self, pictures: Tensor) -> Tensor:
        """Classes (B, H, W), int64 on the CPU, of pictures (B, 3, H, W) in [-1, 1]."""
        inputs = self._processor(images=pil_images(pictures), return_tensors="pt").to(self.device)
        logits = self._network(**inputs).logits.float()
        size = (pictures.shape[-2], pictures.shape[-1])
        found = [
            functional.interpolate(one[None], size, mode="bilinear", align_corners=False)[0]
            .argmax(0)
            .cpu()
            for one in logits  # one at a time: 150 classes of a large picture take much memory
        ]
        return torch.stack(found)

    def __call__(self, pictures: Tensor) -> Tensor:
        """Classes of pictures (B, 3, H, W) in [-1, 1] in the palette, the same shape and range."""
        colors = self._palette[self.classes(pictures)].permute(0, 3, 1, 2)
        return (colors.float() / 127.5 - 1).contiguous()
